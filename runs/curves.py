"""The picture of learning curves that compare and publish make."""

from __future__ import annotations

import contextlib
import dataclasses
import textwrap
import warnings
from collections.abc import Iterator, Sequence
from pathlib import Path

import matplotlib
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure  # without pyplot: no window system, and no state left behind
from matplotlib.ticker import EngFormatter, LogLocator, MaxNLocator

from runs.groups import Group, interval

COLORS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#444444")  # Okabe and Ito 2008
MEANING = {
    "eval/return": "evaluation return (mean of whole games)",
    "eval/median": "evaluation return (median of whole games)",
    "eval/error": "validation error (%)",
    "episode/return": "training return (mean of whole games)",
    "episode/length": "training episode length (steps)",
    "explore/epsilon": "share of random actions",
}
X_LABEL = {"steps": "agent steps", "frames": "game frames", "hours": "wall time (hours)"}
MOST_PANELS = 60
MOST_NAMED = 40  # groups in a panel's legend
MOST_TRAINING = 6  # groups in a panel that shows their training returns, too
MOST_NOTES = 6  # groups without a curve that are named below the picture
MOST_PIXELS = 30_000  # of the picture's height: matplotlib writes none above 65,535
MOST_POINTS = 1000  # of a line: more than a panel has pixels
BACKGROUND = 150  # points of a training curve behind the evaluations: more would be noise


class NothingToDraw(ValueError):
    """No run has a point to show."""


@dataclasses.dataclass(frozen=True)
class Panel:
    """What one panel shows: the runs of a world by one metric."""

    title: str
    metric: str
    groups: list[tuple[Group, str]]  # each with its label


def draw(
    groups: Sequence[Group],
    out: Path,
    metric: str | None = None,
    x: str = "steps",
    smooth: int = 1,
    band: str = "range",
) -> list[str]:
    """Write the learning curves as a picture, one panel for each world. Returns the names of what it does not show.

    Lines are means over seeds, interpolated on all their places; bands reach from the lowest to the highest seed, or
    of three seeds and more, with band="interval", are the 95% interval of the mean. Where only some of the seeds have
    points, each is a thin line: nothing is extrapolated.
    In a panel with few groups the training returns of a single seed are drawn, pale,
    behind its evaluations.

    metric: what every panel shows; None: the score of the runs, or the training return where none has been evaluated
    yet. smooth: points in a running mean.

    Raises NothingToDraw where no run has a point to show, ValueError where smooth < 1, OSError where it cannot be
    written.
    """
    if smooth < 1:
        raise ValueError(f"smooth is {smooth}: it should be a number of points, 1 or more")
    with plain_text():
        figure, missing = picture(groups, metric, x, smooth, band)
        save(figure, out)
    return missing


def save(figure: Figure, out: Path) -> None:
    """Write a figure with a layout engine; savefig alone would draw it twice, the first time for its layout."""
    out.parent.mkdir(parents=True, exist_ok=True)
    figure.get_layout_engine().execute(figure)
    figure.set_layout_engine("none")
    figure.savefig(out)


@contextlib.contextmanager
def plain_text() -> Iterator[None]:
    """A context without matplotlib's formulas between dollar signs and without warnings of missing glyphs."""
    with warnings.catch_warnings(), matplotlib.rc_context({"text.parse_math": False}):
        warnings.filterwarnings("ignore", "Glyph .* missing")
        yield


def picture(
    groups: Sequence[Group], metric: str | None, x: str, smooth: int, band: str = "range"
) -> tuple[Figure, list[str]]:
    """The figure that `draw` writes, and what it does not show."""
    panels, missing = arrange(groups, metric, x)
    if not panels:
        why = "no run has a clock.jsonl yet" if x == "hours" else "no run has written a number yet"
        raise NothingToDraw(f"no curve of {metric or 'any score'} over {x}: {why}")
    if len(panels) > MOST_PANELS:
        missing += [f"{len(panels) - MOST_PANELS} more worlds (name fewer folders)"]
        panels = panels[:MOST_PANELS]
    styles = distinct([(f"{each.title} {each.metric}", label) for each in panels for _, label in each.groups])
    columns = 2 if len(panels) == 4 else min(3, len(panels))
    rows = -(-len(panels) // columns)
    named = [[_legend(*pair, _drawn(pair[0], each.metric, x)) for pair in each.groups] for each in panels]
    lines = max(sum(len(label.split("\n")) for label in labels[:MOST_NAMED]) for labels in named)
    shared = len(panels) > 1 and all(labels == named[0] for labels in named)  # one legend for all panels
    size = (max(5.0 * columns, 7.0), 3.9 * rows + 0.22 * lines * (1 if shared else rows) + 0.5)
    figure = Figure(
        figsize=size, dpi=min(160 if len(panels) <= 9 else 110, MOST_PIXELS / size[1]), layout="constrained"
    )
    axes = figure.subplots(rows, columns, squeeze=False).ravel()
    notes: list[str] = []
    for each, axis in zip(panels, axes, strict=False):
        for one, label in each.groups:
            style, color = divmod(styles[label], len(COLORS))
            line_style = {"color": COLORS[color], "linestyle": ("-", "--", ":", "-.")[style % 4]}
            training = len(each.groups) <= MOST_TRAINING
            notes += _draw_group(axis, one, label, each.metric, x, smooth, line_style, training, band)
        _finish_panel(axis, each, x)
    for axis in axes[::columns][-1:] if shared else axes[: len(panels)]:
        _add_legend(axis, "in every panel" if shared else None)
    for axis in axes[len(panels) :]:
        axis.remove()
    figure.suptitle("Learning curves", x=0.008, ha="left", fontsize=12)
    foot = list(dict.fromkeys(notes)) + missing[:MOST_NOTES]
    foot += [f"and {len(missing) - MOST_NOTES} more without a curve"] if len(missing) > MOST_NOTES else []
    wrapped = textwrap.fill("; ".join(foot), int(14 * size[0]))  # 14 letters of this size are an inch
    figure.supxlabel(wrapped, fontsize=8, color="#666666", x=0.008, ha="left")
    return figure, missing


def arrange(groups: Sequence[Group], metric: str | None, x: str) -> tuple[list[Panel], list[str]]:
    """The panels, with the groups that have a point to show, and messages for the other groups."""
    worlds: dict[tuple[str, str], list[Group]] = {}
    for each in groups:
        worlds.setdefault((each.world, metric or each.score.metric), []).append(each)
    panels, missing = [], []
    for (world, word), here in worlds.items():
        protocols = list(dict.fromkeys(each.protocol for each in here))
        labels = [f"{each.name}, {each.protocol}" if len(protocols) > 1 else each.name for each in here]
        if metric is None and not any(_has_points(each, word, x) for each in here):
            word = "episode/return"  # none has been evaluated yet
        shown = [pair for pair in zip(here, labels, strict=True) if _has_points(pair[0], word, x)]
        missing += [
            f"{world}, {label}: no {MEANING.get(word, word)} yet"
            for each, label in zip(here, labels, strict=True)
            if not _has_points(each, word, x)
        ]
        title = f"{world} · {protocols[0]}" if protocols[0] and len(protocols) == 1 else world
        panels += [Panel(title, word, shown)] if shown else []
    return panels, missing


def _has_points(each: Group, word: str, x: str) -> bool:
    return any(len(run.curve(word, x)[0]) for run in each.runs)


def distinct(shown: Sequence[tuple[str, str]]) -> dict[str, int]:
    """A color number for each label of the pairs (panel, label): the lowest that no other label of its panels has."""
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
    if all(np.array_equal(places, curves[0][0]) for places, _ in curves):
        return curves[0][0], np.stack([values for _, values in curves])
    begin, end = max(places[0] for places, _ in curves), min(places[-1] for places, _ in curves)
    grid = np.unique(np.concatenate([places for places, _ in curves]))
    grid = grid[(grid >= begin) & (grid <= end)]
    return grid, np.stack([np.interp(grid, *curve) for curve in curves])


def thin(places: np.ndarray, values: np.ndarray, most: int = MOST_POINTS) -> tuple[np.ndarray, np.ndarray]:
    """At most `most` of (P,) places and of (S, P) values, evenly chosen, the first and the last among them."""
    if len(places) <= most:
        return places, values
    kept = np.linspace(0, len(places) - 1, most).round().astype(int)
    return places[kept], values[:, kept]


def bounds(values: np.ndarray, band: str) -> tuple[np.ndarray, np.ndarray, str]:
    """Ends of the band around the mean of (S, P) values, (P,) each, and what it is in words."""
    if band == "interval" and len(values) > 2:
        pairs = np.array([interval(column) for column in values.T]).reshape(-1, 2)
        return pairs[:, 0] - pairs[:, 1], pairs[:, 0] + pairs[:, 1], "its 95% interval (Student's t)"
    return values.min(0), values.max(0), "lowest to highest seed"


def running_mean(values: np.ndarray, points: int) -> np.ndarray:
    """Mean of the `points` values around each of (P,); near the ends, of those that are there."""
    if points == 1:
        return values
    sums = np.concatenate([[0.0], np.cumsum(values)])
    begin = np.maximum(np.arange(len(values)) - (points - 1) // 2, 0)
    end = np.minimum(np.arange(len(values)) + points // 2 + 1, len(values))
    return (sums[end] - sums[begin]) / (end - begin)


def _draw_group(
    panel: Axes,
    each: Group,
    label: str,
    metric: str,
    x: str,
    smooth: int,
    line_style: dict[str, str],
    training: bool,
    band: str,
) -> list[str]:
    """Draw a group and, behind a single seed, its training returns. Returns notes for the bottom of the picture."""
    curves = [run.curve(metric, x) for run in each.runs]
    curves = [(places, running_mean(values, smooth)) for places, values in curves if len(places)]
    grid, values = thin(*common(curves))
    marker = "o" if len(grid) <= 30 else None
    named = _legend(each, label, len(curves))
    panel.plot(grid, values.mean(0), linewidth=1.8, label=named, marker=marker, markersize=3, zorder=3, **line_style)
    notes = []
    if len(curves) > 1:
        low, high, meaning = bounds(values, band)
        panel.fill_between(grid, low, high, color=line_style["color"], alpha=0.18, linewidth=0)
        if len(grid) == 1:  # a band has no width there
            panel.vlines(grid, low, high, color=line_style["color"], alpha=0.4)
        notes.append(f"line: mean over seeds, band: {meaning}")
        for places, heights in curves:
            before, after = (places <= grid[0], places >= grid[-1]) if len(grid) else (places >= 0, places < 0)
            for part in (before, after):
                if part.sum() > 1 or (part.any() and not len(grid)):
                    dot = "." if part.sum() == 1 else None
                    panel.plot(places[part], heights[part], linewidth=0.8, alpha=0.6, marker=dot, **line_style)
                    notes.append("thin: single seeds, where not all have been")
    elif training and metric == each.score.metric and len(each.runs) == 1:
        places, heights = each.runs[0].curve("episode/return", x)
        if len(places):
            heights = running_mean(heights, 1 + len(heights) // BACKGROUND)
            panel.plot(places, heights, color=line_style["color"], linewidth=0.7, alpha=0.35, zorder=1)
            notes.append("pale: training return")
    return notes


def _drawn(each: Group, metric: str, x: str) -> int:
    """How many seeds of a group have a curve."""
    return sum(len(run.curve(metric, x)[0]) > 0 for run in each.runs)


def _legend(each: Group, label: str, drawn: int | None = None) -> str:
    """A group's line in the legend, folded; `drawn`: how many of its seeds have a curve."""
    count = len(each.runs)
    seeds = f"seed {each.runs[0].seed}" if count == 1 else f"{count} seeds"
    if drawn is not None and drawn < count:
        seeds = f"{drawn} of {count} seeds"
    going = sum(run.status == "running" for run in each.runs)
    running = f", {going if count > 1 else 'still'} running" if going else ""
    folded = textwrap.fill(f"{label} ({seeds}{running})", 52)
    return f" {folded}" if folded.startswith("_") else folded  # matplotlib leaves those out


def _finish_panel(axis: Axes, panel: Panel, x: str) -> None:
    (each, _), *_ = panel.groups
    unit = each.runs[0].unit
    meaning = MEANING.get(panel.metric, panel.metric)
    if panel.metric == each.score.metric and panel.metric not in MEANING and each.score.unit:
        meaning += f" ({each.score.unit})"
    axis.set_title(textwrap.fill(panel.title, 48), loc="left", fontsize=11, fontweight="bold")
    axis.set_xlabel(f"{unit} shown" if x == "steps" and unit != "steps" else X_LABEL[x])
    axis.set_ylabel(textwrap.fill(meaning, 44))
    axis.xaxis.set_major_locator(MaxNLocator(6, steps=(1, 2, 2.5, 5, 10)))
    if x != "hours":
        axis.xaxis.set_major_formatter(EngFormatter(sep=""))
    ends = np.array(
        [max(run.curve(panel.metric, x)[0].max(initial=0) for run in one.runs) for one, _ in panel.groups]
    )
    places = np.concatenate([line.get_xdata() for line in axis.lines])
    if places.min() > 0 and np.median(ends) < ends.max() / 3:  # most curves would be squeezed into a corner
        axis.set_xscale("log")
        axis.xaxis.set_major_locator(LogLocator(subs=(1, 2, 5) if places.max() < 1000 * places.min() else (1,)))
        axis.xaxis.set_minor_formatter("")
        axis.xaxis.set_major_formatter(EngFormatter(sep="") if x != "hours" else "{x:g}")
    if np.ptp(places) == 0:  # a single point: the automatic scale would show fractions of a step
        axis.set_xlim(0, 2 * places[0] or 1)
    heights = np.concatenate([line.get_ydata() for line in axis.lines])
    smaller = each.score.better == "min" and panel.metric == each.score.metric
    if smaller and heights.min() > 0 and heights.max() > 10 * heights.min():
        axis.set_yscale("log")
        axis.yaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
        axis.yaxis.set_major_formatter("{x:g}")
        axis.yaxis.set_minor_formatter("")
    axis.grid(alpha=0.3, linewidth=0.6)
    axis.spines[["top", "right"]].set_visible(False)
    axis.margins(x=0.02)


def _add_legend(axis: Axes, title: str | None) -> None:
    handles, labels = axis.get_legend_handles_labels()
    if len(handles) > MOST_NAMED:
        labels[MOST_NAMED - 1] += f", and {len(handles) - MOST_NAMED} more"
    axis.legend(
        handles[:MOST_NAMED],
        labels[:MOST_NAMED],
        loc="upper left",
        bbox_to_anchor=(0, -0.15),
        frameon=False,
        fontsize=9,
        borderaxespad=0,
        title=title,
        title_fontsize=9,
        alignment="left",
    )
