"""Compare runs from their folders alone: a table, and a picture of their learning curves.

    python -m runs.compare results/Breakout
    python -m runs.compare results --metric episode/return --x hours
    python -m runs.compare runs/published/atari results/Pong --markdown > table.md
    python -m runs.compare results --csv runs.csv --json groups.json    # every number, unrounded

Runs of one world, protocol, program and configuration are the seeds of one row and are averaged; runs under
different protocols never are. With three seeds or more, a score is the mean over seeds and the 95% interval of
that mean (Student's t). Two seeds are too few for an interval: both scores are shown beside their mean. With one seed
it is that seed's evaluation and the standard deviation over its games. Each run's config.json names its score and
whether more of it is better. The best evaluation is the maximum of many noisy ones and therefore biased upwards:
compare by the final one.
"""

from __future__ import annotations

import contextlib
import dataclasses
import sys
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Annotated, Any, Literal

import numpy as np
import tyro
from rich.console import Console
from rich.table import Table
from rich.text import Text

from runs import flag_types, flags, suggestions
from runs.flag_types import Count
from runs.groups import Group, group, interval, reach
from runs.printing import printable
from runs.progress import duration
from runs.reader import METRICS, RECENT, RECORDS, RunRecord, read_records, read_run
from runs.score import Score, number, short

BEGUN = (METRICS, ".lock", "checkpoint")  # one of these lies beside the config.json of a run
WORDS = ("world", "protocol", "program", "seeds", "hardware", "commit")  # columns that are not numbers


@dataclasses.dataclass(frozen=True)
class Config:
    folders: Annotated[tuple[Path, ...], tyro.conf.Positional] = (Path("results"),)  # runs, or folders of runs
    metric: str | None = None  # metric word that the picture shows; None: each run's own score
    x: Literal["steps", "frames", "hours"] = "steps"  # hours are wall time
    out: Path = Path("results/compare.png")  # the picture
    smooth: Count = 1  # points in the curves' running mean; 1 leaves them as measured
    markdown: bool = False  # print the table as Markdown
    csv: Path | None = None  # file for a line a run
    json: Path | None = None  # file for the groups, their scores and runs


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
        unit = f", {one.unit}" if one and one.unit else ""
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


def check_metric(runs: Iterable[RunRecord], metric: str | None) -> None:
    """Raise ValueError on a word that none of the runs wrote, naming near matches."""
    words = sorted(set().union(*(run.words for run in runs)))
    if metric is not None and words and metric not in words:
        raise ValueError(f"unknown metric {metric!r}: {suggestions.one_of(metric, words, 'these runs wrote')}")


def find_runs(folders: Iterable[Path | str]) -> list[Path]:
    """Every run's folder, and every records.jsonl of published runs, at or under the given ones, each once.

    Other files are ignored.

    Raises FileNotFoundError where a path does not exist (naming near matches) or no run was found.
    """
    folders, found = [Path(folder) for folder in folders], {}
    for folder in folders:
        if not folder.exists():
            beside = folder.parent.iterdir() if folder.parent.is_dir() else ()
            like = suggestions.near_matches(folder.name, [path.name for path in beside if path.is_dir()], count=1)
            hint = f": did you mean {str(folder.with_name(like[0]))!r}?" if like else ""
            raise FileNotFoundError(f"no folder {str(folder)!r}{hint}")
        for path in sorted(folder.rglob("config.json")):
            if any((path.parent / name).exists() for name in BEGUN):  # other programs have files of that name too
                found.setdefault(path.parent.resolve(), path.parent)
        for path in [folder] if folder.name == RECORDS else sorted(folder.rglob(RECORDS)):
            found.setdefault(path.resolve(), path)
    if not found:
        where = ", ".join(str(folder) for folder in folders)
        raise FileNotFoundError(
            f"no runs in {printable(where)}: a run's folder has config.json and metrics.jsonl, "
            "and `python -m agents.dqn --env Catch` makes one"
        )
    return list(found.values())


def load(folders: Iterable[Path]) -> list[RunRecord]:
    """Read every run under the folders; unreadable lines, inexact runs and duplicate seeds are reported on stderr.

    Raises FileNotFoundError where there is none.
    """
    runs = []
    for folder in find_runs(folders):
        try:
            found = read_records(folder) if folder.name == RECORDS else [read_run(folder)]
        except (OSError, ValueError) as error:
            print(printable(f"left out: {error}"), file=sys.stderr)
            continue
        runs += found
        if unreadable := sum(run.unreadable for run in found):
            print(printable(f"{folder}: {unreadable} unreadable lines skipped"), file=sys.stderr)
        for run in found:
            if run.untimed:
                print(printable(run.untimed), file=sys.stderr)
            if run.inexact:
                print(printable(f"{run.folder}: not exact {run.inexact}"), file=sys.stderr)
    if not runs:
        raise FileNotFoundError("none of these runs can be read")
    for each in group(runs):
        for one, two in zip(each.runs, each.runs[1:], strict=False):
            if one.seed == two.seed:  # not independent: the interval would come out too narrow
                print(printable(f"seed {one.seed} counts twice: {one.folder} and {two.folder}"), file=sys.stderr)
    return runs


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
    """The test score from one view or rollout of each image and, in brackets, those from several."""
    name = each.score.name
    scores = {}
    for word in sorted({word for run in each.runs for word in run.tested}):
        scores[word.removeprefix(f"{name}_")] = over_seeds([run.tested.get(word) for run in each.runs], suffix)
    plain = scores.pop(name, "–")
    return plain + "".join(f" ({score} with {count})" for count, score in scores.items())


def main() -> None:
    config = flags.parse(Config, "runs.compare", __doc__)
    try:
        flag_types.check(config)
        runs = load(config.folders)
        check_metric(runs, config.metric)
    except (OSError, ValueError) as error:
        sys.exit(printable(f"error: {error}"))
    groups = group(runs)
    show(*table(groups, config.metric), as_markdown=config.markdown)
    if failed := _write(config, groups):
        sys.exit(failed)


def _write(config: Config, groups: Sequence[Group]) -> str:
    """Write the files asked for and the picture. Returns a message for those that could not be written."""
    from runs import export
    from runs.curves import NothingToDraw, draw  # matplotlib takes a second: the table comes first

    failed: list[str] = []
    for flag, path, text in (("csv", config.csv, export.as_csv), ("json", config.json, export.as_json)):
        if path is not None:
            with _written(path, flag, failed):
                path.parent.mkdir(parents=True, exist_ok=True)
                path.write_text(text(groups), encoding="utf-8")
    with _written(config.out, "out", failed):
        try:
            for note in draw(groups, config.out, config.metric, config.x, config.smooth):
                print(f"not in the picture: {note}", file=sys.stderr)
        except NothingToDraw as error:
            print(f"no picture: {error}", file=sys.stderr)
        else:
            print(printable(f"picture: {config.out}"), file=sys.stderr)
    return printable("\n".join(failed))


@contextlib.contextmanager
def _written(path: Path, flag: str, failed: list[str]) -> Iterator[None]:
    """Note why a file could not be written, and go on to the next."""
    try:
        yield
    except (OSError, ValueError) as error:
        why = getattr(error, "strerror", None) or error
        failed.append(f"error: cannot write {path} ({why}): choose another place with --{flag}")


if __name__ == "__main__":
    main()
