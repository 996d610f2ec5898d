"""Activation functions by name: ReLU, leaky ReLU, ELU, GELU, tanh, Maxout and others."""

from collections.abc import Callable

import torch
from torch import Tensor, nn


class Maxout(nn.Module):
    """(B, 2 C, ...) -> (B, C, ...), the larger of two: Goodfellow et al. 2013, arXiv 1302.4389, with k = 2."""

    def forward(self, x: Tensor) -> Tensor:
        return torch.maximum(*x.chunk(2, 1))


class ScaledTanh(nn.Module):
    """1.7159 tanh(2 x / 3) of any shape: LeCun et al. 1998, section II.B, which is 1 at 1 and -1 at -1."""

    def forward(self, x: Tensor) -> Tensor:
        return 1.7159 * torch.tanh(2 / 3 * x)


ACTIVATIONS: dict[str, Callable[[], nn.Module]] = {
    "relu": nn.ReLU,
    "leaky_relu": lambda: nn.LeakyReLU(0.01),
    "prelu": nn.PReLU,
    "elu": nn.ELU,
    "gelu": nn.GELU,
    "sigmoid": nn.Sigmoid,
    "tanh": nn.Tanh,
    "relu6": nn.ReLU6,
    "scaled_tanh": ScaledTanh,
    "maxout": Maxout,
}


def activation_layer(name: str) -> nn.Module:
    """A new activation module, not in place. Raises ValueError for an unknown name."""
    if name not in ACTIVATIONS:
        raise ValueError(f"unknown activation {name!r}: choose one of {', '.join(ACTIVATIONS)}")
    return ACTIVATIONS[name]()


def width_before(name: str, channels: int) -> int:
    """The outputs of a layer for an activation with `channels` outputs: Maxout needs two for each."""
    return 2 * channels if name == "maxout" else channels
