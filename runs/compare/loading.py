"""Finding and reading the runs that are compared."""

from __future__ import annotations

import sys
from collections.abc import Iterable
from pathlib import Path

from runs import suggestions
from runs.compare import from_wandb
from runs.groups import group
from runs.printing import printable
from runs.reader import METRICS, RECORDS, RunRecord, read_records, read_run

RANKS = "ranks"  # in the folder of a run that several processes train: runs/parallel.py
BEGUN = (METRICS, ".lock", "checkpoint")  # one of these lies beside the config.json of a run


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
            if path.parent.parent.name == RANKS:  # the other processes' parts of a run
                continue
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

    "wandb:entity/project" stands for the runs of a W&B project.
    Raises FileNotFoundError where there is none, ValueError where W&B does not give them.
    """
    folders = list(folders)
    projects = [folder for folder in folders if from_wandb.is_project(folder)]
    places = [folder for folder in folders if not from_wandb.is_project(folder)]
    runs = [run for project in projects for run in from_wandb.read_project(project)]
    for folder in find_runs(places) if places else ():
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
