"""What the networks before 2014 share: one chain of convolutions and pools, and dense layers on its last map."""

from collections.abc import Sequence
from typing import Self

from torch import Tensor, nn

from vision.backbones.backbone import Backbone
from vision.backbones.layers import pooling
from vision.backbones.layers.activation import activation_layer, width_before
from vision.backbones.layers.initialization import initialize
from vision.backbones.layers.normalization import norm_after
from vision.backbones.layers.pixel_conv import PixelConv2d
from vision.backbones.options import BackboneOptions


class Chain(Backbone):
    """One nn.Sequential, `features`. Its maps are what enters each layer that downsamples, and what comes out last.

    Every convolution has the norm and activation of the options; their dropout is of single numbers, of what each
    pool leaves to the next convolution.
    """

    def __init__(self, name: str, shape: Sequence[int], options: BackboneOptions) -> None:
        super().__init__(name, shape, options)
        self.features = nn.Sequential()
        self.between = nn.Dropout(options.dropout)
        self._channels = self.shape[0]  # that the next convolution sees

    def convolve(self, channels: int, kernel: int, stride: int = 1, padding: int = 0, groups: int = 1) -> None:
        """Appends a convolution, its norm and its activation, which leaves `channels`."""
        norm, activation = self.options.norm, self.options.activation
        kind = nn.Conv2d if len(self.features) else PixelConv2d
        conv = kind(self._channels, width_before(activation, channels), kernel, stride, padding, groups=groups)
        self.features.extend([conv, *norm_after(conv, norm), activation_layer(activation)])
        self._channels = channels

    def maps(self, x: Tensor) -> list[Tensor]:
        maps = []
        for i, layer in enumerate(self.features):
            if i and _downsamples(layer):
                maps.append(x)
            x = layer(x)
            if isinstance(layer, pooling.LAYERS) and i + 1 < len(self.features):
                x = self.between(x)
        return [*maps, x]


class Dense(nn.Module):
    """Logits from the last map, averaged to side x side places, through the dense layers that the paper has.

    side: of the map at the paper's image size, where averaging changes nothing; int or (height, width).
    layers: from vectors (B, channels * height * width) to logits (B, classes).
    """

    def __init__(self, side: int | tuple[int, int], layers: Sequence[nn.Module]) -> None:
        super().__init__()
        self.avgpool = nn.AdaptiveAvgPool2d(side)
        self.classifier = nn.Sequential(*layers)
        initialize(self, "he")

    @classmethod
    def twice(
        cls,
        channels: int,
        side: int,
        features: int,
        classes: int,
        dropout: float,
        activation: str,
        early: bool = False,
    ) -> Self:
        """Two layers of `units` before the last, with dropout after each of them, or before if it is early."""
        first, second = dense(channels * side * side, features, activation), dense(features, features, activation)
        drop, again, last = nn.Dropout(dropout), nn.Dropout(dropout), nn.Linear(features, classes)
        if early:
            return cls(side, [drop, *first, again, *second, last])
        return cls(side, [*first, drop, *second, again, last])

    def forward(self, maps: list[Tensor]) -> Tensor:
        return self.classifier(self.avgpool(maps[-1]).flatten(1))


def dense(inputs: int, features: int, activation: str) -> list[nn.Module]:
    """A linear layer and its activation, which leaves `units`; Maxout takes the larger of two of them."""
    return [nn.Linear(inputs, width_before(activation, features)), activation_layer(activation)]


def _downsamples(layer: nn.Module) -> bool:
    stride = getattr(layer, "stride", 1)
    return (max(stride) if isinstance(stride, tuple) else stride) > 1
