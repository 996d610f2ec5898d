"""Mixtures of normal distributions in the plane, as mode collapse is measured on: a ring of 8 and a grid of 25.

Numbers as in PacGAN (Lin et al. 2018, arXiv 1712.04086, section 4.1), after VEEGAN (Srivastava et al. 2017, arXiv
1705.07761): 2,500 samples are generated; one is of high quality where it is at most three deviations from the nearest
mean; a mode is covered by one or more such samples. These numbers, the means and the deviations were written from
memory, and not compared with the papers' text.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import torch
from torch import Tensor

SAMPLES = 2_500  # that modes are counted in
WITHIN = 3.0  # deviations from a mean


class Mixture(NamedTuple):
    """Normal distributions of equal weight around some means, of one deviation in both directions."""

    means: Tensor  # (K, 2)
    deviation: float

    @property
    def reach(self) -> float:
        """Half the side of a square around 0 with a margin of a fifth around the means."""
        return 1.2 * self.means.abs().max().item()

    def sample(self, count: int, generator: torch.Generator | None = None) -> Tensor:
        """Points (count, 2) float32, on the device of the means, where the generator has to be too."""
        place = self.means.device
        rows = torch.randint(len(self.means), (count,), generator=generator, device=place)
        return self.means[rows] + self.deviation * torch.randn(count, 2, generator=generator, device=place)

    def log_prob(self, points: Tensor) -> Tensor:
        """Log-density (N,) in nats of points (N, 2)."""
        squared = torch.cdist(points, self.means.to(points)).square() / self.deviation**2
        constant = math.log(len(self.means)) + math.log(2 * math.pi * self.deviation**2)
        return (-squared / 2).logsumexp(1) - constant


def ring(count: int = 8, radius: float = 1.0, deviation: float = 0.01) -> Mixture:
    """`count` normal distributions on a circle."""
    angles = 2 * math.pi * torch.arange(count) / count
    return Mixture(radius * torch.stack([angles.cos(), angles.sin()], 1), deviation)


def grid(side: int = 5, spacing: float = 2.0, deviation: float = 0.05) -> Mixture:
    """`side` squared normal distributions on a square grid around 0."""
    places = spacing * (torch.arange(side) - (side - 1) / 2)
    return Mixture(torch.cartesian_prod(places, places), deviation)


MIXTURES = {"ring": ring, "grid": grid}


class Coverage(NamedTuple):
    """How well generated points cover a mixture."""

    modes: int  # with one or more samples of high quality
    high_quality: float  # percentage of samples within three deviations of a mean
    kl: float  # nats, of the samples' share of each mode to equal shares; samples of high quality alone


def coverage(points: Tensor, mixture: Mixture) -> Coverage:
    """Modes covered, share of high quality, and KL divergence of points (N, 2).

    Without any sample of high quality no mode is covered, and the divergence is that of a single mode, log K.
    """
    distance, mode = torch.cdist(points.cpu().double(), mixture.means.double()).min(1)
    near = distance <= WITHIN * mixture.deviation
    counts = torch.bincount(mode[near], minlength=len(mixture.means))
    share = counts.double() / counts.sum().clamp(min=1)
    kl = torch.special.xlogy(share, share * len(counts)).sum().item() if near.any() else math.log(len(counts))
    return Coverage(int((counts > 0).sum()), 100 * near.double().mean().item(), kl)
