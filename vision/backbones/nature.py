"""The network of the Nature DQN: three convolutions without padding (Mnih et al. 2015, Methods)."""

from collections.abc import Sequence

from torch import nn

from vision.backbones.backbone import Backbone, widths
from vision.backbones.layers.activation import activation_layer, width_before
from vision.backbones.layers.normalization import norm_after
from vision.backbones.layers.pixel_conv import PixelConv2d
from vision.backbones.options import BackboneOptions


class Nature(Backbone):
    """Mnih et al. 2015, doi 10.1038/nature14236. Its dense layer of 512 belongs to the agent's head.

    shape: (C, H, W); width: multiplies the channels 32, 64, 64; init, norm, activation: see options.py
    dropout: elementwise, on the input of each stage but the first
    stem: the first stage.
        atari     8x8 / 4, as in the paper                          84 -> 20, 9, 7
        cifar     4x4 / 2, for small images                         32 -> 15, 6, 4
        imagenet  8x8 / 4, then a 3x3 / 2 max pool, for large ones  224 -> 27, 12, 10
    """

    OPTIONS = BackboneOptions(stem="atari", norm="none")

    def __init__(self, name: str, shape: Sequence[int], options: BackboneOptions) -> None:
        super().__init__(name, shape, options)
        self.between = nn.Dropout(options.dropout)
        one, two, three = widths((32, 64, 64), options.width)
        kernel, stride = (4, 2) if options.stem == "cifar" else (8, 4)
        first = PixelConv2d(self.shape[0], width_before(options.activation, one), kernel, stride)
        pool = [nn.MaxPool2d(3, 2)] if options.stem == "imagenet" else []
        second = nn.Conv2d(one, width_before(options.activation, two), 4, 2)
        third = nn.Conv2d(two, width_before(options.activation, three), 3, 1)
        self.stages.append(
            nn.Sequential(first, *norm_after(first, options.norm), activation_layer(options.activation), *pool)
        )
        self.stages.append(
            nn.Sequential(second, *norm_after(second, options.norm), activation_layer(options.activation))
        )
        self.stages.append(
            nn.Sequential(third, *norm_after(third, options.norm), activation_layer(options.activation))
        )
        self.finish()
