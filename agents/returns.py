"""Returns and advantages: discounted reward-to-go, generalized advantage estimation, n-step targets, rescaling."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F


def gae(
    reward: Tensor, discount: Tensor, value: Tensor, next_value: Tensor, last: Tensor, gae_lambda: float
) -> Tensor:
    """Generalized advantage estimation: A_t = delta_t + gamma_t lambda A_t+1, until the episode stops.

    delta_t = r_t + gamma_t V(s_t+1) - V(s_t). Schulman et al. 2016, "High-dimensional continuous control using
    generalized advantage estimation", equation 16.

    Args:
        reward, value: (T, N). last: (T, N) bool.
        discount: (T, N), gamma, and 0 where the world truly ended.
        next_value: (T, N), of the observation that each step led to; anything finite where discount is 0.
        gae_lambda: 0 trusts the value, 1 the rewards.

    Returns:
        (T, N).
    """
    assert reward.shape == discount.shape == value.shape == next_value.shape == last.shape and reward.dim() == 2
    delta = reward + discount * next_value - value
    kept = discount * gae_lambda * ~last
    return reward_to_go(delta, kept)


def reward_to_go(reward: Tensor, discount: Tensor, next_value: Tensor | float = 0.0) -> Tensor:
    """Discounted return G_t = r_t + gamma_t G_t+1, (T, N). next_value: (N,) or a number, the return after step T."""
    returns = torch.empty_like(reward)
    for t in reversed(range(len(reward))):
        returns[t] = next_value = reward[t] + discount[t] * next_value
    return returns


def n_step_targets(
    reward: Tensor, discount: Tensor, last: Tensor, next_value: Tensor, gamma: float, steps: int
) -> tuple[Tensor, Tensor]:
    """For each step of sequences: R + gamma^m V(where it led after m), m = `steps` or what is left.

    Kapturowski et al. 2019 (R2D2), equation 1.

    Args:
        reward, discount, last: (B, T), as in Transition.
        next_value: (B, T + 1), V of each step's observation and, at the end, of where the last step led.
        gamma: discount of the return, per step.

    Returns:
        The targets (B, T), and whether each of them is known (B, T) bool: not where a time limit lies within.
    """
    assert next_value.shape == (reward.shape[0], reward.shape[1] + 1) and reward.shape == last.shape == discount.shape
    length = reward.shape[1]
    total, factor = torch.zeros_like(reward), torch.ones_like(reward)
    going = torch.ones_like(last)
    known = torch.ones_like(last)
    where = torch.arange(length, device=reward.device).expand_as(reward).clone()
    for k in range(min(steps, length)):
        ahead = [F.pad(field[:, k:].float(), (0, k)) for field in (reward, discount, last)]
        counts = going & (torch.arange(length, device=reward.device) + k < length)
        total += factor * ahead[0] * counts
        factor = torch.where(counts, factor * gamma * ahead[1], factor)
        where += counts
        stops = counts & ahead[2].bool()
        known &= ~(stops & (ahead[1] > 0) & (where < length))
        going = counts & ~stops
    return total + factor * next_value.gather(1, where), known


def rescale(x: Tensor, slope: float = 1e-3) -> Tensor:
    """h(x) = sign(x) (sqrt(|x| + 1) - 1) + slope x. Pohlen et al. 2018, arXiv 1805.11593, proposition A.2.

    x: a tensor of any shape.
    """
    return x.sign() * ((x.abs() + 1).sqrt() - 1) + slope * x


def unscale(x: Tensor, slope: float = 1e-3) -> Tensor:
    """The inverse of rescale, of a tensor of any shape."""
    root = ((1 + 4 * slope * (x.abs() + 1 + slope)).sqrt() - 1) / (2 * slope)
    return x.sign() * (root.square() - 1)
