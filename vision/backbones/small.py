"""A light network for small pixel worlds: two padded 3x3 convolutions, for boards of 10 x 10 to 40 x 40."""

from collections.abc import Sequence

from torch import nn

from vision.backbones.backbone import Backbone, widths
from vision.backbones.layers.activation import activation_layer, width_before
from vision.backbones.layers.normalization import norm_after
from vision.backbones.layers.pixel_conv import PixelConv2d


class Small(Backbone):
    """Two 3x3 convolutions, in the spirit of MinAtar's network (Young & Tian 2019, arXiv 1903.03176).

    shape: (C, H, W); width: multiplies the channels 16, 32; init, norm: see initialization.py, normalization.py
    activation: see activation.py; dropout: of single numbers, of what each stage but the first reads
    stem: the first convolution.
        atari     3x3 / 2   40 -> 20, 10
        cifar     3x3 / 1   32 -> 32, 16
        imagenet  7x7 / 4   224 -> 56, 28
    """

    def __init__(
        self,
        shape: Sequence[int],
        stem: str = "atari",
        width: float = 1.0,
        init: str = "he",
        norm: str = "none",
        activation: str = "relu",
        dropout: float = 0.0,
    ) -> None:
        arguments = dict(stem=stem, width=width, init=init, norm=norm, activation=activation, dropout=dropout)
        super().__init__("small", shape, **arguments)
        self.between = nn.Dropout(dropout)
        one, two = widths((16, 32), width)
        kernel, stride = {"atari": (3, 2), "cifar": (3, 1), "imagenet": (7, 4)}[stem]
        first = PixelConv2d(self.shape[0], width_before(activation, one), kernel, stride, padding=kernel // 2)
        second = nn.Conv2d(one, width_before(activation, two), 3, 2, padding=1)
        self.stages.append(nn.Sequential(first, *norm_after(first, norm), activation_layer(activation)))
        self.stages.append(nn.Sequential(second, *norm_after(second, norm), activation_layer(activation)))
        self.finish()
