"""The network of Rainbow and of its components alone: values or distributions of returns, from one or two streams."""

from __future__ import annotations

import functools
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from agents.networks.layers import stream
from agents.rainbow import c51, qr_dqn
from agents.rainbow.dueling import combine
from agents.rainbow.iqn import FractionEmbedding
from agents.rainbow.noisy import NoisyLinear
from vision import backbones


class Prediction(NamedTuple):
    """The distribution of each action's return that a network predicts."""

    atoms: Tensor  # (B, A, Z) values (Z = 1), logits of c51's support, or quantiles
    fractions: Tensor | None  # (B or 1, Z) which quantiles they are

    def of(self, action: Tensor) -> Tensor:
        """(B, Z), those of one action (B,) each."""
        return self.atoms[torch.arange(action.shape[0], device=action.device), action]

    def split(self, count: int) -> tuple[Prediction, Prediction]:
        """The first `count` of quantiles that were drawn, and the others."""
        atoms = self.atoms.split([count, self.atoms.shape[2] - count], 2)
        first, others = map(Prediction, atoms, self.fractions.split([count, atoms[1].shape[2]], 1))
        return first, others


class RainbowNetwork(nn.Module):
    """observation (B, C, H, W) uint8 or (B, D) float -> value of each action (B, A) float32.

    `predict` gives the whole distribution. Raises ValueError for components that do not go together.
    """

    def __init__(self, backbone: backbones.Backbone, shape: tuple[int, ...], actions: int, config: Any):
        super().__init__()
        if config.munchausen and (config.double or config.distribution == "c51"):
            raise ValueError(
                "Munchausen averages over actions and quantiles: it needs --no-double, and --distribution mean, "
                "qr_dqn or iqn"
            )
        self.backbone, self.actions, self.distribution = backbone, actions, config.distribution
        features = config.max_pool**2 * backbone.channels[-1] if config.max_pool else backbone.output_size(shape)
        self.pool = nn.AdaptiveMaxPool2d(config.max_pool) if config.max_pool else nn.Identity()
        self.fractions, self.action_fractions = config.fractions, config.action_fractions or config.fractions
        self.embed = FractionEmbedding(features) if config.distribution == "iqn" else None
        self.outputs = {"mean": 1, "c51": config.atoms, "qr_dqn": config.quantiles, "iqn": 1}[config.distribution]
        linear = functools.partial(NoisyLinear, sigma=config.sigma) if config.noisy else nn.Linear
        self.advantage = stream(linear, features, config.hidden, actions * self.outputs, config.norm)
        self.value = stream(linear, features, config.hidden, self.outputs, config.norm) if config.dueling else None
        if config.distribution == "c51":
            z = c51.support(config.v_min, config.v_max, config.atoms, torch.device("cpu"))
            self.register_buffer("support", z, persistent=False)

    def predict(self, observation: Tensor, fractions: int | None = None) -> Prediction:
        """The distribution of each action's return, atoms (B, A, Z). fractions: how many quantiles IQN draws."""
        coarsest = self.pool(self.backbone(observation)[-1])
        x = coarsest.permute(0, 2, 3, 1).flatten(1)  # (B, F), as channels_last lies in memory
        if self.embed is None:
            atoms = self._streams(x).unflatten(1, (-1, self.outputs))  # (B, A, Z)
            fixed = qr_dqn.midpoints(self.outputs, x.device) if self.distribution == "qr_dqn" else None
            return Prediction(atoms, fixed)
        count = fractions or self.fractions
        if self.training:
            drawn = torch.rand(x.shape[0], count, device=x.device)
        else:
            drawn = qr_dqn.midpoints(count, x.device).expand(x.shape[0], count)
        x = x[:, None] * self.embed(drawn)  # (B, K, F)
        return Prediction(self._streams(x.flatten(0, 1)).unflatten(0, drawn.shape).transpose(1, 2), drawn)

    def values(self, atoms: Tensor) -> Tensor:
        """The mean of each distribution: (B, A, Z) -> (B, A)."""
        return (atoms.softmax(2) * self.support).sum(2) if self.distribution == "c51" else atoms.mean(2)

    def forward(self, observation: Tensor) -> Tensor:
        return self.values(self.predict(observation, self.action_fractions).atoms)

    def _streams(self, x: Tensor) -> Tensor:
        advantage = _apply(self.advantage, x)
        if self.value is None:
            return advantage
        value = _apply(self.value, x).unflatten(1, (1, self.outputs))
        return combine(value, advantage.unflatten(1, (self.actions, self.outputs))).flatten(1)


def _apply(layers: nn.Sequential, x: Tensor) -> Tensor:
    x = layers[:-1](x)
    with torch.autocast(x.device.type, enabled=False):
        return layers[-1](x.float())  # bf16 would round away the gap between two actions
