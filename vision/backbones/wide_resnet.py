"""Wide residual networks for small images: few layers of many channels."""

from collections.abc import Sequence

from torch import nn

from vision.backbones.backbone import Backbone, widths
from vision.backbones.layers.activation import activation_layer, width_before
from vision.backbones.layers.normalization import norm_layer
from vision.backbones.layers.pixel_conv import PixelConv2d
from vision.backbones.options import BackboneOptions
from vision.backbones.preact import Block

WIDE_RESNETS: dict[str, tuple[int, int]] = {  # convolutions in the longest path, times the channels 16, 32, 64
    "wrn_16_4": (16, 4),
    "wrn_16_8": (16, 8),
    "wrn_28_10": (28, 10),
    "wrn_34_10": (34, 10),
    "wrn_40_4": (40, 4),
}


class WideResNet(Backbone):
    """Zagoruyko & Komodakis 2016, arXiv 1605.07146, table 1: blocks of two 3x3, norm and activation before each.

    shape: (C, H, W); name: a key of WIDE_RESNETS; width: multiplies all channels once more; init, norm, activation:
        see options.py
    dropout: between a block's convolutions (section 2.4). 0 as in most of the paper's tables; with it the authors
        take 0.3 for CIFAR and 0.4 for SVHN.
    stem: the first convolution.
        cifar     3x3, as in the paper                                         32 -> 32, 16, 8
        imagenet  7x7 / 2, then a 3x3 / 2 max pool                             224 -> 112, 56, 28, 14
        atari     5x5 / 4                                                      84 -> 21, 11, 6
    The stem's output is a map only where a pool follows: otherwise the first stage's map has its size.
    """

    OPTIONS = BackboneOptions(stem="cifar")

    def __init__(self, name: str, shape: Sequence[int], options: BackboneOptions) -> None:
        super().__init__(name, shape, options)
        depth, wide = WIDE_RESNETS[name]
        inputs, *channels = widths((16, 16 * wide, 32 * wide, 64 * wide), options.width)
        raw = width_before(options.activation, inputs)
        kernel, stride = {"imagenet": (7, 2), "cifar": (3, 1), "atari": (5, 4)}[options.stem]
        first = PixelConv2d(self.shape[0], raw, kernel, stride, kernel // 2, bias=options.norm == "none")
        stage = [first, norm_layer(raw, options.norm), activation_layer(options.activation)]
        if options.stem == "imagenet":
            self.stages.append(nn.Sequential(*stage))
            stage = [nn.MaxPool2d(3, 2, padding=1)]
        for i, planes in enumerate(channels):
            for j in range((depth - 4) // 6):
                stride = 2 if i > 0 and j == 0 else 1
                stage.append(
                    Block(
                        inputs,
                        planes,
                        stride,
                        options.norm,
                        options.activation,
                        activated=j == 0,
                        dropout=options.dropout,
                    )
                )
                inputs = planes
            self.stages.append(
                nn.Sequential(
                    *stage,
                    norm_layer(width_before(options.activation, planes), options.norm),
                    activation_layer(options.activation),
                )
            )
            stage = []
        self.finish()
