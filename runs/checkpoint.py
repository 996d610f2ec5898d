"""Checkpoints that survive being killed at any moment.

A checkpoint is one torch file and, written last, a manifest with the SHA-256 of that file and of every
other file it needs (a memory's segments). No manifest, no checkpoint: a save that was cut short leaves the
one before it in force. Everything loads with weights_only=True.
"""

from __future__ import annotations

import hashlib
import io
import json
import os
import warnings
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import torch


def write_atomically(path: Path, data: bytes) -> None:
    """Write so that the path holds either what it held before or all of data, even after a power cut."""
    temporary = path.with_name(path.name + ".tmp")
    try:
        with open(temporary, "wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, path)
    except OSError:
        temporary.unlink(missing_ok=True)
        raise


def file_hash(path: Path) -> str:
    """SHA-256 of a file, as hexadecimal digits."""
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def save_file(state: Mapping[str, Any], path: Path) -> tuple[str, int]:
    """torch.save, atomic and flushed to the disk. Returns its SHA-256 and its size in bytes."""
    buffer = io.BytesIO()  # not straight to the disk: there torch reports a full one as an internal error
    torch.save(dict(state), buffer)
    data = buffer.getvalue()
    write_atomically(path, data)
    return hashlib.sha256(data).hexdigest(), len(data)


def save(folder: Path, step: int, state: Mapping[str, Any], files: Mapping[str, str], keep: int = 3) -> None:
    """Write checkpoint `step` into folder, then drop all but the last `keep` and what only they needed.

    Args:
        state: whatever torch.load(weights_only=True) can read back.
        files: name and SHA-256 of further files in folder/memory that this checkpoint stands on.
    """
    folder.mkdir(parents=True, exist_ok=True)
    name = f"{step:012d}"
    digest, size = save_file(state, folder / f"{name}.pt")
    manifest = {"step": step, "sha256": digest, "bytes": size, "files": dict(files)}
    write_atomically(folder / f"{name}.json", json.dumps(manifest, indent=1).encode())
    kept: list[set[str]] = []  # the files of each, newest first
    for path in sorted(folder.glob("[0-9]*.json"), reverse=True):
        try:
            needs = set(json.loads(path.read_text())["files"])
        except (ValueError, KeyError):
            needs = None  # damaged: no checkpoint
        if needs is not None and len(kept) < keep:
            kept.append(needs)
        else:
            path.unlink()  # the manifest first: without it the rest is no checkpoint
    for path in (*folder.glob("[0-9]*.pt"), *folder.glob("*.tmp")):
        if not path.with_suffix(".json").exists():
            path.unlink()
    needed = set().union(*kept)
    for path in (folder / "memory").glob("*"):
        if path.name not in needed:
            path.unlink()


def intact(folder: Path) -> Iterator[tuple[Path, dict]]:
    """The checkpoints in folder, newest first, that are whole: (path of the .pt, its state).

    A damaged one is passed over with a warning that says what is wrong with it.
    """
    for manifest_path in sorted(folder.glob("[0-9]*.json"), reverse=True):
        path = manifest_path.with_suffix(".pt")
        try:
            manifest = json.loads(manifest_path.read_text())
            if file_hash(path) != manifest["sha256"]:
                raise ValueError(f"{path.name} does not match its checksum")
            for name, digest in manifest["files"].items():
                if file_hash(folder / "memory" / name) != digest:
                    raise ValueError(f"memory/{name} does not match its checksum")
            state = torch.load(path, map_location="cpu", weights_only=True)
        except (OSError, ValueError, KeyError, RuntimeError) as error:
            warnings.warn(f"checkpoint {path} is damaged ({error}); the one before it is tried", stacklevel=2)
            continue
        yield path, state
