"""The network of the Nature DQN: three convolutions without padding (Mnih et al. 2015, Methods)."""

from collections.abc import Sequence

from torch import nn

from vision.backbones.backbone import Backbone, widths
from vision.backbones.layers.activation import activation_layer, width_before
from vision.backbones.layers.normalization import norm_after
from vision.backbones.layers.pixel_conv import PixelConv2d


class Nature(Backbone):
    """Mnih et al. 2015, doi 10.1038/nature14236. Its dense layer of 512 belongs to the agent's head.

    shape: (C, H, W); width: multiplies the channels 32, 64, 64; init, norm: see initialization.py, normalization.py
    activation: see activation.py; dropout: of single numbers, of what each stage but the first reads
    stem: the first stage.
        atari     8x8 / 4, as in the paper                          84 -> 20, 9, 7
        cifar     4x4 / 2, for small images                         32 -> 15, 6, 4
        imagenet  8x8 / 4, then a 3x3 / 2 max pool, for large ones  224 -> 27, 12, 10
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
        super().__init__("nature", shape, **arguments)
        self.between = nn.Dropout(dropout)
        one, two, three = widths((32, 64, 64), width)
        kernel, stride = (4, 2) if stem == "cifar" else (8, 4)
        first = PixelConv2d(self.shape[0], width_before(activation, one), kernel, stride)
        pool = [nn.MaxPool2d(3, 2)] if stem == "imagenet" else []
        second = nn.Conv2d(one, width_before(activation, two), 4, 2)
        third = nn.Conv2d(two, width_before(activation, three), 3, 1)
        self.stages.append(nn.Sequential(first, *norm_after(first, norm), activation_layer(activation), *pool))
        self.stages.append(nn.Sequential(second, *norm_after(second, norm), activation_layer(activation)))
        self.stages.append(nn.Sequential(third, *norm_after(third, norm), activation_layer(activation)))
        self.finish()
