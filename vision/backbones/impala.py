"""The large network of IMPALA: three sections of a convolution, a max pool and two residual blocks."""

import dataclasses
from collections.abc import Sequence

from torch import Tensor, nn

from vision.backbones.backbone import Backbone, widths
from vision.backbones.layers import normalization
from vision.backbones.layers.activation import activation_layer, width_before
from vision.backbones.layers.normalization import norm_after
from vision.backbones.layers.pixel_conv import PixelConv2d
from vision.backbones.options import BackboneOptions


class Residual(nn.Module):
    """x + conv(relu(conv(relu(x)))) of maps (B, C, H, W): two 3x3 convolutions of equal width, each with its norm."""

    def __init__(self, channels: int, norm: str, activation: str) -> None:
        super().__init__()
        raw = width_before(activation, channels)
        self.relu1 = activation_layer(activation)
        self.conv1 = nn.Conv2d(channels, raw, 3, padding=1)
        self.norm1 = nn.Sequential(*norm_after(self.conv1, norm))
        self.relu2 = activation_layer(activation)
        self.conv2 = nn.Conv2d(channels, raw, 3, padding=1)
        self.norm2 = nn.Sequential(*norm_after(self.conv2, norm))

    def forward(self, x: Tensor) -> Tensor:
        inner = self.norm1(self.conv1(self.relu1(x)))
        return x + self.norm2(self.conv2(self.relu2(inner)))


@dataclasses.dataclass(frozen=True)
class ImpalaOptions(BackboneOptions):
    """Options of an IMPALA network."""

    spectral: bool = False  # spectral normalization of the residual blocks


class Impala(Backbone):
    """Espeholt et al. 2018, arXiv 1802.01561, figure 3 right, up to its last ReLU; the head is not here.

    shape: (C, H, W); width: multiplies the channels 16, 32, 32; init, norm, activation: see options.py
    dropout: elementwise, on the input of each section but the first
    spectral: the residual blocks' convolutions keep a spectral norm of 1, as by Clark et al. 2024, "Beyond the
        Rainbow", arXiv 2411.03820 (layers/normalization.py)
    stem: the first section.
        atari     3x3 convolution, 3x3 / 2 max pool, as in the paper  84 -> 42, 21, 11
        cifar     without its pool, for small images                  32 -> 32, 16, 8
        imagenet  7x7 / 4 convolution before the pool                 224 -> 28, 14, 7
    """

    OPTIONS = ImpalaOptions(stem="atari", norm="none")

    def __init__(self, name: str, shape: Sequence[int], options: ImpalaOptions) -> None:
        super().__init__(name, shape, options)
        self.between = nn.Dropout(options.dropout)
        inputs = self.shape[0]
        for i, channels in enumerate(widths((16, 32, 32), options.width)):
            raw = width_before(options.activation, channels)  # the next activation halves it, where it is Maxout
            conv = (nn.Conv2d if i else PixelConv2d)(inputs, raw, 3, padding=1)
            pool = [nn.MaxPool2d(3, 2, padding=1)]
            if i == 0 and options.stem == "cifar":
                pool = []
            if i == 0 and options.stem == "imagenet":
                conv = PixelConv2d(inputs, raw, 7, 4, padding=3)
            residuals = (
                Residual(channels, options.norm, options.activation),
                Residual(channels, options.norm, options.activation),
            )
            self.stages.append(nn.Sequential(conv, *norm_after(conv, options.norm), *pool, *residuals))
            inputs = raw
        self.stages[-1].append(activation_layer(options.activation))
        self.finish()
        if options.spectral:  # of the weights as they begin
            for block in list(self.modules()):
                if isinstance(block, Residual):
                    normalization.spectral_norm(block.conv1)
                    normalization.spectral_norm(block.conv2)
