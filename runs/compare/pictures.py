"""The picture of agents over worlds: aggregates, performance profiles, sample efficiency, who improves on whom."""

from __future__ import annotations

import textwrap
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import EngFormatter

from runs import statistics
from runs.compare.aggregate import Block
from runs.curves import COLORS, X_LABEL, plain_text, save

THRESHOLDS = 101  # of a performance profile
PLACES = 25  # along the curve of sample efficiency
MOST_AGENTS = 20  # in a picture
MOST_BLOCKS = 8


def draw(blocks: Sequence[Block], out: Path, x: str = "steps") -> bool:
    """Write the picture, a row for each block that is telling. Returns whether there was any to draw."""
    shown = [block for block in blocks if block.telling][:MOST_BLOCKS]
    if not shown:
        return False
    with plain_text():
        figure = Figure(figsize=(20, 4.4 * len(shown)), dpi=110, layout="constrained")
        for block, axes in zip(shown, figure.subplots(len(shown), 4, squeeze=False), strict=True):
            agents = block.ranked[:MOST_AGENTS]
            colors = {agent: COLORS[number % len(COLORS)] for number, agent in enumerate(agents)}
            _aggregates(axes[0], block, colors)
            _profile(axes[1], block, colors)
            _efficiency(axes[2], block, colors, x)
            _improvements(axes[3], block, colors)
            axes[0].set_title(block.title, loc="left", fontweight="bold", fontsize=11)
            for axis in axes:
                axis.grid(alpha=0.3, linewidth=0.6)
                axis.spines[["top", "right"]].set_visible(False)
        figure.supxlabel("bands and bars: 95% bootstrap intervals, stratified by world", fontsize=8, color="#666666")
        save(figure, out)
    return True


def _aggregates(axis: Axes, block: Block, colors: dict[str, str]) -> None:
    names, marks = [], ("IQM", "mean", "median")
    for row, (agent, color) in enumerate(reversed(colors.items())):
        names.append(agent)
        for mark, name in enumerate(marks):
            estimate = block.estimates(agent)[name]
            height = row + 0.22 * (1 - mark)
            if estimate.interval is not None:
                axis.plot(estimate.interval, [height, height], color=color, linewidth=5, alpha=0.35)
            axis.plot(estimate.value, height, marker="osD"[mark], color=color, markersize=5)
    axis.set_yticks(range(len(names)), names)
    axis.set_xlabel(
        f"{textwrap.fill(block.unit, 34)}\n({', '.join(f'{s} {n}' for s, n in zip('●■◆', marks, strict=True))})"
    )


def _profile(axis: Axes, block: Block, colors: dict[str, str]) -> None:
    thresholds = profile_thresholds(block)
    for agent, color in colors.items():
        share, low, high = statistics.performance_profile(block.scores[agent], thresholds)
        places = -thresholds if block.better == "min" else thresholds
        axis.plot(places, share, color=color, label=agent)
        if not np.isnan(low).any():
            axis.fill_between(places, low, high, color=color, alpha=0.15, linewidth=0)
    axis.set_ylim(-0.02, 1.02)
    axis.set_xlabel(textwrap.fill(f"τ, {block.unit}", 34))
    axis.set_ylabel("share of runs that are better than τ")
    axis.legend(frameon=False, fontsize=8)


def profile_thresholds(block: Block) -> np.ndarray:
    """Thresholds (T,) from the lowest to the highest score of a block."""
    values = np.concatenate([world for scores in block.scores.values() for world in scores])
    return np.linspace(values.min(), values.max(), THRESHOLDS)


def _efficiency(axis: Axes, block: Block, colors: dict[str, str], x: str) -> None:
    for agent, color in colors.items():
        places, values, low, high = iqm_curve(block, agent, x)
        if len(places):
            axis.plot(places, values, color=color)
            if not np.isnan(low).any():
                axis.fill_between(places, low, high, color=color, alpha=0.15, linewidth=0)
    axis.set_xlabel(X_LABEL[x])
    axis.set_ylabel("IQM over worlds")
    if x != "hours":
        axis.xaxis.set_major_formatter(EngFormatter(sep=""))


def iqm_curve(
    block: Block, agent: str, x: str = "steps", repetitions: int = 300
) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """IQM of an agent's normalized scores where all of its runs have been, with its band: four arrays (P,)."""
    curves = [[run.curve(each.score.metric, x) for run in each.runs if run.final] for each in block.groups[agent]]
    every = [places for world in curves for places, _ in world]
    if not every or not all(map(len, every)):
        return (np.empty(0),) * 4
    begin, end = max(places[0] for places in every), min(places[-1] for places in every)
    if begin > end:
        return (np.empty(0),) * 4
    grid = np.linspace(begin, end, PLACES) if end > begin else np.array([begin])
    worlds = [
        block.normalize[name](np.stack([np.interp(grid, *curve) for curve in world]))
        for name, world in zip(block.worlds, curves, strict=True)
    ]
    found = [
        statistics.bootstrap([world[:, at] for world in worlds], statistics.iqm, repetitions)
        for at in range(len(grid))
    ]
    sign = -1.0 if block.better == "min" else 1.0
    ends = [[np.nan if end is None else sign * end for end in (one.low, one.high)][:: int(sign)] for one in found]
    low, high = np.array(ends).T
    return grid, np.array([sign * one.value for one in found]), low, high


def _improvements(axis: Axes, block: Block, colors: dict[str, str]) -> None:
    pairs = [pair for pair in block.improvements if pair[0] in colors and pair[1] in colors][:MOST_AGENTS]
    for row, (one, _, estimate) in enumerate(reversed(pairs)):
        if estimate.interval is not None:
            axis.plot(estimate.interval, [row, row], color=colors[one], linewidth=6, alpha=0.35)
        axis.plot(estimate.value, row, "|", color=colors[one], markersize=14, markeredgewidth=3)
    axis.set_yticks(range(len(pairs)), [f"{one}\nover {two}" for one, two, _ in reversed(pairs)], fontsize=8)
    axis.axvline(0.5, color="#888888", linewidth=0.8, linestyle="--")
    axis.set_xlim(-0.02, 1.02)
    axis.set_xlabel("P(X > Y)")
