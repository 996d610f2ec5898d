"""Activation histograms of a deep network by initialization: vanishing and saturated activations.

    python -m vision.classification.activation_study --out activations.png

After CS231n, lecture 6: inputs of mean 0 and deviation 1 pass through a deep, untrained dense network. With small
weights tanh activations vanish layer by layer; Xavier initialization keeps their variance (Glorot & Bengio 2010), but
not under ReLU, which halves it, and He initialization's factor of 2 makes up for that (He et al. 2015).
"""

from __future__ import annotations

import dataclasses
from pathlib import Path

import torch
from torch import Tensor

import runs
from runs import output
from vision import backbones
from vision.backbones.layers.activation import activation_layer

INITS = ("zeros", "small", "normal", "xavier", "he")


@dataclasses.dataclass(frozen=True)
class Config:
    out: Path = Path("activations.png")  # where the picture goes
    layers: int = 10
    width: int = 500  # of each layer, and of the input
    inputs: int = 1_000  # vectors
    activations: tuple[str, ...] = ("tanh", "relu")
    inits: tuple[str, ...] = INITS
    seed: int = 1


def activations(activation: str, init: str, config: Config) -> list[Tensor]:
    """Activations (inputs, units) of each layer, for the same inputs whatever the network."""
    torch.manual_seed(config.seed)
    inputs = torch.randn(config.inputs, config.width)
    hidden = (config.width,) * config.layers
    network = backbones.build("mlp", (config.width,), hidden=hidden, activation=activation, init=init)
    kind, found = type(activation_layer(activation)), []
    for layer in network.modules():
        if isinstance(layer, kind):
            layer.register_forward_hook(lambda layer, given, out: found.append(out))
    with torch.no_grad():
        network(inputs)
    return found


def draw(config: Config) -> dict[tuple[str, str], list[float]]:
    """Write the picture: a row for every activation and initializer, a column a layer.

    Returns the standard deviations of each row's layers.
    """
    from matplotlib.figure import Figure

    rows = [(activation, init) for activation in config.activations for init in config.inits]
    figure = Figure(figsize=(1.5 * config.layers + 1, 1.3 * len(rows)), layout="constrained")
    axes = figure.subplots(len(rows), config.layers, squeeze=False)
    deviations = {}
    for (activation, init), line in zip(rows, axes, strict=True):
        layers = activations(activation, init, config)
        deviations[activation, init] = [layer.std().item() for layer in layers]
        low, high = (-1.0, 1.0) if activation in ("tanh", "sigmoid") else (0.0, 3.0)
        for number, (axis, layer) in enumerate(zip(line, layers, strict=True), 1):
            axis.hist(layer.flatten().numpy(), bins=40, range=(low, high), color="tab:blue")
            axis.set_title(f"mean {layer.mean():.2g}, std {layer.std():.2g}", fontsize=7)
            axis.set_yticks([])
            axis.tick_params(labelsize=6)
            axis.set_ylim(0, layer.numel() / 6)  # a layer that is dead or saturated reaches beyond
            if number == 1:
                axis.set_ylabel(f"{activation}\n{init}", fontsize=9)
    for number, axis in enumerate(axes[-1], 1):
        axis.set_xlabel(f"layer {number}", fontsize=8)
    output.draw(config.out, figure, "--out", dpi=100)
    return deviations


def main(config: Config) -> None:
    for (activation, init), layers in draw(config).items():
        print(f"{activation:<8}{init:<12}std of the layers: " + " ".join(f"{std:.2g}" for std in layers))
    print(f"written to {config.out}")


if __name__ == "__main__":
    runs.launch(main, Config, None, "vision.classification.activation_study", __doc__)
