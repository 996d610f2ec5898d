"""Network in network: each convolution is followed by two of 1x1, and no layer is dense (Lin et al. 2013)."""

from collections.abc import Sequence

from torch import Tensor, nn

from vision.backbones.backbone import widths
from vision.backbones.chain import Chain
from vision.backbones.layers.activation import activation_layer, width_before
from vision.backbones.layers.initialization import initialize
from vision.backbones.options import BackboneOptions


class NiN(Chain):
    """Lin et al. 2013, arXiv 1312.4400, for CIFAR-10; its sizes are those of the authors' published definition.

    The last 1x1 convolution, which has a channel for each class, is in the head.

    shape: (C, H, W); width: multiplies the channels
    init, norm, activation: see options.py
    dropout: elementwise, between the blocks
    stem: the first convolution.
        imagenet  11x11 / 4  224 -> 54, 27, 13
        cifar     5x5 / 1, as in the paper  32 -> 32, 16, 8
        atari     8x8 / 4    84 -> 20, 10, 5
    """

    OPTIONS = BackboneOptions(stem="cifar", norm="none", dropout=0.5)

    def __init__(self, name: str, shape: Sequence[int], options: BackboneOptions) -> None:
        super().__init__(name, shape, options)
        self.between = nn.Identity()  # `features` has its own dropouts
        wide, middle, narrow = widths((192, 160, 96), options.width)
        kernel, stride, padding = {"imagenet": (11, 4, 0), "cifar": (5, 1, 2), "atari": (8, 4, 0)}[options.stem]
        self.convolve(wide, kernel, stride, padding)
        self.convolve(middle, 1)
        self.convolve(narrow, 1)
        self.features.extend([nn.MaxPool2d(3, 2, ceil_mode=True), nn.Dropout(options.dropout)])
        self.convolve(wide, 5, padding=2)
        self.convolve(wide, 1)
        self.convolve(wide, 1)
        self.features.extend([nn.AvgPool2d(3, 2, ceil_mode=True), nn.Dropout(options.dropout)])
        self.convolve(wide, 3, padding=1)
        self.convolve(wide, 1)
        self.finish()

    def head(self, classes: int, dropout: float | None = None) -> nn.Module:
        """A map for each class, and its mean. The paper has no dropout here."""
        return Maps(self.channels[-1], classes, self.options.activation, dropout or 0.0)


class Maps(nn.Module):
    """Maps -> logits (B, classes): means of a 1x1 convolution's maps, one for each class. Section 3.2."""

    def __init__(self, channels: int, classes: int, activation: str, dropout: float) -> None:
        super().__init__()
        conv = nn.Conv2d(channels, width_before(activation, classes), 1)
        self.classifier = nn.Sequential(nn.Dropout(dropout), conv, activation_layer(activation))
        initialize(self, "he")

    def forward(self, maps: list[Tensor]) -> Tensor:
        return self.classifier(maps[-1]).mean((2, 3))
