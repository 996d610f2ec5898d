"""The folder of a sweep: sweep.json, what it is; trials.jsonl, its points and what became of its runs; logs/."""

from __future__ import annotations

import json
import os
import re
from pathlib import Path
from typing import Any

from runs import files
from runs.files import RunError

try:
    import fcntl
except ImportError:  # Windows: two sweeps in one folder are then not noticed
    fcntl = None

DESCRIPTION, TRIALS = "sweep.json", "trials.jsonl"
LATER = ("trials",)  # of the description: may differ when the sweep goes on


class Record:
    """A sweep's folder, locked until `close`.

    state: the description of the sweep, JSON values.

    points: by study and number. runs: the last word on each run, by its key. rungs: evaluations at rungs. spent:
    seconds of all commands so far. peaks: GB that a run of a study has had at most.

    Raises RunError where the folder belongs to another sweep, is in use, or cannot be written.
    """

    def __init__(self, folder: Path, state: dict[str, Any]) -> None:
        self.folder = folder
        try:
            folder.mkdir(parents=True, exist_ok=True)
            self._lock = open(folder / ".lock", "a")  # noqa: SIM115 (held until close)
        except OSError as error:
            raise RunError(f"cannot write to {folder} ({error.strerror}): choose another --folder") from error
        if fcntl:
            try:
                fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except OSError:
                raise RunError(f"{folder} is in use by another sweep; choose --name") from None
        self.points: dict[tuple[str, int], dict[str, Any]] = {}
        self.runs: dict[str, dict[str, Any]] = {}
        self.rungs: list[dict[str, Any]] = []
        self.peaks: dict[str, float] = {}
        self.spent = 0.0
        self._describe(json.loads(json.dumps(state)))
        self._read()

    def _describe(self, state: dict[str, Any]) -> None:
        path = self.folder / DESCRIPTION
        try:
            found = files.unsealed(path, {"studies": list})
        except FileNotFoundError:
            found = None
        if found is not None:
            keys = sorted(found.keys() | state.keys() - set(LATER))
            differences = [key for key in keys if key not in LATER and found.get(key) != state.get(key)]
            if differences:
                said = [f"{key}: {found.get(key)} there, {state.get(key)} here" for key in differences]
                raise RunError(
                    f"{self.folder} holds another sweep:\n  " + "\n  ".join(said) + "\nChoose another --name."
                )
        if found != state:
            files.write(path, files.sealed(state))

    def _read(self) -> None:
        path = self.folder / TRIALS
        data = path.read_bytes() if path.is_file() else b""
        whole = data[: data.rfind(b"\n") + 1]
        if whole != data:  # the last line was cut short as the sweep was killed
            files.write(path, whole)
        for number, text in enumerate(whole.splitlines(), 1):
            try:
                line = json.loads(text)
                self._enter(line)
            except (ValueError, KeyError, TypeError):
                raise RunError(f"{path}, line {number}, is damaged: remove it, or choose another --name") from None

    def _enter(self, line: dict[str, Any]) -> None:
        kind = line["kind"]
        if kind == "point":
            self.points[line["study"], line["number"]] = line["values"]
        elif kind == "run":
            self.runs[line["run"]] = line
            if line.get("peak"):
                self.peaks[line["study"]] = max(self.peaks.get(line["study"], 0.0), line["peak"])
        elif kind == "rung":
            self.rungs.append(line)
        elif kind == "spent":
            self.spent += line["seconds"]

    def add(self, kind: str, **values: Any) -> None:
        """Add a line of a kind ("point", "run", "rung", "spent"), on the disk before this returns."""
        line = {"kind": kind, **values}
        try:
            with files.append(self.folder / TRIALS) as file:
                file.write(json.dumps(line).encode() + b"\n")
                file.flush()
                os.fsync(file.fileno())
        except OSError as error:
            raise RunError(f"could not write {self.folder / TRIALS}: {error.strerror}. Make room there") from error
        self._enter(line)

    def log(self, key: str) -> Path:
        """The file for the output of a run."""
        return self.folder / "logs" / (re.sub(r"[^\w.-]", "-", key) + ".log")

    def close(self) -> None:
        """Release the lock."""
        self._lock.close()


def last_line(log: Path, begin: int = 0) -> str:
    """The reason for a failure: the last line of a log, or the sentence "error: ..." near its end.

    begin: bytes of the log that earlier starts wrote.
    """
    try:
        with open(log, "rb") as file:
            file.seek(begin)
            text = file.read().decode(errors="replace")
    except OSError:
        return "it left no log"
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    said = [number for number, line in enumerate(lines) if line.startswith("error: ")]
    if said:
        return " ".join(lines[said[-1] :])
    return lines[-1] if lines else "it said nothing"
