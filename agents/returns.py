"""Returns and advantages: discounted reward-to-go and generalized advantage estimation."""

from __future__ import annotations

import torch
from torch import Tensor


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
