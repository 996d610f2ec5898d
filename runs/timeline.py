"""The picture of a profile."""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from pathlib import Path

from matplotlib.axes import Axes
from matplotlib.figure import Figure

from runs.trace import COLORS, TOP, Span, bottleneck, elsewhere, iterations, operations, playing, spans, totals

DENSE = 150  # bars that can still be distinguished


def draw(path: Path, title: str, events: Sequence[dict]) -> None:
    """Write the picture: a few iterations over time, the share of each kind of work, the most expensive
    operations."""
    found, steps = spans(events), iterations(events)
    sums = totals(found)
    whole = sum(sums.values())
    each = whole / len(steps) / 1000  # ms
    rows = {"program": found, "emulator": playing(events)} | elsewhere(events, found)
    rows = {row: work for row, work in rows.items() if work}
    height = 0.8 + 0.5 * len(rows)
    figure = Figure(figsize=(13, height + 4.4), dpi=130, layout="constrained")
    panels = figure.subplot_mosaic([["time", "time"], ["kinds", "operations"]], height_ratios=[height, 3.4])
    shares = {kind: took / whole for kind, took in sums.items()}
    figure.suptitle(f"{title}: {_milliseconds(each)} an iteration. {bottleneck(shares).capitalize()}")
    _draw_time(panels["time"], rows, _window(steps, found))
    _draw_bars(panels["kinds"], {kind: {kind: took} for kind, took in sums.items()}, whole, each)
    panels["kinds"].set_title("what the program does, with its color above", fontsize=11)
    _draw_bars(panels["operations"], operations(events, found), whole, each)
    panels["operations"].set_title("operations by themselves, and what they were for", fontsize=11)
    figure.savefig(path)


def _window(steps: Sequence[dict], found: Sequence[Span]) -> Sequence[dict]:
    """The iterations to show: three that take as long as usual, or one if they are full."""
    count = min(3 if len(found) / len(steps) * 3 < DENSE else 1, len(steps))
    windows = [steps[i : i + count] for i in range(len(steps) - count + 1)]
    took = [sum(step["dur"] for step in window) for window in windows]
    return windows[took.index(statistics.median_low(took))]


def _draw_time(panel: Axes, rows: dict[str, list[Span]], window: Sequence[dict]) -> None:
    begin, end = window[0]["ts"], window[-1]["ts"] + window[-1]["dur"]
    for place, work in enumerate(rows.values()):
        shown = [span for span in work if span.end > begin and span.begin < end]
        panel.broken_barh(
            [((span.begin - begin) / 1000, (span.end - span.begin) / 1000) for span in shown],
            (place - 0.4, 0.8),
            facecolors=[COLORS[span.kind] for span in shown],
        )
    for step in window[1:]:
        panel.axvline((step["ts"] - begin) / 1000, color="black", linestyle=":", linewidth=1)
    names = {"emulator": "emulator: pale while it\nmay play beside the program"}
    panel.set_yticks(range(len(rows)), [names.get(row, row) for row in rows])
    panel.set_ylim(len(rows) - 0.5, -0.5)
    panel.set_xlim(0, (end - begin) / 1000)
    panel.set_xlabel("ms" + (", an iteration from each dotted line to the next" if len(window) > 1 else ""))
    panel.spines[["top", "right"]].set_visible(False)


def _draw_bars(panel: Axes, sums: dict[str, dict[str, float]], whole: float, each: float) -> None:
    top = dict(list(sums.items())[:TOP])
    widths = [sum(parts.values()) / whole for parts in top.values()]
    for place, (parts, width) in enumerate(zip(top.values(), widths, strict=True)):
        left = 0.0
        for kind in sorted(parts, key=parts.get, reverse=True):
            panel.barh(place, parts[kind] / whole, left=left, color=COLORS[kind])
            left += parts[kind] / whole
        panel.annotate(f" {width:.1%}   {_milliseconds(width * each)}", (width, place), va="center", fontsize=9)
    panel.set_yticks(range(len(top)), [name if len(name) < 36 else name[:33] + "..." for name in top])
    panel.invert_yaxis()
    panel.set_xlim(0, max(widths, default=1) * 1.3)
    panel.set_xticks([])
    panel.spines[["top", "right", "bottom"]].set_visible(False)


def _milliseconds(value: float) -> str:
    return f"{value:,.0f} ms" if value >= 100 else f"{value:.3g} ms"
