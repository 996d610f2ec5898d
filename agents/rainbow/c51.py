"""C51: the network predicts the distribution of the return over 51 fixed atoms, not only its mean.

Bellemare et al. 2017, "A distributional perspective on reinforcement learning".

    python -m agents.rainbow --only c51 --env Breakout --v-min -10 --v-max 10

The training loop is loop.py, with this component only.
"""

import torch
from torch import Tensor


def support(v_min: float, v_max: float, atoms: int, device: torch.device) -> Tensor:
    """The returns that can be predicted, z (Z,), evenly spaced."""
    return torch.linspace(v_min, v_max, atoms, device=device)


def project(probability: Tensor, reward: Tensor, discount: Tensor, z: Tensor) -> Tensor:
    """The distribution of r + discount * Z, projected onto the atoms z. Bellemare 2017, algorithm 1.

    Each shifted atom's probability is split between its two neighbors in proportion to their nearness.

    Args:
        probability: (B, Z), of the atoms. reward, discount: (B,). z: (Z,), evenly spaced.

    Returns:
        (B, Z).
    """
    width = z[1] - z[0]
    moved = (reward[:, None] + discount[:, None] * z).clamp(z[0], z[-1])  # (B, Z)
    place = ((moved - z[0]) / width).clamp(0, len(z) - 1)  # in atoms
    below = place.floor()
    upper = place - below  # share of the atom above
    below = below.long()
    above = (below + 1).clamp(max=len(z) - 1)  # past the last one only with a share of 0
    result = torch.zeros_like(probability)
    result.scatter_add_(1, below, probability * (1 - upper))
    result.scatter_add_(1, above, probability * upper)
    return result


def cross_entropy(logits: Tensor, target: Tensor) -> Tensor:
    """-sum of target log p, (B,), for logits and target (B, Z). Bellemare 2017, equation 7."""
    return -(target * logits.log_softmax(1)).sum(1)
