"""Runs read from W&B, to be compared with each other and with folders.

    python -m runs.compare wandb:team/saccade results/Pong

A run's config in W&B says its program, world and score (runs/wandb_process.py copies them there), its history has the
lines of metrics.jsonl and clock.jsonl. Runs of other programs in the project are left out, each with its reason.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from runs.artifacts import CIRCUMSTANCES, PREFIX
from runs.lines import Lines, is_number
from runs.printing import one_line, printable
from runs.reader import RunRecord, assemble

ANSWER = 30  # seconds that W&B has for an answer
STATES = {"finished": "finished", "running": "running", "pending": "running"}  # of W&B; others are interrupted


def is_project(name: Path | str) -> bool:
    """Whether a name is that of a W&B project, "wandb:entity/project", and no folder."""
    return str(name).startswith(PREFIX)


def read_project(name: Path | str) -> list[RunRecord]:
    """The runs of a project, the oldest first.

    name: "wandb:entity/project"; without an entity the account's own. Runs that cannot be read are named on stderr.
    Raises ValueError without W&B's client, without a key, and where the project is not found or does not answer.
    """
    os.environ.setdefault("WANDB_SILENT", "true")
    project = str(name).removeprefix(PREFIX).strip("/")
    if not project:
        raise ValueError(f"{PREFIX} names no project: {PREFIX}entity/project")
    try:
        import wandb
    except ImportError as error:
        raise ValueError("comparing runs in W&B needs its client: pip install wandb") from error
    try:
        found = [_read(each) for each in wandb.Api(timeout=ANSWER).runs(project, lazy=False)]
    except Exception as error:  # the client has a dozen kinds
        raise ValueError(f"W&B has not given the runs of {one_line(project)}: {one_line(str(error))[:300]}") from None
    runs = [run for run in found if run is not None]
    if not runs:
        raise ValueError(f"no run of this project's programs in {one_line(project)}")
    return runs


def _read(run: Any) -> RunRecord | None:
    where = Path(f"{PREFIX}{run.entity}/{run.project}/{run.id}")
    config = {key: value for key, value in run.config.items() if not key.startswith("_")}
    about: dict[str, Any] = {key: config.pop(key) for key in CIRCUMSTANCES if key in config}
    if "world" not in about:
        print(printable(f"left out: {where}: its config does not say its world"), file=sys.stderr)
        return None
    rows = sorted(run.scan_history(), key=lambda row: row.get("_step", 0))  # as they were sent
    metrics, clock = [], []
    for row in rows:
        numbers = {key: value for key, value in row.items() if not key.startswith("_") and is_number(value)}
        if "step" in numbers:
            (clock if "seconds" in numbers else metrics).append(numbers)
    try:
        return assemble(
            where, where, about | {"config": config}, _in_order(metrics), _in_order(clock),
            STATES.get(run.state, "interrupted"), 0,
        )  # fmt: skip
    except ValueError as error:
        print(printable(f"left out: {error}"), file=sys.stderr)
        return None


def _in_order(rows: Iterable[dict[str, float]]) -> Lines:
    """Lines by step: those of a resumed run were sent once more from where it went on."""
    return Lines(sorted(rows, key=lambda row: row["step"]))
