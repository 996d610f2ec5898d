"""Dense layers for worlds that are vectors, with a map of one pixel so that any head fits."""

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from vision.backbones.backbone import Backbone, widths
from vision.backbones.normalisation import after

ACTIVATIONS = {"relu": nn.ReLU, "tanh": nn.Tanh}


class MLP(Backbone):
    """A multilayer perceptron. Input (B, *shape), flattened (uint8 pixels as x / 255); one map (B, hidden[-1], 1, 1).

    shape: (D,), or an image's, which is then the only size that fits; hidden: units of each layer;
    activation: relu | tanh; width: multiplies hidden; init, norm: see initialisation.py, normalisation.py
    Raises ValueError for another activation, or when hidden is empty.
    """

    stems = ()
    any_size = False

    def __init__(
        self,
        shape: Sequence[int],
        hidden: Sequence[int] = (128, 128),
        activation: str = "relu",
        width: float = 1.0,
        init: str = "he",
        norm: str = "none",
    ) -> None:
        arguments = dict(hidden=list(hidden), activation=activation, width=width, init=init, norm=norm)
        super().__init__("mlp", shape, **arguments)
        if activation not in ACTIVATIONS:
            raise ValueError(f"unknown activation {activation!r}: choose one of {', '.join(ACTIVATIONS)}")
        if not hidden:
            raise ValueError("mlp needs at least one hidden layer, got hidden=()")
        before, layers = 1, [nn.Flatten()]
        for n in self.shape:
            before *= n
        for units in widths(hidden, width):
            dense = nn.Linear(before, units)
            layers += [dense, *after(dense, norm), ACTIVATIONS[activation]()]
            before = units
        self.stages.append(nn.Sequential(*layers, nn.Unflatten(1, (before, 1, 1))))
        self.settle()

    def maps(self, x: Tensor) -> list[Tensor]:
        return super().maps(x / 255 if x.dtype == torch.uint8 else x)
