"""Linear models on points of the plane: decision lines of classifiers, and regressions with outliers.

    python -m vision.classification.linear                       # linear.png
    python -m vision.classification.linear --l2 0.1 --margin 2

Four data sets: two clouds that a line separates, two that overlap, XOR, and a line of numbers with outliers. The
perceptron (Rosenblatt 1958) converges on the first after fewer mistakes than its bound, (R / gamma)^2 of Novikoff
1962; on XOR it does not converge, because every line misclassifies at least one point in four (Minsky & Papert 1969).
Adaline, logistic regression and the SVMs minimize a loss, which has a minimum on all of them. In regression the
absolute error and Huber's loss are less sensitive to outliers than the squared error.

The same models are trained on images by vision.classification.classical.
"""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import NamedTuple

import torch
from rich.console import Console
from rich.table import Table
from torch import Tensor

import runs
from runs import output
from runs.flag_types import Count, NonNegative, Positive
from vision.classification import linear

CLASSIFIERS = ("logistic", "one_vs_all_hinge", "one_vs_all_squared_hinge")
REGRESSIONS = ("squared", "absolute", "huber")


@dataclasses.dataclass(frozen=True)
class Config:
    points: Count = 80  # of each data set
    epochs: Count = 50  # of perceptron and Adaline
    l1: NonNegative = 0.0  # penalty of the others: this times the sum of |w|
    l2: NonNegative = 1e-3  # and half of this times the sum of w^2
    margin: Positive = 1.0  # of the SVMs
    delta: Positive = 1.0  # of Huber's error
    seed: int = 1  # of the points
    out: Path = Path("linear.png")  # the picture


class Points(NamedTuple):
    """Points of the plane in two classes."""

    inputs: Tensor  # (N, 2) float64
    signs: Tensor  # (N,) of -1 and 1


def clouds(count: int, distance: float, seed: int) -> Points:
    """Two normal clouds of deviation 0.5 whose centers are so far from each other."""
    generator = torch.Generator().manual_seed(seed)
    signs = torch.ones(count, dtype=torch.float64)
    signs[count // 2 :] = -1
    noise = torch.randn(count, 2, generator=generator, dtype=torch.float64) / 2
    signs = signs[torch.randperm(count, generator=generator)]
    return Points(noise + signs[:, None] * distance / 8**0.5, signs)


def xor(count: int, seed: int) -> Points:
    """The four points of XOR, each with a little noise around it: the class is the sign of the product."""
    generator = torch.Generator().manual_seed(seed)
    corners = torch.tensor([[1, 1], [-1, 1], [-1, -1], [1, -1]], dtype=torch.float64)
    inputs = corners.repeat(-(-count // 4), 1)[:count]
    signs = inputs.prod(1)
    return Points(inputs + torch.randn(count, 2, generator=generator, dtype=torch.float64) / 8, signs)


def line_with_outliers(count: int, seed: int) -> tuple[Tensor, Tensor]:
    """Inputs (N, 1) and targets (N, 1) on y = x / 2 + 1 with noise of 0.2, a tenth of them far below."""
    generator = torch.Generator().manual_seed(seed)
    x = 6 * torch.rand(count, 1, generator=generator, dtype=torch.float64) - 3
    y = x / 2 + 1 + torch.randn(count, 1, generator=generator, dtype=torch.float64) / 5
    y[torch.argsort(x[:, 0])[-max(1, count // 10) :]] -= 6
    return x, y


def right(points: Points, weight: Tensor, bias: float) -> float:
    """Percent of points on the right side of the line of weight (2,) and bias."""
    return 100 * ((points.signs * (points.inputs @ weight + bias)) > 0).double().mean().item()


def separate(config: Config, points: Points, words: dict[str, str]) -> dict[str, tuple[Tensor, float]]:
    """The lines (weight, bias) of all classifiers; `words` gets a remark on each."""
    walked = linear.perceptron(*points, config.epochs)
    trained = linear.adaline(*points, config.epochs)
    lines = {"perceptron": (walked.weight, walked.bias), "adaline": (trained.weight, trained.bias)}
    shares = (points.signs[:, None] + 1) / 2
    for loss in CLASSIFIERS:
        objective = linear.Objective(loss, config.l1, config.l2, config.margin)
        model = linear.solve(objective, points.inputs, shares)
        lines[loss] = (model.weight[0], model.bias.item())
        words[loss] = f"objective {model.objective:.4f}"
    mistakes, separator = int(sum(walked.history)), linear.Objective("one_vs_all_squared_hinge", l2=1e-6)
    widest = linear.solve(separator, points.inputs, shares)  # nearly the largest margin
    bound = linear.convergence_bound(*points, widest.weight[0], widest.bias.item())
    converged = not walked.history[-1]
    ended = f"converged in epoch {len(walked.history)}" if converged else "not converged"
    words["perceptron"] = f"{mistakes} mistakes, {ended}; bound {bound:.0f}"
    words["adaline"] = f"mean squared error {trained.history[-1]:.4f}"
    return lines


def draw(config: Config) -> Table:
    """Write the picture. Returns the table of its figures."""
    from matplotlib import colormaps
    from matplotlib.figure import Figure

    sets = {
        "separable": clouds(config.points, 4.0, config.seed),
        "overlapping": clouds(config.points, 1.5, config.seed),
        "XOR": xor(config.points, config.seed),
    }
    table = Table("data", "model", "right", "")
    figure = Figure(figsize=(17, 4.4), layout="constrained")
    panels = figure.subplots(1, 4)
    for (name, points), panel in zip(sets.items(), panels[:3], strict=True):
        words: dict[str, str] = {}
        for number, (model, (weight, bias)) in enumerate(separate(config, points, words).items()):
            accuracy = right(points, weight, bias)
            table.add_row(name, model.replace("_", " "), f"{accuracy:.1f}%", words[model])
            _line(panel, weight, bias, color=colormaps["tab10"](number), label=model.replace("_", " "))
        for sign, marker in ((1, "+"), (-1, "o")):
            some = points.inputs[points.signs == sign]
            panel.scatter(
                *some.T.numpy(), marker=marker, s=22, color="0.25", facecolors="0.25" if sign > 0 else "none"
            )
        panel.set(xlim=(-3, 3), ylim=(-3, 3), title=name, aspect="equal")
    panels[0].legend(fontsize=7, loc="upper left")
    inputs, targets = line_with_outliers(config.points, config.seed)
    panels[3].scatter(inputs[:, 0], targets[:, 0], s=14, color="0.25")
    ends = torch.tensor([[-3.0], [3.0]], dtype=torch.float64)
    for number, loss in enumerate(REGRESSIONS):
        objective = linear.Objective(loss, config.l1, config.l2, delta=config.delta)
        model = linear.solve(objective, inputs, targets)
        slope = f"y = {model.weight.item():.2f} x {model.bias.item():+.2f}"
        table.add_row("outliers", loss, "", f"{slope}, objective {model.objective:.4f}")
        panels[3].plot(
            ends[:, 0], model.scores(ends)[:, 0], color=colormaps["tab10"](number), label=f"{loss}: {slope}"
        )
    panels[3].set(title="a line and outliers, y = 0.50 x +1.00")
    panels[3].legend(fontsize=7)
    output.draw(config.out, figure, "--out", dpi=110)
    return table


def _line(panel, weight: Tensor, bias: float, **how) -> None:
    """Draw the line w x + b = 0, unless w is 0."""
    length = weight.norm()
    if length > 1e-9:
        along = torch.stack([-weight[1], weight[0]]) / length
        foot = -bias * weight / length**2
        panel.plot(*torch.stack([foot - 20 * along, foot + 20 * along]).T.numpy(), linewidth=1.3, **how)
    else:
        panel.plot([], [], **how)


def main(config: Config) -> None:
    Console().print(draw(config))
    print(f"written to {config.out}")


if __name__ == "__main__":
    runs.launch(main, Config, None, "vision.classification.linear", __doc__)
