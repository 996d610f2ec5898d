"""Running normalization of observations and rewards."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from runs import parallel


class RunningNormalizer(nn.Module):
    """Normalizes rows (B, *shape) by their running mean and variance, clipped to [-10, 10].

    The statistics are updated in the parallel form of Chan et al. 1983, part of a checkpoint, and 0 and 1 before the
    first update.
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
        """Update the statistics with rows (B, *shape)."""
        rows = parallel.gathered(rows)
        mean, variance, count = rows.mean(0), rows.var(0, correction=0), len(rows)
        share = count / (self.count + count)
        difference = mean - self.mean
        self.variance.lerp_(variance, share).add_(difference.square() * share * (1 - share))
        self.mean.lerp_(mean, share)
        self.count += count


class NoNormalizer(nn.Identity):
    """Identity with the interface of RunningNormalizer."""

    def update(self, rows: Tensor) -> None:
        """Do nothing. rows: (B, *shape)."""


class RewardNormalizer(nn.Module):
    """Divides rewards by the running standard deviation of the discounted return.

    The statistics are part of a checkpoint. Huang et al. 2022, detail 8 of those for continuous actions.
    """

    def __init__(self, count: int, discount: float) -> None:
        super().__init__()
        self.discount = discount
        self.register_buffer("running", torch.zeros(count))  # (N,) each world's return so far
        self.statistics = RunningNormalizer(())

    def truncate_episodes(self, worlds: Tensor) -> None:
        """Reset the returns of the worlds in (N,) bool: a resumed run begins other games there."""
        self.running.mul_(~worlds.to(self.running.device))

    def forward(self, reward: Tensor, last: Tensor) -> Tensor:
        """Rewards (T, N) scaled by the statistics before them, which are then updated. last: (T, N) bool."""
        scaled = (reward / self.statistics.variance.add(1e-8).sqrt()).clamp(-10, 10)
        returns = []
        for t in range(len(reward)):
            self.running.mul_(self.discount).add_(reward[t])
            returns.append(self.running.clone())
            self.running.mul_(~last[t])
        self.statistics.update(torch.stack(returns).flatten())
        return scaled
