"""QR-DQN: the network predicts quantiles of the return, learned by quantile regression.

Dabney et al. 2018, "Distributional reinforcement learning with quantile regression" (200 quantiles, kappa 1).

    python -m agents.rainbow --only qr_dqn --env Breakout

The training loop is loop.py, with this component only.
"""

import torch
from torch import Tensor


def midpoints(count: int, device: torch.device) -> Tensor:
    """The fractions whose quantiles are learned, (2 i + 1) / (2 N), (1, N). Dabney 2018, lemma 2."""
    return (torch.arange(count, device=device) + 0.5)[None] / count


def quantile_huber(quantiles: Tensor, fractions: Tensor, target: Tensor, kappa: float = 1.0) -> Tensor:
    """Sum over quantiles of the mean over targets of |fraction - 1{u < 0}| L_kappa(u) / kappa, u = target - quantile.

    Dabney 2018, equation 10; also Dabney et al. 2018 (IQN), equation 3.

    Args:
        quantiles: (B, N), predicted. fractions: (B or 1, N), which quantiles those are. target: (B, M), samples.

    Returns:
        (B,).
    """
    u = target[:, None, :] - quantiles[:, :, None]  # (B, N, M)
    huber = torch.where(u.abs() <= kappa, 0.5 * u.square(), kappa * (u.abs() - 0.5 * kappa))
    weight = (fractions[:, :, None] - (u < 0).to(u.dtype)).abs()
    return (weight * huber / kappa).mean(2).sum(1)
