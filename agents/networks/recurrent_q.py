"""The recurrent Q-network of R2D2: a backbone, an LSTM and dueling streams. Kapturowski et al. 2019, section 2.3."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from agents.networks.layers import dense, stream
from agents.networks.lstm import SequenceLSTM
from agents.rainbow.dueling import combine
from vision import backbones


class R2D2Network(nn.Module):
    """Recurrent Q-network: observations, and the action and reward before each -> value of each action, float32."""

    def __init__(self, backbone: backbones.Backbone, shape: tuple[int, ...], actions: int, config: Any):
        super().__init__()
        self.backbone, self.actions, self.lstm_units = backbone, actions, config.lstm_units
        features, hidden, norm = backbone.output_size(shape), config.hidden, config.norm
        self.hidden = dense(features, hidden, norm)
        self.recurrent = SequenceLSTM((hidden or features) + actions + 1, config.lstm_units)
        self.value = stream(nn.Linear, config.lstm_units, hidden, 1, norm)
        self.advantage = stream(nn.Linear, config.lstm_units, hidden, actions, norm)

    def initial_state(self, count: int) -> Tensor:
        """(N, S) zeros: the state at the start of an episode."""
        return F.pad(self.recurrent.initial_state(count), (0, self.actions + 1))

    def encode(self, observation: Tensor) -> Tensor:
        """(B, L, C, H, W) uint8 or (B, L, D) float -> features (B, L, F)."""
        coarsest = self.backbone(observation.flatten(0, 1))[-1]
        return self.hidden(coarsest.permute(0, 2, 3, 1).flatten(1)).unflatten(0, observation.shape[:2])

    def unroll(
        self, features: Tensor, previous_step: Tensor, is_first: Tensor, hidden: Tensor, cell: Tensor
    ) -> tuple[Tensor, Tensor, Tensor]:
        """The LSTM's outputs (B, L, U), and its hidden and cell (B, U) after the last step.

        features: (B, L, F). previous_step: (B, L, A + 1), the action (one-hot) and the reward before each step.
        is_first: (B, L) bool, the step is an episode's first: the state is 0 there. hidden, cell: (B, U), before the
        first step.
        """
        return self.recurrent.unroll(
            torch.cat([features, previous_step.to(features.dtype)], 2), is_first, hidden, cell
        )

    def values(self, output: Tensor) -> Tensor:
        """The LSTM's outputs (B, L, U) -> (B, L, A) float32."""
        with torch.autocast(output.device.type, enabled=False):
            flat = output.flatten(0, 1).float()
            q = combine(self.value(flat).unsqueeze(1), self.advantage(flat).unsqueeze(2)).squeeze(2)
        return q.unflatten(0, output.shape[:2])

    def forward(self, observation: Tensor, state: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """One step: observation (N, ...) and state (N, S) -> values (N, A), and hidden and cell (N, U) after it."""
        hidden, cell, previous_step = split_state(state, self.lstm_units)
        is_first = torch.zeros(len(state), 1, dtype=torch.bool, device=state.device)
        output, hidden, cell = self.unroll(
            self.encode(observation.unsqueeze(1)), previous_step.unsqueeze(1), is_first, hidden, cell
        )
        return self.values(output).squeeze(1), hidden, cell


def split_state(state: Tensor, lstm_units: int) -> tuple[Tensor, Tensor, Tensor]:
    """(..., S) -> hidden and cell (..., U), and the action one-hot and reward of the step before (..., A + 1)."""
    return state[..., :lstm_units], state[..., lstm_units : 2 * lstm_units], state[..., 2 * lstm_units :]
