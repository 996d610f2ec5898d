"""Munchausen DQN: the scaled log-policy of the action taken is added to its reward.

Vieillard et al. 2020, "Munchausen reinforcement learning" (alpha 0.9, tau 0.03, l_0 -1).

    python -m agents.rainbow --only munchausen --env Breakout

The training loop is loop.py, with this component only; `--distribution iqn` makes it M-IQN. With n steps, the
first one only gets the bonus (as in Clark et al. 2024, "Beyond The Rainbow").
"""

from torch import Tensor


def bonus(values: Tensor, action: Tensor, tau: float, low: float) -> Tensor:
    """[tau log pi(a|s)] clipped to [low, 0], with pi = softmax(values / tau). Vieillard 2020, equation 1.

    Args:
        values: (B, A), the target network's at s. action: (B,), taken there.

    Returns:
        (B,).
    """
    log_policy = tau * (values / tau).log_softmax(1)
    return log_policy.gather(1, action[:, None]).squeeze(1).clamp(low, 0)


def soft_target(atoms: Tensor, values: Tensor, tau: float) -> Tensor:
    """Sum over a' of pi(a'|s') (z_j(s', a') - tau log pi(a'|s')), with pi = softmax(values / tau).

    Vieillard 2020, equation 1 (one atom, the value itself) and appendix B.1 (M-IQN: quantile by quantile).

    Args:
        atoms: (B, A, Z). values: (B, A), their means.

    Returns:
        (B, Z).
    """
    log_policy = tau * (values / tau).log_softmax(1)
    policy = (values / tau).softmax(1)
    return (policy[:, :, None] * (atoms - log_policy[:, :, None])).sum(1)
