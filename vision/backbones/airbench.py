"""The network for 94% on CIFAR-10 with few operations: whitened patches, then six 3x3 convolutions."""

from collections.abc import Sequence

from torch import Tensor, nn

from vision.backbones.backbone import Backbone, widths
from vision.backbones.layers.activation import activation_layer, width_before
from vision.backbones.layers.normalization import norm_layer
from vision.backbones.layers.pixel_conv import PixelConv2d
from vision.backbones.layers.pooling import global_max_pool
from vision.backbones.options import BackboneOptions


class Airbench(Backbone):
    """Jordan 2024, "94% on CIFAR-10 in 3.29 seconds on a single GPU", arXiv 2404.00498, section 3.1 (airbench94).

    shape: (C, H, W); width: multiplies the channels 64, 256, 256; norm, activation: see options.py
    dropout: elementwise, on the input of each stage but the first
    init: torch as in the paper: PyTorch's, but the first filters of every 3x3 convolution are the identity
    stem: the first convolution, of 8 C filters; with cifar's initialization.whiten() can make them whiten patches.
        cifar     2x2 / 1, as in the paper    32 -> 15, 7, 3
        imagenet  8x8 / 8                     224 -> 14, 7, 3
        atari     4x4 / 4                     84 -> 10, 5, 2
    Deviations: batch norms have learned scales and torch's default momentum and epsilon, and the head has a bias.
    """

    OPTIONS = BackboneOptions(stem="cifar", init="torch", activation="gelu")

    def __init__(self, name: str, shape: Sequence[int], options: BackboneOptions) -> None:
        super().__init__(name, shape, options)
        self.between = nn.Dropout(options.dropout)
        inputs = 8 * self.shape[0]
        kernel, stride = {"imagenet": (8, 8), "cifar": (2, 1), "atari": (4, 4)}[options.stem]
        stage = [
            PixelConv2d(self.shape[0], width_before(options.activation, inputs), kernel, stride),
            activation_layer(options.activation),
        ]
        for channels in widths((64, 256, 256), options.width):
            raw = width_before(options.activation, channels)
            stage += [
                identity(inputs, raw, options.norm),
                nn.MaxPool2d(2),
                norm_layer(raw, options.norm),
                activation_layer(options.activation),
            ]
            stage += [
                identity(channels, raw, options.norm),
                norm_layer(raw, options.norm),
                activation_layer(options.activation),
            ]
            self.stages.append(nn.Sequential(*stage))
            stage, inputs = [], channels
        self.finish()

    def head(self, classes: int, dropout: float | None = None) -> nn.Module:
        """A linear layer on the last map's largest values, its logits divided by 9 (section 3.1)."""
        return Largest(self.channels[-1], classes, dropout or 0.0)


class Largest(nn.Module):
    """Global max pooling: maps, the last (B, C, H, W), -> logits (B, classes)."""

    def __init__(self, channels: int, classes: int, dropout: float) -> None:
        super().__init__()
        self.dropout = nn.Dropout(dropout)
        self.fc = nn.Linear(channels, classes)

    def forward(self, maps: list[Tensor]) -> Tensor:
        return self.fc(self.dropout(global_max_pool(maps[-1]))) / 9


def identity(inputs: int, outputs: int, norm: str) -> nn.Conv2d:
    """A 3x3 convolution whose first filters leave each input as it is (Zagoruyko & Komodakis 2017, DiracNets)."""
    conv = nn.Conv2d(inputs, outputs, 3, padding=1, bias=norm == "none")
    nn.init.dirac_(conv.weight.data[:inputs])
    return conv
