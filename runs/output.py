"""Files that a program writes beside its runs, atomically."""

from __future__ import annotations

import contextlib
import io
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from runs import files

if TYPE_CHECKING:
    from matplotlib.figure import Figure


@contextlib.contextmanager
def writing(path: Path, flag: str) -> Iterator[None]:
    """A context in which a file is written; its folder is made if missing.

    flag: of the program, for another place, e.g. "--out".
    Raises RunError, which names the file, where it cannot be written.
    """
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        yield
    except OSError as error:
        named = Path(error.filename) if isinstance(error.filename, str) else path
        if not files.UNFINISHED.fullmatch(named.name) and not path.is_relative_to(named):
            path = named  # a file beside it
        raise files.RunError(
            f"could not write {path}: {error.strerror or error}. Make room there, or choose another place with {flag}"
        ) from error


def write(path: Path, data: bytes | str, flag: str) -> None:
    """Write a file atomically. Raises RunError as `writing` does; the old file is then kept."""
    with writing(path, flag):
        files.write(path, data.encode() if isinstance(data, str) else data)


def draw(path: Path, figure: Figure, flag: str, **how: Any) -> None:
    """Write a picture, in the format that its name ends in. how: of savefig. Raises RunError as `writing` does."""
    picture = io.BytesIO()
    figure.savefig(picture, format=path.suffix.lstrip(".") or "png", **how)
    write(path, picture.getvalue(), flag)
