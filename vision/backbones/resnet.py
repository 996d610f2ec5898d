"""Residual networks: ResNet, ResNeXt, and wide ResNet for ImageNet.

ResNet: He et al. 2015, arXiv 1512.03385, table 1. ResNeXt: Xie et al. 2016, arXiv 1611.05431, table 1. Wide ResNet
for ImageNet: Zagoruyko & Komodakis 2016, arXiv 1605.07146, table 8. Stochastic depth: Huang et al. 2016, arXiv
1603.09382.
"""

import dataclasses
from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor, nn

from vision.backbones.backbone import Backbone, widths
from vision.backbones.layers.activation import activation_layer, width_before
from vision.backbones.layers.normalization import norm_layer
from vision.backbones.layers.pixel_conv import PixelConv2d
from vision.backbones.options import BackboneOptions


class Variant(NamedTuple):
    """The sizes of a ResNet."""

    blocks: tuple[int, int, int, int]  # in each stage
    bottleneck: bool = True  # 1x1, 3x3, 1x1 instead of two 3x3
    groups: int = 1  # of a bottleneck's 3x3
    group: int = 64  # channels of each of these groups in the first stage


RESNETS: dict[str, Variant] = {
    "resnet18": Variant((2, 2, 2, 2), bottleneck=False),
    "resnet34": Variant((3, 4, 6, 3), bottleneck=False),
    "resnet50": Variant((3, 4, 6, 3)),
    "resnet101": Variant((3, 4, 23, 3)),
    "resnet152": Variant((3, 8, 36, 3)),
    "resnext50_32x4d": Variant((3, 4, 6, 3), groups=32, group=4),
    "resnext101_32x8d": Variant((3, 4, 23, 3), groups=32, group=8),
    "resnext101_64x4d": Variant((3, 4, 23, 3), groups=64, group=4),
    "wide_resnet50_2": Variant((3, 4, 6, 3), group=128),
    "wide_resnet101_2": Variant((3, 4, 23, 3), group=128),
}


@dataclasses.dataclass(frozen=True)
class ResNetOptions(BackboneOptions):
    """Options of a ResNet."""

    stochastic_depth: float = 0.0  # probability that the last block is left out in training


class ResNet(Backbone):
    """He et al. 2015, but a bottleneck's stride is in its 3x3, as in torchvision (Goyal et al., arXiv 1706.02677).

    shape: (C, H, W); name: a key of RESNETS; width: multiplies all channels; init, norm, activation: see options.py
    stochastic_depth: the probability that the last block is skipped in training, linearly less down to 0 at the
        first (Huang et al.: 0.5)
    dropout: elementwise, before the last convolution of each block, where wide residual networks have theirs
    stem: what comes before the four stages.
        imagenet  7x7 / 2, then a 3x3 / 2 max pool, as in the paper            224 -> 112, 56, 28, 14, 7
        cifar     3x3, no pool (github.com/kuangliu/pytorch-cifar)             32 -> 32, 16, 8, 4
        atari     3x3 / 2, no pool                                             84 -> 42, 21, 11, 6
    The stem's output is a map only where a pool follows: otherwise the first stage's map has its size.
    """

    OPTIONS = ResNetOptions()

    def __init__(self, name: str, shape: Sequence[int], options: ResNetOptions) -> None:
        super().__init__(name, shape, options)
        if not 0 <= options.stochastic_depth < 1:
            raise ValueError(f"stochastic_depth={options.stochastic_depth} is not a probability below 1")
        variant = RESNETS[name]
        first, *channels = widths((64, 64, 128, 256, 512), options.width)
        raw = width_before(options.activation, first)
        kernel, stride = {"imagenet": (7, 2), "cifar": (3, 1), "atari": (3, 2)}[options.stem]
        self.conv1 = PixelConv2d(self.shape[0], raw, kernel, stride, kernel // 2, bias=options.norm == "none")
        self.bn1 = norm_layer(raw, options.norm)
        self.relu = activation_layer(options.activation)
        self.maxpool = nn.MaxPool2d(3, 2, padding=1) if options.stem == "imagenet" else None
        made, inputs = 0, first
        for i, (count, planes) in enumerate(zip(variant.blocks, channels, strict=True)):
            blocks = []
            for j in range(count):
                made += 1
                drop = options.stochastic_depth * made / sum(variant.blocks)  # Huang et al., equation 4
                stride = 2 if i > 0 and j == 0 else 1
                if variant.bottleneck:
                    blocks.append(Bottleneck(inputs, planes, stride, variant, options, drop))
                else:
                    blocks.append(Basic(inputs, planes, stride, options, drop))
                inputs = 4 * planes if variant.bottleneck else planes
            self.add_module(f"layer{i + 1}", nn.Sequential(*blocks))
        self.finish()

    def maps(self, x: Tensor) -> list[Tensor]:
        x = self.relu(self.bn1(self.conv1(x)))
        maps = []
        if self.maxpool is not None:
            maps.append(x)
            x = self.maxpool(x)
        for stage in (self.layer1, self.layer2, self.layer3, self.layer4):
            x = stage(x)
            maps.append(x)
        return maps


class Basic(nn.Module):
    """Residual block, (B, C, H, W) -> (B, planes, H / stride, W / stride): two 3x3 convolutions beside a shortcut.

    He et al. 2015, figure 5 left."""

    def __init__(self, inputs: int, planes: int, stride: int, options: ResNetOptions, drop: float) -> None:
        super().__init__()
        bias = options.norm == "none"
        raw = width_before(options.activation, planes)
        self.conv1 = nn.Conv2d(inputs, raw, 3, stride, padding=1, bias=bias)
        self.bn1 = norm_layer(raw, options.norm)
        self.relu1 = activation_layer(options.activation)
        self.dropout = nn.Dropout(options.dropout)
        self.conv2 = nn.Conv2d(planes, raw, 3, padding=1, bias=bias)
        self.bn2 = norm_layer(raw, options.norm)
        self.downsample = projection(inputs, raw, stride, options.norm)
        self.depth = StochasticDepth(drop)
        self.relu2 = activation_layer(options.activation)

    def forward(self, x: Tensor) -> Tensor:
        inner = self.relu1(self.bn1(self.conv1(x)))
        inner = self.bn2(self.conv2(self.dropout(inner)))
        return self.relu2(self.depth(inner) + self.downsample(x))


class Bottleneck(nn.Module):
    """Bottleneck block, (B, C, H, W) -> (B, 4 * planes, H / stride, W / stride): 1x1, 3x3 in groups, 1x1 convolutions
    beside a shortcut. He et al. 2015, figure 5 right."""

    def __init__(
        self, inputs: int, planes: int, stride: int, variant: Variant, options: ResNetOptions, drop: float
    ) -> None:
        super().__init__()
        bias = options.norm == "none"
        narrow = max(1, planes * variant.group // 64) * variant.groups
        raw, out = width_before(options.activation, narrow), width_before(options.activation, 4 * planes)
        self.conv1 = nn.Conv2d(inputs, raw, 1, bias=bias)
        self.bn1 = norm_layer(raw, options.norm)
        self.relu1 = activation_layer(options.activation)
        self.conv2 = nn.Conv2d(narrow, raw, 3, stride, padding=1, groups=variant.groups, bias=bias)
        self.bn2 = norm_layer(raw, options.norm)
        self.relu2 = activation_layer(options.activation)
        self.dropout = nn.Dropout(options.dropout)
        self.conv3 = nn.Conv2d(narrow, out, 1, bias=bias)
        self.bn3 = norm_layer(out, options.norm)
        self.downsample = projection(inputs, out, stride, options.norm)
        self.depth = StochasticDepth(drop)
        self.relu3 = activation_layer(options.activation)

    def forward(self, x: Tensor) -> Tensor:
        inner = self.relu1(self.bn1(self.conv1(x)))
        inner = self.relu2(self.bn2(self.conv2(inner)))
        inner = self.bn3(self.conv3(self.dropout(inner)))
        return self.relu3(self.depth(inner) + self.downsample(x))


def projection(inputs: int, outputs: int, stride: int, norm: str) -> nn.Module:
    """The shortcut: nothing where shapes agree, else a 1x1 convolution (He et al. 2015, option B)."""
    if stride == 1 and inputs == outputs:
        return nn.Identity()
    conv = nn.Conv2d(inputs, outputs, 1, stride, bias=norm == "none")
    return nn.Sequential(conv, norm_layer(outputs, norm))


class StochasticDepth(nn.Module):
    """A block's residual (B, C, H, W), times 0 with probability `drop` in training, times 1 - drop in evaluation.

    Huang et al. 2016, equations 2 and 5, but drawn for each image, without a branch in the program.
    """

    def __init__(self, drop: float) -> None:
        super().__init__()
        self.drop = drop

    def forward(self, x: Tensor) -> Tensor:
        if self.drop == 0:
            return x
        if not self.training:
            return x * (1 - self.drop)
        kept = torch.rand(len(x), 1, 1, 1, device=x.device) >= self.drop
        return x * kept.to(x.dtype)
