"""Encoders and decoders of autoencoders: a backbone with a dense layer, and layers that mirror it back to an image.

The encoder of an autoencoder is any backbone. Behind `mlp` the decoder is fully connected, of the same layers in
reverse; behind convolutions it has a transposed convolution for each of the backbone's strides.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

from torch import Tensor, nn
from torch.nn import functional as F

from vision import backbones


class Encoder(nn.Module):
    """A backbone and, behind convolutions, a dense layer and ReLU: images (B, C, H, W) to vectors (B, features)."""

    def __init__(self, backbone: backbones.Backbone, hidden: int) -> None:
        super().__init__()
        self.backbone = backbone
        inputs = backbone.output_size()
        self.dense = nn.Identity()
        self.features = inputs
        if backbone.any_size:
            self.dense, self.features = nn.Sequential(nn.Linear(inputs, hidden), nn.ReLU()), hidden

    def forward(self, images: Tensor) -> Tensor:
        return self.dense(self.backbone(images)[-1].flatten(1))


class ResidualBlock(nn.Module):
    """Two 3x3 convolutions, a ReLU before each, added to the input (B, C, H, W): He et al. 2016, arXiv 1603.05027."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.body = nn.Sequential(
            nn.ReLU(), nn.Conv2d(channels, channels, 3, padding=1),
            nn.ReLU(), nn.Conv2d(channels, channels, 3, padding=1),
        )  # fmt: skip

    def forward(self, x: Tensor) -> Tensor:
        return x + self.body(x)


class Upsample(nn.Module):
    """Transposed convolution to `stride` times the size, cut or stretched to `size` (H, W): (B, inputs, h, w) to
    (B, outputs, H, W)."""

    def __init__(self, inputs: int, outputs: int, stride: int, size: Sequence[int]) -> None:
        super().__init__()
        self.size = tuple(size)
        if stride == 1:
            self.conv = nn.Conv2d(inputs, outputs, 3, padding=1)
        else:
            self.conv = nn.ConvTranspose2d(inputs, outputs, 2 * stride, stride, (stride + 1) // 2, stride % 2)

    def forward(self, x: Tensor) -> Tensor:
        x = self.conv(x)
        if x.shape[2] >= self.size[0] and x.shape[3] >= self.size[1]:
            return x[:, :, : self.size[0], : self.size[1]]
        return F.interpolate(x, self.size, mode="nearest")


def build_decoder(
    backbone: backbones.Backbone, inputs: int, hidden: int, outputs: int, blocks: int = 0
) -> nn.Sequential:
    """The way back of a backbone: (B, inputs) to (B, outputs, H, W) for images of the backbone's shape.

    hidden: of the dense layer before the coarsest map. blocks: residual ones at each size but the image's.
    """
    shape = backbone.shape
    if not backbone.any_size:
        widths = [layer.out_features for layer in backbone.modules() if isinstance(layer, nn.Linear)]
        layers = []
        for width in reversed(widths):
            layers += [nn.Linear(inputs, width), nn.ReLU()]
            inputs = width
        return nn.Sequential(
            *layers, nn.Linear(inputs, outputs * shape[1] * shape[2]), nn.Unflatten(1, (outputs, *shape[1:]))
        )
    coarsest = tuple(backbone.imagine(shape)[-1].shape[1:])
    return nn.Sequential(
        nn.Linear(inputs, hidden), nn.ReLU(), nn.Linear(hidden, math.prod(coarsest)), nn.Unflatten(1, coarsest),
        *(ResidualBlock(coarsest[0]) for _ in range(blocks)), nn.ReLU(), *mirrored(backbone, outputs, blocks),
    )  # fmt: skip


def mirrored(backbone: backbones.Backbone, outputs: int, blocks: int = 0) -> list[nn.Module]:
    """Layers from a backbone's coarsest map (B, C, h, w) to (B, outputs, H, W), a transposed convolution a stride.

    blocks: residual ones at each size between.
    """
    maps = [tuple(each.shape[1:]) for each in backbone.imagine(backbone.shape)]
    strides, layers = [1, *backbone.strides], []
    sizes = [(outputs, *backbone.shape[1:]), *maps]
    for index in range(len(maps), 0, -1):
        channels, *size = sizes[index - 1]
        layers.append(Upsample(sizes[index][0], channels, max(1, strides[index] // strides[index - 1]), size))
        if index > 1:
            layers += [*(ResidualBlock(channels) for _ in range(blocks)), nn.ReLU()]
    return layers
