"""What agents that remember share: an LSTM over sequences in which episodes begin anew, and the state between steps.

No program: agents/r2d2.py, and the policy gradients with --lstm-units.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F


class RecurrentState:
    """What the agent carries from one step of each world into the next, as a part of a run's checkpoints.

    state: (N, S) float32, 0 at an episode's start.
    """

    def __init__(self, state: Tensor) -> None:
        self.state = state

    def state_dict(self) -> dict[str, Tensor]:
        return {"state": self.state}

    def load_state_dict(self, saved: dict[str, Tensor]) -> None:
        self.state = saved["state"].to(self.state.device)

    def truncate_episodes(self, worlds: Tensor) -> None:
        """Forget the games of the worlds in (N,) bool: others begin in their place."""
        self.state = self.state * ~worlds.to(self.state.device).unsqueeze(1)


class SequenceLSTM(nn.LSTMCell):
    """An LSTM that lives sequences in which episodes begin anew."""

    def initial_state(self, count: int) -> Tensor:
        """(N, 2 U) zeros: hidden and cell at the start of an episode."""
        return self.weight_hh.new_zeros(count, 2 * self.hidden_size)

    def unroll(self, inputs: Tensor, is_first: Tensor, hidden: Tensor, cell: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Its outputs (B, L, U), and hidden and cell (B, U) after the last step.

        inputs: (B, L, I). fresh: (B, L) bool, the step is an episode's first: the state is 0 there. hidden, cell:
        (B, U), before the first step.
        """
        incoming = F.linear(inputs, self.weight_ih, self.bias_ih + self.bias_hh)
        kept, outputs = (~is_first).to(cell.dtype).unsqueeze(2), []
        for t in range(inputs.shape[1]):
            recurrent = F.linear(hidden * kept[:, t], self.weight_hh)
            inward, forget, candidate, environment_action = (incoming[:, t] + recurrent).float().chunk(4, 1)
            cell = forget.sigmoid() * (cell * kept[:, t]) + inward.sigmoid() * candidate.tanh()
            hidden = environment_action.sigmoid() * cell.tanh()
            outputs.append(hidden)
        return torch.stack(outputs, 1), hidden, cell


def build_lstm(inputs: int, lstm_units: int) -> SequenceLSTM:
    """An LSTM with orthogonal weights and no bias, as Huang et al. 2022 begin it."""
    result = SequenceLSTM(inputs, lstm_units)
    nn.init.orthogonal_(result.weight_ih), nn.init.orthogonal_(result.weight_hh)
    nn.init.zeros_(result.bias_ih), nn.init.zeros_(result.bias_hh)
    return result
