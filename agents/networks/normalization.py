"""Running normalization of observations and rewards."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from agents.networks import normalization


class RunningNormalizer(nn.Module):
    """Running mean and variance of rows (B, *shape), in the parallel form of Chan et al. 1983.

    Called on rows, it gives them mean 0 and deviation 1, clipped to 10. Nothing changes before the first update.
    """

    def __init__(self, shape: tuple[int, ...]) -> None:
        super().__init__()
        self.register_buffer("count", torch.zeros((), dtype=torch.int64))  # float32 stops counting at 2^24
        self.register_buffer("mean", torch.zeros(shape))
        self.register_buffer("variance", torch.ones(shape))

    def forward(self, rows: Tensor) -> Tensor:
        return ((rows - self.mean) / (self.variance + 1e-8).sqrt()).clamp(-10, 10)

    @torch.no_grad()
    def update(self, rows: Tensor) -> None:
        """Take in rows (B, *shape)."""
        mean, variance, count = rows.mean(0), rows.var(0, correction=0), len(rows)
        share = count / (self.count + count)
        separate_critic = mean - self.mean
        self.variance.lerp_(variance, share).add_(separate_critic.square() * share * (1 - share))
        self.mean.lerp_(mean, share)
        self.count += count


class NoNormalizer(nn.Identity):
    """No normalization: a Normalizer that lets rows pass, and learns nothing from them."""

    def update(self, rows: Tensor) -> None:
        """Ignore them."""


class RewardNormalizer(nn.Module):
    """Divides rewards by the standard deviation of the discounted return, kept with the run. Huang 2022, detail 8."""

    def __init__(self, count: int, discount: float) -> None:
        super().__init__()
        self.discount = discount
        self.register_buffer("running", torch.zeros(count))  # (N,) each world's return so far
        self.statistics = normalization.RunningNormalizer(())

    def truncate_episodes(self, worlds: Tensor) -> None:
        """Begin the returns of the worlds in (N,) bool anew: other games begin there."""
        self.running.mul_(~worlds.to(self.running.device))

    def forward(self, reward: Tensor, last: Tensor) -> Tensor:
        """(T, N) rewards, scaled by what was known before them."""
        scaled = (reward / self.statistics.variance.add(1e-8).sqrt()).clamp(-10, 10)
        returns = []
        for t in range(len(reward)):
            self.running.mul_(self.discount).add_(reward[t])
            returns.append(self.running.clone())
            self.running.mul_(~last[t])
        self.statistics.update(torch.stack(returns).flatten())
        return scaled
