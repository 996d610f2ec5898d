"""The network of the Nature DQN: three convolutions without padding (Mnih et al. 2015, Methods)."""

from collections.abc import Sequence

from torch import nn

from vision.backbones.activation import activate, before
from vision.backbones.backbone import Backbone, widths
from vision.backbones.normalisation import after
from vision.backbones.pixels import PixelConv2d


class Nature(Backbone):
    """Mnih et al. 2015, doi 10.1038/nature14236. Its dense layer of 512 belongs to the agent's head.

    shape: (C, H, W); width: multiplies the channels 32, 64, 64; init, norm: see initialisation.py, normalisation.py
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
        first = PixelConv2d(self.shape[0], before(activation, one), kernel, stride)
        pool = [nn.MaxPool2d(3, 2)] if stem == "imagenet" else []
        second = nn.Conv2d(one, before(activation, two), 4, 2)
        third = nn.Conv2d(two, before(activation, three), 3, 1)
        self.stages.append(nn.Sequential(first, *after(first, norm), activate(activation), *pool))
        self.stages.append(nn.Sequential(second, *after(second, norm), activate(activation)))
        self.stages.append(nn.Sequential(third, *after(third, norm), activate(activation)))
        self.settle()
