"""Tasks of image transformation networks: style transfer, super-resolution, colorization.

A TransformationModel makes the network's input from a picture (`inputs`), a picture from the input (`forward`), and
scores of the result against the true picture (`scores`). `baseline` is the result without a network.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from typing import ClassVar

import torch
from torch import Tensor, nn
from torch.nn import functional as F

import runs
from vision.data.image_ops import YIQ
from vision.image_to_image import quality
from vision.image_to_image.network import TransformationNetwork

SPAN = 150 / 255  # of the scaled tanh around gray, as in the paper's published code: a little more than pixels need


class TransformationModel(nn.Module):
    """A network and its task: inputs (B, C, h, w) from 0 to 1 -> pictures (B, 3, H, W), which may leave 0 to 1.

    The network's output is added to the baseline, and is 0 at first.
    `autocast` is the context in which the network is calculated, in bfloat16 where the device is fast at it.
    """

    score: ClassVar[runs.Score] = runs.Score("eval/psnr", "max", unit="dB")

    def __init__(self, network: TransformationNetwork) -> None:
        super().__init__()
        self.network = network
        nn.init.zeros_(network.layers[-1][0].weight)
        self.autocast: Callable[[], contextlib.AbstractContextManager] = contextlib.nullcontext

    def inputs(self, pictures: Tensor) -> Tensor:
        """The network's input (B, C, h, w) for pictures (B, 3, H, W) from 0 to 1."""
        return pictures

    def forward(self, inputs: Tensor) -> Tensor:
        return self.baseline(inputs) + self.residual(inputs)

    def residual(self, inputs: Tensor) -> Tensor:
        """The network's output (B, outputs, H, W) for inputs (B, C, h, w), float32."""
        with self.autocast():
            return self.network(inputs - 0.5).float()

    def baseline(self, inputs: Tensor) -> Tensor:
        """The result without a network: pictures (B, 3, H, W) from inputs (B, C, h, w)."""
        return inputs

    def crop(self, pictures: Tensor) -> Tensor:
        """Pictures (..., H, W) cropped at the right and the bottom to a multiple of the network's factor."""
        tall, wide = (side // self.network.factor * self.network.factor for side in pictures.shape[-2:])
        return pictures[..., :tall, :wide]

    def scores(self, made: Tensor, true: Tensor) -> dict[str, Tensor]:
        """Scores (B,) by name of results (B, 3, H, W) against the true pictures, both from 0 to 1."""
        return {}


class Stylizer(TransformationModel):
    """Fast style transfer: pictures (B, 3, H, W) -> the same in a style. Johnson et al. 2016, section 4.1.

    Deviation: the network's output is added to the picture before the paper's scaled tanh, so that the result
    begins as the picture, and only the style has to be learned.
    """

    score = runs.Score("eval/loss", "min")

    def forward(self, inputs: Tensor) -> Tensor:
        return 0.5 + SPAN * (((inputs - 0.5) / SPAN).atanh() + self.residual(inputs)).tanh()


class SuperResolver(TransformationModel):
    """Single-image super-resolution: (B, 3, h, w) -> (B, 3, factor h, factor w). Johnson et al. 2016, section 4.2.

    Deviation: the network adds to bicubic interpolation (Kim et al. 2015, VDSR, arXiv 1511.04587).
    Scores are of Y, without `factor` pixels at each edge, of pictures of 8 bits, as papers have them.
    """

    def inputs(self, pictures: Tensor) -> Tensor:
        """Pictures (B, 3, H, W) reduced by bicubic interpolation with antialiasing, in 8 bits: (B, 3, h, w)."""
        size = [side // self.network.factor for side in pictures.shape[2:]]
        return rounded(F.interpolate(self.crop(pictures), size, mode="bicubic", antialias=True))

    def baseline(self, inputs: Tensor) -> Tensor:
        """Bicubic interpolation, (B, 3, h, w) -> (B, 3, H, W)."""
        size = [side * self.network.factor for side in inputs.shape[2:]]
        return F.interpolate(inputs, size, mode="bicubic", antialias=True)

    def scores(self, made: Tensor, true: Tensor) -> dict[str, Tensor]:
        pair = [quality.shaved(quality.luma(rounded(each)), self.network.factor) for each in (made, true)]
        return {"psnr": quality.psnr(*pair), "ssim": quality.ssim(*pair)}


class Colorizer(TransformationModel):
    """Colorization: luminance (B, 1, H, W) -> pictures (B, 3, H, W) of exactly this luminance, in YIQ.

    The network predicts the two color channels. Results are scored by the squared error in red, green and blue: a
    mean of PSNRs is dominated by pictures with hardly any color, for which gray has the highest PSNR.
    """

    score = runs.Score("eval/squared_error", "min")

    def __init__(self, network: TransformationNetwork) -> None:
        super().__init__(network)
        self.register_buffer("matrix", torch.tensor(YIQ), persistent=False)
        self.register_buffer("inverse", torch.linalg.inv(torch.tensor(YIQ)), persistent=False)

    def inputs(self, pictures: Tensor) -> Tensor:
        """The luminance (B, 1, H, W) of pictures (B, 3, H, W)."""
        return torch.einsum("bchw,c->bhw", pictures, self.matrix[0])[:, None]

    def forward(self, inputs: Tensor) -> Tensor:
        channels = torch.cat([inputs, self.residual(inputs)], 1)
        return torch.einsum("bdhw,cd->bchw", channels, self.inverse)

    def baseline(self, inputs: Tensor) -> Tensor:
        """The luminance in gray, (B, 1, H, W) -> (B, 3, H, W)."""
        return inputs.expand(-1, 3, -1, -1)

    def scores(self, made: Tensor, true: Tensor) -> dict[str, Tensor]:
        made = rounded(made)
        return {"psnr": quality.psnr(made, true), "squared_error": (made - true).square().mean((1, 2, 3))}


def rounded(pictures: Tensor) -> Tensor:
    """Pictures (B, C, H, W) as they are in 8 bits: clamped to 0 to 1, in steps of 1 / 255."""
    return (pictures.clamp(0, 1) * 255).round() / 255
