"""The table of a comparison: one row for the seeds of each configuration in each world."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np
from rich.console import Console
from rich.table import Table
from rich.text import Text

from runs.groups import Group, interval, reach
from runs.progress import duration
from runs.reader import RECENT
from runs.score import Score, number, short

WORDS = ("world", "protocol", "program", "seeds", "hardware", "commit")  # columns that are not numbers


def table(groups: Sequence[Group], metric: str | None = None) -> tuple[list[str], list[list[str]]]:
    """Head and rows of the comparison, one row for each group; a metric that is not a score gets its own column."""
    head = ["world", "protocol", "program", "seeds", "final evaluation", "best evaluation"]
    head += [f"last {RECENT} training games", "steps", "wall time", "steps/s"]
    rows = []
    for each in groups:
        row = [each.world, each.protocol or "–", each.name, each.seeds]
        row += [_evaluation([run.final for run in each.runs], each.score)]
        row += [_evaluation([run.best for run in each.runs], each.score)]
        row += [over_seeds([run.training_return for run in each.runs])]
        row += [reach([run.step for run in each.runs], short)]
        row += [reach([run.seconds for run in each.runs], duration)]
        row += [reach([run.steps_per_second for run in each.runs], "{:,.0f}".format)]
        rows.append(row)
    if scores := list(dict.fromkeys(each.score for each in groups if any(run.tested for run in each.runs))):
        one = scores[0] if len(scores) == 1 else None  # its name and unit stand in the head
        unit = f", {one.unit}" if one and one.unit not in ("", one.name) else ""
        head.insert(6, f"test {one.name}{unit}" if one else "test")
        for row, each in zip(rows, groups, strict=True):
            row.insert(6, tested(each, "" if one else each.score.suffix))
    if metric not in (None, "episode/return", *(each.score.metric for each in groups)):
        head.append(f"last {metric}")
        for row, each in zip(rows, groups, strict=True):
            row.append(over_seeds([run.last(metric) for run in each.runs]))
    return head, rows


def markdown(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """A Markdown table, its numbers to the right; the first column is names."""
    rule = ["---" if name in WORDS or not index else "---:" for index, name in enumerate(head)]
    cells = [head, rule, *([cell.replace("|", "\\|") for cell in row] for row in rows)]
    return "\n".join(f"| {' | '.join(row)} |" for row in cells)


def show(head: Sequence[str], rows: Sequence[Sequence[str]], as_markdown: bool = False) -> None:
    """Print the table to stdout: rich on a terminal (folded where it is narrow), plain columns elsewhere."""
    terminal = Console(highlight=False)
    widths = [max(map(len, column)) for column in zip(head, *rows, strict=True)]
    if as_markdown:
        print(markdown(head, rows))
    elif terminal.is_terminal:
        worlds = [row[0] for row in rows]
        if sum(widths) + 3 * len(widths) > terminal.width:
            head, *rows = ([_lines(row[:4]), *row[4:7], _lines(row[7:10]), *row[10:]] for row in (head, *rows))
        shown = Table(header_style="bold")
        for index, name in enumerate(head):
            shown.add_column(name, justify="left" if name in WORDS or not index else "right", overflow="fold")
        for row, world, below in zip(rows, worlds, [*worlds[1:], None], strict=True):
            shown.add_row(*map(Text, row), end_section=world != below or len(head) < len(widths))
        terminal.print(shown)
    else:
        for row in (head, *rows):
            cells = zip(row, widths, head, strict=True)
            print("  ".join(f"{c:{'<' if name in WORDS else '>'}{width}}" for c, width, name in cells).rstrip())


def _lines(cells: Sequence[str]) -> str:
    return "\n".join(cell for cell in cells if cell != "–")


def over_seeds(values: Sequence[float | None], suffix: str = "") -> str:
    """Mean over seeds with its interval; None is left out, and counted if other values exist."""
    there = [value for value in values if value is not None]
    missing = f" ({len(there)} of {len(values)} seeds)" if 0 < len(there) < len(values) else ""
    if len(there) < 2:
        return (number(there[0]) + suffix if there else "–") + missing
    if len(there) == 2:  # the 95% interval of two is 12.7 times their standard error
        largest = max(map(abs, there))
        both = " and ".join(number(value, largest) for value in there)
        return f"{number(float(np.mean(there)))}{suffix} (of two: {both}){missing}"
    mean, half = interval(there)
    return f"{number(mean)} ± {number(half, mean)}{suffix}{missing}"


def _evaluation(lines: Sequence[dict[str, Any] | None], score: Score) -> str:
    shown = over_seeds([line and line[score.metric] for line in lines], score.suffix)
    if len(lines) == 1 and lines[0] and "eval/std" in lines[0]:
        games = f", {lines[0]['eval/games']:.0f} games" if "eval/games" in lines[0] else ""
        return f"{shown} (sd {number(lines[0]['eval/std'], lines[0][score.metric])}{games})"
    return shown


def tested(each: Group, suffix: str) -> str:
    """The test score and, in brackets, that from several views or rollouts of an image, or others by their names."""
    name = each.score.name
    scores = {}
    for word in sorted({word for run in each.runs for word in run.tested}):
        scores[word.removeprefix(f"{name}_")] = over_seeds([run.tested.get(word) for run in each.runs], suffix)
    plain = scores.pop(name, "–")
    if len(scores) == 1:
        return plain + "".join(f" ({score} with {count})" for count, score in scores.items())
    return plain + "".join(f" ({name}_{kind} {score})" for kind, score in scores.items())
