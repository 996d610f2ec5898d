"""AlexNet: five convolutions and three dense layers, as it won in 2012, and as one tower two years later."""

from collections.abc import Sequence
from typing import NamedTuple

from torch import Tensor, nn
from torch.nn import functional as F

from vision.backbones.backbone import widths
from vision.backbones.chain import Chain, Dense
from vision.backbones.options import BackboneOptions


class ResponseNorm(nn.Module):
    """Maps (B, C, H, W) divided by the energy of five neighboring channels: Krizhevsky et al. 2012, section 3.3.

    Their k = 2, n = 5, alpha = 1e-4, beta = 0.75, where alpha multiplies the sum (F.local_response_norm's: the mean).
    Calculated in float32: in bfloat16 the small term would vanish beside k.
    """

    def forward(self, x: Tensor) -> Tensor:
        return F.local_response_norm(x.float(), size=5, alpha=5 * 1e-4, beta=0.75, k=2.0).to(x.dtype)


class Variant(NamedTuple):
    """The sizes of an AlexNet."""

    channels: tuple[int, int, int, int, int]
    padding: int  # of the first convolution
    groups: int = 1  # towers: groups of convolutions two, four and five
    response: bool = False  # local response normalization after convolutions one and two
    early: bool = False  # dropout before the first two dense layers of the head, instead of after them


ALEXNETS = {
    "alexnet": Variant((64, 192, 384, 256, 256), padding=2, early=True),
    "alexnet_2012": Variant((96, 256, 384, 384, 256), padding=0, groups=2, response=True),
    "alexnet_ungrouped": Variant((96, 256, 384, 384, 256), padding=0, response=True),
}


class AlexNet(Chain):
    """Krizhevsky et al. 2012, "ImageNet classification with deep convolutional neural networks", NIPS.

    name: a key of ALEXNETS.
        alexnet            one tower, Krizhevsky 2014, arXiv 1404.5997, footnote 1, with the sizes of torchvision
        alexnet_2012       two towers, for images of 227 x 227 (the paper says 224, which its maps contradict)
        alexnet_ungrouped  the same without towers, as lectures have it
    shape: (C, H, W); width: multiplies all channels and the head's 4096
    init, activation: see options.py
    norm: see options.py; any but none takes the place of local response normalization
    dropout: elementwise, after each pool but the last; the head has its own
    stem: the first convolution (alexnet; in brackets, the other two).
        imagenet  11x11 / 4 and a 3x3 / 2 pool, as in the papers  224 -> 55, 27, 13, 6  (227 -> 55, 27, 13, 6)
        cifar     3x3 / 1, no pool                                32 -> 32, 15, 7
        atari     11x11 / 4, no pool                              84 -> 20, 9, 4  (84 -> 19, 9, 4)
    """

    OPTIONS = BackboneOptions(norm="none")

    def __init__(self, name: str, shape: Sequence[int], options: BackboneOptions) -> None:
        super().__init__(name, shape, options)
        channels, padding, groups, response, _ = ALEXNETS[name]
        towers = widths([n // groups for n in channels], options.width)
        one, two, three, four, five = (groups * n for n in towers)
        response = response and options.norm == "none"

        if options.stem == "cifar":
            self.convolve(one, 3, padding=1)
        else:
            self.convolve(one, 11, stride=4, padding=padding)
        self.features.extend([ResponseNorm()] * response)
        if options.stem == "imagenet":
            self.features.append(nn.MaxPool2d(3, 2))
        self.convolve(two, 5, padding=2, groups=groups)
        self.features.extend([ResponseNorm()] * response)
        self.features.append(nn.MaxPool2d(3, 2))
        self.convolve(three, 3, padding=1)
        self.convolve(four, 3, padding=1, groups=groups)
        self.convolve(five, 3, padding=1, groups=groups)
        self.features.append(nn.MaxPool2d(3, 2))
        self.finish()

    def head(self, classes: int, dropout: float | None = None) -> nn.Module:
        """Dense layers of 4096, 4096 and the classes, with dropout 0.5."""
        p, (features,) = 0.5 if dropout is None else dropout, widths((4096,), self.options.width)
        return Dense.twice(
            self.channels[-1], 6, features, classes, p, self.options.activation, ALEXNETS[self.spec["name"]].early
        )
