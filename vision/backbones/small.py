"""A light network for small pictures of 10 x 10 to 40 x 40: two padded 3x3 convolutions."""

from collections.abc import Sequence

from torch import nn

from vision.backbones.backbone import Backbone, widths
from vision.backbones.layers.activation import activation_layer, width_before
from vision.backbones.layers.normalization import norm_after
from vision.backbones.layers.pixel_conv import PixelConv2d
from vision.backbones.options import BackboneOptions


class Small(Backbone):
    """Two 3x3 convolutions, in the spirit of MinAtar's network (Young & Tian 2019, arXiv 1903.03176).

    shape: (C, H, W); width: multiplies the channels 16, 32; init, norm, activation: see options.py
    dropout: elementwise, on the input of each stage but the first
    stem: the first convolution.
        atari     3x3 / 2   40 -> 20, 10
        cifar     3x3 / 1   32 -> 32, 16
        imagenet  7x7 / 4   224 -> 56, 28
    """

    OPTIONS = BackboneOptions(stem="atari", norm="none")

    def __init__(self, name: str, shape: Sequence[int], options: BackboneOptions) -> None:
        super().__init__(name, shape, options)
        self.between = nn.Dropout(options.dropout)
        one, two = widths((16, 32), options.width)
        kernel, stride = {"atari": (3, 2), "cifar": (3, 1), "imagenet": (7, 4)}[options.stem]
        first = PixelConv2d(self.shape[0], width_before(options.activation, one), kernel, stride, padding=kernel // 2)
        second = nn.Conv2d(one, width_before(options.activation, two), 3, 2, padding=1)
        self.stages.append(
            nn.Sequential(first, *norm_after(first, options.norm), activation_layer(options.activation))
        )
        self.stages.append(
            nn.Sequential(second, *norm_after(second, options.norm), activation_layer(options.activation))
        )
        self.finish()
