"""Inception-v4, and Inception-ResNet-v1 and v2 with residuals (Szegedy et al. 2016)."""

from collections.abc import Callable, Sequence
from functools import partial

import torch
from torch import Tensor, nn

from vision.backbones.backbone import PooledHead, widths
from vision.backbones.googlenet import Convolution
from vision.backbones.inception import Branches, Inceptions, Mixed, Pool, join, same
from vision.backbones.layers.activation import activation_layer, width_before
from vision.backbones.layers.pixel_conv import PixelConv2d
from vision.backbones.options import BackboneOptions

A: Branches = {"one": [(96, 1)], "three": [(64, 1), (96, 3)], "double": [(64, 1), (96, 3), (96, 3)]}
B: Branches = {
    "one": [(384, 1)],
    "seven": [(192, 1), (224, (1, 7)), (256, (7, 1))],
    "double": [(192, 1), (192, (1, 7)), (224, (7, 1)), (224, (1, 7)), (256, (7, 1))],
}
C: Branches = {
    "one": [(256, 1)],
    "three": [(384, 1), ((256, (1, 3)), (256, (3, 1)))],
    "double": [(384, 1), (448, (1, 3)), (512, (3, 1)), ((256, (3, 1)), (256, (1, 3)))],
}
TO_B: Branches = {"three": [(384, 3)], "double": [(192, 1), (224, 3), (256, 3)]}
TO_C: Branches = {"three": [(192, 1), (192, 3)], "seven": [(256, 1), (256, (1, 7)), (320, (7, 1)), (320, 3)]}
V4: dict[str, tuple[Branches, Pool]] = {  # figures 4 to 9
    **{f"a{i}": (A, ("avg", 96)) for i in range(4)},
    "to_b": (TO_B, ("max", 0)),
    **{f"b{i}": (B, ("avg", 128)) for i in range(7)},
    "to_c": (TO_C, ("max", 0)),
    **{f"c{i}": (C, ("avg", 256)) for i in range(3)},
}

RESIDUAL_A: Branches = {"one": [(32, 1)], "three": [(32, 1), (32, 3)], "double": [(32, 1), (48, 3), (64, 3)]}
RESIDUAL_B: Branches = {"one": [(192, 1)], "seven": [(128, 1), (160, (1, 7)), (192, (7, 1))]}
RESIDUAL_C: Branches = {"one": [(192, 1)], "three": [(192, 1), (224, (1, 3)), (256, (3, 1))]}
RESIDUAL_TO_B: Branches = {"three": [(384, 3)], "double": [(256, 1), (256, 3), (384, 3)]}
RESIDUAL_TO_C: Branches = {
    "three": [(256, 1), (384, 3)],
    "narrow": [(256, 1), (288, 3)],
    "double": [(256, 1), (288, 3), (320, 3)],
}
# branches, how many blocks, and what scales their residuals (section 3.3: 0.1 to 0.3), then the reduction after them
RESIDUALS: dict[str, tuple[Branches, int, float, Branches | None]] = {  # figures 7, 16 to 19
    "a": (RESIDUAL_A, 5, 0.17, RESIDUAL_TO_B),
    "b": (RESIDUAL_B, 10, 0.1, RESIDUAL_TO_C),
    "c": (RESIDUAL_C, 5, 0.2, None),
}

RESIDUAL_V1_A: Branches = {"one": [(32, 1)], "three": [(32, 1), (32, 3)], "double": [(32, 1), (32, 3), (32, 3)]}
RESIDUAL_V1_B: Branches = {"one": [(128, 1)], "seven": [(128, 1), (128, (1, 7)), (128, (7, 1))]}
RESIDUAL_V1_C: Branches = {"one": [(192, 1)], "three": [(192, 1), (192, (1, 3)), (192, (3, 1))]}
RESIDUAL_V1_TO_B: Branches = {"three": [(384, 3)], "double": [(192, 1), (192, 3), (256, 3)]}
RESIDUAL_V1_TO_C: Branches = {
    "three": [(256, 1), (384, 3)],
    "narrow": [(256, 1), (256, 3)],
    "double": [(256, 1), (256, 3), (256, 3)],
}
RESIDUALS_V1: dict[str, tuple[Branches, int, float, Branches | None]] = {  # figures 7, 10 to 13
    "a": (RESIDUAL_V1_A, 5, 0.17, RESIDUAL_V1_TO_B),
    "b": (RESIDUAL_V1_B, 10, 0.1, RESIDUAL_V1_TO_C),
    "c": (RESIDUAL_V1_C, 5, 0.2, None),
}


class Stemmed(Inceptions):
    """Base class of both networks: the stem of figure 3, and a head with a dropout of 0.2.

    stem: its first join, of a pool and a convolution with strides of 2, is only in the published one.
        imagenet  as published                                        299 -> 147, 71, 35, 17, 8
        cifar     padded and without strides up to the last join      32 -> 32, 15, 7, 3
        atari     as published, but a 3x3 convolution for the join    84 -> 37, 18, 8, 3
    """

    def begin(self) -> int:
        """Adds the stem and returns its channels."""
        conv = partial(Convolution, norm=self.options.norm, activation=self.options.activation)
        stem, width = self.options.stem, self.options.width
        one, two, three, four = widths((32, 64, 96, 192), width)
        stride, padding = (1, 1) if stem == "cifar" else (2, 0)
        self.conv1 = conv(self.shape[0], one, 3, stride, padding, layer=PixelConv2d)
        self.conv2 = conv(one, one, 3, padding=padding)
        self.conv3 = conv(one, two, 3, padding=1)
        if stem == "imagenet":
            self.join1 = Mixed(two, {"three": [(96, 3)]}, ("max", 0), width, conv)
        else:
            self.join1 = same(conv, two, two + three, 3)
        last = partial(conv, two, three, 3, padding=padding)
        self.short = nn.Sequential(conv(two + three, two), last())
        self.long = nn.Sequential(
            conv(two + three, two), same(conv, two, two, (7, 1)), same(conv, two, two, (1, 7)), last()
        )
        self.join3 = Mixed(2 * three, {"three": [(192, 3)]}, ("max", 0), width, conv)
        return 2 * three + four

    def maps(self, x: Tensor) -> list[Tensor]:
        one = self.conv3(self.conv2(self.conv1(x)))
        x = self.join1(one)
        two = torch.cat((self.short(x), self.long(x)), 1)
        finest = [one] if self.options.stem == "imagenet" else []
        return [*finest, two, *self.mixed(self.join3(two))]

    def head(self, classes: int, dropout: float | None = None) -> nn.Module:
        return PooledHead(self.channels[-1], classes, 0.2 if dropout is None else dropout)


class InceptionV4(Stemmed):
    """Szegedy et al. 2016, arXiv 1602.07261, figures 3 to 9.

    shape: (C, H, W); width: multiplies all channels; init, norm, activation: see options.py; stem: see Stemmed
    dropout: elementwise, after each reduction behind the stem; the head has its own
    """

    def __init__(self, name: str, shape: Sequence[int], options: BackboneOptions) -> None:
        super().__init__(name, shape, options)
        self.mix(self.begin(), V4)
        self.finish()


class InceptionResNetV2(Stemmed):
    """Szegedy et al. 2016, arXiv 1602.07261, figures 3, 7 and 15 to 19.

    The numbers of channels are the sums of the branches (1152, 2144); the figures print 1154 and 2048. The authors'
    later code has another stem, twice the blocks and one more convolution.

    shape: (C, H, W); width: multiplies all channels; init, norm, activation: see options.py; stem: see Stemmed
    dropout: elementwise, after each reduction behind the stem; the head has its own
    """

    def __init__(self, name: str, shape: Sequence[int], options: BackboneOptions) -> None:
        super().__init__(name, shape, options)
        add_residuals(self, self.begin(), RESIDUALS)
        self.finish()


class InceptionResNetV1(Inceptions):
    """Szegedy et al. 2016, arXiv 1602.07261, figures 7 and 10 to 14: as costly as Inception-v3.

    shape: (C, H, W); width: multiplies all channels; init, norm, activation: see options.py
    dropout: of single numbers, of what each reduction behind the stem leaves; the head has its own
    stem: that of figure 14, with three strides of 2 behind a 3x3 pool, or with fewer.
        imagenet  as published                                              299 -> 147, 35, 17, 8
        cifar     padded, without strides but the last, and without a pool  32 -> 32, 15, 7, 3
        atari     as published, without the pool                            84 -> 37, 18, 8, 3
    """

    def __init__(self, name: str, shape: Sequence[int], options: BackboneOptions) -> None:
        super().__init__(name, shape, options)
        conv = partial(Convolution, norm=options.norm, activation=options.activation)
        one, two, three, four, five = widths((32, 64, 80, 192, 256), options.width)
        stride, padding = (1, 1) if options.stem == "cifar" else (2, 0)
        self.conv1 = conv(self.shape[0], one, 3, stride, padding, layer=PixelConv2d)
        self.conv2 = conv(one, one, 3, padding=padding)
        self.conv3 = conv(one, two, 3, padding=1)
        self.pool = nn.MaxPool2d(3, 2) if options.stem == "imagenet" else nn.Identity()
        self.conv4 = conv(two, three)
        self.conv5 = conv(three, four, 3, padding=padding)
        self.conv6 = conv(four, five, 3, 2)
        add_residuals(self, five, RESIDUALS_V1)
        self.finish()

    def maps(self, x: Tensor) -> list[Tensor]:
        one = self.conv3(self.conv2(self.conv1(x)))
        two = self.conv5(self.conv4(self.pool(one)))
        finest = [one] if self.options.stem == "imagenet" else []
        return [*finest, two, *self.mixed(self.conv6(two))]

    def head(self, classes: int, dropout: float | None = None) -> nn.Module:
        return PooledHead(self.channels[-1], classes, 0.2 if dropout is None else dropout)


def add_residuals(
    backbone: Inceptions, channels: int, residuals: dict[str, tuple[Branches, int, float, Branches | None]]
) -> None:
    """Adds the blocks and reductions behind a stem that leaves `channels`."""
    options = backbone.options
    conv = partial(Convolution, norm=options.norm, activation=options.activation)
    backbone.reducing = {}
    for letter, (branches, blocks, scale, reduction) in residuals.items():
        for i in range(blocks):
            block = Residual(channels, branches, scale, options.width, conv, options.activation)
            backbone.add_module(f"{letter}{i}", block)
            backbone.reducing[f"{letter}{i}"] = False
        if reduction is not None:
            module = Mixed(channels, reduction, ("max", 0), options.width, conv)
            backbone.add_module(f"after_{letter}", module)
            backbone.reducing[f"after_{letter}"] = True
            channels = module.channels


class Residual(nn.Module):
    """activation(x + scale * a 1x1 convolution of the branches of x), all (B, channels, H, W)."""

    def __init__(
        self,
        channels: int,
        branches: Branches,
        scale: float,
        width: float,
        conv: Callable[..., Convolution],
        activation: str,
    ) -> None:
        super().__init__()
        self.mixed = Mixed(channels, branches, None, width, conv)
        self.linear = nn.Conv2d(self.mixed.channels, width_before(activation, channels), 1)
        self.copies = width_before(activation, channels) // channels  # of x: Maxout's x + the larger residual
        self.scale = scale
        self.activation = activation_layer(activation)

    def forward(self, x: Tensor) -> Tensor:
        return self.activation(join([x] * self.copies) + self.scale * self.linear(self.mixed(x)))
