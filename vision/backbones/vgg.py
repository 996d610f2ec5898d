"""VGG: only 3x3 convolutions and 2x2 pools (Simonyan & Zisserman 2014, arXiv 1409.1556, table 1)."""

import dataclasses
from collections.abc import Sequence
from typing import NamedTuple

from torch import nn

from vision.backbones.backbone import PooledHead, widths
from vision.backbones.chain import Chain, Dense
from vision.backbones.options import BackboneOptions


class Variant(NamedTuple):
    """A column of table 1. Batch normalization came after the paper, in torchvision's `_bn` networks."""

    depths: tuple[int, int, int, int, int]  # convolutions of each stage
    norm: str = "none"


COLUMNS = {
    "vgg11": Variant((1, 1, 2, 2, 2)),  # A
    "vgg13": Variant((2, 2, 2, 2, 2)),  # B
    "vgg16": Variant((2, 2, 3, 3, 3)),  # D
    "vgg19": Variant((2, 2, 4, 4, 4)),  # E
}
VGGS = COLUMNS | {f"{name}_bn": Variant(column.depths, "batch") for name, column in COLUMNS.items()}


class VGG(Chain):
    """Simonyan & Zisserman 2014, "Very deep convolutional networks for large-scale image recognition".

    shape: (C, H, W); name: a key of VGGS; width: multiplies the channels 64, 128, 256, 512, 512 and the head's 4096
    init, activation: see options.py; norm: see options.py (default: the variant's)
    dropout: elementwise, after each pool but the last; the head has its own
    stem: the first convolution, and where pools are.
        imagenet  3x3 / 1, a pool after each stage, as in the paper    224 -> 224, 112, 56, 28, 14, 7
        cifar     the same, with a head that is one dense layer        32 -> 32, 16, 8, 4, 2, 1
        atari     8x8 / 4, pools after stages three and four alone     84 -> 20, 10, 5
    """

    OPTIONS = BackboneOptions(norm="none")

    @classmethod
    def defaults(cls, name: str) -> BackboneOptions:
        return dataclasses.replace(cls.OPTIONS, norm=VGGS[name].norm)

    def __init__(self, name: str, shape: Sequence[int], options: BackboneOptions) -> None:
        super().__init__(name, shape, options)
        channels = widths((64, 128, 256, 512, 512), options.width)
        pooled = (3, 4) if options.stem == "atari" else (1, 2, 3, 4, 5)
        for stage, (depth, out) in enumerate(zip(VGGS[name].depths, channels, strict=True), start=1):
            for i in range(depth):
                if options.stem == "atari" and stage == 1 and i == 0:
                    self.convolve(out, 8, stride=4)
                else:
                    self.convolve(out, 3, padding=1)
            if stage in pooled:
                self.features.append(nn.MaxPool2d(2))
        self.finish()

    def head(self, classes: int, dropout: float | None = None) -> nn.Module:
        """Dense layers of 4096, 4096 and the classes, with dropout 0.5; without the stem imagenet, mean pooling and
        one dense layer.
        """
        if self.options.stem != "imagenet":
            return PooledHead(self.channels[-1], classes, dropout or 0.0, name="classifier")
        p, (features,) = 0.5 if dropout is None else dropout, widths((4096,), self.options.width)
        return Dense.twice(self.channels[-1], 7, features, classes, p, self.options.activation)
