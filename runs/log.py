"""A run's two logs: metrics.jsonl, what the algorithm did, and clock.jsonl, how long it took.

Means are exact sums of what came in, so that a resumed run writes the same digits as one that was never stopped.
"""

from __future__ import annotations

import json
import math
import os
from pathlib import Path
from typing import Any

import torch

from runs.folder import RunError

METRICS, CLOCK = "metrics.jsonl", "clock.jsonl"


class Log:
    """Gathers metrics, and appends lines to the files in `folder`."""

    def __init__(self, folder: Path):
        self.folder = folder
        self.pending: dict[str, list] = {}  # since the last line
        self.latest: dict[str, float] = {}  # of each metric, to be shown

    def add(self, metrics: dict[str, Any]) -> None:
        """Take in numbers, lists of numbers or scalar tensors; these are not waited for."""
        for key, value in metrics.items():
            values = self.pending.setdefault(key, [])
            values.extend(value) if isinstance(value, list) else values.append(value)

    def means(self) -> dict[str, float]:
        """The mean of each metric since the last call; of episodes also their number."""
        pending, self.pending = self.pending, {}
        line: dict[str, float] = {}
        for key in sorted(pending):
            values = _numbers(pending[key])
            if values:
                line[key] = _mean(values)
            if key == "episode/return":
                line["episode/count"] = len(values)
        self.latest |= line
        return line

    def write(self, name: str, line: dict[str, Any]) -> None:
        """Append a line to a log; what is no finite number becomes null. Raises OSError where there is no room."""
        with open(self.folder / name, "a") as file:
            file.write(json.dumps(finite(line), allow_nan=False) + "\n")

    def lines(self) -> list[dict[str, Any]]:
        """The lines of metrics.jsonl so far."""
        path = self.folder / METRICS
        return [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []

    def state_dict(self) -> dict[str, Any]:
        """What a checkpoint needs to know of the logs, once they have reached the disk."""
        return {
            "pending": {key: _numbers(values) for key, values in self.pending.items()},
            "latest": self.latest,
            "sizes": {name: _settle(self.folder / name) for name in (METRICS, CLOCK)},
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go back to a checkpoint: what was logged after it will happen again, and is cut off.

        Raises RunError where what was logged before it is not there any more.
        """
        self.pending = {key: list(values) for key, values in state["pending"].items()}
        self.latest = state["latest"]
        for name, size in state["sizes"].items():
            path = self.folder / name
            there = path.stat().st_size if path.exists() else 0
            if there < size:
                raise RunError(
                    f"{path} has lost its end: it holds {there:,} bytes, and {size:,} were written when the run was "
                    "saved. Put the whole file back, or choose --name for a run of its own."
                )
            if path.exists():
                os.truncate(path, size)

    def clear(self) -> None:
        """Begin both files again."""
        for name in (METRICS, CLOCK):
            (self.folder / name).unlink(missing_ok=True)


def finite(value: Any) -> Any:
    """A value whose numbers are all finite: None in the place of NaN and infinity, which JSON does not know."""
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, dict):
        return {key: finite(each) for key, each in value.items()}
    return [finite(each) for each in value] if isinstance(value, list | tuple) else value


def _mean(values: list[float]) -> float:
    """Their exact mean; NaN where their sum is no number (infinities of both signs, or beyond the floats)."""
    try:
        return math.fsum(values) / len(values)
    except (ValueError, OverflowError):
        return math.nan


def _settle(path: Path) -> int:
    """Have a file reach the disk, and return its size in bytes: 0 where there is none yet."""
    if not path.exists():
        return 0
    with open(path, "rb") as file:
        os.fsync(file.fileno())
        return os.fstat(file.fileno()).st_size


def _numbers(values: list) -> list[float]:
    """Tensors and numbers as floats, with one wait for the device."""
    tensors = [value.detach().float() for value in values if isinstance(value, torch.Tensor)]
    ready = iter(torch.stack(tensors).tolist()) if tensors else iter(())
    return [next(ready) if isinstance(value, torch.Tensor) else float(value) for value in values]
