"""Checkpoints that survive being killed at any moment.

A checkpoint is one torch file, with its checksum and its run's identity in the comment of the zip archive, the files
of a replay memory that it refers to by checksum, and a manifest that lists them all and is written last. A save that
is interrupted leaves the previous checkpoint valid. Everything loads with weights_only=True.
"""

from __future__ import annotations

import hashlib
import io
import os
import pickle
import re
import warnings
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import torch

from runs import files
from runs.files import Damaged

SEAL = re.compile(rb"saccade:([0-9a-f]{8}|-{8}):([0-9a-f]{64})")  # the run's identity, SHA-256 of all before it
LENGTH = 8 + 8 + 1 + 64
MANIFEST = {"step": int, "run": str, "digest": str, "bytes": int, "files": dict}
SEGMENT = re.compile(r"(memory|priorities)-\d{6,}-\d+-[0-9a-f]{12}\.segment")  # names of a memory's files


def file_hash(path: Path) -> str:
    """SHA-256 of a file, as hexadecimal digits. Raises FileNotFoundError, Damaged where it is not a regular file."""
    with files.opened(path) as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def save_file(state: Mapping[str, Any], path: Path, run: str | None = None) -> tuple[str, int]:
    """torch.save, atomic, with a checksum, and flushed to the disk. Returns its SHA-256 and its size in bytes.

    run: identity of the run that it belongs to, eight hexadecimal digits.
    """
    buffer = io.BytesIO()  # not straight to the disk: there torch reports a full one as an internal error
    torch.save(dict(state), buffer)
    buffer.seek(-2, os.SEEK_END)
    buffer.write(LENGTH.to_bytes(2, "little"))  # a zip archive ends in its comment, and before it that one's length
    digest = hashlib.sha256(buffer.getbuffer())
    seal = f"saccade:{run or '-' * 8}:{digest.hexdigest()}".encode()
    digest.update(seal)
    buffer.write(seal)
    files.write(path, buffer.getbuffer())
    return digest.hexdigest(), buffer.tell()


def load_file(path: Path, run: str | None = None, device: str | torch.device = "cpu") -> dict[str, Any]:
    """What save_file wrote, verified.

    run: identity of the run that must have written it; None: any run, and a file of an older version, which has no
        checksum, is accepted.

    Raises FileNotFoundError, or Damaged, which names the file.
    """
    data = files.read(path)
    seal = SEAL.fullmatch(data[-LENGTH:])
    if seal is None and (run is not None or data[-2:] != b"\0\0"):
        raise Damaged(f"{path} is damaged: it has no checksum at its end")
    if seal and hashlib.sha256(memoryview(data)[:-LENGTH]).hexdigest() != seal[2].decode():
        raise Damaged(f"{path} is damaged: it does not match its checksum")
    if seal and run is not None and seal[1].decode() != run:
        raise Damaged(f"{path} belongs to another run ({seal[1].decode()}, and this is {run})")
    if seal is None:
        warnings.warn(f"{path} has no checksum, as an older version wrote it: it is not verified", stacklevel=2)
    try:
        state = torch.load(io.BytesIO(data), map_location=device, weights_only=True)
    except (OSError, ValueError, KeyError, EOFError, RuntimeError, pickle.UnpicklingError) as error:
        raise Damaged(f"{path} cannot be read: {(str(error) or repr(error)).splitlines()[0]}") from error
    if not isinstance(state, dict):
        raise Damaged(f"{path} should hold a dict")
    return state


def verify(path: Path, run: str) -> None:
    """Raise Damaged or FileNotFoundError where a file is not what save_file wrote for that run."""
    data = files.read(path)
    seal = SEAL.fullmatch(data[-LENGTH:])
    if not seal or hashlib.sha256(memoryview(data)[:-LENGTH]).hexdigest() != seal[2].decode():
        raise Damaged(f"{path} is damaged: it does not match its checksum")
    if seal[1].decode() != run:
        raise Damaged(f"{path} belongs to another run ({seal[1].decode()}, and this is {run})")


def save(folder: Path, step: int, state: Mapping[str, Any], run: str, keep: int = 3) -> None:
    """Write checkpoint `step` into folder, then delete all but the run's last `keep` and the files only those needed.

    Args:
        state: whatever torch.load(weights_only=True) can read back; state["files"] are name and SHA-256 of the
            files in folder/memory that this checkpoint needs.
        run: identity of the run. Only what it wrote is deleted.
    """
    name = f"{step:012d}"
    digest, size = save_file(state, folder / f"{name}.pt", run)
    manifest = {"step": step, "run": run, "digest": digest, "bytes": size, "files": dict(state["files"])}
    files.write(folder / f"{name}.json", files.sealed(manifest))
    kept: list[set[str]] = []  # the files of each, newest first
    needed, dropped = set(), set()
    for path in sorted(folder.glob("[0-9]*.json"), reverse=True):
        try:
            manifest = files.unsealed(path, MANIFEST)
        except (OSError, Damaged):
            manifest = {"run": _owner(path.with_suffix(".pt")), "files": {}}
        if manifest["run"] != run and path.with_suffix(".pt").exists():
            needed |= manifest["files"].keys()  # another run's: its files are kept
        elif manifest["run"] == run and len(kept) < keep and path.with_suffix(".pt").exists():
            kept.append(set(manifest["files"]))
        elif path.is_symlink() or path.is_file():
            dropped |= manifest["files"].keys()
            path.unlink()  # the manifest first: files without one are not checkpoints
    for path in folder.glob("[0-9]*.pt"):
        if not path.with_suffix(".json").exists() and _owner(path) == run:
            path.unlink()
    files.sweep(folder)
    files.sweep(folder / "memory")
    needed = needed.union(*kept)
    for path in (folder / "memory").glob("*"):
        known = path.name in dropped or SEGMENT.fullmatch(path.name)  # or left by a save that was killed
        if known and path.name not in needed and path.is_file() and not path.is_symlink():
            path.unlink()


def drop_after(folder: Path, step: int, run: str) -> None:
    """Delete the checkpoints of a run that are later than a step."""
    for later in steps(folder):
        path = folder / f"{later:012d}.pt"
        if later > step and _owner(path) in (run, None):
            path.with_suffix(".json").unlink(missing_ok=True)  # first: files without one are not checkpoints
            path.unlink(missing_ok=True)


def _owner(path: Path) -> str | None:
    """The identity of the run that a torch file says it belongs to."""
    try:
        with files.opened(path) as file:
            file.seek(-LENGTH, os.SEEK_END)
            seal = SEAL.fullmatch(file.read())
    except (OSError, Damaged):
        return None
    return seal and seal[1].decode()


def steps(folder: Path) -> list[int]:
    """The steps for which a checkpoint's file or manifest exists, whole or not, the latest first."""
    found = {path.stem for kind in ("json", "pt") for path in folder.glob(f"[0-9]*.{kind}")}
    return sorted((int(stem) for stem in found if stem.isdecimal()), reverse=True)


def intact(folder: Path, run: str | None = None) -> Iterator[tuple[Path, dict]]:
    """The checkpoints in folder, newest first, whose torch file is whole: (path of the .pt, its state).

    run: identity of the run that must have written them; None: any run. One that is damaged or another run's is
    skipped with a warning. `damaged` checks the memory files that a checkpoint needs.
    """
    for step in steps(folder):
        path = folder / f"{step:012d}.pt"
        try:
            state = load_file(path, run)
            if state.get("step") != step:
                raise Damaged(f"it is of step {state.get('step')}")
        except (OSError, Damaged) as error:
            why = error.strerror if isinstance(error, OSError) else str(error).removeprefix(f"{path} ")
            warnings.warn(f"checkpoint {path} is skipped ({why}); the one before it is tried", stacklevel=2)
            continue
        yield path, state


def damaged(folder: Path, state: Mapping[str, Any]) -> dict[str, str]:
    """The files in folder/memory that a checkpoint needs and that are missing or damaged: {name: reason}."""
    found = {}
    for name, digest in state["files"].items():
        try:
            if Path(name).name != name or file_hash(folder / "memory" / name) != digest:
                found[name] = f"memory/{name} does not match its checksum"
        except OSError as error:
            found[name] = f"memory/{name}: {error.strerror}"
        except Damaged as error:
            found[name] = str(error)
    return found


def no_number(state: Any) -> str | None:
    """The path of a tensor with NaN or infinity in nested containers, "state.0.exp_avg"; None if all are finite."""
    named = list(_tensors(state, ()))
    if not named or all(torch.stack([tensor.isfinite().all().cpu() for _, tensor in named])):
        return None
    return next(".".join(map(str, place)) for place, tensor in named if not tensor.isfinite().all())


def _tensors(state: Any, place: tuple) -> Iterator[tuple[tuple, torch.Tensor]]:
    """The tensors of floating point in nested containers, and where they stand."""
    if isinstance(state, torch.Tensor):
        if state.is_floating_point():
            yield place, state
    elif isinstance(state, Mapping):
        for key, value in state.items():
            yield from _tensors(value, (*place, key))
    elif isinstance(state, list | tuple) and not all(isinstance(each, int | float) for each in state):
        for index, value in enumerate(state):
            yield from _tensors(value, (*place, index))
