"""Densely connected networks: every layer reads the maps of all layers before it (Huang et al. 2016)."""

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor, nn

from vision.backbones.backbone import Backbone, PooledHead, widths
from vision.backbones.layers.activation import activation_layer, width_before
from vision.backbones.layers.normalization import norm_layer
from vision.backbones.layers.pixel_conv import PixelConv2d
from vision.backbones.options import BackboneOptions


class Variant(NamedTuple):
    """The sizes of a DenseNet."""

    first: int  # channels before the first block
    growth: int  # channels that each layer adds, the paper's k
    blocks: tuple[int, ...]  # layers of each
    bottleneck: int = 4  # outputs of a layer's 1x1 convolution, times `growth`; 0: it has none
    halving: bool = True  # transitions halve the channels, the paper's theta of 0.5


DENSENETS = {
    "densenet121": Variant(64, 32, (6, 12, 24, 16)),
    "densenet161": Variant(96, 48, (6, 12, 36, 24)),
    "densenet169": Variant(64, 32, (6, 12, 32, 32)),
    "densenet201": Variant(64, 32, (6, 12, 48, 32)),
    "densenet_bc_100_12": Variant(24, 12, (16, 16, 16)),
    "densenet_40_12": Variant(16, 12, (12, 12, 12), bottleneck=0, halving=False),
}


class DenseNet(Backbone):
    """Huang et al. 2016, arXiv 1608.06993: table 1 for ImageNet, section 4 for CIFAR; norms come before convolutions.

    name: densenet121, densenet161, densenet169, densenet201, and the CIFAR form's densenet_bc_100_12 (100 layers
        with bottlenecks and compression) and densenet_40_12 (40 layers without), whose stem is "cifar"
    shape: (C, H, W); width: multiplies the growth and the first channels; init, norm, activation: see options.py
    dropout: probability after each convolution but the first; the paper's is 0.2 for CIFAR without augmentation
    stem: before the first block. The maps are the stem's, where it pools, and each block's, all after their norm and
        activation; below of four blocks, in brackets of the three of the CIFAR form.
        imagenet  7x7 / 2 convolution, 3x3 / 2 max pool  224 -> 112, 56, 28, 14, 7 (112, 56, 28, 14)
        cifar     3x3 convolution                        32 -> 32, 16, 8, 4 (32, 16, 8)
        atari     3x3 / 2 convolution                    84 -> 42, 21, 10, 5 (42, 21, 10)
    """

    def __init__(self, name: str, shape: Sequence[int], options: BackboneOptions) -> None:
        super().__init__(name, shape, options)
        variant = DENSENETS[name]
        channels, growth = widths((variant.first, variant.growth), options.width)
        self.features = nn.Sequential()
        add = self.features.add_module
        ready = width_before(options.activation, channels)  # inputs of the first block's activations
        if options.stem == "imagenet":
            conv = PixelConv2d(
                self.shape[0], width_before(options.activation, ready), 7, 2, padding=3, bias=options.norm == "none"
            )
            add("conv0", conv)
            add("norm0", norm_layer(conv.out_channels, options.norm))
            add("relu0", activation_layer(options.activation))
            add("pool0", nn.MaxPool2d(3, 2, padding=1))
        else:
            stride = 2 if options.stem == "atari" else 1
            add("conv0", PixelConv2d(self.shape[0], ready, 3, stride, padding=1, bias=options.norm == "none"))
        for i, layers in enumerate(variant.blocks, 1):
            block = nn.Sequential()
            for j in range(1, layers + 1):
                layer = DenseLayer(
                    channels, growth, variant.bottleneck * growth, options.norm, options.activation, options.dropout
                )
                block.add_module(f"denselayer{j}", layer)
                channels += growth
            add(f"denseblock{i}", block)
            if i < len(variant.blocks):
                fewer = channels // 2 if variant.halving else channels
                add(f"transition{i}", Transition(channels, fewer, options.norm, options.activation, options.dropout))
                channels = fewer
        add("norm5", norm_layer(width_before(options.activation, channels), options.norm))
        add("relu5", activation_layer(options.activation))
        self.finish()

    def maps(self, x: Tensor) -> list[Tensor]:
        maps = []
        for module in self.features:
            if isinstance(module, nn.MaxPool2d):
                maps.append(x)
            if isinstance(module, Transition):
                block, x = module(x)
                maps.append(block)
            else:
                x = module(x)
        return [*maps, x]

    def head(self, classes: int, dropout: float | None = None) -> nn.Module:
        return PooledHead(self.channels[-1], classes, dropout or 0.0, "classifier")


class DenseLayer(nn.Module):
    """x (B, channels, H, W) -> x and `growth` channels more, (B, channels + growth, H, W); both twice with Maxout.

    squeezed: outputs of the 1x1 convolution before the 3x3 one; 0: there is none.
    """

    def __init__(self, channels: int, growth: int, squeezed: int, norm: str, activation: str, dropout: float) -> None:
        super().__init__()
        bias = norm == "none"
        self.norm1 = norm_layer(width_before(activation, channels), norm)
        self.relu1 = activation_layer(activation)
        self.squeezes = squeezed > 0
        if self.squeezes:
            self.conv1 = nn.Conv2d(channels, width_before(activation, squeezed), 1, bias=bias)
            self.drop1 = nn.Dropout(dropout)
            self.norm2 = norm_layer(width_before(activation, squeezed), norm)
            self.relu2 = activation_layer(activation)
            self.conv2 = nn.Conv2d(squeezed, width_before(activation, growth), 3, padding=1, bias=bias)
        else:
            self.conv1 = nn.Conv2d(channels, width_before(activation, growth), 3, padding=1, bias=bias)
        self.drop2 = nn.Dropout(dropout)

    def forward(self, x: Tensor) -> Tensor:
        new = self.conv1(self.relu1(self.norm1(x)))
        if self.squeezes:
            new = self.conv2(self.relu2(self.norm2(self.drop1(new))))
        return torch.cat((x, self.drop2(new)), 1)


class Transition(nn.Module):
    """Transition between blocks: x (B, channels, H, W) -> the map after norm and activation, and the next block's
    input (B, fewer, H / 2, W / 2)."""

    def __init__(self, channels: int, fewer: int, norm: str, activation: str, dropout: float) -> None:
        super().__init__()
        self.norm = norm_layer(width_before(activation, channels), norm)
        self.relu = activation_layer(activation)
        self.conv = nn.Conv2d(channels, width_before(activation, fewer), 1, bias=norm == "none")
        self.drop = nn.Dropout(dropout)
        self.pool = nn.AvgPool2d(2)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        block = self.relu(self.norm(x))
        return block, self.pool(self.drop(self.conv(block)))
