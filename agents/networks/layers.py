"""Dense layers of agents' networks, with their initialization."""

from __future__ import annotations

from collections.abc import Callable

from torch import nn


def stream(
    linear: Callable[[int, int], nn.Module], features: int, hidden: int, outputs: int, norm: str = "none"
) -> nn.Sequential:
    """Multilayer perceptron: features -> hidden units (0 for none), norm="layer" with a layer norm -> outputs."""
    layers = [linear(features, hidden), nn.ReLU()] if hidden else []
    layers.append(linear(hidden or features, outputs))
    if linear is nn.Linear:
        if hidden:
            nn.init.kaiming_normal_(layers[0].weight, nonlinearity="relu")
            nn.init.zeros_(layers[0].bias)
        nn.init.uniform_(layers[-1].weight, -1e-3, 1e-3)  # near-zero outputs at the start
        nn.init.zeros_(layers[-1].bias)
    if hidden and norm == "layer":
        layers.insert(1, nn.LayerNorm(hidden))
    return nn.Sequential(*layers)


def dense(features: int, hidden: int, norm: str = "none") -> nn.Module:
    """Linear layer, norm (norm="layer": a layer norm) and ReLU: features -> hidden units; identity for 0 units."""
    if not hidden:
        return nn.Identity()
    linear = nn.Linear(features, hidden)
    nn.init.kaiming_normal_(linear.weight, nonlinearity="relu")
    nn.init.zeros_(linear.bias)
    return nn.Sequential(linear, *([nn.LayerNorm(hidden)] if norm == "layer" else []), nn.ReLU())
