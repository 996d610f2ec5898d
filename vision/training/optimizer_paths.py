"""Paths of every optimizer on a saddle, a ravine and Rosenbrock's valley, as a film and a picture.

    python -m vision.training.optimizer_paths                                       # paths.mp4 and paths.png
    python -m vision.training.optimizer_paths --surfaces rosenbrock --optimizers momentum adam bfgs newton

CS231n, lecture 7, after Alec Radford's films: plain SGD oscillates across a ravine and progresses slowly along it,
momentum and the adaptive methods are faster, and SGD escapes a saddle last. Second-order methods use the curvature:
plain Newton converges to a saddle, saddle-free Newton, which takes the absolute eigenvalues, escapes it (Dauphin et
al. 2014).

A frame is one evaluation of value and gradient, for every optimizer alike: where a line search needs three, its path
does not change for two frames. Learning rates (RATES) were chosen for each optimizer and surface to be fast without
divergence.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
import torch
from rich.console import Console
from rich.progress import track
from rich.table import Table
from torch import Tensor

import runs
from runs import output, suggestions
from runs.flag_types import Count
from vision.training import optimizers
from vision.training.second_order import BFGS, LBFGS, Newton, Point, minimize

if TYPE_CHECKING:
    from matplotlib.figure import Figure

LOWEST = 1e-12  # value that a picture shows


class Surface(NamedTuple):
    """A function of the plane to be minimized, where to start, and what a picture shows of it."""

    function: Callable[[Tensor], Tensor]  # (..., 2) float64 -> (...)
    start: tuple[float, float]
    across: tuple[float, float]
    down: tuple[float, float]
    least: float | None = None  # its minimum; None: it falls without end
    logarithmic: bool = False  # levels of its contours


def saddle(x: Tensor) -> Tensor:
    """x^2 - y^2, flat at its saddle (0, 0)."""
    return x[..., 0].square() - x[..., 1].square()


def ravine(x: Tensor) -> Tensor:
    """x^2 / 20 + 2 y^2 of points (..., 2): a condition number of 40, steep in one direction, shallow in the other."""
    return x[..., 0].square() / 20 + 2 * x[..., 1].square()


def rosenbrock(x: Tensor) -> Tensor:
    """(1 - x)^2 + 100 (y - x^2)^2, a bent valley (Rosenbrock 1960), its minimum 0 at (1, 1)."""
    return (1 - x[..., 0]).square() + 100 * (x[..., 1] - x[..., 0].square()).square()


SURFACES = {
    "saddle": Surface(saddle, (-1.6, 0.01), (-2.0, 2.0), (-2.0, 2.0)),
    "ravine": Surface(ravine, (-4.5, 1.0), (-5.0, 5.0), (-2.0, 2.0), 0.0),
    "rosenbrock": Surface(rosenbrock, (-1.2, 1.0), (-2.0, 2.0), (-1.0, 3.0), 0.0, logarithmic=True),
}
SECOND_ORDER: dict[str, Callable[[], BFGS | LBFGS | Newton]] = {
    "newton": lambda: Newton(saddle_free=False),
    "saddle_free_newton": Newton,
    "bfgs": BFGS,
    "lbfgs": LBFGS,
}
RATES: dict[str, dict[str, float]] = {  # learning rates of the first-order optimizers
    "saddle": dict(sgd=0.05, momentum=0.02, nesterov=0.02, adagrad=0.3, rmsprop=0.03, adam=0.1),
    "ravine": dict(sgd=0.45, momentum=0.1, nesterov=0.1, adagrad=1.0, rmsprop=0.1, adam=0.3),
    "rosenbrock": dict(sgd=1e-3, momentum=5e-4, nesterov=5e-4, adagrad=0.3, rmsprop=0.01, adam=0.1),
}
NAMES = (*RATES["saddle"], *SECOND_ORDER)
FIXED = {"newton"}  # steps of 1, without a line search, as in the textbook


@dataclasses.dataclass(frozen=True)
class Config:
    surfaces: tuple[str, ...] = ("saddle", "ravine")  # saddle, ravine, rosenbrock
    optimizers: tuple[str, ...] = NAMES
    evaluations: Count = 120  # of value and gradient, one a frame
    fps: Count = 12  # frames a second
    out: Path = Path("paths.mp4")  # the film; the picture of its end lies beside it as .png


def evaluated(function: Callable[[Tensor], Tensor], x: Tensor) -> tuple[float, Tensor]:
    """The value and the gradient (2,) at a point (2,)."""
    x = x.detach().requires_grad_()
    value = function(x)
    return value.item(), torch.autograd.grad(value, x)[0]


def path(surface: str, name: str, evaluations: int) -> Iterator[Point]:
    """The points of an optimizer on a surface, as long as it moves, has evaluations left, and, where the surface
    falls without end, is in the picture."""
    for point in _path(surface, name, evaluations):
        yield point
        if SURFACES[surface].least is None and abs(point.x[1].item()) > SURFACES[surface].down[1]:
            return


def _path(surface: str, name: str, evaluations: int) -> Iterator[Point]:
    function, start = SURFACES[surface].function, torch.tensor(SURFACES[surface].start, dtype=torch.float64)
    if name in SECOND_ORDER:
        found = minimize(
            lambda x: evaluated(function, x),
            start,
            SECOND_ORDER[name](),
            evaluations,
            hessian=(lambda x: torch.func.hessian(function)(x)) if "newton" in name else None,
            search=name not in FIXED,
        )
        for point in found:
            if point.evaluations > evaluations:
                return
            yield point
        return
    x = start.clone().requires_grad_()
    optimizer = optimizers.build(name, [{"params": [x], "weight_decay": 0.0}], RATES[surface][name])
    for count in range(1, evaluations + 1):
        value, x.grad = evaluated(function, x)
        yield Point(x.detach().clone(), value, x.grad.clone(), count)
        optimizer.step()


Paths = dict[tuple[str, str], list[Point]]  # by surface and optimizer


def prepare(config: Config, paths: Paths) -> tuple[Figure, Callable[[int], None]]:
    """The figure, surfaces above and values below, and a function that draws all paths up to an evaluation."""
    from matplotlib import colormaps
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    columns, updates = len(config.surfaces), []
    figure = Figure(figsize=(5.6 * columns, 8.0), dpi=80, layout="constrained")
    FigureCanvasAgg(figure)
    panels = figure.subplots(2, columns, squeeze=False, height_ratios=(3, 2))
    for column, name in enumerate(config.surfaces):
        surface, above, below = SURFACES[name], panels[0, column], panels[1, column]
        along = [torch.linspace(*span, 100, dtype=torch.float64) for span in (surface.across, surface.down)]
        heights = surface.function(torch.stack(torch.meshgrid(*along, indexing="xy"), -1)).numpy()
        levels = np.geomspace(0.1, heights.max(), 20) if surface.logarithmic else 25
        above.contour(*(axis.numpy() for axis in along), heights, levels, colors="0.8", linewidths=0.7)
        above.set(xlim=surface.across, ylim=surface.down)
        highest = 1.5 * surface.function(torch.tensor(surface.start, dtype=torch.float64)).item()
        if surface.least is None:
            below.set_ylim(-(surface.down[1] ** 2), highest)
        else:
            below.set_yscale("log")
            below.set_ylim(LOWEST / 3, highest)
        below.set(xlim=(0, config.evaluations), xlabel="evaluations", ylabel="value")
        title = above.set_title(f"{name}, {config.evaluations} evaluations", fontsize=10)
        updates.append(lambda end, title=title, name=name: title.set_text(f"{name}, {end} evaluations"))
        for optimizer in config.optimizers:
            style = "--" if optimizer in SECOND_ORDER else "-"
            how = dict(color=colormaps["tab10"](NAMES.index(optimizer)), linewidth=1.4)
            (line,) = above.plot([], [], style, label=optimizer.replace("_", " "), **how)
            (dot,) = above.plot([], [], "o", color=how["color"], markersize=6)
            (curve,) = below.plot([], [], style, **how)
            lowest = -np.inf if surface.least is None else LOWEST
            updates.append(_advance(paths[name, optimizer], line, dot, curve, lowest))
    panels[0, -1].legend(fontsize=8, loc="lower right")

    def show(evaluation: int) -> None:
        for update in updates:
            update(evaluation)

    return figure, show


def _advance(points: list[Point], line, dot, curve, lowest: float) -> Callable[[int], None]:
    """A function that draws a path as far as it is at an evaluation."""

    def advance(evaluation: int) -> None:
        seen = [point for point in points if point.evaluations <= evaluation]
        places = torch.stack([point.x for point in seen]).numpy()
        line.set_data(*places.T)
        dot.set_data(*places[-1:].T)
        curve.set_data([point.evaluations for point in seen], [max(point.value, lowest) for point in seen])

    return advance


def film(config: Config, paths: Paths) -> None:
    """Write the film, and the picture of its end beside it. Raises RunError where they cannot be written."""
    import imageio.v3 as imageio

    figure, show = prepare(config, paths)
    figure.canvas.draw()
    figure.set_layout_engine("none")  # as it is now, and not anew for each frame
    frames = []
    for evaluation in track(
        range(1, config.evaluations + 1), "film", transient=True, disable=not Console().is_terminal
    ):
        show(evaluation)
        figure.canvas.draw()
        frames.append(np.asarray(figure.canvas.buffer_rgba())[..., :3].copy())
    frames += frames[-1:] * config.fps  # the last frame is shown for a second
    even = np.stack([frame[: len(frame) // 2 * 2, : frame.shape[1] // 2 * 2] for frame in frames])
    with output.writing(config.out, "--out"):
        imageio.imwrite(config.out, even, fps=config.fps, codec="libx264", macro_block_size=2)
    output.draw(config.out.with_suffix(".png"), figure, "--out", dpi=110)


def main(config: Config) -> None:
    for name, known in [
        *((each, SURFACES) for each in config.surfaces),
        *((each, NAMES) for each in config.optimizers),
    ]:
        if name not in known:
            raise ValueError(f"unknown name {name!r}: {suggestions.one_of(name, known)}")
    table, paths = Table("optimizer", *config.surfaces, title=f"value after {config.evaluations} evaluations"), {}
    for optimizer in config.optimizers:
        for surface in config.surfaces:
            paths[surface, optimizer] = list(path(surface, optimizer, config.evaluations))
        table.add_row(optimizer, *(f"{paths[surface, optimizer][-1].value:.3g}" for surface in config.surfaces))
    Console().print(table)
    film(config, paths)
    print(f"written to {config.out} and {config.out.with_suffix('.png')}")


if __name__ == "__main__":
    runs.launch(main, Config, None, "vision.training.optimizer_paths", __doc__)
