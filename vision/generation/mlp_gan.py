"""Fully connected generator and discriminator: the networks of Goodfellow et al. 2014, arXiv 1406.2661, section 5.

With ReLU where the paper's generator has ReLU and sigmoid, and leaky ReLU where its discriminator has maxout and
dropout. Conditional versions read a label as one-hot numbers beside their input (Mirza & Osindero 2014, arXiv
1411.1784).
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

SLOPE = 0.2  # of leaky ReLU below 0


def conditioned(inputs: Tensor, labels: Tensor | None, classes: int) -> Tensor:
    """Rows (B, n) with one-hot labels beside them, (B, n + classes); as they are without classes.

    labels: (B,) int64. Raises ValueError where classes are asked for and no labels are given, or the other way round.
    """
    if (labels is None) != (classes == 0):
        has = f"of {classes} classes needs labels" if classes else "is not conditional, and takes no labels"
        raise ValueError(f"this network {has}")
    return inputs if labels is None else torch.cat([inputs, F.one_hot(labels, classes).to(inputs)], 1)


def _layers(
    inputs: int, hidden: int, depth: int, outputs: int, activation: type[nn.Module], *how: float
) -> nn.Module:
    layers: list[nn.Module] = []
    for number in range(depth):
        layers += [nn.Linear(hidden if number else inputs, hidden), activation(*how)]
    return nn.Sequential(*layers, nn.Linear(hidden, outputs))


class MLPGenerator(nn.Module):
    """Noise (B, latent) and labels (B,) or None -> samples (B, *shape).

    squashed: by tanh, to -1..1, as images are; else linear, as points of the plane are.
    """

    def __init__(
        self, latent: int, shape: tuple[int, ...], hidden: int, depth: int, classes: int = 0, squashed: bool = True
    ) -> None:
        super().__init__()
        self.latent, self.shape, self.classes, self.squashed = latent, tuple(shape), classes, squashed
        self.layers = _layers(latent + classes, hidden, depth, torch.Size(shape).numel(), nn.ReLU)

    def forward(self, noise: Tensor, labels: Tensor | None = None) -> Tensor:
        out = self.layers(conditioned(noise, labels, self.classes)).unflatten(1, self.shape)
        return out.tanh() if self.squashed else out


class MLPDiscriminator(nn.Module):
    """Samples (B, *shape) and labels (B,) or None -> logits (B,)."""

    def __init__(self, shape: tuple[int, ...], hidden: int, depth: int, classes: int = 0) -> None:
        super().__init__()
        self.classes = classes
        self.layers = _layers(torch.Size(shape).numel() + classes, hidden, depth, 1, nn.LeakyReLU, SLOPE)

    def forward(self, samples: Tensor, labels: Tensor | None = None) -> Tensor:
        return self.layers(conditioned(samples.flatten(1), labels, self.classes)).squeeze(1)
