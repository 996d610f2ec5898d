"""The picture of learning curves that compare and publish make."""

from __future__ import annotations

import textwrap
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure  # without pyplot: no window system, and no state left behind
from matplotlib.ticker import EngFormatter, LogLocator, MaxNLocator

from runs.record import Group

COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#444444")  # Okabe and Ito 2008
MEANING = {
    "eval/return": "evaluation return (mean of whole games)",
    "eval/median": "evaluation return (median of whole games)",
    "eval/error": "validation error (%)",
    "episode/return": "training return (mean of whole games)",
    "episode/length": "training episode length (steps)",
    "explore/epsilon": "share of random actions",
}
X_LABEL = {"steps": "agent steps", "frames": "game frames", "hours": "wall time (hours)"}
BACKGROUND = 150  # points of a training curve behind the evaluations: more would be noise


def draw(groups: Sequence[Group], out: Path, metric: str = "eval/return", x: str = "steps", smooth: int = 1) -> None:
    """Write the learning curves as a picture, a panel a world.

    Lines are means over seeds, bands reach from the lowest to the highest seed; where not every seed has
    been, each goes on as a thin line. Behind a single seed's evaluations stand, pale, its training returns.
    Of image sets the validation error is shown instead of the return, which is 100 minus it.
    `smooth` is the number of points in a running mean.

    Raises ValueError where no run has a point to show or smooth < 1.
    """
    if smooth < 1:
        raise ValueError(f"smooth is {smooth}: it should be a number of points, 1 or more")
    if not any(len(run.curve(metric, x)[0]) for each in groups for run in each.runs):
        raise ValueError(f"no curve of {metric} over {x}: {'no clock.jsonl yet' if x == 'hours' else 'no line yet'}")
    worlds = list(dict.fromkeys(each.world for each in groups))
    mixed = {world for world in worlds if len({each.protocol for each in groups if each.world == world}) > 1}
    labels = [f"{each.name}, {each.protocol}" if each.world in mixed else each.name for each in groups]
    looks = distinct([(each.world, label) for each, label in zip(groups, labels, strict=True)])
    columns = min(3, len(worlds))
    rows = -(-len(worlds) // columns)
    most = max(sum(each.world == world for each in groups) for world in worlds)
    size = (max(5.0 * columns, 7.0), (3.9 + 0.22 * most) * rows + 0.5)
    figure = Figure(figsize=size, dpi=160, layout="constrained")
    panels = figure.subplots(rows, columns, squeeze=False).ravel()
    notes = []
    for world, panel in zip(worlds, panels, strict=False):
        here = [(each, label) for each, label in zip(groups, labels, strict=True) if each.world == world]
        images = all(run.of_images for each, _ in here for run in each.runs)
        shown = "eval/error" if images and metric == "eval/return" else metric
        for each, label in here:
            style, colour = divmod(looks[label], len(COLOURS))
            look = {"color": COLOURS[colour], "linestyle": ("-", "--", ":", "-.")[style % 4]}
            notes += _draw_group(panel, each, label, shown, x, smooth, look)
        protocol = here[0][0].protocol
        _finish_panel(panel, f"{world} · {protocol}" if protocol and world not in mixed else world, shown, x)
        if images and x == "steps":
            panel.set_xlabel("images shown")
    for panel in panels[len(worlds) :]:
        panel.remove()
    figure.suptitle("Learning curves", x=0.008, ha="left", fontsize=12)
    figure.supxlabel("; ".join(dict.fromkeys(notes)), fontsize=8, color="#666666", x=0.008, ha="left")
    out.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(out)


def distinct(shown: Sequence[tuple[str, str]]) -> dict[str, int]:
    """A number for each label of (panel, label): the lowest that no label has beside which it is shown."""
    panels: dict[str, list[str]] = {}
    for panel, label in shown:
        panels.setdefault(panel, []).append(label)
    numbers: dict[str, int] = {}
    for _, label in shown:
        beside = {numbers.get(other) for others in panels.values() if label in others for other in others}
        numbers.setdefault(label, next(n for n in range(len(shown) + 1) if n not in beside))
    return numbers


def common(curves: Sequence[tuple[np.ndarray, np.ndarray]]) -> tuple[np.ndarray, np.ndarray]:
    """Interpolate S curves on all their places where each is known: places (P,), values (S, P)."""
    if not curves or not all(len(places) for places, _ in curves):
        return np.empty(0), np.empty((len(curves), 0))
    begin, end = max(places[0] for places, _ in curves), min(places[-1] for places, _ in curves)
    grid = np.unique(np.concatenate([places for places, _ in curves]))
    grid = grid[(grid >= begin) & (grid <= end)]
    return grid, np.stack([np.interp(grid, *curve) for curve in curves])


def running_mean(values: np.ndarray, points: int) -> np.ndarray:
    """Mean of the `points` values around each of (P,); near the ends, of those that are there."""
    sums = np.concatenate([[0.0], np.cumsum(values)])
    begin = np.maximum(np.arange(len(values)) - (points - 1) // 2, 0)
    end = np.minimum(np.arange(len(values)) + points // 2 + 1, len(values))
    return (sums[end] - sums[begin]) / (end - begin)


def _draw_group(
    panel: Axes, each: Group, label: str, metric: str, x: str, smooth: int, look: dict[str, str]
) -> list[str]:
    """Draw one group; returns what the picture's foot should explain."""
    curves = [run.curve(metric, x) for run in each.runs]
    curves = [(places, running_mean(values, smooth)) for places, values in curves if len(places)]
    if not curves:
        return [f"{each.world}, {label}: nothing to show yet"]
    seeds = f"seed {each.runs[0].seed}" if len(each.runs) == 1 else f"{len(curves)} seeds"
    going = sum(run.status == "running" for run in each.runs)
    running = f", {going if len(each.runs) > 1 else 'still'} running" if going else ""
    label = textwrap.fill(f"{label} ({seeds}{running})", 52)
    grid, values = common(curves)
    marker = "o" if len(grid) <= 30 else None
    panel.plot(grid, values.mean(0), linewidth=1.8, label=label, marker=marker, markersize=3, zorder=3, **look)
    notes = []
    if len(curves) > 1:
        panel.fill_between(grid, values.min(0), values.max(0), color=look["color"], alpha=0.18, linewidth=0)
        notes.append("line: mean over seeds, band: lowest to highest seed")
        for places, heights in curves:
            before, after = (places <= grid[0], places >= grid[-1]) if len(grid) else (places >= 0, places < 0)
            for part in (before, after):
                if part.sum() > 1:
                    panel.plot(places[part], heights[part], linewidth=0.8, alpha=0.6, **look)
                    notes.append("thin: single seeds, where not all have been")
    elif metric == "eval/return" and len(each.runs) == 1:
        places, heights = each.runs[0].curve("episode/return", x)
        if len(places):
            heights = running_mean(heights, 1 + len(heights) // BACKGROUND)
            panel.plot(places, heights, color=look["color"], linewidth=0.7, alpha=0.35, zorder=1)
            notes.append("pale: training return")
    return notes


def _finish_panel(panel: Axes, title: str, metric: str, x: str) -> None:
    panel.set_title(title, loc="left", fontsize=11, fontweight="bold")
    panel.set_xlabel(X_LABEL[x])
    panel.set_ylabel(MEANING.get(metric, metric))
    panel.xaxis.set_major_locator(MaxNLocator(6, steps=(1, 2, 2.5, 5, 10)))
    if x != "hours":
        panel.xaxis.set_major_formatter(EngFormatter(sep=""))
    if metric == "eval/error":
        panel.set_yscale("log")
        panel.yaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
        panel.yaxis.set_major_formatter("{x:g}")
        panel.yaxis.set_minor_formatter("")
    panel.grid(alpha=0.3, linewidth=0.6)
    panel.spines[["top", "right"]].set_visible(False)
    panel.margins(x=0.02)
    panel.legend(loc="upper left", bbox_to_anchor=(0, -0.15), frameon=False, fontsize=9, borderaxespad=0)
