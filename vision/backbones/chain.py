"""Chain: the base class of networks before 2014, one chain of convolutions and pools, and dense layers."""

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
    """One nn.Sequential, `features`. Its maps are the inputs of each downsampling layer, and the last output.

    Every convolution has the norm and activation of the options; dropout is
    elementwise, after each pool before the next convolution.
    """

    def __init__(self, name: str, shape: Sequence[int], options: BackboneOptions) -> None:
        super().__init__(name, shape, options)
        self.features = nn.Sequential()
        self.between = nn.Dropout(options.dropout)
        self._channels = self.shape[0]  # that the next convolution sees

    def convolve(self, channels: int, kernel: int, stride: int = 1, padding: int = 0, groups: int = 1) -> None:
        """Append a convolution, its norm and its activation, with `channels` outputs."""
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
    """Maps -> logits (B, classes): the last map, averaged to side x side places, through the paper's dense layers.

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
        """Two layers of `features` units before the last, with dropout after each of them, or before if `early`."""
        first, second = dense(channels * side * side, features, activation), dense(features, features, activation)
        drop, again, last = nn.Dropout(dropout), nn.Dropout(dropout), nn.Linear(features, classes)
        if early:
            return cls(side, [drop, *first, again, *second, last])
        return cls(side, [*first, drop, *second, again, last])

    def forward(self, maps: list[Tensor]) -> Tensor:
        return self.classifier(self.avgpool(maps[-1]).flatten(1))


def dense(inputs: int, features: int, activation: str) -> list[nn.Module]:
    """A linear layer and its activation, with `features` outputs; Maxout needs two linear outputs for each."""
    return [nn.Linear(inputs, width_before(activation, features)), activation_layer(activation)]


def _downsamples(layer: nn.Module) -> bool:
    stride = getattr(layer, "stride", 1)
    return (max(stride) if isinstance(stride, tuple) else stride) > 1
