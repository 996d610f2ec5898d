"""Recurrent cells, written out: vanilla RNN, LSTM and GRU.

    cell = CELLS["lstm"](inputs=32, hidden=64)
    state = cell.initial_state(batch)
    state = cell.step(cell.project(x), state)                # x (B, 32); state[0] (B, 64) is the output

Weights have torch's names and order of gates, so that a state_dict of nn.RNNCell, nn.LSTMCell or nn.GRUCell loads.
RNN: Elman 1990. LSTM: Hochreiter & Schmidhuber 1997, with the forget gate of Gers et al. 2000. GRU: Cho et al. 2014,
arXiv 1406.1078, with the reset gate after the product with the hidden state, as torch and cuDNN have it.
"""

from __future__ import annotations

import math
from typing import ClassVar

import torch
from torch import Tensor, nn
from torch.nn import functional as F

State = tuple[Tensor, ...]  # (B, H) each; the first is the cell's output


def rnn(projected: Tensor, hidden: Tensor, recurrent: Tensor) -> Tensor:
    """Vanilla RNN: h_t = tanh(W x_t + U h_{t-1} + b), (B, H).

    projected: W x_t with its bias (B, H); recurrent: U h_{t-1} with its bias (B, H).
    """
    return torch.tanh(projected + recurrent)


def lstm(projected: Tensor, cell: Tensor, recurrent: Tensor) -> State:
    """LSTM: hidden and cell state (B, H) after a step.

    i, f, o = sigmoid(W x_t + U h_{t-1} + b), g = tanh(the same); c_t = f * c_{t-1} + i * g; h_t = o * tanh(c_t).
    projected, recurrent: W x_t and U h_{t-1} with their biases (B, 4 H), in the order i, f, g, o. cell: c_{t-1}
    (B, H).
    """
    input_gate, forget_gate, candidate, output_gate = (projected + recurrent).chunk(4, 1)
    cell = forget_gate.sigmoid() * cell + input_gate.sigmoid() * candidate.tanh()
    return output_gate.sigmoid() * cell.tanh(), cell


def gru(projected: Tensor, hidden: Tensor, recurrent: Tensor) -> Tensor:
    """GRU: the hidden state (B, H) after a step.

    r, z = sigmoid(W x_t + U h_{t-1} + b); n = tanh(W_n x_t + b_n + r * (U_n h_{t-1} + c_n));
    h_t = (1 - z) * n + z * h_{t-1}. projected, recurrent: (B, 3 H), in the order r, z, n. hidden: h_{t-1} (B, H).
    """
    size = hidden.shape[1]
    gates = (projected[:, : 2 * size] + recurrent[:, : 2 * size]).sigmoid()
    reset, update = gates.chunk(2, 1)
    candidate = torch.tanh(projected[:, 2 * size :] + reset * recurrent[:, 2 * size :])
    return candidate + update * (hidden - candidate)


class Cell(nn.Module):
    """Base class of recurrent cells: weights of `GATES` products with inputs and with the hidden state.

    forward(x (B, I), state) gives the state after a step. `project` is separate, because the products of all steps
    with the inputs can be calculated at once. Initial weights are uniform within 1 / sqrt(H), as torch has them.
    """

    GATES: ClassVar[int] = 1
    STATES: ClassVar[int] = 1  # tensors of the state

    def __init__(self, inputs: int, hidden: int) -> None:
        super().__init__()
        self.inputs, self.hidden = inputs, hidden
        rows, bound = self.GATES * hidden, 1 / math.sqrt(hidden)
        for name, shape in {"weight_ih": (rows, inputs), "weight_hh": (rows, hidden)}.items():
            self.register_parameter(name, nn.Parameter(torch.empty(shape).uniform_(-bound, bound)))
        for name in ("bias_ih", "bias_hh"):
            self.register_parameter(name, nn.Parameter(torch.empty(rows).uniform_(-bound, bound)))

    def initial_state(self, batch: int) -> State:
        """Zeros (batch, H)."""
        return tuple(self.weight_hh.new_zeros(batch, self.hidden) for _ in range(self.STATES))

    def project(self, x: Tensor) -> Tensor:
        """Products with the inputs (..., GATES * H), of inputs (..., I)."""
        return F.linear(x, self.weight_ih, self.bias_ih)

    def step(self, projected: Tensor, state: State) -> State:
        """The state after a step, of projected inputs (B, GATES * H)."""
        raise NotImplementedError

    def forward(self, x: Tensor, state: State) -> State:
        return self.step(self.project(x), state)


class RNNCell(Cell):
    """Vanilla RNN, see `rnn`."""

    def step(self, projected: Tensor, state: State) -> State:
        return (rnn(projected, state[0], F.linear(state[0], self.weight_hh, self.bias_hh)),)


class LSTMCell(Cell):
    """LSTM, see `lstm`. The forget gate's bias begins at 1 in total (Jozefowicz et al. 2015), unlike torch's."""

    GATES, STATES = 4, 2

    def __init__(self, inputs: int, hidden: int) -> None:
        super().__init__(inputs, hidden)
        with torch.no_grad():
            self.bias_ih[hidden : 2 * hidden] = 1.0
            self.bias_hh[hidden : 2 * hidden] = 0.0

    def step(self, projected: Tensor, state: State) -> State:
        return lstm(projected, state[1], F.linear(state[0], self.weight_hh, self.bias_hh))


class GRUCell(Cell):
    """GRU, see `gru`."""

    GATES = 3

    def step(self, projected: Tensor, state: State) -> State:
        return (gru(projected, state[0], F.linear(state[0], self.weight_hh, self.bias_hh)),)


CELLS: dict[str, type[Cell]] = {"rnn": RNNCell, "lstm": LSTMCell, "gru": GRUCell}
