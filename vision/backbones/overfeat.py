"""OverFeat: a wider AlexNet with non-overlapping pools, made for sliding windows (Sermanet et al. 2013)."""

from collections.abc import Sequence
from typing import NamedTuple

from torch import nn

from vision.backbones.backbone import widths
from vision.backbones.chain import Chain, Dense, dense
from vision.backbones.options import BackboneOptions


class Variant(NamedTuple):
    """The sizes of an OverFeat network."""

    channels: tuple[int, ...]
    first: tuple[int, int]  # kernel and stride of the first convolution
    second: int  # kernel of the second one; all others are 3x3 with a border
    pools: tuple[int, int, int]  # sides of the windows, which do not overlap: after one, two and the last
    side: int  # of the last map
    features: tuple[int, int]  # of the dense layers


OVERFEATS = {
    "overfeat_fast": Variant((96, 256, 512, 1024, 1024), (11, 4), 5, (2, 2, 2), 6, (3072, 4096)),  # table 1
    "overfeat_accurate": Variant((96, 256, 512, 512, 1024, 1024), (7, 2), 7, (3, 2, 3), 5, (4096, 4096)),  # table 3
}


class OverFeat(Chain):
    """Sermanet et al. 2013, "OverFeat: integrated recognition, localization and detection", arXiv 1312.6229.

    shape: (C, H, W), in the paper 231 x 231 (fast) and 221 x 221 (accurate); name: a key of OVERFEATS
    width: multiplies all channels and the head's dense layers
    init, norm, activation: see options.py
    dropout: elementwise, after each pool but the last; the head has its own
    stem: the first convolution.
        imagenet  11x11 / 4 (accurate: 7x7 / 2) and a pool, as in the paper
                  fast 231 -> 56, 24, 12, 6; accurate 221 -> 108, 30, 15, 5
        cifar     3x3 / 1, no pool; fast 32 -> 28, 14, 7; accurate 32 -> 26, 13, 4
        atari     the paper's, no pool; fast 84 -> 15, 7, 3; accurate 84 -> 33, 16, 5
    """

    OPTIONS = BackboneOptions(norm="none")

    def __init__(self, name: str, shape: Sequence[int], options: BackboneOptions) -> None:
        super().__init__(name, shape, options)
        variant = OVERFEATS[name]
        one, two, *others = widths(variant.channels, options.width)
        if options.stem == "cifar":
            self.convolve(one, 3, padding=1)
        else:
            self.convolve(one, *variant.first)
        if options.stem == "imagenet":
            self.features.append(nn.MaxPool2d(variant.pools[0]))
        self.convolve(two, variant.second)
        self.features.append(nn.MaxPool2d(variant.pools[1]))
        for channels in others:
            self.convolve(channels, 3, padding=1)
        self.features.append(nn.MaxPool2d(variant.pools[2]))
        self.finish()

    def head(self, classes: int, dropout: float | None = None) -> nn.Module:
        """Two dense layers, layers 6 and 7 of the fast network (7 and 8 of the other), each with dropout 0.5."""
        p = 0.5 if dropout is None else dropout
        variant, activation = OVERFEATS[self.spec["name"]], self.options.activation
        one, two = widths(variant.features, self.options.width)
        first = dense(self.channels[-1] * variant.side**2, one, activation)
        layers = [*first, nn.Dropout(p), *dense(one, two, activation), nn.Dropout(p), nn.Linear(two, classes)]
        return Dense(variant.side, layers)
