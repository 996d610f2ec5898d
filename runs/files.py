"""Files of a run: written atomically, with a checksum, and read back as data.

No symbolic link inside a run's folder is followed, neither for reading nor for writing: folders are shared, and a
link may point to any file of the user. Temporary files are created under new names. Nothing here needs torch.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
import secrets
import stat
from pathlib import Path
from typing import Any, BinaryIO

from runs.printing import printable

NOFOLLOW = getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_CLOEXEC", 0) | getattr(os, "O_BINARY", 0)
UNFINISHED = re.compile(r"\..+\.[0-9a-f]{8}\.tmp")  # names of files that are being written
LARGEST = 64 << 20  # bytes of a JSON file of a run at most


class RunError(Exception):
    """A run cannot start or continue, for a reason that its user can fix; the message says how.

    status: the exit status of a program that ends by it.
    """

    status = 2


class Diverged(RunError):
    """A loss became infinite or no number."""

    status = 3


class Finished(RunError):
    """A run with this config is finished already."""


class Damaged(RunError, ValueError):
    """A file of a run is damaged; the message names it."""


def write(path: Path, data: bytes) -> None:
    """Write a file atomically: after a crash or power cut the path holds either its old content or all of data.

    A link there is replaced, not followed. Raises Damaged where a folder has its name, or OSError.
    """
    temporary = path.with_name(f".{path.name}.{secrets.token_hex(4)}.tmp")
    try:
        with open(temporary, "xb") as file:  # x: a new file, never what a link points to
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, path)
    except BaseException as error:
        temporary.unlink(missing_ok=True)
        if isinstance(error, OSError) and path.is_dir() and not path.is_symlink():
            raise Damaged(f"{path} is a folder, where a run has a file: move it away") from None
        raise


def sweep(folder: Path) -> None:
    """Delete the temporary files that interrupted writes left in a folder."""
    for path in folder.glob(".*.tmp"):
        if UNFINISHED.fullmatch(path.name) and (path.is_symlink() or path.is_file()):
            path.unlink()


def make_folder(path: Path) -> None:
    """Make a folder in an existing one. Raises RunError where a link or a file has its name, or OSError."""
    if path.is_symlink():
        raise RunError(f"{path} is a symbolic link, and a run follows none in its folder: put a folder there")
    try:
        path.mkdir(exist_ok=True)
    except FileExistsError:
        raise RunError(f"{path} is not a folder: move it away, the run needs one there") from None


def new(path: Path) -> Path:
    """The path for a new file: its folder is made if missing, and a symbolic link of that name is deleted."""
    make_folder(path.parent)
    if path.is_symlink():
        path.unlink()
    return path


def append(path: Path) -> BinaryIO:
    """Open a file to append to it. Raises RunError where it is not a regular file, or OSError."""
    return opened(path, os.O_RDWR | os.O_APPEND | os.O_CREAT, "r+b")


def read(path: Path, most: int | None = None) -> bytes:
    """A file's content. Raises FileNotFoundError, or Damaged where it is a link, a folder, a device or larger than
    `most` bytes."""
    with opened(path) as file:
        if most is not None and os.fstat(file.fileno()).st_size > most:
            raise Damaged(f"{path} is larger than {most:,} bytes: it is not a file of a run")
        return file.read()


def opened(path: Path, flags: int = os.O_RDONLY, mode: str = "rb") -> BinaryIO:
    """A regular file, opened with the flags of os.open. Raises FileNotFoundError, Damaged or OSError."""
    try:
        # Non-blocking: opening a named pipe would otherwise wait forever.
        handle = os.open(path, flags | NOFOLLOW | getattr(os, "O_NONBLOCK", 0), 0o666)
    except FileNotFoundError:
        raise
    except OSError as error:
        if path.is_symlink():
            raise Damaged(
                f"{path} is a symbolic link, and a run follows none in its folder: put a file there"
            ) from None
        if path.is_dir():
            raise Damaged(f"{path} is a folder, where a run has a file: move it away") from None
        raise error
    if not stat.S_ISREG(os.fstat(handle).st_mode):
        os.close(handle)
        what = "a folder" if path.is_dir() else "no regular file"
        raise Damaged(f"{path} is {what}, where a run has a file: move it away")
    return os.fdopen(handle, mode)


def sealed(values: dict[str, Any]) -> bytes:
    """Values as a JSON object with their SHA-256 as its last entry."""
    values = {key: value for key, value in values.items() if key != "sha256"}
    return json.dumps(values | {"sha256": _digest(values)}, indent=1).encode()


def unsealed(path: Path, kinds: dict[str, type], optional: bool = False) -> dict[str, Any]:
    """The values of a file that `sealed` made.

    kinds: the required keys and their types. optional: accept a file without a checksum, as older versions and
    published records are.

    Raises FileNotFoundError, or Damaged, which names the file.
    """
    try:
        values = json.loads(read(path, LARGEST))
    except (UnicodeDecodeError, json.JSONDecodeError, RecursionError):
        raise Damaged(f"{path} is not JSON") from None
    if not isinstance(values, dict):
        raise Damaged(f"{path} should hold a JSON object, not {printable(json.dumps(values))[:40]}")
    if "sha256" not in values and not optional:
        raise Damaged(f"{path} has no checksum")
    values = without_seal(path, values)
    for key, kind in kinds.items():
        if not isinstance(values.get(key), kind):
            found = printable(json.dumps(values[key]))[:40] if key in values else "nothing"
            raise Damaged(f"{path} should hold {key!r} as a {kind.__name__}, and holds {found}")
    return values


def without_seal(path: Path, values: dict[str, Any]) -> dict[str, Any]:
    """The values of a file without their checksum. Raises Damaged where there is one that does not match."""
    values = dict(values)
    digest = values.pop("sha256", None)
    if digest is not None and digest != _digest(values):
        raise Damaged(f"{path} does not match its checksum")
    return values


def _digest(values: dict[str, Any]) -> str:
    text = json.dumps(json.loads(json.dumps(values)), sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(text.encode()).hexdigest()
