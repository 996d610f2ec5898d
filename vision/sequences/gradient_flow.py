"""Exploding and vanishing gradients as a picture: the gradient of a loss at the end, by steps before it.

    python -m vision.sequences.gradient_flow --out gradients.png

A vanilla RNN multiplies the gradient by its recurrent matrix and tanh's slope once a step. Below a largest singular
value of 1 it vanishes; above it explodes, as far as tanh does not saturate, and what is left is clipped (Bengio et
al. 1994; Pascanu et al. 2012, arXiv 1211.5063). The cell state of an LSTM passes gradients on by sums and forget
gates (Hochreiter & Schmidhuber 1997), a GRU by its update gate.
"""

from __future__ import annotations

import dataclasses
from pathlib import Path

import torch
from torch import Tensor, nn

import runs
from runs import output
from runs.flag_types import Count, NonNegative, Positive
from vision.sequences.cells import CELLS, Cell


@dataclasses.dataclass(frozen=True)
class Config:
    out: Path = Path("gradients.png")  # where the picture goes
    length: Count = 100  # steps
    hidden: Count = 64
    inputs: NonNegative = 0.1  # standard deviation of the inputs
    gains: tuple[float, ...] = (0.8, 1.0, 2.0)  # singular values of the vanilla RNN's recurrent matrix, all equal
    clip: Positive = 1.0  # norm of the clipped gradient of the weights, in the second panel
    seed: int = 1


def make(kind: str, config: Config, gain: float = 1.0, forget: float | None = None) -> Cell:
    """A cell whose recurrent matrices are orthogonal times `gain`. forget: bias of an LSTM's forget gate."""
    torch.manual_seed(config.seed)
    cell = CELLS[kind](config.hidden, config.hidden)
    with torch.no_grad():
        for part in cell.weight_hh.split(config.hidden):
            nn.init.orthogonal_(part, gain)
        cell.bias_hh.zero_()
        cell.bias_ih.zero_()
        if forget is not None:
            cell.bias_ih[config.hidden : 2 * config.hidden] = forget
    return cell


def flow(cell: Cell, inputs: Tensor, direction: Tensor) -> Tensor:
    """Norms (T,) of the gradient of direction . h_T with respect to the whole state 0, 1, ... steps before the end.

    inputs: (T, I). direction: (H,).
    """
    state = tuple(each.requires_grad_() for each in cell.initial_state(1))
    states = []
    for projected in cell.project(inputs[:, None]):
        state = cell.step(projected, state)
        states.append(state)
    loss = (state[0][0] * direction).sum()
    flat = [each for state in states for each in state]
    gradients = torch.autograd.grad(loss, flat, retain_graph=True, allow_unused=True)
    squares = [0.0 if gradient is None else gradient.square().sum() for gradient in gradients]
    norms = torch.tensor(squares).view(len(states), -1).sum(1).sqrt()
    return norms.flip(0)


def weight_norms(cell: Cell, inputs: Tensor, direction: Tensor) -> Tensor:
    """Norms (T,) of the gradient of direction . h_t with respect to the recurrent matrix, at t = 1, ..., T; the first
    is 0, because the state before it is.

    inputs: (T, I). direction: (H,).
    """
    state, found = cell.initial_state(1), []
    for projected in cell.project(inputs[:, None]):
        state = cell.step(projected, state)
        (gradient,) = torch.autograd.grad((state[0][0] * direction).sum(), cell.weight_hh, retain_graph=True)
        found.append(gradient.norm())
    return torch.stack(found)


def cells(config: Config) -> dict[str, Cell]:
    """The cells of the picture by their names."""
    found = {f"RNN, singular values {gain:g}": make("rnn", config, gain) for gain in config.gains}
    found |= {"LSTM, forget bias 0": make("lstm", config), "LSTM, forget bias 1": make("lstm", config, forget=1.0)}
    return found | {"LSTM, forget bias 3": make("lstm", config, forget=3.0), "GRU": make("gru", config)}


def draw(config: Config) -> dict[str, Tensor]:
    """Write the picture. Returns the norms (T,) of its first panel, 0, 1, ... steps before the end, by cells."""
    from matplotlib.figure import Figure

    generator = torch.Generator().manual_seed(config.seed)
    inputs = config.inputs * torch.randn(config.length, config.hidden, generator=generator)
    direction = torch.randn(config.hidden, generator=generator)
    direction /= direction.norm()
    figure = Figure(figsize=(13, 4.5), layout="constrained")
    left, right = figure.subplots(1, 2)
    found = {}
    for name, cell in cells(config).items():
        found[name] = flow(cell, inputs, direction)
        left.semilogy(found[name].clamp(min=1e-30), label=name)
        norms, steps = weight_norms(cell, inputs, direction)[1:], range(2, config.length + 1)
        (line,) = right.semilogy(steps, norms)
        if (norms > config.clip).any():
            right.semilogy(steps, norms.clamp(max=config.clip), "--", color=line.get_color())
    left.set_xlabel("steps before the end")
    left.set_ylabel("norm of the gradient of the state")
    left.legend(fontsize=8)
    right.set_xlabel("length of the sequence")
    right.set_ylabel(f"norm of the gradient of the weights\n(dashed: clipped at {config.clip:g})")
    output.draw(config.out, figure, "--out", dpi=100)
    return found


def main(config: Config) -> None:
    for name, norms in draw(config).items():
        shown = range(0, config.length, max(1, config.length // 5))
        print(f"{name:28}" + "  ".join(f"{step}: {norms[step]:.1e}" for step in shown))
    print(f"written to {config.out}")


if __name__ == "__main__":
    runs.launch(main, Config, None, "vision.sequences.gradient_flow", __doc__)
