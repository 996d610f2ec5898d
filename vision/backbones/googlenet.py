"""GoogLeNet, the first Inception: convolutions of several sizes side by side (Szegedy et al. 2014)."""

import dataclasses
from collections.abc import Callable, Sequence
from functools import partial
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from vision.backbones.alexnet import ResponseNorm
from vision.backbones.backbone import Backbone, widths
from vision.backbones.layers.activation import activation_layer, width_before
from vision.backbones.layers.initialization import initialize
from vision.backbones.layers.normalization import norm_layer
from vision.backbones.layers.pixel_conv import PixelConv2d
from vision.backbones.options import BackboneOptions
from vision.backbones.preprocessing import IMAGENET_MEAN, IMAGENET_STD

# table 1: 1x1; 3x3 reduced, 3x3; 5x5 reduced, 5x5; projected pool
INCEPTIONS = {
    "3a": (64, 96, 128, 16, 32, 32),
    "3b": (128, 128, 192, 32, 96, 64),
    "4a": (192, 96, 208, 16, 48, 64),
    "4b": (160, 112, 224, 24, 64, 64),
    "4c": (128, 128, 256, 24, 64, 64),
    "4d": (112, 144, 288, 32, 64, 64),
    "4e": (256, 160, 320, 32, 128, 128),
    "5a": (256, 160, 320, 32, 128, 128),
    "5b": (384, 192, 384, 48, 128, 128),
}


class Variant(NamedTuple):
    """The form of a GoogLeNet."""

    five: int = 3  # kernel of the branch that the paper calls 5x5
    naive: bool = False  # figure 2 a: no 1x1 convolution before kernels and behind the pool, which grows the channels
    published: bool = False  # as in the paper: no batch norms, but contrast normalization at two places


GOOGLENETS = {
    "googlenet": Variant(),
    "googlenet_2014": Variant(five=5, published=True),
    "googlenet_naive": Variant(five=5, naive=True, published=True),
}


@dataclasses.dataclass(frozen=True)
class GoogLeNetOptions(BackboneOptions):
    """Options of a GoogLeNet."""

    transform_input: bool = False  # from ImageNet's normalization to [-1, 1]


class GoogLeNet(Backbone):
    """Szegedy et al. 2014, arXiv 1409.4842, table 1.

    name: a key of GOOGLENETS.
        googlenet        in the form whose weights are published: with batch norms, and 3x3 convolutions in place of
                         5x5 ones (github.com/pytorch/vision/issues/906)
        googlenet_2014   as in the paper: 5x5 convolutions, no batch norms, contrast normalization after the first
                         pool and before the second, as in its figure 3 (AlexNet's constants)
        googlenet_naive  the same of naive modules, figure 2 a, which the paper and CS231n reject for their cost: with
                         table 1's 1x1, 3x3 and 5x5 channels, and all that come in put out again by the pool
    shape: (C, H, W); width: multiplies all channels; init, norm, activation: see options.py
    transform_input: from images normalized with ImageNet's means and deviations to pixels in [-1, 1], which the
        published weights need
    dropout: elementwise, after each pool but the stem's; the head has its own
    stem: the first convolution and pool. Three maps have one size, the outputs of 4a, 4d and 4e: the inputs
        of the auxiliary classifiers are the first two.
        imagenet  7x7 / 2, 3x3 / 2 max pool  224 -> 112, 56, 28, 14, 14, 14, 7
        cifar     3x3                        32 -> 32, 16, 8, 8, 8, 4
        atari     8x8 / 4                    84 -> 20, 10, 5, 5, 5, 3
    """

    OPTIONS = GoogLeNetOptions()

    @classmethod
    def defaults(cls, name: str) -> GoogLeNetOptions:
        return dataclasses.replace(cls.OPTIONS, norm="none") if GOOGLENETS[name].published else cls.OPTIONS

    def __init__(self, name: str, shape: Sequence[int], options: GoogLeNetOptions) -> None:
        super().__init__(name, shape, options)
        variant = GOOGLENETS[name]
        contrast = ResponseNorm if variant.published and options.norm == "none" else nn.Identity
        self.contrast1, self.contrast2 = contrast(), contrast()
        self.between = nn.Dropout(options.dropout)
        self.transform = Renormalize(self.shape[0]) if options.transform_input else nn.Identity()
        conv = partial(Convolution, norm=options.norm, activation=options.activation)
        one, three = widths((64, 192), options.width)
        kernel, stride, padding = {"imagenet": (7, 2, 3), "cifar": (3, 1, 1), "atari": (8, 4, 0)}[options.stem]
        self.conv1 = conv(self.shape[0], one, kernel, stride, padding, layer=PixelConv2d)
        self.maxpool1 = nn.MaxPool2d(3, 2, ceil_mode=True) if options.stem == "imagenet" else nn.Identity()
        self.conv2 = conv(one, one)
        self.conv3 = conv(one, three, 3, padding=1)
        self.maxpool2 = nn.MaxPool2d(3, 2, ceil_mode=True)
        self.maxpool3 = nn.MaxPool2d(3, 2, ceil_mode=True)
        self.maxpool4 = nn.MaxPool2d(2, 2, ceil_mode=True)
        channels = three
        for module, row in INCEPTIONS.items():
            inception = Inception(channels, widths(row, options.width), conv, variant.five, variant.naive)
            self.add_module(f"inception{module}", inception)
            channels = inception.channels
        self.finish()

    def maps(self, x: Tensor) -> list[Tensor]:
        one = self.conv1(self.transform(x))
        two = self.contrast2(self.conv3(self.conv2(self.contrast1(self.maxpool1(one)))))
        three = self.inception3b(self.inception3a(self.between(self.maxpool2(two))))
        four_a = self.inception4a(self.between(self.maxpool3(three)))
        four_d = self.inception4d(self.inception4c(self.inception4b(four_a)))
        four_e = self.inception4e(four_d)
        five = self.inception5b(self.inception5a(self.between(self.maxpool4(four_e))))
        finest = [one] if self.options.stem == "imagenet" else []
        return [*finest, two, three, four_a, four_d, four_e, five]

    def head(self, classes: int, dropout: float | None = None) -> nn.Module:
        conv = partial(Convolution, norm=self.options.norm, activation=self.options.activation)
        return Head(self.channels, classes, 0.2 if dropout is None else dropout, self.options.activation, conv)


class Convolution(nn.Module):
    """x (B, channels, H, W) -> (B, wide, ...): a convolution, its norm and its activation."""

    def __init__(
        self,
        channels: int,
        wide: int,
        kernel: int | tuple[int, int] = 1,
        stride: int = 1,
        padding: int | tuple[int, int] = 0,
        *,
        norm: str,
        activation: str,
        layer: type[nn.Conv2d] = nn.Conv2d,
    ) -> None:
        super().__init__()
        out = width_before(activation, wide)
        self.conv = layer(channels, out, kernel, stride, padding, bias=norm == "none")
        self.bn = norm_layer(out, norm, eps=1e-3)
        self.activation = activation_layer(activation)

    def forward(self, x: Tensor) -> Tensor:
        return self.activation(self.bn(self.conv(x)))


class Inception(nn.Module):
    """x (B, channels, H, W) -> the channels of four branches, joined; row as in INCEPTIONS.

    large: kernel of the third branch. naive: no 1x1 convolution before a kernel and behind the pool.
    """

    def __init__(
        self,
        channels: int,
        row: Sequence[int],
        conv: Callable[..., Convolution],
        large: int = 3,
        naive: bool = False,
    ) -> None:
        super().__init__()
        one, reduced3, three, reduced5, five, pooled = row
        same3, same5, pool = dict(padding=1), dict(padding=large // 2), nn.MaxPool2d(3, 1, padding=1)
        self.branch1 = conv(channels, one)
        if naive:
            self.branch2, self.branch3 = conv(channels, three, 3, **same3), conv(channels, five, large, **same5)
            self.branch4, pooled = pool, channels
        else:
            self.branch2 = nn.Sequential(conv(channels, reduced3), conv(reduced3, three, 3, **same3))
            self.branch3 = nn.Sequential(conv(channels, reduced5), conv(reduced5, five, large, **same5))
            self.branch4 = nn.Sequential(pool, conv(channels, pooled))
        self.channels = one + three + five + pooled

    def forward(self, x: Tensor) -> Tensor:
        return torch.cat((self.branch1(x), self.branch2(x), self.branch3(x), self.branch4(x)), 1)


class Head(nn.Module):
    """maps -> logits (B, classes) of the last; `auxiliary` gives those of 4a and 4d, whose losses count 0.3 each.

    channels: of the maps, fine to coarse; dropout: of the last classifier only
    """

    def __init__(
        self,
        channels: Sequence[int],
        classes: int,
        dropout: float,
        activation: str,
        conv: Callable[..., Convolution],
    ) -> None:
        super().__init__()
        self.aux1 = Auxiliary(channels[-4], classes, activation, conv)
        self.aux2 = Auxiliary(channels[-3], classes, activation, conv)
        self.dropout = nn.Dropout(dropout)
        self.fc = nn.Linear(channels[-1], classes)
        initialize(self, "he")

    def forward(self, maps: list[Tensor]) -> Tensor:
        return self.fc(self.dropout(maps[-1].mean((2, 3))))

    def auxiliary(self, maps: list[Tensor]) -> list[Tensor]:
        """The logits (B, classes) of both auxiliary classifiers."""
        return [self.aux1(maps[-4]), self.aux2(maps[-3])]


class Auxiliary(nn.Module):
    """Auxiliary classifier: a middle map (B, C, H, W) -> logits (B, classes), for gradients in early layers (section
    5)."""

    def __init__(self, channels: int, classes: int, activation: str, conv: Callable[..., Convolution]) -> None:
        super().__init__()
        self.conv = conv(channels, 128)
        self.fc1 = nn.Linear(4 * 4 * 128, width_before(activation, 1024))
        self.activation = activation_layer(activation)
        self.dropout = nn.Dropout(0.7)
        self.fc2 = nn.Linear(1024, classes)

    def forward(self, x: Tensor) -> Tensor:
        x = self.conv(F.adaptive_avg_pool2d(x, 4)).flatten(1)
        return self.fc2(self.dropout(self.activation(self.fc1(x))))


class Renormalize(nn.Module):
    """Images (B, 3, H, W) with ImageNet's means and deviations of 0 and 1 -> pixels in [-1, 1]."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        if channels != 3:
            raise ValueError(f"transform_input is for images of 3 channels, got {channels}: leave it out")
        mean, deviation = torch.tensor(IMAGENET_MEAN), torch.tensor(IMAGENET_STD)
        self.register_buffer("scale", (deviation / 0.5).view(3, 1, 1), persistent=False)
        self.register_buffer("shift", ((mean - 0.5) / 0.5).view(3, 1, 1), persistent=False)

    def forward(self, x: Tensor) -> Tensor:
        if x.dtype == torch.uint8:
            x = x.to(self.scale.dtype) / 255
        return x * self.scale + self.shift
