"""The folder of a run: it belongs to one config, is locked by one program at a time, and checks its writes."""

from __future__ import annotations

import contextlib
import dataclasses
import errno
import json
import os
import secrets
import shlex
import warnings
import weakref
from collections.abc import Collection, Iterator
from pathlib import Path
from typing import Any

from runs import checkpoint, files
from runs.files import Damaged, RunError
from runs.printing import printable

try:
    import fcntl
except ImportError:  # Windows: two programs in one folder are then not noticed
    fcntl = None

# Flags that change where a run is kept, how it is shown and how it is scored, but not what it learns: they may differ
# when a run is resumed. A config lists those that do change what it learns in `binding`.
RESUME_MAY_CHANGE = (
    *("folder", "name", "wandb", "wandb_project", "wandb_entity", "wandb_group", "tags"),
    *("save_every", "log_every", "profile", "device", "ray", "threads", "bind", "memory_on_disk", "accept_loss"),
    *("film", "film_seconds", "views", "test_rollouts"),
    *("evaluate_every", "evaluate_first", "evaluate_games", "evaluate_steps", "evaluate_epsilon", "evaluate_greedy"),
    *("evaluate_rollouts", "evaluate_passes"),
)
PLACE = ("folder", "name")  # a run's folder may be moved, which is not a change of its config


# Required keys of config.json and of finished.json.
ABOUT = {"id": str, "program": str, "config": dict}
FINISHED = {"run": str, "step": int, "seconds": float, "score": str}
INSIDE = ("checkpoint", "checkpoint/memory", "memory", "videos", "snapshots", "profile", "wandb")  # folders of a run
BUSY = (errno.EAGAIN, errno.EWOULDBLOCK, errno.EACCES)  # of flock: another program has it


class Folder:
    """The folder of a run, created if missing and locked until it is closed. `begin` writes its config.json.

    Args:
        config: a frozen dataclass.
        described: further entries of config.json.

    about: the content of config.json. identity: of the run, eight hexadecimal digits.

    Raises:
        RunError: the folder belongs to another config, is in use, damaged or cannot be written.
    """

    def __init__(self, path: Path, config: Any, described: dict[str, Any]) -> None:
        self.path = path
        self._made = [each for each in (path, *path.parents) if not each.exists()]
        self._held: list[int] = []  # open files that carry the locks
        self._release = weakref.finalize(self, _release, path, self._made, self._held)
        self._begun_here = False
        try:
            path.mkdir(parents=True, exist_ok=True)
            self._own = _identity(path)
            self._hold()
        except OSError as error:
            raise RunError(
                f"cannot write to {path} ({error.strerror}): choose another place with --folder"
            ) from error
        for name in INSIDE:
            if (path / name).is_symlink():
                raise RunError(
                    f"{path / name} is a symbolic link, and a run follows none in its folder: put a folder there"
                )
            if (path / name).exists() and not (path / name).is_dir():
                raise RunError(f"{path / name} is not a folder, where a run has one: move it away")
        self._config = config
        found = self._read() if self._begun() else None
        if found is not None:
            self._same_program(found, described)
            old, new = plain(type(config)()) | found["config"], plain(config)  # later flags: at their defaults
            self._compare(old, new, getattr(config, "binding", ()))
            changed = {key: [old[key], value] for key, value in new.items() if old[key] != value and key not in PLACE}
            if changed:
                changes = [*found.get("changes", []), {"step": self._saved() or 0, "flags": changed}]
                found |= {"config": found["config"] | new, "changes": changes}
        self.about = found or described | {"config": plain(config), "id": secrets.token_hex(4)}
        self.identity = self.about["id"]

    def begin(self) -> None:
        """Write config.json if it is missing or has changed. A start that is refused earlier leaves no files."""
        self._made.clear()
        data = files.sealed(self.about)
        try:
            written = files.read(self.path / "config.json") == data
        except (OSError, RunError):
            written = False
        if not written and not self.finished:
            self.write("config.json", data, step=0)
        self._begun_here = True

    def note(self, step: int, what: str) -> None:
        """Record in config.json why, from a step on, the run differs from one that was never interrupted."""
        self.about["inexact"] = [*self.about.get("inexact", []), {"step": step, "what": what}]
        if self._begun_here:
            self.write("config.json", files.sealed(self.about), step)

    def _hold(self) -> None:
        """Lock the folder and, for network file systems that cannot lock folders, a file in it."""
        self._lock: int | None = None
        if fcntl:
            self._held.append(os.open(self.path, os.O_RDONLY))
            self._take(self._held[0], only=BUSY)
        self._lock_file()

    def _lock_file(self) -> None:
        path = self.path / ".lock"
        if self._lock is not None:
            self._held.remove(self._lock)
            os.close(self._lock)
        with files.append(path) as file:
            self._lock = os.dup(file.fileno())
        self._held.append(self._lock)
        if fcntl:
            self._take(self._lock)

    def _take(self, handle: int, only: Collection[int] = ()) -> None:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            if not only or error.errno in only:
                raise RunError(f"{self.path} is in use by another program; choose --name or --seed") from error

    def check(self, step: int) -> None:
        """Raise RunError where the folder was deleted or replaced since the run locked it."""
        try:
            there = _identity(self.path)
        except OSError:
            there = None
        if there != self._own:
            raise RunError(
                f"{self.path} was deleted or replaced while the run was going, by step {step:,}: nothing more is "
                "written there. Put it back, and the same command goes on from its last checkpoint."
            )
        try:
            lock = os.stat(self.path / ".lock", follow_symlinks=False)
            same = os.path.samestat(lock, os.fstat(self._lock))
        except OSError:
            same = False
        if not same:
            self._lock_file()
        if not (self.path / "config.json").exists() and self._begun_here:
            warnings.warn(f"{self.path / 'config.json'} was deleted: it is written again", stacklevel=2)
            files.write(self.path / "config.json", files.sealed(self.about))

    def _read(self) -> dict[str, Any]:
        """The content of config.json or, where that is damaged, the copy in the newest checkpoint."""
        path = self.path / "config.json"
        try:
            return files.unsealed(path, ABOUT)
        except (OSError, Damaged) as error:
            why = f"{path} is missing" if isinstance(error, FileNotFoundError) else str(error)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # the restore warns of damaged ones
            found = next((state for _, state in checkpoint.intact(self.path / "checkpoint")), {})
        if "about" not in found:
            raise RunError(
                f"{why}, and there is no checkpoint that tells what run this is. Put config.json back as it was, or "
                "choose --name for a run of its own (a run of an older version goes on with the commit that "
                "config.json names)."
            )
        warnings.warn(f"{why}: it is written again from the checkpoint of step {found['step']:,}", stacklevel=2)
        return found["about"]

    def _same_program(self, found: dict, described: dict) -> None:
        count, ours = found.get("ranks", 1), described.get("ranks", 1)
        if count != ours:
            raise RunError(
                f"{self.path} holds a run of {count} processes, and these are {ours}: choose another --name"
            )
        there, here = found.get("program"), described.get("program")
        if there and here and there != here:
            raise RunError(f"{self.path} holds a run of {there}, and this is {here}: choose another --name")

    def _compare(self, old: dict, new: dict, binding: Collection[str]) -> None:
        if found := differences(old, new, binding):
            raise RunError(
                f"{self.path} holds a run with another config:\n"
                + "\n".join(f"  {each}" for each in found)
                + "\nUse the same flags to go on with it, or --name for a run of its own."
            )

    def _begun(self) -> bool:
        """Whether the folder has logs, a checkpoint or finished.json: a run that was refused at its start left
        none."""
        logs = any(file.stat().st_size for file in self.path.glob("*.jsonl"))
        left = [path for path in (self.path / "checkpoint").glob("*") if not path.is_dir() or any(path.iterdir())]
        return logs or (self.path / "finished.json").exists() or bool(left)

    @property
    def finished(self) -> bool:
        """Whether the run is finished. Raises RunError where finished.json is damaged or another run's."""
        path = self.path / "finished.json"
        try:
            found = files.unsealed(path, FINISHED)
        except FileNotFoundError:
            return False
        except Damaged as error:
            raise RunError(f"{error}: delete it, and the same command finishes the run again") from error
        if found["run"] != self.identity:
            raise RunError(
                f"{path} belongs to another run ({found['run']}, and this is {self.identity}): move it away"
            )
        return True

    def kept(self) -> str:
        """Which checkpoint the folder holds, for a message."""
        step = self._saved()
        return "no checkpoint yet" if step is None else f"the checkpoint of step {step:,}"

    def _saved(self) -> int | None:
        """The step of the newest checkpoint, None without any."""
        return next(iter(checkpoint.steps(self.path / "checkpoint")), None)

    def write(self, name: str, data: bytes, step: int) -> None:
        """Write a file in the folder atomically. Raises RunError if it cannot be written."""
        with self.writing(name, step):
            files.write(self.path / name, data)

    @contextlib.contextmanager
    def writing(self, name: str, step: int) -> Iterator[Path]:
        """A context that writes a file, of which it gives the path. An OSError becomes a RunError."""
        self.check(step)
        try:
            if (folder := (self.path / name).parent) != self.path:
                files.make_folder(folder)
            yield self.path / name
        except OSError as error:
            raise self.unwritten(name, step, error) from error

    def unwritten(self, name: str, step: int, error: OSError) -> RunError:
        """The error for a file that could not be written."""
        return RunError(
            f"could not write {self.path / name} at step {step:,}: {error.strerror or error}. "
            f"Kept: {self.kept()} in {self.path}. Make room and run the same command to go on from there."
        )

    def __enter__(self) -> Folder:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Release the locks."""
        self._release()


def _release(path: Path, made: list[Path], held: list[int]) -> None:
    """Release the locks, and delete the folders that were made for a run that was refused before it began."""
    if made:
        with contextlib.suppress(OSError):
            if [each.name for each in path.iterdir()] == [".lock"]:
                (path / ".lock").unlink()
                for each in made:
                    each.rmdir()
    for handle in held:
        os.close(handle)
    held.clear()


def _identity(path: Path) -> tuple[int, int]:
    found = os.stat(path)
    return found.st_dev, found.st_ino


def differences(old: dict, new: dict, binding: Collection[str] = ()) -> list[str]:
    """In which flags a config differs from that of a run that it cannot go on with: "--batch: 32 there, 64 here".

    binding: flags of RESUME_MAY_CHANGE that change what this config learns.
    """
    return [
        f"--{key.replace('_', '-')}: {old.get(key)!r} there, {new.get(key)!r} here"
        for key in sorted(old.keys() | new.keys())
        if (key not in RESUME_MAY_CHANGE or key in binding) and old.get(key) != new.get(key)
    ]


def inside(root: Path, world: str, name: str) -> Path:
    """The folder of a run by its world and its name. Raises ValueError where that is not below root."""
    for flag, words in (("the world's name", world), ("--name", name)):
        parts = Path(words).parts
        if Path(words).is_absolute() or not parts or ".." in parts or "\0" in words:
            raise ValueError(f"{flag} {words!r}: it names a folder below {root}, so it is not empty and goes not up")
    return root / world / name


def quoted(path: Path | str) -> str:
    """A path as a shell takes it in a command that is printed."""
    text = str(path)
    if printable(text) == text and "\n" not in text:
        return shlex.quote(text)
    return "$'" + printable(text).replace("\n", "\\n").replace("'", "\\'") + "'"


def plain(config: Any) -> dict[str, Any]:
    """A config as JSON values."""
    return json.loads(json.dumps(dataclasses.asdict(config), default=str))
