"""Files of a run: written whole or not at all, with a checksum, and read back as data.

No symbolic link inside a run's folder is followed, neither for reading nor for writing: folders are shared, and a
link may point to anybody's file. What is new has a name that did not exist. Nothing here needs torch.
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
LARGEST = 64 << 20  # bytes of a JSON file: more is none of ours


class RunError(Exception):
    """A run cannot start or go on, for a reason its user can mend; the message says how."""


class Finished(RunError):
    """A run with this config has come to its end before."""


class Damaged(RunError, ValueError):
    """A file of a run does not hold what it must; the message names it."""


def write(path: Path, data: bytes) -> None:
    """Write so that the path holds either what it held before or all of data, even after a power cut.

    A link there is replaced, not followed. Raises Damaged where a folder has its name, OSError.
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
    """Delete what writes that were killed left in a folder."""
    for path in folder.glob(".*.tmp"):
        if UNFINISHED.fullmatch(path.name) and (path.is_symlink() or path.is_file()):
            path.unlink()


def make_folder(path: Path) -> None:
    """Make a folder in one that is there. Raises RunError where a link or a file has its name, OSError."""
    if path.is_symlink():
        raise RunError(f"{path} is a symbolic link, and a run follows none in its folder: put a folder there")
    try:
        path.mkdir(exist_ok=True)
    except FileExistsError:
        raise RunError(f"{path} is no folder: move it away, the run needs one there") from None


def new(path: Path) -> Path:
    """The path, in a folder that is made where there is none, with no link there that a writer could follow."""
    make_folder(path.parent)
    if path.is_symlink():
        path.unlink()
    return path


def append(path: Path) -> BinaryIO:
    """Open a file to write at its end. Raises RunError where it is no regular file, OSError."""
    return opened(path, os.O_RDWR | os.O_APPEND | os.O_CREAT, "r+b")


def read(path: Path, most: int | None = None) -> bytes:
    """What a file holds. Raises FileNotFoundError; Damaged where it is a link, a folder, a device or too large."""
    with opened(path) as file:
        if most is not None and os.fstat(file.fileno()).st_size > most:
            raise Damaged(f"{path} is larger than {most:,} bytes: it is no file of a run")
        return file.read()


def opened(path: Path, flags: int = os.O_RDONLY, mode: str = "rb") -> BinaryIO:
    """A regular file, opened with the flags of os.open. Raises FileNotFoundError, Damaged, OSError."""
    try:
        # Without waiting: a pipe in the place of a file would hold the program up for ever.
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
    """Values as a JSON object that ends in its own checksum."""
    values = {key: value for key, value in values.items() if key != "sha256"}
    return json.dumps(values | {"sha256": _digest(values)}, indent=1).encode()


def unsealed(path: Path, kinds: dict[str, type], optional: bool = False) -> dict[str, Any]:
    """The values of a file that `sealed` made.

    kinds: what it must hold, and of which type. optional: whether it may be without a checksum, as older versions
    and published records are.

    Raises FileNotFoundError, or Damaged, which names the file.
    """
    try:
        values = json.loads(read(path, LARGEST))
    except (UnicodeDecodeError, json.JSONDecodeError, RecursionError):
        raise Damaged(f"{path} is no JSON") from None
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
