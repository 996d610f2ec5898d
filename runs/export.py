"""A comparison as CSV, one line for each run, and as JSON, with unrounded numbers."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from runs.groups import Group, interval
from runs.human_scores import human_normalized
from runs.printing import printable
from runs.reader import RunRecord


def as_csv(groups: Sequence[Group], more: Callable[[RunRecord], dict[str, Any]] = lambda run: {}) -> str:
    """CSV: a header, and a line for every run of the groups in their order. more: further columns of a run."""
    lines = [line_of(each, run) | more(run) for each in groups for run in each.runs]
    words = list(dict.fromkeys(word for line in lines for word in line))  # test errors are there of some only
    file = io.StringIO()
    writer = csv.DictWriter(file, words, restval="", lineterminator="\n")
    writer.writeheader()
    writer.writerows(lines)
    return file.getvalue()


def as_json(groups: Sequence[Group], more: dict[str, Any] | None = None) -> str:
    """{"groups": [{"world", "protocol", "program", "variant", "score", "final", "best", "runs": [...]}, ...]}.

    "final" and "best" hold the mean over seeds, its 95% interval (Student's t) from three seeds on, and each value.
    more: what stands beside "groups".
    """
    found = []
    for each in groups:
        runs = [line_of(each, run) for run in each.runs]
        found.append(
            {word: runs[0][word] for word in ("world", "protocol", "program", "variant")}
            | {"score": each.score.state()}
            | {word: _summary([run[word] for run in runs]) for word in ("final", "best", "training_return")}
            | {"runs": runs}
        )
    return json.dumps({"groups": found} | (more or {}), indent=1, allow_nan=False) + "\n"


def line_of(each: Group, run: RunRecord) -> dict[str, Any]:
    """The columns of a run; None where it has no such number."""
    final, best = run.final or {}, run.best or {}
    value, returned = final.get(run.score.metric), run.score.metric == "eval/return"
    return {
        "world": run.world,
        "protocol": run.protocol,
        "program": run.program,
        "variant": each.variant,
        "seed": run.seed,
        "status": run.status,
        "steps": run.step,
        "planned_steps": run.planned,
        "seconds": run.seconds,
        "steps_per_second": run.steps_per_second,
        "metric": run.score.metric,
        "better": run.score.better,
        "final": value,
        "final_step": final.get("step"),
        "best": best.get(run.score.metric),
        "best_step": best.get("step"),
        "human_normalized": human_normalized(run.world, value) if returned and value is not None else None,
        "training_return": run.training_return,
        "commit": _word(run.about.get("commit")),
        "command": _word(run.about.get("command")),
        "folder": printable(run.folder),
        **{f"test_{word}": value for word, value in run.tested.items()},
    }


def _summary(values: Sequence[float | None]) -> dict[str, Any]:
    there = [value for value in values if value is not None]
    mean, half = interval(there) if len(there) > 2 else (float(np.mean(there)) if there else None, None)
    return {"mean": mean, "interval": None if half is None else [mean - half, mean + half], "values": list(values)}


def _word(value: object) -> str | None:
    return None if value is None else printable(value)
