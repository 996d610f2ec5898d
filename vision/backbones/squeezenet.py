"""SqueezeNet: AlexNet's accuracy with a fiftieth of its parameters (Iandola et al. 2016)."""

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from vision.backbones.backbone import Backbone, widths
from vision.backbones.layers.activation import activation_layer, width_before
from vision.backbones.layers.normalization import norm_after
from vision.backbones.layers.pixel_conv import PixelConv2d
from vision.backbones.options import BackboneOptions

FIRES = ((16, 64), (16, 64), (32, 128), (32, 128), (48, 192), (48, 192), (64, 256), (64, 256))  # squeeze, each expand
# first channels, its kernel, and before which fires a pool stands, the stem's pool first
SQUEEZENETS: dict[str, tuple[int, int, tuple[int, ...]]] = {
    "squeezenet1_0": (96, 7, (0, 3, 7)),
    "squeezenet1_1": (64, 3, (0, 2, 4)),
}


class SqueezeNet(Backbone):
    """Iandola et al. 2016, arXiv 1602.07360, table 1; 1_1 is the authors' later release, with pools further forward.

    name: squeezenet1_0, squeezenet1_1; shape: (C, H, W); width: multiplies all channels; init, norm, activation: see
        options.py. The paper has no norms; others stand after each convolution.
    dropout: elementwise, after each pool; the head has its own
    stem: the first convolution and pool; all pools are 3x3 / 2.
        imagenet  7x7 / 2 (1_1: 3x3 / 2), pool  224 -> 109, 54, 27, 13 (1_1: 111, 55, 27, 13)
        cifar     3x3 with padding              32 -> 32, 16, 8
        atari     8x8 / 4                       84 -> 20, 10, 5
    """

    OPTIONS = BackboneOptions(norm="none")

    def __init__(self, name: str, shape: Sequence[int], options: BackboneOptions) -> None:
        super().__init__(name, shape, options)
        self.between = nn.Dropout(options.dropout)
        first, kernel, pools = SQUEEZENETS[name]
        (channels,) = widths((first,), options.width)
        kernel, stride, padding = {"imagenet": (kernel, 2, 0), "cifar": (3, 1, 1), "atari": (8, 4, 0)}[options.stem]
        conv = PixelConv2d(self.shape[0], width_before(options.activation, channels), kernel, stride, padding)
        self.features = nn.Sequential(conv, *norm_after(conv, options.norm), activation_layer(options.activation))
        for i, fire in enumerate(FIRES):
            if i in pools and (i > 0 or options.stem == "imagenet"):
                self.features.append(nn.MaxPool2d(3, 2, ceil_mode=True))
            squeezed, expanded = widths(fire, options.width)
            self.features.append(Fire(channels, squeezed, expanded, options.norm, options.activation))
            channels = 2 * expanded
        self.finish()

    def maps(self, x: Tensor) -> list[Tensor]:
        maps = []
        for module in self.features:
            if isinstance(module, nn.MaxPool2d):
                maps.append(x)
            x = module(x)
            if isinstance(module, nn.MaxPool2d):
                x = self.between(x)
        return [*maps, x]

    def head(self, classes: int, dropout: float | None = None) -> nn.Module:
        return MeanOfPlaces(self.channels[-1], classes, 0.5 if dropout is None else dropout)


class Fire(nn.Module):
    """x (B, channels, H, W) -> (B, 2 expanded, H, W): a 1x1 squeeze, then 1x1 and 3x3 expand convolutions."""

    def __init__(self, channels: int, squeezed: int, expanded: int, norm: str, activation: str) -> None:
        super().__init__()
        wide = width_before(activation, expanded)
        self.squeeze = nn.Conv2d(channels, width_before(activation, squeezed), 1)
        self.squeeze_norm = nn.Sequential(*norm_after(self.squeeze, norm))
        self.squeeze_activation = activation_layer(activation)
        self.expand1x1 = nn.Conv2d(squeezed, wide, 1)
        self.expand1x1_norm = nn.Sequential(*norm_after(self.expand1x1, norm))
        self.expand1x1_activation = activation_layer(activation)
        self.expand3x3 = nn.Conv2d(squeezed, wide, 3, padding=1)
        self.expand3x3_norm = nn.Sequential(*norm_after(self.expand3x3, norm))
        self.expand3x3_activation = activation_layer(activation)

    def forward(self, x: Tensor) -> Tensor:
        x = self.squeeze_activation(self.squeeze_norm(self.squeeze(x)))
        ones = self.expand1x1_activation(self.expand1x1_norm(self.expand1x1(x)))
        threes = self.expand3x3_activation(self.expand3x3_norm(self.expand3x3(x)))
        return torch.cat((ones, threes), 1)


class MeanOfPlaces(nn.Module):
    """Maps -> logits (B, classes): the mean of a 1x1 convolution's maps. Lin et al. 2013, arXiv 1312.4400."""

    def __init__(self, channels: int, classes: int, dropout: float) -> None:
        super().__init__()
        conv = nn.Conv2d(channels, classes, 1)
        nn.init.normal_(conv.weight, std=0.01)  # the published solver's; a larger one leaves classes below zero
        nn.init.zeros_(conv.bias)
        self.classifier = nn.Sequential(nn.Dropout(dropout), conv, nn.ReLU())

    def forward(self, maps: list[Tensor]) -> Tensor:
        return self.classifier(maps[-1]).mean((2, 3))
