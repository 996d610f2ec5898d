"""A run's place on the disk: of one config, held by one program at a time; what cannot be written there is told."""

from __future__ import annotations

import dataclasses
import json
import secrets
from collections.abc import Collection
from pathlib import Path
from typing import Any

from runs import checkpoint

try:
    import fcntl
except ImportError:  # Windows: two programs in one folder are then not noticed
    fcntl = None

# Flags that change where a run is kept, how it is shown and how it is scored, but not what it learns: a run that
# goes on may be given others. A config names those of them that do count for it in `binding`.
OUTWARD = (
    *("folder", "name", "wandb", "wandb_project", "wandb_entity", "wandb_group", "tags"),
    *("save_every", "log_every", "profile", "device", "threads", "memory_on_disk"),
    *("film", "film_seconds", "views", "test_rollouts"),
    *("evaluate_every", "evaluate_games", "evaluate_steps", "evaluate_epsilon", "evaluate_greedy"),
    *("evaluate_rollouts", "evaluate_passes"),
)
PLACE = ("folder", "name")  # a run's folder may be moved, which is no change of its config


class RunError(Exception):
    """A run cannot start or go on, for a reason its user can mend; the message says how."""


class Folder:
    """A folder, made where there is none, and held until it is closed.

    Args:
        config: a frozen dataclass.
        described: what else config.json is to hold.

    identity: of the run, eight hexadecimal digits.

    Raises:
        RunError: the folder belongs to another config, is in use or cannot be written.
    """

    def __init__(self, path: Path, config: Any, described: dict[str, Any]) -> None:
        self.path = path
        try:
            path.mkdir(parents=True, exist_ok=True)
            self._lock = open(path / ".lock", "w")
        except OSError as error:
            raise RunError(
                f"cannot write to {path} ({error.strerror}): choose another place with --folder"
            ) from error
        if fcntl:
            try:
                fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except OSError as error:
                raise RunError(f"{path} is in use by another program; choose --name or --seed") from error
        found = json.loads((path / "config.json").read_text()) if (path / "config.json").exists() else {}
        self.identity = found.get("id") or secrets.token_hex(4)
        if found and self._begun():
            self._same_program(found, described)
            old, new = plain(type(config)()) | found["config"], plain(config)  # later flags: at their defaults
            self._compare(old, new, getattr(config, "binding", ()))
            changed = {key: [old[key], value] for key, value in new.items() if old[key] != value and key not in PLACE}
            if changed and not self.finished:
                changes = [*found.get("changes", []), {"step": self._saved() or 0, "flags": changed}]
                whole = found | {"config": found["config"] | new, "changes": changes}
                self.write("config.json", json.dumps(whole, indent=1).encode(), step=0)
        else:
            whole = described | {"config": plain(config), "id": self.identity}
            self.write("config.json", json.dumps(whole, indent=1).encode(), step=0)

    def _same_program(self, found: dict, described: dict) -> None:
        there, here = found.get("program"), described.get("program")
        if there and here and there != here:
            raise RunError(f"{self.path} holds a run of {there}, and this is {here}: choose another --name")

    def _compare(self, old: dict, new: dict, binding: Collection[str]) -> None:
        differences = [
            f"  --{key.replace('_', '-')}: {old.get(key)!r} there, {new.get(key)!r} here"
            for key in sorted(old.keys() | new.keys())
            if (key not in OUTWARD or key in binding) and old.get(key) != new.get(key)
        ]
        if differences:
            raise RunError(
                f"{self.path} holds a run with another config:\n"
                + "\n".join(differences)
                + "\nUse the same flags to go on with it, or --name for a run of its own."
            )

    def _begun(self) -> bool:
        """Whether a run left anything but its config: one that was refused before its first step did not."""
        logs = any(file.stat().st_size for file in self.path.glob("*.jsonl"))
        return logs or self.finished or any((self.path / "checkpoint").glob("*"))

    @property
    def finished(self) -> bool:
        """Whether the run there has come to its end."""
        return (self.path / "finished.json").exists()

    def kept(self) -> str:
        """What the folder holds of the run, in words."""
        step = self._saved()
        return "no checkpoint yet" if step is None else f"the checkpoint of step {step:,}"

    def _saved(self) -> int | None:
        """The step of the newest checkpoint, None without any."""
        steps = sorted((self.path / "checkpoint").glob("[0-9]*.json"))
        return int(steps[-1].stem) if steps else None

    def write(self, name: str, data: bytes, step: int) -> None:
        """Write a file there, whole or not at all. Raises RunError if it cannot be."""
        try:
            checkpoint.write_atomically(self.path / name, data)
        except OSError as error:
            raise self.unwritten(name, step, error) from error

    def unwritten(self, name: str, step: int, error: OSError) -> RunError:
        """To be raised when a file there could not be written."""
        return RunError(
            f"could not write {self.path / name} at step {step:,}: {error.strerror or error}. "
            f"Kept: {self.kept()} in {self.path}. Make room and run the same command to go on from there."
        )

    def close(self) -> None:
        """Let another program have it."""
        self._lock.close()


def plain(config: Any) -> dict[str, Any]:
    """A config as JSON values."""
    return json.loads(json.dumps(dataclasses.asdict(config), default=str))
