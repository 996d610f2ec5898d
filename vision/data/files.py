"""Downloads of published files: found in a folder, verified by MD5, fetched atomically where they are missing."""

from __future__ import annotations

import hashlib
import os
import urllib.request
from pathlib import Path

from rich.console import Console
from rich.progress import Progress

CHUNK = 1 << 20  # bytes
PATIENCE = 60  # seconds without an answer


def place(name: str) -> Path:
    """A data set's default folder: $SACCADE_DATA/<name>, or ~/.cache/saccade/<name>."""
    root = os.environ.get("SACCADE_DATA")
    return (Path(root) if root else Path.home() / ".cache" / "saccade") / name


def read(folder: Path, name: str, address: str, md5: str) -> bytes:
    """The bytes of folder/name, downloaded from `address` if it is missing, and verified by their MD5.

    Raises ValueError when it is missing and cannot be fetched, or is not the published file.
    """
    path = folder / name
    if not path.exists():
        fetch(address, path, md5)
    return checked(path, md5)


def checked(path: Path, md5: str) -> bytes:
    """The bytes of a file whose MD5 is `md5`, which is verified before they are read into memory.

    Raises ValueError when it is another one.
    """
    if not path.is_file():
        raise ValueError(f"{path} is not a file")
    with path.open("rb") as file:
        found, length = hashlib.file_digest(file, "md5").hexdigest(), file.tell()
        if found != md5:
            raise ValueError(
                f"{path} is damaged or cut short: the MD5 of its {length:,} bytes is {found} and should be {md5}. "
                "Delete it to fetch it anew."
            )
        file.seek(0)
        return file.read()


def fetch(address: str, path: Path, md5: str) -> None:
    """Download a file to `path` atomically: it is written beside it, verified, and renamed.

    Raises ValueError when the address does not answer, stops early, or sends something else.
    """
    part = path.with_name(f"{path.name}.{os.getpid()}.part")
    digest, length = hashlib.md5(), 0
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        _sweep(path)
        with urllib.request.urlopen(address, timeout=PATIENCE) as answer, part.open("wb") as file:
            announced = int(answer.headers.get("Content-Length", 0))
            with Progress(console=Console(stderr=True), transient=True) as progress:
                task = progress.add_task(path.name, total=announced or None)
                while chunk := answer.read(CHUNK):
                    file.write(chunk)
                    digest.update(chunk)
                    length += len(chunk)
                    progress.update(task, completed=length)
        if length < announced:
            raise ConnectionError(f"it stopped after {length:,} of {announced:,} bytes")
        if digest.hexdigest() != md5:
            raise ValueError(
                f"{address} sent something else than the published file: the MD5 of its {length:,} bytes is "
                f"{digest.hexdigest()} and should be {md5}"
            )
        os.replace(part, path)
    except OSError as error:
        raise ValueError(
            f"{path.name} is not in {path.parent} and could not be fetched from {address} ({error}): put it there by "
            "hand, or name another folder (the variable SACCADE_DATA names the one above it)"
        ) from error
    finally:
        part.unlink(missing_ok=True)


def _sweep(path: Path) -> None:
    """Remove the parts that killed downloads of `path` left: the number in their names is the process's."""
    for part in path.parent.glob(f"{path.name}.*.part"):
        number = part.name.removeprefix(path.name + ".").removesuffix(".part")
        try:
            os.kill(int(number), 0)
        except ProcessLookupError:
            part.unlink(missing_ok=True)
        except (PermissionError, ValueError):
            continue  # another user's, still at it; or not ours
