"""Multilayer perceptron for vector observations, with a map of one pixel so that any head fits."""

import dataclasses
from collections.abc import Sequence
from math import prod

import torch
from torch import Tensor, nn

from vision.backbones.backbone import Backbone, widths
from vision.backbones.layers.activation import activation_layer, width_before
from vision.backbones.layers.dropconnect import DropConnect
from vision.backbones.layers.normalization import norm_after
from vision.backbones.options import BackboneOptions

MLPS = {"mlp": (128, 128), "lenet300_100": (300, 100)}  # units of each layer


@dataclasses.dataclass(frozen=True)
class MLPOptions(BackboneOptions):
    """Options of a multilayer perceptron."""

    hidden: Sequence[int] = ()  # units of each layer
    dropconnect: float = 0.0  # probability, of the weights: layers/dropconnect.py


class MLP(Backbone):
    """A multilayer perceptron. Input (B, *shape), flattened (uint8 pixels as x / 255); one map (B, hidden[-1], 1, 1).

    name: a key of MLPS. lenet300_100 is LeNet-300-100, LeCun et al. 1998, doi 10.1109/5.726791, section III-C, on
        which Han et al. 2015, arXiv 1506.02626, measured pruning, with ReLU instead of 1998's tanh
    shape: (D,), or an image's, which is then the only size that fits; hidden: units of each layer, unless the name's;
    width: multiplies hidden; activation, init, norm (none, batch or layer): see options.py
    dropout: on the input of each layer but the first; dropconnect: of all weights, see layers/dropconnect.py
    Raises ValueError for an unknown activation, or when hidden is empty.
    """

    stems = ()
    any_size = False

    OPTIONS = MLPOptions(stem=None, norm="none")

    @classmethod
    def defaults(cls, name: str) -> MLPOptions:
        return dataclasses.replace(cls.OPTIONS, hidden=MLPS[name])

    def __init__(self, name: str, shape: Sequence[int], options: MLPOptions) -> None:
        super().__init__(name, shape, options)
        if not options.hidden:
            raise ValueError("mlp needs at least one hidden layer, got hidden=()")
        self.between = nn.Dropout(options.dropout)
        inputs, layers = prod(self.shape), [nn.Flatten()]
        for features in widths(options.hidden, options.width):
            dense = DropConnect(inputs, width_before(options.activation, features), options.dropconnect)
            layers += [dense, *norm_after(dense, options.norm), activation_layer(options.activation)]
            inputs = features
        self.stages.append(nn.Sequential(*layers, nn.Unflatten(1, (inputs, 1, 1))))
        self.finish()

    def maps(self, x: Tensor) -> list[Tensor]:
        x = x / 255 if x.dtype == torch.uint8 else x
        for i, layer in enumerate(self.stages[0]):
            x = layer(self.between(x) if i > 1 and isinstance(layer, nn.Linear) else x)
        return [x]
