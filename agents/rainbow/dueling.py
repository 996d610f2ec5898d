"""Dueling networks: state values and advantages of actions are predicted by two streams.

Wang et al. 2016, "Dueling network architectures for deep reinforcement learning".

    python -m agents.rainbow --only dueling --env Breakout

The training loop is loop.py, with this component only. Deviation from the paper: gradients are not scaled by
1 / sqrt(2) where the streams meet, and not clipped to norm 10.
"""

from torch import Tensor


def combine(value: Tensor, advantage: Tensor) -> Tensor:
    """Q(s, a) = V(s) + A(s, a) - mean over a' of A(s, a'). Wang 2016, equation 9.

    Args:
        value: (B, 1, Z).
        advantage: (B, A, Z), for Z numbers an action (1, or a distribution's).

    Returns:
        (B, A, Z).
    """
    return value + advantage - advantage.mean(1, keepdim=True)
