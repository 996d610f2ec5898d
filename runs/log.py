"""A run's two logs: metrics.jsonl, what the algorithm did, and clock.jsonl, how long it took.

Means are exactly rounded sums (math.fsum), so that a resumed run writes the same digits as one that was never
stopped.
"""

from __future__ import annotations

import hashlib
import itertools
import json
import math
import os
import warnings
from pathlib import Path
from typing import Any

import torch

from runs import files
from runs.files import Damaged

METRICS, CLOCK = "metrics.jsonl", "clock.jsonl"


class Log:
    """Gathers metrics, and appends lines to the files in `folder`."""

    def __init__(self, folder: Path):
        self.folder = folder
        self.pending: dict[str, list] = {}  # since the last line
        self.latest: dict[str, float] = {}  # of each metric, to be shown
        self._written = {name: _Written() for name in (METRICS, CLOCK)}  # what each file should hold

    def add(self, metrics: dict[str, Any]) -> None:
        """Add numbers, lists of numbers or scalar tensors, without waiting for the device."""
        for key, value in metrics.items():
            values = self.pending.setdefault(key, [])
            values.extend(value) if isinstance(value, list) else values.append(value)

    @property
    def learned(self) -> bool:
        """Whether an update was ever made: a loss was logged."""
        return any(key.startswith("loss/") for key in (*self.pending, *self.latest))

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
        """Append a line to a log; NaN and infinity become null. Raises OSError when the disk is full, Damaged when
        another program changed the file."""
        data = (json.dumps(finite(line), allow_nan=False) + "\n").encode()
        with files.append(self.folder / name) as file:
            there, written = os.fstat(file.fileno()).st_size, self._written[name]
            if there != written.size:
                raise Damaged(
                    f"{self.folder / name} was changed while the run was going: it holds {there:,} bytes, and "
                    f"{written.size:,} were written. The same command goes on from the last checkpoint."
                )
            file.write(data)
        written.add(data)

    def lines(self) -> list[dict[str, Any]]:
        """The readable lines of metrics.jsonl so far."""
        try:
            return _readable(files.read(self.folder / METRICS))[0]
        except (OSError, Damaged):
            return []

    def state_dict(self) -> dict[str, Any]:
        """The state for a checkpoint: pending values, and size and SHA-256 of both files, which are flushed to the
        disk."""
        return {
            "pending": {key: _numbers(values) for key, values in self.pending.items()},
            "latest": self.latest,
            "written": {name: self._settled(name) for name in (METRICS, CLOCK)},
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go back to a checkpoint: lines that were logged after it are cut off, since they will be logged again.

        Raises Damaged where the lines of metrics.jsonl before it have changed.
        """
        self.pending = {key: list(values) for key, values in state["pending"].items()}
        self.latest = state["latest"]
        for name, (size, digest) in state["written"].items():
            written, self._written[name] = self._written[name], _Written()
            path = self.folder / name
            data = files.read(path) if path.exists() or path.is_symlink() else b""
            if hashlib.sha256(data[:size]).hexdigest() == digest and len(data) >= size:
                if len(data) > size:
                    with files.append(path) as file:
                        file.truncate(size)
                self._written[name].add(data[:size])
                continue
            if name == CLOCK:  # damaged times are no reason to stop
                self._keep_readable(name, data, state["step"])
                warnings.warn(f"{path} was damaged: its readable lines are kept", stacklevel=2)
                continue
            self._written[name] = written
            raise Damaged(f"{path} {_damage(data, size)}")

    def salvage(self, state: dict[str, Any]) -> str:
        """Resume a damaged metrics.jsonl at a checkpoint with its readable lines. Returns what was wrong with it."""
        path = self.folder / METRICS
        data = files.read(path) if path.exists() else b""
        self._keep_readable(METRICS, data, state["step"])
        whole = dict(state, written={name: value for name, value in state["written"].items() if name != METRICS})
        self.load_state_dict(whole)
        return f"{METRICS} {_damage(data, state['written'][METRICS][0])}"

    def verify(self) -> dict[str, str]:
        """The SHA-256 of both files by their names.

        Raises Damaged where metrics.jsonl is not what this run has written. Times are no result: of clock.jsonl it is
        the checksum of what was written.
        """
        path, written = self.folder / METRICS, self._written[METRICS]
        data = files.read(path) if written.size else b""
        if hashlib.sha256(data).hexdigest() != written.digest():
            raise Damaged(f"{path} was changed while the run was going")
        return {METRICS: written.digest(), CLOCK: self._written[CLOCK].digest()}

    def _keep_readable(self, name: str, data: bytes, step: int) -> None:
        """Rewrite a file with those of its lines that are readable and not later than a step."""
        lines, _ = _readable(data)
        kept = "".join(json.dumps(line) + "\n" for line in lines if line["step"] <= step).encode()
        files.write(self.folder / name, kept)
        self._written[name] = _Written()
        self._written[name].add(kept)

    def _settled(self, name: str) -> list[Any]:
        """Flush a file to the disk. Returns its size in bytes and its SHA-256."""
        written = self._written[name]
        if written.size:
            with files.append(self.folder / name) as file:
                os.fsync(file.fileno())
        return [written.size, written.digest()]

    def set_aside(self) -> Path | None:
        """Start both files again. Returns the new name of the old metrics.jsonl, None if it was empty."""
        (self.folder / CLOCK).unlink(missing_ok=True)
        path = self.folder / METRICS
        if not path.exists() or not path.stat().st_size:
            return None
        number = next(n for n in itertools.count(1) if not os.path.lexists(f"{path}.{n}"))
        return path.rename(f"{path}.{number}")


def finite(value: Any) -> Any:
    """A value with None in place of NaN and infinity, which JSON cannot represent."""
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, dict):
        return {key: finite(each) for key, each in value.items()}
    return [finite(each) for each in value] if isinstance(value, list | tuple) else value


def _mean(values: list[float]) -> float:
    """Their exactly rounded mean; NaN for infinities of both signs and for sums beyond the range of floats."""
    try:
        return math.fsum(values) / len(values)
    except (ValueError, OverflowError):
        return math.nan


class _Written:
    """How many bytes were written to a file, and their SHA-256."""

    def __init__(self) -> None:
        self.size, self._hash = 0, hashlib.sha256()

    def add(self, data: bytes) -> None:
        self.size += len(data)
        self._hash.update(data)

    def digest(self) -> str:
        return self._hash.hexdigest()


def _readable(data: bytes) -> tuple[list[dict[str, Any]], int | None]:
    """The lines that are JSON objects with a step, and the number of the first line that is not."""
    lines, wrong = [], None
    for number, row in enumerate(data.splitlines(), start=1):
        try:
            line = json.loads(row)
        except (ValueError, RecursionError):
            line = None
        if isinstance(line, dict) and isinstance(line.get("step"), int):
            lines.append(line)
        else:
            wrong = wrong or number
    return lines, wrong


def _damage(data: bytes, size: int) -> str:
    """What is wrong with a log of which `size` bytes were written, in words."""
    _, wrong = _readable(data[:size])
    if len(data) < size:
        return f"has lost its end: it holds {len(data):,} bytes, and {size:,} were written when the run was saved"
    return f"is damaged in line {wrong}" if wrong else "was changed: it does not match its checksum"


def _numbers(values: list) -> list[float]:
    """Tensors and numbers as floats, with one wait for the device."""
    tensors = [value.detach().float() for value in values if isinstance(value, torch.Tensor)]
    ready = iter(torch.stack(tensors).tolist()) if tensors else iter(())
    return [next(ready) if isinstance(value, torch.Tensor) else float(value) for value in values]
