"""IQN: the network's input includes a fraction tau, and it predicts that quantile of the return.

Dabney et al. 2018, "Implicit quantile networks for distributional reinforcement learning".

    python -m agents.rainbow --only iqn --env Breakout

The training loop is loop.py, with this component only; its loss is qr_dqn.py's quantile_huber. As in the
paper, 32 fractions of their own choose an action, in a target too (drawn; in evaluation evenly spaced), and there are
64 cosines. Deviation: 8 fractions a transition in learning instead of 64, each of which costs a pass through the
dense layers (--fractions 64 has them).
"""

import math

import torch
from torch import Tensor, nn


class FractionEmbedding(nn.Module):
    """phi(tau) = ReLU(sum of cos(pi i tau) w_i + b), equation 4: fractions (B, K) -> (B, K, features)."""

    def __init__(self, features: int, cosines: int = 64) -> None:
        super().__init__()
        self.register_buffer("frequency", math.pi * torch.arange(cosines), persistent=False)
        self.dense = nn.Linear(cosines, features)
        nn.init.kaiming_normal_(self.dense.weight, nonlinearity="relu")  # PyTorch's own would shrink the features
        nn.init.zeros_(self.dense.bias)
        self.relu = nn.ReLU()

    def forward(self, fractions: Tensor) -> Tensor:
        return self.relu(self.dense((fractions[..., None] * self.frequency).cos()))
