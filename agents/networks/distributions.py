"""Action distributions of policy gradients: categorical and (squashed) Gaussian."""

from __future__ import annotations

import math

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from envs import World


class Categorical(nn.Module):
    """features (B, F) -> logits (B, A) of discrete actions.

    `dtype` and `shape` are those of a sampled action.
    """

    dtype, shape = torch.int64, ()

    def __init__(self, features: int, world: World) -> None:
        super().__init__()
        self.logits = nn.Linear(features, world.actions)
        init_near_zero(self.logits)

    def forward(self, features: Tensor) -> Tensor:
        return self.logits(features)

    @staticmethod
    def sample(logits: Tensor, generator: torch.Generator | None = None) -> Tensor:
        """(B,) int64: the first to come of exponential arrivals whose rates are the probabilities.

        torch.multinomial draws the same, but looks at its input first, and so waits for the device.
        """
        probability = logits.softmax(1)
        arrival = torch.empty_like(probability)
        arrival = arrival.exponential_() if generator is None else arrival.exponential_(generator=generator)
        return (probability / arrival).argmax(1)

    @staticmethod
    def mode(logits: Tensor) -> Tensor:
        """(B,) int64, the most probable."""
        return logits.argmax(1)

    @staticmethod
    def log_prob(logits: Tensor, action: Tensor) -> Tensor:
        """(B,)."""
        return -F.cross_entropy(logits, action, reduction="none")

    @staticmethod
    def entropy(logits: Tensor) -> Tensor:
        """(B,) nats."""
        log_p = logits.log_softmax(1)  # finite where p is 0, and so is the gradient
        return -(log_p.exp() * log_p).sum(1)

    @staticmethod
    def environment_action(action: Tensor) -> Tensor:
        """The action (B,) int64 that the world receives: the sampled one."""
        return action


class Gaussian(nn.Module):
    """Diagonal Gaussian: features (B, F) -> mean and log standard deviation (B, 2, A) of continuous actions.

    A sample is unbounded and in units of the action's range: 0 is the middle of [action_low, action_high] and 1 half
    of its width, so that an untrained policy acts alike whatever the bounds (see `action_units`). The world receives
    it clipped, or with `squash` through tanh (squashed Gaussian). The standard deviation does not depend on the state
    (Schulman et al. 2016, arXiv 1506.02438). Probabilities and entropies are of the sample before it is clipped.
    Raises ValueError for squash in a world whose actions have no bounds.
    """

    dtype = torch.float32

    def __init__(self, features: int, world: World, squash: bool) -> None:
        super().__init__()
        self.shape = world.action_shape
        if squash and not (np.isfinite(world.action_low).all() and np.isfinite(world.action_high).all()):
            raise ValueError(f"{world.name}'s actions have no bounds to be squashed into: leave --squash out")
        self.squash = squash
        self.mean = nn.Linear(features, world.action_shape[0])
        init_near_zero(self.mean)
        self.log_std = nn.Parameter(torch.zeros(world.action_shape[0]))
        self.register_buffer("low", torch.from_numpy(world.action_low).float(), persistent=False)
        self.register_buffer("high", torch.from_numpy(world.action_high).float(), persistent=False)
        center, scale = action_units(world.action_low, world.action_high)
        self.register_buffer("center", torch.from_numpy(center).float())
        self.register_buffer("scale", torch.from_numpy(scale).float())

    def forward(self, features: Tensor) -> Tensor:
        mean = self.mean(features)
        return torch.stack([mean, self.log_std.expand_as(mean)], 1)

    @staticmethod
    def sample(parameters: Tensor, generator: torch.Generator | None = None) -> Tensor:
        """(B, A) float32, before it is clipped or squashed."""
        mean, log_std = parameters.unbind(1)
        noise = torch.empty_like(mean).normal_(generator=generator)
        return mean + log_std.exp() * noise

    @staticmethod
    def mode(parameters: Tensor) -> Tensor:
        """(B, A), before it is clipped or squashed."""
        return parameters[:, 0]

    def log_prob(self, parameters: Tensor, action: Tensor) -> Tensor:
        """(B,), of the sample, or of the squashed sample (Haarnoja et al. 2018, equation 21)."""
        mean, log_std = parameters.unbind(1)
        each = -0.5 * ((action - mean) / log_std.exp()).square() - log_std - 0.5 * math.log(2 * math.pi)
        if self.squash:  # log(1 - tanh^2 x), in a form that does not underflow
            each = each - 2 * (math.log(2) - action - F.softplus(-2 * action)) - ((self.high - self.low) / 2).log()
        return each.sum(1)

    @staticmethod
    def entropy(parameters: Tensor) -> Tensor:
        """(B,) nats, of the Gaussian before squashing: the squashed one's has no closed form."""
        return (parameters[:, 1] + 0.5 * math.log(2 * math.pi * math.e)).sum(1)

    def environment_action(self, action: Tensor) -> Tensor:
        """The action (B, A) float32 that the world receives, within its bounds."""
        if self.squash:
            return self.low + (action.tanh() + 1) / 2 * (self.high - self.low)
        return torch.clamp(self.center + self.scale * action, self.low, self.high)


UNBOUNDED = 1e6  # larger bounds count as none: many worlds write a large number for unbounded actions


def action_units(low: np.ndarray, high: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Center and scale of each action, (A,) each, float64: the middle of [low, high] and half of its width.

    Where only one end is bounded the center lies 1 inside of it, where none is at 0; the scale is 1 there.
    """
    low, high = low.astype(np.float64), high.astype(np.float64)
    below, above = low > -UNBOUNDED, high < UNBOUNDED
    both = below & above & (high > low)
    with np.errstate(invalid="ignore", over="ignore"):  # of infinite bounds, which np.select discards
        center = np.select([below & above, below, above], [(low + high) / 2, low + 1, high - 1], 0.0)
        return center, np.where(both, (high - low) / 2, 1.0)


def init_near_zero(layer: nn.Linear) -> None:
    """Near-zero output initialization: orthogonal with gain 0.01, zero bias. Huang et al. 2022, detail 2."""
    nn.init.orthogonal_(layer.weight, gain=0.01)
    nn.init.zeros_(layer.bias)
