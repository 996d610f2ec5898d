"""Preprocessing of the images that weights were trained on: resize, crop, normalize by mean and deviation."""

from __future__ import annotations

from typing import Any, NamedTuple, Self

import torch
from torch import Tensor, nn
from torch.nn import functional as F

IMAGENET_MEAN = (0.485, 0.456, 0.406)  # of red, green and blue in [0, 1] over the training images
IMAGENET_STD = (0.229, 0.224, 0.225)


class Preprocessing(NamedTuple):
    """Sizes for resizing, which is up to the caller, and the normalization, which the backbone applies."""

    resize: int = 256  # pixels of the shorter side
    crop: int = 224  # pixels, side of the square that is then cut out of the middle
    mean: tuple[float, ...] = IMAGENET_MEAN  # one a channel; pixels count as 0 to 1
    std: tuple[float, ...] = IMAGENET_STD
    interpolation: str = "bilinear"  # of the resizing, with antialiasing

    @classmethod
    def of(cls, spec: dict[str, Any]) -> Self:
        """From the result of spec()."""
        return cls(**{key: tuple(value) if isinstance(value, list) else value for key, value in spec.items()})

    def spec(self) -> dict[str, Any]:
        """As a JSON-able dict."""
        return {key: list(value) if isinstance(value, tuple) else value for key, value in self._asdict().items()}

    def fitted(self, channels: int) -> Preprocessing:
        """For another number of channels, as checkpoints.adapt_channels has it for the first convolution:
        fewer ones get the mean of all, more repeat them in turn.
        """
        old = len(self.mean)
        if channels == old:
            return self
        turns = [i % old for i in range(channels)]
        mean, std = (
            (sum(values) / old,) * channels if channels < old else tuple(values[i] for i in turns)
            for values in (self.mean, self.std)
        )
        return self._replace(mean=mean, std=std)

    def centered(self) -> Preprocessing:
        """This normalization and torchvision's transform_input after it, as one: pixels in [-1, 1] of images that are
        normalized with ImageNet's means and deviations, z * deviation / 0.5 + (mean - 0.5) / 0.5.
        """
        both = zip(self.mean, self.std, IMAGENET_MEAN, IMAGENET_STD, strict=True)
        mean, std = zip(*((m - (mean - 0.5) * s / std, s * 0.5 / std) for m, s, mean, std in both), strict=True)
        return self._replace(mean=mean, std=std)

    def cut(self, images: Tensor) -> Tensor:
        """images (B, C, H, W), uint8 or floats -> (B, C, crop, crop), alike: resized, and cut out of the middle."""
        height, width = images.shape[-2:]
        short = min(height, width)
        sides = (int(self.resize * height / short), int(self.resize * width / short))
        pixels = images.dtype == torch.uint8
        resized = F.interpolate(
            images.float() if pixels else images, sides, mode=self.interpolation, antialias=True, align_corners=False
        )
        resized = resized.round().clamp(0, 255).to(torch.uint8) if pixels else resized
        top, left = (round((side - self.crop) / 2) for side in sides)
        return resized[..., top : top + self.crop, left : left + self.crop]


class Normalize(nn.Module):
    """x (B, C, H, W), uint8 pixels (as x / 255) or floats in [0, 1] -> floats, less their mean, by their deviation.

    It is not folded into the first convolution, because the zeros of its padding stand for the mean. It has no
    state-dict keys, so that published files load.
    """

    def __init__(self, mean: tuple[float, ...], std: tuple[float, ...]) -> None:
        super().__init__()
        mean, std = torch.tensor(mean, dtype=torch.float64), torch.tensor(std, dtype=torch.float64)
        self.register_buffer("scale", (1 / std).float().view(-1, 1, 1), persistent=False)
        self.register_buffer("shift", (-mean / std).float().view(-1, 1, 1), persistent=False)

    def forward(self, x: Tensor) -> Tensor:
        scale, shift = self.scale.float(), self.shift.float()
        if x.dtype != torch.uint8:
            return (x * scale + shift).to(x.dtype)
        x = x.to(torch.float32, memory_format=torch.channels_last)
        return (x * (scale / 255) + shift).to(self.scale.dtype)  # the weights' dtype: buffers are cast with them
