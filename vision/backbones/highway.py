"""Highway networks: each layer learns by a gate how much of its input it carries on (Srivastava et al. 2015)."""

import dataclasses
from collections.abc import Sequence
from math import prod
from typing import NamedTuple

import torch
from torch import Tensor, nn

from vision.backbones.backbone import Backbone, widths
from vision.backbones.layers.activation import activation_layer, width_before
from vision.backbones.layers.normalization import norm_after
from vision.backbones.layers.pixel_conv import PixelConv2d
from vision.backbones.options import BackboneOptions


class Variant(NamedTuple):
    """The sizes of a highway network."""

    layers: tuple[int, ...]  # of each stage; the first layer of a stage changes the channels, and so has no gate
    channels: tuple[int, ...]


DENSE_HIGHWAYS: dict[str, Variant] = {
    "highway10": Variant((9,), (50,)),
    "highway20": Variant((19,), (50,)),
    "highway50": Variant((49,), (50,)),
    "highway100": Variant((99,), (50,)),
}
HIGHWAYS: dict[str, Variant] = {
    "highway_conv19": Variant((5, 6, 7), (48, 80, 128)),
    "highway_conv32": Variant((10, 10, 11), (32, 48, 64)),
}


@dataclasses.dataclass(frozen=True)
class HighwayOptions(BackboneOptions):
    """Options of a highway network."""

    gate_bias: float = -2.0  # of the transform gates at the start: below 0, they carry the input on


class Highway(Backbone):
    """Srivastava, Greff & Schmidhuber 2015, "Training very deep networks", arXiv 1507.06228, equation 3, section 3.3.

    y = H(x) T(x) + x (1 - T(x)), where H is a layer with its activation and T = sigmoid of another one. 3x3
    convolutions in three stages, each behind a plain one, with 2x2 max pools between them. The depths are the
    paper's, the channels are ours, near those of FitNets, which the paper starts from.

    name: a key of HIGHWAYS; the number counts the classifier too
    shape: (C, H, W); width: multiplies the channels; init, norm, activation: see options.py
    gate_bias: of T's bias at the start; the paper has -1 to -10, the more negative the deeper
    dropout: of single numbers, of what each stage but the first reads
    stem: the first convolution.
        cifar     3x3        32 -> 32, 16, 8
        imagenet  7x7 / 4    224 -> 56, 28, 14
        atari     8x8 / 4    84 -> 20, 10, 5
    """

    OPTIONS = HighwayOptions(stem="cifar", norm="none")

    def __init__(self, name: str, shape: Sequence[int], options: HighwayOptions) -> None:
        super().__init__(name, shape, options)
        self.between = nn.Dropout(options.dropout)
        variant, inputs = (HIGHWAYS | DENSE_HIGHWAYS)[name], self.shape[0] if self.any_size else prod(self.shape)
        for count, channels in zip(variant.layers, widths(variant.channels, options.width), strict=True):
            plain = self.plain(inputs, width_before(options.activation, channels))
            stage = [nn.MaxPool2d(2)] if len(self.stages) else []
            stage += [plain, *norm_after(plain, options.norm), activation_layer(options.activation)]
            stage += [Layer(channels, not self.any_size, options) for _ in range(count - 1)]
            self.stages.append(nn.Sequential(*stage))
            inputs = channels
        self.finish()
        for layer in self.modules():
            if isinstance(layer, Layer):
                nn.init.constant_(layer.gate.bias, options.gate_bias)

    def plain(self, inputs: int, outputs: int) -> nn.Conv2d | nn.Linear:
        """The layer without a gate with which a stage begins."""
        if len(self.stages):
            return nn.Conv2d(inputs, outputs, 3, padding=1)
        return PixelConv2d(
            inputs, outputs, *{"cifar": (3, 1, 1), "imagenet": (7, 4, 3), "atari": (8, 4, 0)}[self.options.stem]
        )


class DenseHighway(Highway):
    """Srivastava et al. 2015, section 3.2: dense layers of 50 units. Input (B, *shape), flattened; one map.

    name: a key of DENSE_HIGHWAYS; the number counts the classifier too; shape: (D,), or an image's, which is then the
    only size that fits; width: multiplies the units; init, norm, activation, gate_bias: see Highway; dropout: of
    what the first of the layers with gates reads
    """

    stems = ()
    any_size = False

    OPTIONS = HighwayOptions(stem=None, norm="none")

    def plain(self, inputs: int, outputs: int) -> nn.Conv2d | nn.Linear:
        return nn.Linear(inputs, outputs)

    def maps(self, x: Tensor) -> list[Tensor]:
        x = x / 255 if x.dtype == torch.uint8 else x
        (stage,) = self.stages
        first = sum(not isinstance(layer, Layer) for layer in stage)  # the plain layer with its norm and activation
        return [stage[first:](self.between(stage[:first](x.flatten(1))))[:, :, None, None]]


class Layer(nn.Module):
    """x -> H(x) T(x) + x (1 - T(x)), all (B, channels) or (B, channels, H, W)."""

    def __init__(self, channels: int, dense: bool, options: HighwayOptions) -> None:
        super().__init__()
        raw = width_before(options.activation, channels)
        if dense:
            self.transform, self.gate = nn.Linear(channels, raw), nn.Linear(channels, channels)
        else:
            self.transform = nn.Conv2d(channels, raw, 3, padding=1)
            self.gate = nn.Conv2d(channels, channels, 3, padding=1)
        self.norm = nn.Sequential(*norm_after(self.transform, options.norm))
        self.activation = activation_layer(options.activation)
        self.opening = nn.Sigmoid()

    def forward(self, x: Tensor) -> Tensor:
        opened = self.opening(self.gate(x))
        return x + opened * (self.activation(self.norm(self.transform(x))) - x)
