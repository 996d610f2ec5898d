"""ZFNet: AlexNet with smaller kernels and strides in its first layers (Zeiler & Fergus 2013)."""

from collections.abc import Sequence

from torch import nn

from vision.backbones.alexnet import ResponseNorm
from vision.backbones.backbone import widths
from vision.backbones.chain import Chain, Dense
from vision.backbones.options import BackboneOptions

ZFNETS = {  # channels of the five convolutions
    "zfnet": (96, 256, 384, 384, 256),
    "zfnet_wide": (96, 256, 512, 1024, 512),
}


class ZFNet(Chain):
    """Zeiler & Fergus 2013, "Visualizing and understanding convolutional networks", arXiv 1311.2901, figure 3.

    The figure's maps of 110, 55, 26, 13 and 6 pixels need one pixel of border before the first convolution, and
    pools that count windows which begin inside the image. The constants of its contrast normalization, after the
    first two pools, are not given: AlexNet's are taken.

    name: a key of ZFNETS.
        zfnet       figure 3: 384, 384 and 256 channels in layers three to five
        zfnet_wide  512, 1024 and 512 there, as in table 2 and in CS231n's lecture on architectures
    shape: (C, H, W); width: multiplies the channels and the head's 4096
    init, activation: see options.py
    norm: see options.py; any but none takes the place of contrast normalization
    dropout: elementwise, after each pool but the last; the head has its own
    stem: the first convolution; the second is 5x5 / 2.
        imagenet  7x7 / 2 and a 3x3 / 2 pool, as in the paper  224 -> 110, 55, 26, 13, 6
        cifar     3x3 / 1, no pool                             32 -> 32, 14, 7, 3
        atari     7x7 / 2, no pool                             84 -> 40, 18, 9, 4
    """

    OPTIONS = BackboneOptions(norm="none")

    def __init__(self, name: str, shape: Sequence[int], options: BackboneOptions) -> None:
        super().__init__(name, shape, options)
        one, two, three, four, five = widths(ZFNETS[name], options.width)
        response = options.norm == "none"

        if options.stem == "cifar":
            self.convolve(one, 3, padding=1)
        else:
            self.convolve(one, 7, stride=2, padding=1)
        if options.stem == "imagenet":
            self.features.append(nn.MaxPool2d(3, 2, ceil_mode=True))
        self.features.extend([ResponseNorm()] * response)
        self.convolve(two, 5, stride=2)
        self.features.append(nn.MaxPool2d(3, 2, ceil_mode=True))
        self.features.extend([ResponseNorm()] * response)
        self.convolve(three, 3, padding=1)
        self.convolve(four, 3, padding=1)
        self.convolve(five, 3, padding=1)
        self.features.append(nn.MaxPool2d(3, 2))
        self.finish()

    def head(self, classes: int, dropout: float | None = None) -> nn.Module:
        """Dense layers of 4096, 4096 and the classes, with dropout 0.5 after the first two."""
        p, (features,) = 0.5 if dropout is None else dropout, widths((4096,), self.options.width)
        return Dense.twice(self.channels[-1], 6, features, classes, p, self.options.activation)
