"""Compare runs from their folders alone: a table, and a picture of their learning curves.

    python -m runs.compare results/Breakout
    python -m runs.compare results --metric episode/return --x hours
    python -m runs.compare results runs/published --markdown > table.md

Runs of one world, protocol, program and configuration are the seeds of one row and are averaged; runs under
different protocols never are. With two seeds or more, a score is the mean over seeds and the 95% interval of
that mean (Student's t); with one seed, that seed's evaluation and the standard deviation over its games.
The best evaluation is the highest of many noisy ones, and so flatters: compare by the final one.
"""

from __future__ import annotations

import dataclasses
import sys
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Annotated, Any, Literal

import numpy as np
import tyro
from rich.console import Console
from rich.table import Table
from rich.text import Text

from runs import hints
from runs.progress import duration
from runs.record import LINES, RECENT, Group, RunRecord, group, read_run

WORDS = ("world", "protocol", "program", "seeds", "hardware", "commit")  # columns that are not numbers


@dataclasses.dataclass(frozen=True)
class Config:
    folders: Annotated[tuple[Path, ...], tyro.conf.Positional] = (Path("results"),)  # runs, or folders of runs
    metric: str = "eval/return"  # metric word that the picture shows
    x: Literal["steps", "frames", "hours"] = "steps"  # hours are wall time
    out: Path = Path("results/compare.png")  # the picture
    smooth: int = 1  # points in the curves' running mean; 1 leaves them as measured
    markdown: bool = False  # print the table as Markdown


def interval(values: Sequence[float]) -> tuple[float, float]:
    """Mean of N >= 2 values and half the width of its 95% interval: Student's t, N - 1 degrees of freedom."""
    from scipy.special import stdtrit  # a quarter of a second to import; only seeds need it

    half = stdtrit(len(values) - 1, 0.975) * np.std(values, ddof=1) / np.sqrt(len(values))
    return float(np.mean(values)), float(half)


def table(groups: Sequence[Group], metric: str = "eval/return") -> tuple[list[str], list[list[str]]]:
    """Head and rows of the comparison, a row a group; a metric that is no return gets a column of its own."""
    head = ["world", "protocol", "program", "seeds", "final evaluation", "best evaluation"]
    head += [f"last {RECENT} training games", "steps", "wall time", "steps/s"]
    rows = []
    for each in groups:
        row = [each.world, each.protocol or "–", each.name, each.seeds]
        row += [_evaluation([run.final for run in each.runs]), _evaluation([run.best for run in each.runs])]
        row += [_score([run.training_return for run in each.runs])]
        row += [_reach([run.step for run in each.runs], short)]
        row += [_reach([run.seconds for run in each.runs], duration)]
        row += [_reach([run.steps_per_second for run in each.runs], "{:,.0f}".format)]
        rows.append(row)
    if any(run.tested for each in groups for run in each.runs):
        head.insert(6, "test error, %")
        for row, each in zip(rows, groups, strict=True):
            row.insert(6, _tested(each))
    if metric not in ("eval/return", "episode/return"):
        head.append(f"last {metric}")
        for row, each in zip(rows, groups, strict=True):
            curves = [run.curve(metric)[1] for run in each.runs]
            row.append(_score([values[-1] if len(values) else None for values in curves]))
    return head, rows


def markdown(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """A Markdown table, its numbers to the right."""
    rule = ["---" if name in WORDS else "---:" for name in head]
    cells = [head, rule, *([cell.replace("|", "\\|") for cell in row] for row in rows)]
    return "\n".join(f"| {' | '.join(row)} |" for row in cells)


def choose_metric(runs: Iterable[RunRecord], metric: str) -> str:
    """The metric, or episode/return where no run has evaluated yet.

    Raises ValueError on a word that none of the runs wrote, naming near matches.
    """
    words = sorted(set().union(*(run.words for run in runs)))
    if metric in words or not words:
        return metric
    if metric == "eval/return" and "episode/return" in words:
        print("no run has evaluated yet: the picture shows episode/return", file=sys.stderr)
        return "episode/return"
    raise ValueError(f"unknown metric {metric!r}: {hints.one_of(metric, words, 'these runs wrote')}")


def find_runs(folders: Iterable[Path | str]) -> list[Path]:
    """Every run's folder at or under the given ones, each once; files among them are passed over.

    Raises FileNotFoundError where a path does not exist (naming near matches) or no run was found.
    """
    folders, found = [Path(folder) for folder in folders], {}
    for folder in folders:
        if not folder.exists():
            beside = folder.parent.iterdir() if folder.parent.is_dir() else ()
            like = hints.close(folder.name, [path.name for path in beside if path.is_dir()], count=1)
            hint = f": did you mean {str(folder.with_name(like[0]))!r}?" if like else ""
            raise FileNotFoundError(f"no folder {str(folder)!r}{hint}")
        for path in sorted(folder.rglob("config.json")):
            if any((path.parent / name).is_file() for name in LINES):
                found.setdefault(path.parent.resolve(), path.parent)
    if not found:
        where = ", ".join(str(folder) for folder in folders)
        raise FileNotFoundError(
            f"no runs in {where}: a run's folder has config.json and metrics.jsonl, "
            "and `python -m agents.dqn --env Catch` makes one"
        )
    return list(found.values())


def load(folders: Iterable[Path]) -> list[RunRecord]:
    """Read every run under the folders; what cannot be trusted is said on stderr.

    Raises FileNotFoundError where there is none.
    """
    runs = []
    for folder in find_runs(folders):
        try:
            runs.append(read_run(folder))
        except ValueError as error:
            print(f"left out: {error}", file=sys.stderr)
            continue
        if runs[-1].unreadable:
            print(f"{folder}: {runs[-1].unreadable} unreadable lines skipped", file=sys.stderr)
    for each in group(runs):
        for one, two in zip(each.runs, each.runs[1:], strict=False):
            if one.seed == two.seed:  # not independent: the interval would come out too narrow
                print(f"seed {one.seed} counts twice: {one.folder} and {two.folder}", file=sys.stderr)
    return runs


def number(value: float, like: float | None = None) -> str:
    """A number with about three digits that matter (0.950, 17.3, 1,234), or with another's decimals."""
    size = abs(like or value)
    if size < 0.01:
        return f"{value:.2g}"
    return f"{value:,.{0 if size >= 1000 else 1 if size >= 10 else 2 if size >= 1 else 3}f}"


def short(steps: float) -> str:
    """A count in thousands or millions: 950, 12.5k, 2M."""
    for size, unit in ((1e9, "G"), (1e6, "M"), (1e3, "k")):
        if round(steps / size, 3) >= 1:
            return f"{steps / size:.3g}{unit}"
    return f"{steps:.0f}"


def show(head: Sequence[str], rows: Sequence[Sequence[str]], as_markdown: bool = False) -> None:
    """Print the table to stdout: rich on a terminal (folded where it is narrow), plain columns elsewhere."""
    console = Console(highlight=False)
    widths = [max(map(len, column)) for column in zip(head, *rows, strict=True)]
    if as_markdown:
        print(markdown(head, rows))
    elif console.is_terminal:
        worlds = [row[0] for row in rows]
        if sum(widths) + 3 * len(widths) > console.width:
            head, *rows = ([_lines(row[:4]), *row[4:7], _lines(row[7:10]), *row[10:]] for row in (head, *rows))
        shown = Table(header_style="bold")
        for index, name in enumerate(head):
            shown.add_column(name, justify="left" if name in WORDS or not index else "right", overflow="fold")
        for row, world, following in zip(rows, worlds, [*worlds[1:], None], strict=True):
            shown.add_row(*map(Text, row), end_section=world != following or len(head) < len(widths))
        console.print(shown)
    else:
        for row in (head, *rows):
            cells = zip(row, widths, head, strict=True)
            print("  ".join(f"{c:{'<' if name in WORDS else '>'}{width}}" for c, width, name in cells).rstrip())


def _lines(cells: Sequence[str]) -> str:
    return "\n".join(cell for cell in cells if cell != "–")


def _score(values: Sequence[float | None]) -> str:
    """Mean over seeds with its interval; what is missing is left out, and said if others are there."""
    there = [value for value in values if value is not None]
    missing = f" ({len(there)} of {len(values)} seeds)" if 0 < len(there) < len(values) else ""
    if len(there) < 2:
        return (number(there[0]) if there else "–") + missing
    mean, half = interval(there)
    return f"{number(mean)} ± {number(half, mean)}{missing}"


def _evaluation(lines: Sequence[dict[str, Any] | None]) -> str:
    score = _score([line and line["eval/return"] for line in lines])
    if len(lines) == 1 and lines[0] and "eval/std" in lines[0]:
        games = f", {lines[0]['eval/games']:.0f} games" if "eval/games" in lines[0] else ""
        return f"{score} (sd {number(lines[0]['eval/std'], lines[0]['eval/return'])}{games})"
    return score


def _tested(each: Group) -> str:
    """The test error, and beside it what several views or rollouts of an image make of it."""
    words = sorted({word for run in each.runs for word in run.tested})
    scores = {word.removeprefix("error_"): _score([run.tested.get(word) for run in each.runs]) for word in words}
    plain = scores.pop("error", "–")
    return plain + "".join(f" ({score} with {count})" for count, score in scores.items())


def _reach(values: Sequence[float | None], form) -> str:
    """The mean of the seeds, or from where to where they reach if they differ by more than a tenth."""
    there = [value for value in values if value is not None]
    if not there:
        return "–"
    lowest, highest = form(min(there)), form(max(there))
    if lowest == highest or max(there) <= 1.1 * min(there):
        return form(float(np.mean(there)))
    return f"{lowest} to {highest}"


def main() -> None:
    config = tyro.cli(Config, description=__doc__)
    try:
        runs = load(config.folders)
        metric = choose_metric(runs, config.metric)
        groups = group(runs)
        show(*table(groups, metric), as_markdown=config.markdown)

        from runs.curves import draw  # matplotlib takes a second: the table comes first

        draw(groups, config.out, metric, config.x, config.smooth)
    except (OSError, ValueError) as error:
        sys.exit(f"error: {error}")
    print(f"picture: {config.out}", file=sys.stderr)


if __name__ == "__main__":
    main()
