"""R3GAN's networks in a small size: residual, without normalization. Huang et al. 2024, arXiv 2501.05441, section 4.

Blocks are inverted bottlenecks, 1x1, grouped 3x3 and 1x1 convolutions with leaky ReLUs and biases between them, added
to their input. The last convolution of each starts at 0 and the others scaled by the number of blocks, as in Fixup
(Zhang et al. 2019, arXiv 1901.09321). The coarsest map of the generator is a learned basis times a linear function of
the noise; the discriminator's is read by a depthwise convolution of its size and a linear layer. Conditional versions
append an embedding of the label to the noise, and the discriminator's output is the product of its features and an
embedding (projection: Miyato & Koyama 2018, arXiv 1802.05637).

Deviations: images are read and written by squares of pixels, `patch` a side, which is what makes it fast enough for a
CPU; coarser maps have more channels, where the published network for 32x32 pixels has 768 in all; upsampling is
bilinear and downsampling averages 2x2 places, where the published code filters by 1-2-1 in both; embeddings of labels
are initially larger than there by the square root of the number of classes.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from vision.generation.dcgan import coarsest
from vision.generation.mlp_gan import SLOPE, conditioned

GAIN = math.sqrt(2 / (1 + SLOPE**2))  # of leaky ReLU: He et al. 2015, arXiv 1502.01852
EXPANSION = 2  # channels between a block's 1x1 convolutions, times those outside: as the published code
GROUP = 16  # channels of a group of the 3x3 convolution: 96 groups of 1,536 there


class Biased(nn.Module):
    """Bias of each channel and leaky ReLU: (B, C, H, W) -> (B, C, H, W)."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.bias = nn.Parameter(torch.zeros(channels))

    def forward(self, x: Tensor) -> Tensor:
        return F.leaky_relu(x + self.bias[:, None, None], SLOPE)


def convolution(inputs: int, outputs: int, kernel: int = 1, groups: int = 1, gain: float = 1.0) -> nn.Conv2d:
    """A convolution without bias whose outputs have a deviation of `gain`, for inputs of deviation 1."""
    layer = nn.Conv2d(inputs, outputs, kernel, padding=kernel // 2, groups=groups, bias=False)
    nn.init.normal_(layer.weight, 0.0, gain / math.sqrt(layer.weight[0].numel()))
    return layer


def embedding(classes: int, features: int, deviation: float) -> nn.Linear | None:
    """A linear layer from one-hot labels (B, classes) to (B, features), whose weights start with a deviation.

    None without classes.
    """
    if not classes:
        return None
    layer = nn.Linear(classes, features, bias=False)
    nn.init.normal_(layer.weight, 0.0, deviation)
    return layer


class ResidualBlock(nn.Module):
    """Inverted bottleneck: (B, C, H, W) -> (B, C, H, W). blocks: of the whole network, for the initial scale."""

    def __init__(self, channels: int, blocks: int) -> None:
        super().__init__()
        inner = EXPANSION * channels
        gain = GAIN * blocks**-0.25  # Fixup: L^(-1 / (2m - 2)) for m = 3 layers
        self.body = nn.Sequential(
            convolution(channels, inner, 1, gain=gain),
            Biased(inner),
            convolution(inner, inner, 3, max(1, inner // GROUP), gain),
            Biased(inner),
            convolution(inner, channels, 1, gain=0.0),
        )

    def forward(self, x: Tensor) -> Tensor:
        return x + self.body(x)


def widths(shape: Sequence[int], width: int, patch: int) -> list[int]:
    """Channels of each map, coarse to fine: `width` at the finest, twice as many at each coarser one.

    Raises ValueError for a patch that is no power of two, or leaves nothing to double, and for widths that groups do
    not divide.
    """
    _, count = coarsest(shape)
    finest = count - int(math.log2(patch))
    if patch & (patch - 1) or finest < 0:
        raise ValueError(f"a patch of {patch} pixels does not divide images of {shape[1]} into maps: choose 1 or 2")
    if width * EXPANSION % GROUP:
        raise ValueError(
            f"a width of {width} channels does not make groups: choose a multiple of {GROUP // EXPANSION}"
        )
    return [width * 2 ** (finest - level) for level in range(finest + 1)]


class R3GANGenerator(nn.Module):
    """Noise (B, latent) and labels (B,) or None -> images (B, C, H, W), not bounded.

    shape: of an image (C, H, W). width: channels of the finest map. blocks: residual ones of each map.
    """

    def __init__(
        self, latent: int, shape: Sequence[int], width: int, blocks: int = 1, patch: int = 2, classes: int = 0
    ) -> None:
        super().__init__()
        self.latent, self.classes, self.patch = latent, classes, patch
        side, _ = coarsest(shape)
        channels = widths(shape, width, patch)
        self.embedding = embedding(classes, latent, 1.0)
        self.basis = nn.Parameter(torch.randn(channels[0], side, side))
        self.weigh = nn.Linear(latent * (2 if classes else 1), channels[0], bias=False)
        nn.init.normal_(self.weigh.weight, 0.0, self.weigh.in_features**-0.5)
        stages: list[nn.Module] = []
        for level, outputs in enumerate(channels):
            if level:
                stages += [convolution(channels[level - 1], outputs), _upsample()]
            stages += [ResidualBlock(outputs, blocks * len(channels)) for _ in range(blocks)]
        self.stages = nn.Sequential(*stages)
        self.to_pixels = convolution(channels[-1], shape[0] * patch**2)

    def forward(self, noise: Tensor, labels: Tensor | None = None) -> Tensor:
        known = conditioned(noise.new_zeros(len(noise), 0), labels, self.classes)
        if self.embedding is not None:
            noise = torch.cat([noise, self.embedding(known)], 1)
        x = self.basis * self.weigh(noise)[:, :, None, None]
        return F.pixel_shuffle(self.to_pixels(self.stages(x)), self.patch)


class R3GANDiscriminator(nn.Module):
    """Images (B, C, H, W) and labels (B,) or None -> logits (B,). Arguments as the generator's."""

    def __init__(
        self, shape: Sequence[int], width: int, blocks: int = 1, patch: int = 2, classes: int = 0, features: int = 64
    ) -> None:
        super().__init__()
        self.classes, self.patch = classes, patch
        side, _ = coarsest(shape)
        channels = widths(shape, width, patch)
        self.from_pixels = convolution(shape[0] * patch**2, channels[-1])
        stages: list[nn.Module] = []
        for level in reversed(range(len(channels))):
            stages += [ResidualBlock(channels[level], blocks * len(channels)) for _ in range(blocks)]
            if level:
                stages += [nn.AvgPool2d(2), convolution(channels[level], channels[level - 1])]
        self.stages = nn.Sequential(*stages)
        self.basis = nn.Conv2d(channels[0], channels[0], side, groups=channels[0], bias=False)
        nn.init.normal_(self.basis.weight, 0.0, 1 / side)
        self.output = nn.Linear(channels[0], features if classes else 1, bias=False)
        nn.init.normal_(self.output.weight, 0.0, channels[0] ** -0.5)
        self.embedding = embedding(classes, features, features**-0.5)

    def forward(self, images: Tensor, labels: Tensor | None = None) -> Tensor:
        known = conditioned(images.new_zeros(len(images), 0), labels, self.classes)
        x = self.stages(self.from_pixels(F.pixel_unshuffle(images, self.patch)))
        found = self.output(self.basis(x).flatten(1))
        return found.squeeze(1) if self.embedding is None else (found * self.embedding(known)).sum(1)


def _upsample() -> nn.Module:
    return nn.Upsample(scale_factor=2, mode="bilinear", align_corners=False)
