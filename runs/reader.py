"""Reads runs: config, progress and scores.

A run is a folder (`read_run`), or a line of a records.jsonl that `runs.publish` wrote (`read_records`). Nothing here
needs torch.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
import math
import re
import time
from pathlib import Path
from typing import Any

import numpy as np

from runs import files
from runs.printing import one_line
from runs.score import RETURN, Score

try:
    import fcntl
except ImportError:  # Windows: the age of the last line then tells whether a run is alive
    fcntl = None

METRICS, CLOCK = "metrics.jsonl", "clock.jsonl"  # a run's metrics, and when it wrote them
RECORDS = "records.jsonl"  # published runs of one world, a line each
RECENT = 100  # games over which the training return is averaged
QUIET = 300  # seconds without a line after which an unfinished run without a lock counts as interrupted


@dataclasses.dataclass(frozen=True)
class RunRecord:
    """A run, read from its folder by `read_run` or from its published record by `read_records`."""

    folder: Path  # of a published run: where its pictures lie, if it has any
    program: str  # "dqn"
    world: str  # "Breakout"
    protocol: str | None  # "classic" | "sticky"; None where a world has only one
    seed: int | None
    score: Score  # the metric of its evaluations
    unit: str  # of its steps: "steps", "images"
    config: dict[str, Any]  # every flag
    about: dict[str, Any]  # the whole config.json: hardware, versions, commit ...
    lines: list[dict[str, Any]]  # metrics, in the order written
    clock: list[dict[str, Any]]  # {"step", "seconds", ...}
    status: str  # "finished" | "running" | "interrupted"
    unreadable: int  # lines that are not JSON with a step; a half-written last one is not counted
    clock_changed: bool = False  # clock.jsonl is not what the run finished with, and `clock` is empty
    published: dict[str, Any] | None = None  # of a record only: variant, training_return, played, date, note

    @property
    def step(self) -> int:
        """The last step in its logs."""
        return int(max((line["step"] for line in self.lines + self.clock), default=0))

    @property
    def planned(self) -> float | None:
        """The number of steps of its config; None if unknown."""
        steps = self.config.get("steps")
        return steps if _is_number(steps) and steps > 0 else None

    @property
    def inexact(self) -> str:
        """Why it differs from an uninterrupted run, "from step 40: ..."; empty if it does not."""
        notes = self.about.get("inexact")
        shown = [note for note in notes if isinstance(note, dict)] if isinstance(notes, list) else []
        return one_line("; ".join(f"from step {note.get('step')}: {note.get('what')}" for note in shown))

    @property
    def unfinished(self) -> str:
        """ "running, at 40%" or "interrupted, at 40%"; empty for a finished run."""
        share = f", at {min(self.step / self.planned, 1):.0%}" if self.planned else ""
        return "" if self.status == "finished" else self.status + share

    @property
    def untimed(self) -> str:
        """Why the wall time of a finished run is not known, in words; empty where it is, and for published runs."""
        if self.clock_changed:
            return f"{one_line(self.folder / CLOCK)} was changed after the run had finished: no wall time"
        last = max((line["step"] for line in self.lines), default=0)
        whole = self.published is not None or self.status != "finished" or last <= self._timed
        return "" if whole else f"{one_line(self.folder / CLOCK)} does not reach step {int(last):,}: no wall time"

    @property
    def _timed(self) -> float:
        return self.clock[-1]["step"] if self.clock else 0

    @property
    def seconds(self) -> float | None:
        """Training wall time over all resumes; None where clock.jsonl lacks it."""
        return self.clock[-1]["seconds"] if self.clock and not self.untimed else None

    @property
    def steps_per_second(self) -> float | None:
        """Agent steps a second of wall time, over the whole run."""
        return self.clock[-1]["step"] / self.seconds if self.seconds else None

    @property
    def words(self) -> set[str]:
        """Every metric word that the run wrote a number for."""
        return {word for line in self.lines for word in line if word != "step"}

    def last(self, word: str) -> float | None:
        """The last value of a metric, None if it was never written."""
        return next((line[word] for line in reversed(self.lines) if word in line), None)

    @property
    def evaluations(self) -> list[dict[str, Any]]:
        """The lines with the metric of its score."""
        return [line for line in self.lines if self.score.metric in line]

    @property
    def final(self) -> dict[str, Any] | None:
        """The last evaluation."""
        return self.evaluations[-1] if self.evaluations else None

    @property
    def best(self) -> dict[str, Any] | None:
        """The best evaluation, the latest of equals, whose weights the run keeps."""
        found = self.evaluations
        best = self.score.best([line[self.score.metric] for line in found]) if found else None
        return next((line for line in reversed(found) if line[self.score.metric] == best), None)

    @property
    def tested(self) -> dict[str, float]:
        """Its test scores: {"error": ..., "error_10": ...}, the latter with ten views or rollouts; may be empty."""
        word = f"test/{self.score.name}"
        tests = [line for line in self.lines if word in line]
        words = tests[-1].items() if tests else ()
        return {name.removeprefix("test/"): value for name, value in words if name.startswith(word)}

    @property
    def training_return(self) -> float | None:
        """Mean return of the last hundred training games (of whole lines, so of a few more); None without games."""
        if self.published is not None:  # its lines are averaged
            return self.published["training_return"]
        total, games = 0.0, 0
        for line in reversed(self.lines):
            if games < RECENT and "episode/return" in line:
                count = line.get("episode/count", 1)
                total, games = total + count * line["episode/return"], games + count
        return total / games if games else None

    @property
    def frames_per_step(self) -> int:
        """Frames of the game that one agent step covers; only Atari worlds have a protocol."""
        return (self.config.get("frame_skip") or 4) if self.protocol in ("classic", "sticky") else 1

    def curve(self, word: str, x: str = "steps") -> tuple[np.ndarray, np.ndarray]:
        """A metric's positions and finite values, (P,) each; x is "steps", "frames" or "hours" of wall time.

        Of a step written twice the last value counts. Hours are interpolated between the lines of clock.jsonl;
        without that file the curve is empty.
        """
        points = {line["step"]: line[word] for line in self.lines if word in line}
        steps = np.array(sorted(points), dtype=float)
        values = np.array([points[step] for step in steps], dtype=float)
        if x == "frames":
            return steps * self.frames_per_step, values
        if x == "hours" and not self.clock:
            return steps[:0], values[:0]
        if x == "hours":
            hours = {0: 0.0} | {line["step"]: line["seconds"] / 3600 for line in self.clock}
            return np.interp(steps, sorted(hours), [hours[step] for step in sorted(hours)]), values
        return steps, values


def read_run(folder: Path | str) -> RunRecord:
    """Read a run's folder.

    Raises FileNotFoundError where it is not a run's folder, ValueError where config.json is damaged.
    """
    folder = Path(folder)
    path = folder / "config.json"
    if not path.is_file():
        raise FileNotFoundError(f"{one_line(folder)!r} is not a run: it has no config.json")
    about, wrote = _read_object(path), folder / METRICS
    (lines, unreadable), (clock, more) = read_lines(wrote), read_lines(folder / CLOCK)
    if _changed(folder, METRICS):
        raise ValueError(f"{one_line(wrote)} does not match the checksum in finished.json: it was changed since")
    changed = _changed(folder, CLOCK)
    status = _status(folder, wrote if wrote.exists() else path)
    found = _run(path, folder, about, lines, [] if changed else clock, status, unreadable + more)
    return dataclasses.replace(found, clock_changed=changed)


def read_records(path: Path | str) -> list[RunRecord]:
    """Read a records.jsonl: published runs of a world, a JSON object a line.

    Beside what config.json held it has "name", "status", "variant", "date", "note", "played", "training_return", and
    "curve" and "clock": lists of tables, a list of numbers a word. Raises ValueError where a line is no such object.
    """
    path, runs = Path(path), []
    for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), start=1):
        where = path.with_name(f"{path.name}, line {number}")
        about = _parsed(where, line)
        try:
            name, status = about["name"], about.pop("status")
            curve, clock = (_rows(about.pop(word)) for word in ("curve", "clock"))
            published = {word: about.pop(word) for word in ("variant", "date", "note", "played", "training_return")}
        except (KeyError, TypeError, ValueError) as error:
            raise ValueError(f"{one_line(where)} is not a record of a run: {one_line(repr(error))}") from None
        run = _run(where, path.parent / one_line(name), about, curve, clock, status, 0)
        runs.append(dataclasses.replace(run, published=published))
    return runs


def world_folder(world: str) -> str:
    """The name of the folder in which the published records of a world lie, whatever characters its name has."""
    return re.sub(r"[^\w.-]", "-", world).lstrip(".") or "world"


def _rows(tables: list[dict[str, list[float]]]) -> list[dict[str, float]]:
    """Rows from tables of columns, sorted by step."""
    rows = [dict(zip(table, row, strict=True)) for table in tables for row in zip(*table.values(), strict=True)]
    if wrong := [value for row in rows for value in row.values() if not _is_number(value)]:
        raise ValueError(f"{wrong[0]!r} is not a number")
    return sorted(rows, key=lambda line: line["step"])


def _run(
    path: Path,
    folder: Path,
    about: dict[str, Any],
    lines: list[dict[str, Any]],
    clock: list[dict[str, Any]],
    status: str,
    unreadable: int,
) -> RunRecord:
    config, world = _typed(path, about, "config", dict), _typed(path, about, "world", dict) or {}
    program = _typed(path, about, "program", str)
    if config is None or program is None:
        raise ValueError(f"{one_line(path)} is not a run's: it should name a program and hold its config")
    _typed(path, config, "frame_skip", int)
    protocol = _typed(path, world, "protocol", str)
    return RunRecord(
        folder=folder,
        program=one_line(program).rpartition(".")[2],
        world=one_line(_typed(path, world, "name", str) or folder.resolve().parent.name),
        protocol=protocol and one_line(protocol),
        seed=_typed(path, config, "seed", int),
        score=_read_score(path, about),
        unit=one_line(_typed(path, about, "unit", str) or "steps"),
        config=config,
        about=about,
        lines=lines,
        clock=[line for line in clock if "seconds" in line],
        status=status,
        unreadable=unreadable,
    )


def read_lines(path: Path) -> tuple[list[dict[str, Any]], int]:
    """The lines of a .jsonl file that hold a step, and how many others there are; ([], 0) without the file.

    Only finite numbers of a line are kept. A last line without its newline is still being written, or was cut off by
    a kill: it is not counted.
    """
    rows = path.read_text(encoding="utf-8", errors="replace").split("\n") if path.is_file() else []
    lines, unreadable = [], 0
    for number, row in enumerate(rows, start=1):
        try:
            line = json.loads(row) if row.strip() else None
        except (ValueError, RecursionError):
            line = row
        if isinstance(line, dict) and _is_number(line.get("step")):
            lines.append({word: value for word, value in line.items() if _is_number(value)})
        elif line is not None and number < len(rows):
            unreadable += 1
    return lines, unreadable


def _changed(folder: Path, name: str) -> bool:
    """Whether a file of a finished run is not the one whose checksum finished.json has under its name."""
    if not (folder / "finished.json").is_file():
        return False
    known = _typed(folder / "finished.json", _read_object(folder / "finished.json"), name, str)
    data = (folder / name).read_bytes() if (folder / name).is_file() else b""
    return bool(known) and hashlib.sha256(data).hexdigest() != known


def _status(folder: Path, lines: Path) -> str:
    if (folder / "finished.json").is_file():
        return "finished"
    if fcntl and (folder / ".lock").is_file():  # locked by a run that is alive
        with open(folder / ".lock") as lock:
            try:
                fcntl.flock(lock, fcntl.LOCK_SH | fcntl.LOCK_NB)
            except OSError:
                return "running"
        return "interrupted"
    return "running" if time.time() - lines.stat().st_mtime < QUIET else "interrupted"


def _read_object(path: Path) -> dict[str, Any]:
    try:
        text = path.read_text(encoding="utf-8")
    except ValueError as error:
        raise ValueError(f"{one_line(path)} cannot be read as JSON: {error}") from None
    return _parsed(path, text)


def _parsed(path: Path, text: str) -> dict[str, Any]:
    try:
        value = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise ValueError(f"{one_line(path)} cannot be read as JSON: {error}") from None
    if not isinstance(value, dict):
        raise ValueError(f"{one_line(path)} should hold a JSON object, not a {type(value).__name__}")
    return files.without_seal(path, value)


def _read_score(path: Path, about: dict[str, Any]) -> Score:
    found = _typed(path, about, "score", dict)
    if found is None:
        return RETURN
    try:
        score = Score(**found)
        return dataclasses.replace(score, metric=one_line(score.metric), unit=one_line(score.unit))
    except (TypeError, ValueError):
        raise ValueError(f"{one_line(path)}: no score, {one_line(found)}") from None


def _typed(path: Path, values: dict[str, Any], key: str, kind: type) -> Any:
    """The value of a key, or None. Raises ValueError where it is of another type."""
    value = values.get(key)
    if value is not None and (not isinstance(value, kind) or isinstance(value, bool)):
        raise ValueError(f"{one_line(path)}: {key} should be a {kind.__name__}, not {one_line(repr(value))[:60]}")
    return value


def _is_number(value: object) -> bool:
    try:
        return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)
    except OverflowError:  # a whole number that no float holds
        return False
