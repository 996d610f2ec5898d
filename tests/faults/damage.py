"""Faults of files: what a disk, a copy that was cut short, an editor or a stranger makes of a run's folder."""

import json
import random
import re
import shutil
from pathlib import Path

BYTES = ("flip", "cut", "empty", "other's", "null", "[]", "deleted", "directory", "symlink")
TEXTS = ("digit", "line gone", "key gone")
FOLDERS = ("deleted", "emptied", "other's", "symlink", "file")
STRAY = "stray checkpoint"
KINDS = (*BYTES, *TEXTS, *(f"folder {kind}" for kind in FOLDERS), STRAY)


def roles(run: Path) -> dict[str, Path]:
    """The files of a run by what they are: the newest checkpoint, an older one, the first segment of memory, ..."""
    found: dict[str, Path] = {}
    for kind in ("pt", "json"):
        numbered = sorted((run / "checkpoint").glob(f"[0-9]*.{kind}"))
        if numbered:
            found[f"checkpoint/<newest>.{kind}"] = numbered[-1]
            found[f"checkpoint/<older>.{kind}"] = numbered[0]
    segments = sorted((run / "checkpoint" / "memory").glob("*.segment"), key=_number)
    for name, at in (("oldest", 0), ("newest", -1)):
        if segments:
            found[f"checkpoint/memory/<{name}>.segment"] = segments[at]
    for path in sorted(run.rglob("*")):
        numbered = re.match(r"\d+\.(pt|json)$", path.name) and path.parent.name == "checkpoint"
        if path.is_file() and not numbered and path.suffix not in (".segment", ".tmp", ".memory"):
            found[str(path.relative_to(run))] = path
    return found


def _number(path: Path) -> tuple[int, ...]:
    return tuple(map(int, re.findall(r"-(\d+)(?=-)", path.name)))


def suits(kind: str, path: Path) -> bool:
    """Whether a fault can be made to a file."""
    if kind == "key gone":
        return path.suffix == ".json"
    if kind == "line gone":
        return path.suffix == ".jsonl" and len(path.read_bytes().splitlines()) > 2
    if kind == "digit":
        return path.suffix in (".json", ".jsonl") and re.search(rb"\d", path.read_bytes()) is not None
    if kind in ("flip", "cut", "empty"):
        return path.stat().st_size > 0
    return True


def hurt(kind: str, path: Path, other: Path | None, elsewhere: Path, draw: random.Random) -> bytes | None:
    """Make a fault to a file. Returns what the file that a symlink now leads to must go on to hold.

    other: the same file of another run. elsewhere: a folder outside of the run.
    """
    data = path.read_bytes()
    if kind == "flip":
        at = draw.randrange(len(data))
        path.write_bytes(data[:at] + bytes([data[at] ^ 1 << draw.randrange(8)]) + data[at + 1 :])
    elif kind == "cut":
        path.write_bytes(data[: draw.randrange(1, len(data)) if len(data) > 1 else 0])
    elif kind == "empty":
        path.write_bytes(b"")
    elif kind == "other's":
        shutil.copyfile(other, path)
    elif kind in ("null", "[]"):
        path.write_text(kind)
    elif kind == "deleted":
        path.unlink()
    elif kind == "directory":
        path.unlink()
        path.mkdir()
        (path / "of a stranger").write_text("kept")
    elif kind == "symlink":
        elsewhere.mkdir(parents=True, exist_ok=True)
        shutil.move(path, elsewhere / path.name)
        path.symlink_to(elsewhere / path.name)
        return data
    elif kind == "digit":
        at = draw.choice([match.start() for match in re.finditer(rb"\d", data)])
        path.write_bytes(data[:at] + b"%d" % ((int(data[at : at + 1]) + 1) % 10) + data[at + 1 :])
    elif kind == "line gone":
        lines = data.splitlines(keepends=True)
        del lines[draw.randrange(1, len(lines) - 1)]
        path.write_bytes(b"".join(lines))
    elif kind == "key gone":
        held = json.loads(data)
        del held[draw.choice(sorted(held))]
        path.write_text(json.dumps(held))
    return None


def hurt_folder(kind: str, path: Path, other: Path, elsewhere: Path) -> None:
    """Make a fault to a folder within a run; `elsewhere` is then a stranger's folder with a file of its own."""
    if kind == "symlink":
        shutil.move(path, elsewhere)
        (elsewhere / "precious").write_text("kept")
        path.symlink_to(elsewhere)
        return
    shutil.rmtree(path)
    if kind == "emptied":
        path.mkdir()
    elif kind == "other's":
        shutil.copytree(other, path)
    elif kind == "file":
        path.write_text("")


def stray(run: Path, other: Path) -> Path:
    """Lay another run's checkpoint into a run, with a higher number than any of its own. Returns its manifest."""
    there = other / "checkpoint"
    newest = max(there.glob("[0-9]*.json"))
    (run / "checkpoint" / "memory").mkdir(exist_ok=True)
    for name in json.loads(newest.read_text()).get("files", ()):
        shutil.copyfile(there / "memory" / name, run / "checkpoint" / "memory" / name)
    laid = run / "checkpoint" / "000000000999"
    for kind in (".json", ".pt"):
        shutil.copyfile(newest.with_suffix(kind), laid.with_suffix(kind))
    return laid.with_suffix(".json")
