"""Pre-activation residual network: norm and activation before each convolution, identity shortcuts."""

import dataclasses
from collections.abc import Sequence
from typing import NamedTuple

from torch import Tensor, nn

from vision.backbones.backbone import Backbone, widths
from vision.backbones.layers.activation import activation_layer, width_before
from vision.backbones.layers.normalization import norm_layer
from vision.backbones.layers.pixel_conv import PixelConv2d
from vision.backbones.options import BackboneOptions


class Variant(NamedTuple):
    """The sizes of a pre-activation ResNet."""

    blocks: tuple[int, ...]  # in each stage
    bottleneck: bool = True  # 1x1, 3x3, 1x1 instead of two 3x3
    thin: bool = False  # made for CIFAR: three stages from 16 channels on


PREACTS: dict[str, Variant] = {
    "preact_resnet18": Variant((2, 2, 2, 2), bottleneck=False),
    "preact_resnet50": Variant((3, 4, 6, 3)),
    "preact_resnet101": Variant((3, 4, 23, 3)),
    "preact_resnet152": Variant((3, 8, 36, 3)),
    "preact_resnet200": Variant((3, 24, 36, 3)),
    "preact_resnet110": Variant((18, 18, 18), bottleneck=False, thin=True),
    "preact_resnet164": Variant((18, 18, 18), thin=True),
    "preact_resnet1001": Variant((111, 111, 111), thin=True),
}


class PreactResNet(Backbone):
    """He et al. 2016, "Identity mappings in deep residual networks", arXiv 1603.05027, figure 1 b and appendix.

    A block that changes the shape has an activated map as input, of its shortcut too; that map ends the stage before.

    name: a key of PREACTS: 110, 164 and 1001 are of tables 2 to 4, for CIFAR; 152 and 200 of table 5, for ImageNet;
        50 and 101 of later work; 18 of github.com/kuangliu/pytorch-cifar. A bottleneck's stride is in its 3x3
    shape: (C, H, W); width: multiplies all channels; init, norm, activation: see options.py
    dropout: elementwise, before each block's second convolution, as in wide residual networks
    stem: what comes before the four stages.
        imagenet  7x7 / 2, norm, activation, then a 3x3 / 2 max pool           224 -> 112, 56, 28, 14, 7
        cifar     3x3, norm, activation, no pool                               32 -> 32, 16, 8 (of 164)
                  but those of four stages have a bare 3x3, and the last map
                  as the blocks leave it, without norm and activation (both
                  as in github.com/kuangliu/pytorch-cifar)                     32 -> 32, 16, 8, 4
        atari     3x3 / 2, norm, activation, no pool                           84 -> 42, 21, 11, 6
    The stem's output is a map only where a pool follows: otherwise the first stage's map has its size.
    """

    @classmethod
    def defaults(cls, name: str) -> BackboneOptions:
        return dataclasses.replace(cls.OPTIONS, stem="cifar") if PREACTS[name].thin else cls.OPTIONS

    def __init__(self, name: str, shape: Sequence[int], options: BackboneOptions) -> None:
        super().__init__(name, shape, options)
        variant = PREACTS[name]
        bare = options.stem == "cifar" and not variant.thin and not variant.bottleneck  # whose first block is wider
        usual = (16, 16, 32, 64) if variant.thin else (64, 64, 128, 256, 512)
        inputs, *channels = widths(usual, options.width)
        raw = width_before(options.activation, inputs)
        kernel, stride = {"imagenet": (7, 2), "cifar": (3, 1), "atari": (3, 2)}[options.stem]
        stage = [PixelConv2d(self.shape[0], raw, kernel, stride, kernel // 2, bias=options.norm == "none")]
        if not bare:
            stage += [norm_layer(raw, options.norm), activation_layer(options.activation)]
        if options.stem == "imagenet":
            self.stages.append(nn.Sequential(*stage))
            stage = [nn.MaxPool2d(3, 2, padding=1)]
        for i, (count, planes) in enumerate(zip(variant.blocks, channels, strict=True)):
            outputs = 4 * planes if variant.bottleneck else planes
            for j in range(count):
                activated = j == 0 and (i > 0 or not bare)
                stride = 2 if i > 0 and j == 0 else 1
                block = Bottleneck if variant.bottleneck else Block
                stage.append(
                    block(inputs, outputs, stride, options.norm, options.activation, activated, options.dropout)
                )
                inputs = outputs
            if i + 1 < len(channels) or not bare:
                stage += [
                    norm_layer(width_before(options.activation, outputs), options.norm),
                    activation_layer(options.activation),
                ]
            self.stages.append(nn.Sequential(*stage))
            stage = []
        self.finish()


class Block(nn.Module):
    """norm, activation, 3x3, norm, activation, dropout, 3x3 beside a shortcut: inputs -> outputs channels.

    activated: the input is activated already: the block has no norm and activation before its first convolution, and
        its shortcut has the same input. Only such a block may change the shape, by a 1x1 convolution.
    """

    def __init__(
        self,
        inputs: int,
        outputs: int,
        stride: int,
        norm: str,
        activation: str,
        activated: bool,
        dropout: float = 0.0,
    ) -> None:
        super().__init__()
        bias = norm == "none"
        raw = width_before(activation, outputs)  # outputs of the convolutions and of the shortcut
        self.norm1 = nn.Identity() if activated else norm_layer(raw, norm)
        self.relu1 = nn.Identity() if activated else activation_layer(activation)
        self.conv1 = nn.Conv2d(inputs, raw, 3, stride, padding=1, bias=bias)
        self.norm2 = norm_layer(raw, norm)
        self.relu2 = activation_layer(activation)
        self.dropout = nn.Dropout(dropout)
        self.conv2 = nn.Conv2d(outputs, raw, 3, padding=1, bias=bias)
        alike = not activated or (stride == 1 and inputs == raw)
        self.shortcut = nn.Identity() if alike else nn.Conv2d(inputs, raw, 1, stride, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        inner = self.conv1(self.relu1(self.norm1(x)))
        inner = self.conv2(self.dropout(self.relu2(self.norm2(inner))))
        return inner + self.shortcut(x)


class Bottleneck(nn.Module):
    """The same with three convolutions, 1x1, 3x3 and 1x1, the first two with a quarter of the outputs.

    Maps (B, inputs, H, W) -> (B, outputs, H / stride, W / stride).
    """

    def __init__(
        self,
        inputs: int,
        outputs: int,
        stride: int,
        norm: str,
        activation: str,
        activated: bool,
        dropout: float = 0.0,
    ) -> None:
        super().__init__()
        bias, narrow = norm == "none", outputs // 4
        inner, raw = width_before(activation, narrow), width_before(activation, outputs)
        self.norm1 = nn.Identity() if activated else norm_layer(raw, norm)
        self.relu1 = nn.Identity() if activated else activation_layer(activation)
        self.conv1 = nn.Conv2d(inputs, inner, 1, bias=bias)
        self.norm2, self.relu2 = norm_layer(inner, norm), activation_layer(activation)
        self.conv2 = nn.Conv2d(narrow, inner, 3, stride, padding=1, bias=bias)
        self.norm3, self.relu3 = norm_layer(inner, norm), activation_layer(activation)
        self.dropout = nn.Dropout(dropout)
        self.conv3 = nn.Conv2d(narrow, raw, 1, bias=bias)
        alike = not activated or (stride == 1 and inputs == raw)
        self.shortcut = nn.Identity() if alike else nn.Conv2d(inputs, raw, 1, stride, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        inner = self.conv1(self.relu1(self.norm1(x)))
        inner = self.conv2(self.relu2(self.norm2(inner)))
        inner = self.conv3(self.dropout(self.relu3(self.norm3(inner))))
        return inner + self.shortcut(x)
