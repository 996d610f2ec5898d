"""Restricted Boltzmann machine (RBM), learned by contrastive divergence, layer by layer.

Hinton 2002, "Training products of experts by minimizing contrastive divergence"; Hinton & Salakhutdinov 2006,
"Reducing the dimensionality of data with neural networks", doi 10.1126/science.1127647, with its numbers. Units are
binary; the hidden ones of the last layer of an autoencoder are linear, with Gaussian noise of variance 1.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

RATE, LINEAR_RATE = 0.1, 0.001  # of binary and of linear hidden units: the paper's published code
WEIGHT_COST = 2e-4  # L2 on weights
MOMENTUM = (0.5, 0.9)  # on the first half of the updates, and after it (there: from the sixth of ten epochs on)
DEVIATION = 0.1  # of initial weights


class RBM(nn.Module):
    """E(v, h) = -b v - c h - v W h, for visible units (B, visible) and hidden ones (B, hidden).

    linear: hidden units are Gaussian with variance 1, E(v, h) = -b v + |h - c|^2 / 2 - v W h.
    """

    def __init__(self, visible: int, hidden: int, linear: bool = False) -> None:
        super().__init__()
        self.weight = nn.Parameter(DEVIATION * torch.randn(visible, hidden), requires_grad=False)
        self.visible = nn.Parameter(torch.zeros(visible), requires_grad=False)
        self.hidden = nn.Parameter(torch.zeros(hidden), requires_grad=False)
        self.linear = linear
        self.velocity: list[Tensor] = []  # of weight, visible and hidden; zeros at the first update

    def hidden_mean(self, v: Tensor) -> Tensor:
        """E[h | v], (B, hidden), of visible units (B, visible): a probability unless linear."""
        activity = v @ self.weight + self.hidden
        return activity if self.linear else activity.sigmoid()

    def visible_mean(self, h: Tensor) -> Tensor:
        """p(v = 1 | h), (B, visible), of hidden units (B, hidden)."""
        return (h @ self.weight.T + self.visible).sigmoid()

    def draw_hidden(self, mean: Tensor) -> Tensor:
        """Hidden units (B, hidden) drawn around their mean (B, hidden)."""
        return mean + torch.randn_like(mean) if self.linear else torch.bernoulli(mean)

    def free_energy(self, v: Tensor) -> Tensor:
        """F(v) (B,), with p(v) = exp(-F(v)) / Z, of visible units (B, visible)."""
        activity = v @ self.weight
        if self.linear:  # the integral over h, its constant left out
            return -v @ self.visible - (activity * self.hidden + 0.5 * activity.square()).sum(1)
        return -v @ self.visible - F.softplus(activity + self.hidden).sum(1)

    def divergence(self, v: Tensor) -> tuple[list[Tensor], Tensor]:
        """The directions of CD-1 for weights (visible, hidden), visible and hidden biases, of data v (B, visible),
        and the squared error (B,) of the reconstruction.

        <v h> of the data minus <v h> of the reconstruction: hidden units are drawn once; the reconstruction and its
        hidden units are probabilities, as in the paper's code.
        """
        h = self.hidden_mean(v)
        again = self.visible_mean(self.draw_hidden(h))
        h_again, count = self.hidden_mean(again), len(v)
        weight = (v.T @ h - again.T @ h_again) / count
        return [weight, (v - again).mean(0), (h - h_again).mean(0)], (v - again).square().sum(1)

    def update(self, v: Tensor, rate: float, momentum: float) -> Tensor:
        """Learn from data v (B, visible) by CD-1. Returns the mean squared error of reconstructions, a scalar."""
        directions, error = self.divergence(v)
        directions[0] -= WEIGHT_COST * self.weight
        self.velocity = self.velocity or [torch.zeros_like(each) for each in directions]
        for weight, velocity, direction in zip(self.parameters(), self.velocity, directions, strict=True):
            velocity.mul_(momentum).add_(direction, alpha=rate)
            weight.add_(velocity)
        return error.mean()


class DeepAutoencoder(nn.Module):
    """Autoencoder of logistic layers with a linear code: (B, sizes[0]) to logits (B, sizes[0]).

    sizes: of the data, the layers and the code. Without RBMs, weights begin as Glorot & Bengio 2010 have it.
    """

    def __init__(self, sizes: list[int]) -> None:
        super().__init__()
        self.down = nn.ModuleList(nn.Linear(one, two) for one, two in zip(sizes, sizes[1:], strict=False))
        back = sizes[::-1]
        self.up = nn.ModuleList(nn.Linear(one, two) for one, two in zip(back, back[1:], strict=False))
        for layer in (*self.down, *self.up):
            nn.init.xavier_uniform_(layer.weight)
            nn.init.zeros_(layer.bias)

    def unroll(self, stack: list[RBM]) -> None:
        """Begin with the weights of a stack of RBMs, the decoder with their transposes."""
        for layer, back, rbm in zip(self.down, reversed(self.up), stack, strict=True):
            layer.weight.data.copy_(rbm.weight.T), layer.bias.data.copy_(rbm.hidden)
            back.weight.data.copy_(rbm.weight), back.bias.data.copy_(rbm.visible)

    def encode(self, x: Tensor) -> Tensor:
        """Codes (B, sizes[-1]) of x (B, sizes[0])."""
        for layer in self.down[:-1]:
            x = layer(x).sigmoid()
        return self.down[-1](x)

    def forward(self, x: Tensor) -> Tensor:
        x = self.encode(x)
        for layer in self.up[:-1]:
            x = layer(x).sigmoid()
        return self.up[-1](x)
