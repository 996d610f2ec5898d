"""n-step Q-learning: targets are n rewards and the value after them.

Sutton & Barto 2018, chapter 7; in the form of Hessel et al. 2018, "Rainbow", section "Multi-step learning". There is
no off-policy correction.

    python -m agents.rainbow --only n_step --env Breakout --n-step 3

The training loop is loop.py, with this component only.
"""

from torch import Tensor


def n_step_return(reward: Tensor, discount: Tensor, last: Tensor, gamma: float) -> tuple[Tensor, Tensor]:
    """R = sum of gamma^i r_i over the m steps that the episode still had, and what multiplies the value after them.

    Args:
        reward, discount, last: (B, n), consecutive steps of a Transition, as a memory's sample(steps=n) gives them:
            after the first `last` nothing counts any more.
        gamma: discount of the return, per step.

    Returns:
        R (B,) and gamma^m * (0 where the world ended within the m steps, else 1) (B,).
    """
    going = (~last[:, :-1]).to(reward.dtype).cumprod(1)  # (B, n - 1) whether step 1, 2, ... was still of the episode
    counts = reward.new_ones(reward.shape)
    counts[:, 1:] = going
    weight = gamma ** (counts.cumsum(1) - 1) * counts
    kept = discount.masked_fill(counts == 0, 1.0).prod(1)
    return (weight * reward).sum(1), gamma ** counts.sum(1) * kept
