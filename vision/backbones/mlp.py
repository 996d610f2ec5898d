"""Dense layers for worlds that are vectors, with a map of one pixel so that any head fits."""

from collections.abc import Sequence
from math import prod

import torch
from torch import Tensor, nn

from vision.backbones.backbone import Backbone, widths
from vision.backbones.layers.activation import activation_layer, width_before
from vision.backbones.layers.dropconnect import DropConnect
from vision.backbones.layers.normalization import norm_after

MLPS = {"mlp": (128, 128), "lenet300_100": (300, 100)}  # units of each layer


class MLP(Backbone):
    """A multilayer perceptron. Input (B, *shape), flattened (uint8 pixels as x / 255); one map (B, hidden[-1], 1, 1).

    name: a key of MLPS. lenet300_100 is LeNet-300-100, LeCun et al. 1998, doi 10.1109/5.726791, section III-C, on
        which Han et al. 2015, arXiv 1506.02626, measured pruning, with ReLU instead of 1998's tanh
    shape: (D,), or an image's, which is then the only size that fits; hidden: units of each layer, unless the name's;
    width: multiplies hidden; activation, init, norm (none, batch or layer): see their files
    dropout: of what each layer but the first reads; dropconnect: of the weights of all of them, see dropconnect.py
    Raises ValueError for an unknown activation, or when hidden is empty.
    """

    stems = ()
    any_size = False

    def __init__(
        self,
        shape: Sequence[int],
        hidden: Sequence[int] | None = None,
        activation: str = "relu",
        width: float = 1.0,
        init: str = "he",
        norm: str = "none",
        name: str = "mlp",
        dropout: float = 0.0,
        dropconnect: float = 0.0,
    ) -> None:
        hidden = list(MLPS[name] if hidden is None else hidden)
        arguments = dict(hidden=hidden, activation=activation, width=width, init=init, norm=norm)
        super().__init__(name, shape, **arguments, dropout=dropout, dropconnect=dropconnect)
        if not hidden:
            raise ValueError("mlp needs at least one hidden layer, got hidden=()")
        self.between = nn.Dropout(dropout)
        inputs, layers = prod(self.shape), [nn.Flatten()]
        for features in widths(hidden, width):
            dense = DropConnect(inputs, width_before(activation, features), dropconnect)
            layers += [dense, *norm_after(dense, norm), activation_layer(activation)]
            inputs = features
        self.stages.append(nn.Sequential(*layers, nn.Unflatten(1, (inputs, 1, 1))))
        self.finish()

    def maps(self, x: Tensor) -> list[Tensor]:
        x = x / 255 if x.dtype == torch.uint8 else x
        for i, layer in enumerate(self.stages[0]):
            x = layer(self.between(x) if i > 1 and isinstance(layer, nn.Linear) else x)
        return [x]
