"""The later Inceptions: with batch norms (Ioffe & Szegedy 2015), and factorized (Szegedy et al. 2015)."""

from collections.abc import Callable, Sequence
from functools import partial

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from vision.backbones.backbone import Backbone, widths
from vision.backbones.googlenet import Convolution, GoogLeNetOptions, Renormalize
from vision.backbones.layers.initialization import initialize
from vision.backbones.layers.pixel_conv import PixelConv2d
from vision.backbones.options import BackboneOptions

Layer = tuple[int, int | tuple[int, int]]  # channels and kernel
Branches = dict[str, list[Layer | tuple[Layer, Layer]]]  # layers one after another; a pair: both, side by side
Pool = tuple[str, int]  # "avg" or "max", and the channels it is projected to; 0: as they are, all strides 2


class Mixed(nn.Module):
    """x (B, channels, H, W) -> (B, self.channels, ...): the channels of branches and of a 3x3 pool, joined.

    Where the pool is not projected, the last layer of each branch and the pool have stride 2 and `padding`.
    pool: None: there is none, and no stride.
    """

    def __init__(
        self,
        channels: int,
        branches: Branches,
        pool: Pool | None,
        width: float,
        conv: Callable[..., Convolution],
        padding: int = 0,
    ) -> None:
        super().__init__()
        reduces = pool is not None and pool[1] == 0
        self.channels = 0
        self.branches: list[list[list[str]]] = []  # the names of each layer of each branch
        for branch, layers in branches.items():
            chain, wide = [], channels
            for i, layer in enumerate(layers, 1):
                forks = isinstance(layer[0], tuple)
                names, outs = [], 0
                for end, (out, kernel) in zip("ab", layer if forks else (layer,), strict=False):
                    (out,) = widths((out,), width)
                    down = reduces and i == len(layers)
                    module = conv(wide, out, kernel, 2, padding) if down else same(conv, wide, out, kernel)
                    names.append(branch if len(layers) == 1 else f"{branch}_{i}{end if forks else ''}")
                    self.add_module(names[-1], module)
                    outs += out
                chain.append(names)
                wide = outs
            self.branches.append(chain)
            self.channels += wide
        self.pool = self.branch_pool = nn.Identity()
        self.pools = pool is not None
        if pool is not None:
            kind, pooled = pool
            stride, around = (2, padding) if reduces else (1, 1)
            self.pool = nn.AvgPool2d(3, stride, around) if kind == "avg" else nn.MaxPool2d(3, stride, around)
            if not reduces:
                (pooled,) = widths((pooled,), width)
                self.branch_pool = conv(channels, pooled)
            self.channels += pooled or channels

    def forward(self, x: Tensor) -> Tensor:
        outs = []
        for chain in self.branches:
            inner = x
            for names in chain:
                inner = join([self.get_submodule(name)(inner) for name in names])
            outs.append(inner)
        if self.pools:
            outs.append(self.branch_pool(self.pool(x)))
        return join(outs)


def join(parts: list[Tensor]) -> Tensor:
    """Maps (B, C_i, H, W) concatenated along channels; a single one is returned without a copy."""
    return torch.cat(parts, 1) if len(parts) > 1 else parts[0]


def same(conv: Callable[..., Convolution], channels: int, wide: int, kernel: int | tuple[int, int]) -> Convolution:
    """A convolution of stride 1 whose output has the input's size."""
    sides = (kernel, kernel) if isinstance(kernel, int) else kernel
    return conv(channels, wide, kernel, 1, (sides[0] // 2, sides[1] // 2))


class Inceptions(Backbone):
    """Base class of the Inceptions: a stem and named modules; a map ends before each reduction."""

    def __init__(self, name: str, shape: Sequence[int], options: BackboneOptions) -> None:
        super().__init__(name, shape, options)
        self.between = nn.Dropout(options.dropout)

    def mix(self, channels: int, modules: dict[str, tuple[Branches, Pool]], padding: int = 0) -> None:
        """Add the modules after a stem with `channels` outputs."""
        conv = partial(Convolution, norm=self.options.norm, activation=self.options.activation)
        self.reducing = {name: not pool[1] for name, (_, pool) in modules.items()}
        for name, (branches, pool) in modules.items():
            module = Mixed(channels, branches, pool, self.options.width, conv, padding)
            self.add_module(name, module)
            channels = module.channels

    def mixed(self, x: Tensor) -> list[Tensor]:
        """The maps (B, channels[i], H_i, W_i) of the modules, from the stem's output (B, C, H, W)."""
        maps = []
        for name, reduces in self.reducing.items():
            if reduces:
                maps.append(x)
            x = self.get_submodule(name)(x)
            if reduces:
                x = self.between(x)
        return [*maps, x]


def plain(one: int, three: tuple[int, int], double: tuple[int, int]) -> Branches:
    """Branches of version 2: 1x1 (0: none); 3x3 after a 1x1; two 3x3 after a 1x1."""
    branches: Branches = {"branch1x1": [(one, 1)]} if one else {}
    branches["branch3x3"] = [(three[0], 1), (three[1], 3)]
    return branches | {"branch3x3dbl": [(double[0], 1), (double[1], 3), (double[1], 3)]}


V2: dict[str, tuple[Branches, Pool]] = {
    "inception3a": (plain(64, (64, 64), (64, 96)), ("avg", 32)),
    "inception3b": (plain(64, (64, 96), (64, 96)), ("avg", 64)),
    "inception3c": (plain(0, (128, 160), (64, 96)), ("max", 0)),
    "inception4a": (plain(224, (64, 96), (96, 128)), ("avg", 128)),
    "inception4b": (plain(192, (96, 128), (96, 128)), ("avg", 128)),
    "inception4c": (plain(160, (128, 160), (128, 160)), ("avg", 96)),
    "inception4d": (plain(96, (128, 192), (160, 192)), ("avg", 96)),
    "inception4e": (plain(0, (128, 192), (192, 256)), ("max", 0)),
    "inception5a": (plain(352, (192, 320), (160, 224)), ("avg", 128)),
    "inception5b": (plain(352, (192, 320), (192, 224)), ("max", 128)),
}


class InceptionV2(Inceptions):
    """BN-Inception: Ioffe & Szegedy 2015, arXiv 1502.03167, figure 5, where batch norms began. It has no dropout.

    shape: (C, H, W); width: multiplies all channels; init, norm, activation: see options.py
    dropout: elementwise, after each reduction behind the stem; the head has its own
    stem: the first convolution, depthwise to 8 maps a channel and then 1x1 to 64, and the first 3x3 / 2 pool.
        imagenet  7x7 / 2, pool  224 -> 112, 56, 28, 14, 7
        cifar     3x3            32 -> 32, 16, 8, 4
        atari     8x8 / 4        84 -> 20, 10, 5, 3
    """

    def __init__(self, name: str, shape: Sequence[int], options: BackboneOptions) -> None:
        super().__init__(name, shape, options)
        conv = partial(Convolution, norm=options.norm, activation=options.activation)
        one, three = widths((64, 192), options.width)
        seen = self.shape[0]
        kernel, stride, padding = {"imagenet": (7, 2, 3), "cifar": (3, 1, 1), "atari": (8, 4, 0)}[options.stem]
        depthwise = PixelConv2d(seen, 8 * seen, kernel, stride, padding, groups=seen, bias=False)
        self.conv1 = nn.Sequential(depthwise, conv(8 * seen, one))
        self.pool1 = nn.MaxPool2d(3, 2, padding=1) if options.stem == "imagenet" else nn.Identity()
        self.conv2 = nn.Sequential(conv(one, one), conv(one, three, 3, padding=1))
        self.pool2 = nn.MaxPool2d(3, 2, padding=1)
        self.mix(three, V2, padding=1)
        self.finish()

    def maps(self, x: Tensor) -> list[Tensor]:
        one = self.conv1(x)
        two = self.conv2(self.pool1(one))
        finest = [one] if self.options.stem == "imagenet" else []
        return [*finest, two, *self.mixed(self.pool2(two))]


FIVES: Branches = {
    "branch1x1": [(64, 1)],
    "branch5x5": [(48, 1), (64, 5)],
    "branch3x3dbl": [(64, 1), (96, 3), (96, 3)],
}
FORKS: Branches = {
    "branch1x1": [(320, 1)],
    "branch3x3": [(384, 1), ((384, (1, 3)), (384, (3, 1)))],
    "branch3x3dbl": [(448, 1), (384, 3), ((384, (1, 3)), (384, (3, 1)))],
}


def sevens(n: int) -> Branches:
    """Version 3's branches with 7x7 convolutions factorized into 1x7 and 7x1 ones of n channels (figure 6)."""
    return {
        "branch1x1": [(192, 1)],
        "branch7x7": [(n, 1), (n, (1, 7)), (192, (7, 1))],
        "branch7x7dbl": [(n, 1), (n, (7, 1)), (n, (1, 7)), (n, (7, 1)), (192, (1, 7))],
    }


V3: dict[str, tuple[Branches, Pool]] = {
    "Mixed_5b": (FIVES, ("avg", 32)),
    "Mixed_5c": (FIVES, ("avg", 64)),
    "Mixed_5d": (FIVES, ("avg", 64)),
    "Mixed_6a": ({"branch3x3": [(384, 3)], "branch3x3dbl": [(64, 1), (96, 3), (96, 3)]}, ("max", 0)),
    "Mixed_6b": (sevens(128), ("avg", 192)),
    "Mixed_6c": (sevens(160), ("avg", 192)),
    "Mixed_6d": (sevens(160), ("avg", 192)),
    "Mixed_6e": (sevens(192), ("avg", 192)),
    "Mixed_7a": (
        {
            "branch3x3": [(192, 1), (320, 3)],
            "branch7x7x3": [(192, 1), (192, (1, 7)), (192, (7, 1)), (192, 3)],
        },
        ("max", 0),
    ),
    "Mixed_7b": (FORKS, ("avg", 192)),
    "Mixed_7c": (FORKS, ("avg", 192)),
}


class InceptionV3(Inceptions):
    """Szegedy et al. 2015, arXiv 1512.00567, table 1 and figures 5 to 7, in the form whose weights are published.

    shape: (C, H, W); width: multiplies all channels; init, norm, activation: see options.py
    transform_input: see GoogLeNet
    dropout: elementwise, after each reduction behind the stem; the head has its own
    stem: five convolutions, with two 3x3 / 2 max pools as published, or without the first.
        imagenet  3x3 / 2, 3x3, 3x3 padded, pool, 1x1, 3x3, pool  299 -> 147, 71, 35, 17, 8
        cifar     3x3 padded three times, 1x1, 3x3 padded, pool   32 -> 32, 15, 7, 3
        atari     as published, but for the first pool            84 -> 37, 18, 8, 3
    """

    OPTIONS = GoogLeNetOptions()

    def __init__(self, name: str, shape: Sequence[int], options: GoogLeNetOptions) -> None:
        super().__init__(name, shape, options)
        self.transform = Renormalize(self.shape[0]) if options.transform_input else nn.Identity()
        conv = partial(Convolution, norm=options.norm, activation=options.activation)
        one, two, three, four = widths((32, 64, 80, 192), options.width)
        stride, padding = (1, 1) if options.stem == "cifar" else (2, 0)
        self.Conv2d_1a_3x3 = conv(self.shape[0], one, 3, stride, padding, layer=PixelConv2d)
        self.Conv2d_2a_3x3 = conv(one, one, 3, padding=padding)
        self.Conv2d_2b_3x3 = conv(one, two, 3, padding=1)
        self.maxpool1 = nn.MaxPool2d(3, 2) if options.stem == "imagenet" else nn.Identity()
        self.Conv2d_3b_1x1 = conv(two, three)
        self.Conv2d_4a_3x3 = conv(three, four, 3, padding=padding)
        self.maxpool2 = nn.MaxPool2d(3, 2)
        self.mix(four, V3)
        self.finish()

    def maps(self, x: Tensor) -> list[Tensor]:
        one = self.Conv2d_2b_3x3(self.Conv2d_2a_3x3(self.Conv2d_1a_3x3(self.transform(x))))
        two = self.Conv2d_4a_3x3(self.Conv2d_3b_1x1(self.maxpool1(one)))
        finest = [one] if self.options.stem == "imagenet" else []
        return [*finest, two, *self.mixed(self.maxpool2(two))]

    def head(self, classes: int, dropout: float | None = None) -> nn.Module:
        norm, activation = self.options.norm, self.options.activation
        return Head(self.channels, classes, 0.5 if dropout is None else dropout, norm, activation)


class Head(nn.Module):
    """maps -> logits (B, classes) of the last; `auxiliary` gives those of the last but one (section 4)."""

    def __init__(self, channels: Sequence[int], classes: int, dropout: float, norm: str, activation: str) -> None:
        super().__init__()
        self.AuxLogits = Auxiliary(channels[-2], classes, norm, activation)
        self.dropout = nn.Dropout(dropout)
        self.fc = nn.Linear(channels[-1], classes)
        initialize(self, "he")

    def forward(self, maps: list[Tensor]) -> Tensor:
        return self.fc(self.dropout(maps[-1].mean((2, 3))))

    def auxiliary(self, maps: list[Tensor]) -> list[Tensor]:
        """The logits (B, classes) of the auxiliary classifier."""
        return [self.AuxLogits(maps[-2])]


class Auxiliary(nn.Module):
    """Auxiliary classifier: a middle map (B, C, H, W), 17 x 17 as published, -> logits (B, classes); smaller maps are
    pooled to the same 5 x 5."""

    def __init__(self, channels: int, classes: int, norm: str, activation: str) -> None:
        super().__init__()
        alone = "none" if norm == "instance" else norm  # one place has no variance
        self.conv0 = Convolution(channels, 128, norm=norm, activation=activation)
        self.conv1 = Convolution(128, 768, 5, norm=alone, activation=activation)
        self.fc = nn.Linear(768, classes)

    def forward(self, x: Tensor) -> Tensor:
        x = F.avg_pool2d(x, 5, 3) if min(x.shape[-2:]) >= 17 else F.adaptive_avg_pool2d(x, 5)
        return self.fc(self.conv1(self.conv0(x)).mean((2, 3)))
