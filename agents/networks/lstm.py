"""LSTM of recurrent agents: R2D2, and the policy gradients with --lstm-units."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F


class RecurrentState:
    """Recurrent state of the agent between steps, part of a run's checkpoints.

    state: (N, S) float32, 0 at an episode's start.
    """

    def __init__(self, state: Tensor) -> None:
        self.state = state

    def state_dict(self) -> dict[str, Tensor]:
        """The state (N, S)."""
        return {"state": self.state}

    def load_state_dict(self, saved: dict[str, Tensor]) -> None:
        """Restore what `state_dict` returned, on the device of the present state."""
        self.state = saved["state"].to(self.state.device)

    def truncate_episodes(self, worlds: Tensor) -> None:
        """Reset the state of the worlds in (N,) bool: a resumed run begins other games there."""
        self.state = self.state * ~worlds.to(self.state.device).unsqueeze(1)


class SequenceLSTM(nn.LSTMCell):
    """LSTM over sequences that span episodes: its state is reset at each episode's first step."""

    def initial_state(self, count: int) -> Tensor:
        """(N, 2 U) zeros: hidden and cell at the start of an episode."""
        return self.weight_hh.new_zeros(count, 2 * self.hidden_size)

    def unroll(self, inputs: Tensor, is_first: Tensor, hidden: Tensor, cell: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Outputs (B, L, U), and hidden and cell state (B, U) after the last step.

        inputs: (B, L, I). is_first: (B, L) bool, the step is an episode's first: the state is 0 there. hidden, cell:
        (B, U), before the first step.
        """
        incoming = F.linear(inputs, self.weight_ih, self.bias_ih + self.bias_hh)
        kept, outputs = (~is_first).to(cell.dtype).unsqueeze(2), []
        for t in range(inputs.shape[1]):
            recurrent = F.linear(hidden * kept[:, t], self.weight_hh)
            input_gate, forget_gate, candidate, output_gate = (incoming[:, t] + recurrent).float().chunk(4, 1)
            cell = forget_gate.sigmoid() * (cell * kept[:, t]) + input_gate.sigmoid() * candidate.tanh()
            hidden = output_gate.sigmoid() * cell.tanh()
            outputs.append(hidden)
        return torch.stack(outputs, 1), hidden, cell


def build_lstm(inputs: int, lstm_units: int) -> SequenceLSTM:
    """An LSTM with orthogonal initialization and zero biases, as by Huang et al. 2022."""
    result = SequenceLSTM(inputs, lstm_units)
    nn.init.orthogonal_(result.weight_ih), nn.init.orthogonal_(result.weight_hh)
    nn.init.zeros_(result.bias_ih), nn.init.zeros_(result.bias_hh)
    return result
