"""Recurrent network of several layers, unrolled over time, with full or truncated back-propagation through time."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from vision.sequences.cells import CELLS, State

States = list[State]  # one a layer


class Recurrent(nn.Module):
    """Layers of one kind of cell: forward(inputs (B, T, I), states) gives outputs (B, T, H) and the last states.

    dropout: probability, of the outputs of each layer but not along time (Zaremba et al. 2014, arXiv 1409.2329).
    truncate: steps that gradients go back at most; 0: to the first. Every `truncate` steps the states are cut out of
    the graph, so that memory and gradients end there (Williams & Peng 1990), while the values are carried on.
    """

    def __init__(
        self, cell: str, inputs: int, hidden: int, layers: int = 1, dropout: float = 0.0, truncate: int = 0
    ) -> None:
        super().__init__()
        sizes = [inputs] + [hidden] * (layers - 1)
        self.cells = nn.ModuleList(CELLS[cell](size, hidden) for size in sizes)
        self.dropout, self.hidden, self.truncate = nn.Dropout(dropout), hidden, truncate

    def initial_states(self, batch: int) -> States:
        """Zeros for each layer."""
        return [cell.initial_state(batch) for cell in self.cells]

    def step(self, x: Tensor, states: States) -> tuple[Tensor, States]:
        """The output (B, H) and the states after one step, of an input (B, I)."""
        found = []
        for cell, state in zip(self.cells, states, strict=True):
            state = cell(x, state)
            found.append(state)
            x = self.dropout(state[0])
        return x, found

    def forward(self, inputs: Tensor, states: States | None = None) -> tuple[Tensor, States]:
        states = self.initial_states(len(inputs)) if states is None else states
        found, steps = [], inputs.shape[1]
        for cell, state in zip(self.cells, states, strict=True):
            outputs = []
            for number, projected in enumerate(cell.project(inputs).unbind(1)):
                if self.truncate and number and number % self.truncate == 0:
                    state = detach([state])[0]
                state = cell.step(projected, state)
                outputs.append(state[0])
            inputs = self.dropout(torch.stack(outputs, 1)) if steps else inputs.new_zeros(len(inputs), 0, self.hidden)
            found.append(state)
        return inputs, found


def detach(states: Sequence[State]) -> States:
    """The states with their values, cut out of the graph of gradients."""
    return [tuple(each.detach() for each in state) for state in states]
