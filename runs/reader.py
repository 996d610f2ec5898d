"""Reads runs: config, progress and scores.

A run is a folder (`read_run`), a line of a records.jsonl that `runs.publish` wrote (`read_records`), or a run in W&B
(compare/from_wandb.py). Nothing here needs torch.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
import re
import time
from pathlib import Path
from typing import Any

import numpy as np

from runs import files
from runs.lines import Later, Lines, is_number, parse, parse_later
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
    lines: Lines  # metrics, in the order written
    clock: Lines  # {"step", "seconds", ...}
    status: str  # "finished" | "running" | "interrupted"
    unreadable: int  # lines that are not JSON with a step; a half-written last one is not counted
    clock_changed: bool = False  # clock.jsonl is not what the run finished with, and `clock` is empty
    published: dict[str, Any] | None = None  # of a record only: variant, training_return, played, date, note

    @property
    def step(self) -> int:
        """The last step in its logs."""
        return max(self.lines.last_step, self.clock.last_step)

    @property
    def planned(self) -> float | None:
        """The number of steps of its config; None if unknown."""
        steps = self.config.get("steps")
        return steps if is_number(steps) and steps > 0 else None

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
        last = self.lines.last_step
        whole = self.published is not None or self.status != "finished" or last <= self._timed
        return "" if whole else f"{one_line(self.folder / CLOCK)} does not reach step {last:,}: no wall time"

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
        return self.lines.words

    def last(self, word: str) -> float | None:
        """The last value of a metric, None if it was never written."""
        places, _ = self.lines.column(word)
        return self.lines[places[-1]][word] if len(places) else None

    @property
    def evaluations(self) -> list[dict[str, Any]]:
        """The lines with the metric of its score."""
        return [self.lines[place] for place in self.lines.column(self.score.metric)[0]]

    @property
    def final(self) -> dict[str, Any] | None:
        """The last evaluation."""
        places, _ = self.lines.column(self.score.metric)
        return self.lines[places[-1]] if len(places) else None

    @property
    def best(self) -> dict[str, Any] | None:
        """The best evaluation, the latest of equals, whose weights the run keeps."""
        places, values = self.lines.column(self.score.metric)
        if not len(places):
            return None
        best = values.max() if self.score.better == "max" else values.min()
        return self.lines[places[np.flatnonzero(values == best)[-1]]]

    @property
    def tested(self) -> dict[str, float]:
        """Its test scores: {"error": ..., "error_10": ...}, the latter with ten views or rollouts; may be empty."""
        word = f"test/{self.score.name}"
        places, _ = self.lines.column(word)
        words = self.lines[places[-1]].items() if len(places) else ()
        return {name.removeprefix("test/"): value for name, value in words if name.startswith(word)}

    @property
    def training_return(self) -> float | None:
        """Mean return of the last hundred training games (of whole lines, so of a few more); None without games."""
        if self.published is not None:  # its lines are averaged
            return self.published["training_return"]
        total, games = 0.0, 0
        for place in reversed(self.lines.column("episode/return")[0]):
            if games >= RECENT:
                break
            line = self.lines[place]
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
        steps, values = self.lines.curve(word)
        if x == "frames":
            return steps * self.frames_per_step, values
        if x == "hours" and not self.clock:
            return steps[:0], values[:0]
        if x == "hours":
            places, seconds = self.clock.curve("seconds")
            if places[0] > 0:
                places, seconds = np.append(0.0, places), np.append(0.0, seconds)
            return np.interp(steps, places, seconds / 3600), values
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
    metrics, times = (_bytes(folder / name) for name in (METRICS, CLOCK))
    (lines, unreadable), (clock, more) = parse(metrics), parse_later(folder / CLOCK, times, ("step", "seconds"))
    known = _checksums(folder / "finished.json")
    if _changed(known.get(METRICS), metrics):
        raise ValueError(f"{one_line(wrote)} does not match the checksum in finished.json: it was changed since")
    changed = _changed(known.get(CLOCK), times)
    found = assemble(path, folder, about, lines, Lines() if changed else clock, status(folder), unreadable + more)
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
            curve, clock = (Lines(_rows(about.pop(word))) for word in ("curve", "clock"))
            published = {word: about.pop(word) for word in ("variant", "date", "note", "played", "training_return")}
        except (KeyError, TypeError, ValueError) as error:
            raise ValueError(f"{one_line(where)} is not a record of a run: {one_line(repr(error))}") from None
        run = assemble(where, path.parent / one_line(name), about, curve, clock, status, 0)
        runs.append(dataclasses.replace(run, published=published))
    return runs


def world_folder(world: str) -> str:
    """The name of the folder in which the published records of a world lie, whatever characters its name has."""
    return re.sub(r"[^\w.-]", "-", world).lstrip(".") or "world"


def _rows(tables: list[dict[str, list[float]]]) -> list[dict[str, float]]:
    """Rows from tables of columns, sorted by step."""
    rows = [dict(zip(table, row, strict=True)) for table in tables for row in zip(*table.values(), strict=True)]
    if wrong := [value for row in rows for value in row.values() if not is_number(value)]:
        raise ValueError(f"{wrong[0]!r} is not a number")
    return sorted(rows, key=lambda line: line["step"])


def assemble(
    path: Path,
    folder: Path,
    about: dict[str, Any],
    lines: Lines,
    clock: Lines,
    status: str,
    unreadable: int,
) -> RunRecord:
    """A run from what its config.json holds and its two logs. path: what a message names.

    Raises ValueError where `about` is not a run's, or has words of other types.
    """
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
        clock=clock if isinstance(clock, Later) else _with_seconds(clock),
        status=status,
        unreadable=unreadable,
    )


def _with_seconds(clock: Lines) -> Lines:
    return clock if len(clock.column("seconds")[0]) == len(clock) else Lines([x for x in clock if "seconds" in x])


def _bytes(path: Path) -> bytes:
    return path.read_bytes() if path.is_file() else b""


def _checksums(path: Path) -> dict[str, str | None]:
    """The SHA-256 of both logs of a finished run, from its finished.json; empty for others."""
    found = _read_object(path) if path.is_file() else {}
    return {word: _typed(path, found, word, str) for word in (METRICS, CLOCK) if word in found}


def _changed(known: str | None, data: bytes) -> bool:
    """Whether a log of a finished run is not the one whose checksum is known."""
    return bool(known) and hashlib.sha256(data).hexdigest() != known


def status(folder: Path) -> str:
    """Whether a run is "finished", "running" or "interrupted", from its folder. Raises OSError where it is gone."""
    if (folder / "finished.json").is_file():
        return "finished"
    if fcntl and (folder / ".lock").is_file():  # locked by a run that is alive
        with open(folder / ".lock") as lock:
            try:
                fcntl.flock(lock, fcntl.LOCK_SH | fcntl.LOCK_NB)
            except OSError:
                return "running"
        return "interrupted"
    wrote = folder / METRICS if (folder / METRICS).exists() else folder / "config.json"
    return "running" if time.time() - wrote.stat().st_mtime < QUIET else "interrupted"


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
