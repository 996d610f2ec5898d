"""How a run ended beside an undisturbed one: equal bit for bit, or in what it differs; what a refusal must say."""

import json
import re
import zlib
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file

from tests.faults.process import Ended

ASIDE = {"files", "saves", "sizes", "seconds", "clock.jsonl"}  # of a checkpoint: how often it was saved, and when
ASIDE |= {"processor_seconds", "run", "about", "date", "command", "id", "folder", "bytes", "sha256", "frames"}
ASIDE |= {"score", "out", "kept"}
HIDDEN = re.compile(r"(^|/)(\.lock|checkpoint/|sweeps/)|\.(count|tmp)$")  # that may be there or not, or tell times
TOOK = re.compile(r"\b[\d.]+ s\b")  # how long it took, in a sentence
WAYS_OUT = re.compile(
    r"--(name|folder|seed|capacity|wandb)"
    r"|\b(delete|remove|put|choose|name another|make room|begin again|move|restore|copy|same command)\b",
    re.IGNORECASE,
)


def difference(reference: Path, run: Path, said: str = "") -> str | None:
    """The first thing in which a finished run is not what the undisturbed one is; None where they are equal.

    said: by the program, which goes on without what is not part of learning, and says so.
    """
    for name in ("config.json", "finished.json"):
        if not (run / name).is_file():
            return f"no {name}"
    for name, keys in (("config.json", ("program", "world", "inexact")), ("finished.json", ("step", "score"))):
        there, here = (json.loads((folder / name).read_text()) for folder in (reference, run))
        for key in keys:
            if there.get(key) != here.get(key):
                return f"{name}: {key} is {here.get(key)!r}, not {there.get(key)!r}"
    backbone = [folder / "backbone.safetensors" for folder in (reference, run)]
    if backbone[0].is_file() and (
        not backbone[1].is_file()
        or unequal(*(load_file(path) for path in backbone))  # whose it is stands beside the weights
    ):
        return "backbone.safetensors differs"
    if (reference / "values.png").is_file() and not (run / "values.png").is_file() and "no picture" not in said:
        return "no values.png"
    if (reference / "metrics.jsonl").read_bytes() != (run / "metrics.jsonl").read_bytes():
        return "metrics.jsonl differs"
    for line in (run / "clock.jsonl").read_text().splitlines():
        json.loads(line)
    end = newest(reference / "checkpoint").name
    ends = [folder / "checkpoint" / end for folder in (reference, run)]
    if not ends[1].with_suffix(".json").is_file():
        return f"there is no checkpoint {end}"
    pairs = [ends, *([folder / "checkpoint" / "best.pt" for folder in (reference, run)],)]
    pairs += [[file, run / "snapshots" / file.name] for file in sorted((reference / "snapshots").glob("*.pt"))]
    for there, here in pairs:
        if there.is_file() != here.is_file():
            return f"{here.name} is missing" if there.is_file() else f"there is a {here.name}"
        if there.is_file():
            found = unequal(*(torch.load(file, weights_only=True, map_location="cpu") for file in (there, here)))
            if found:
                return f"{here.name}: {found}"
    return remembered(*ends)


def written(reference: Path, folder: Path, said: str = "") -> str | None:
    """The first thing in which what a program wrote is not what it wrote undisturbed; None where they are equal."""
    files = [
        sorted(path.relative_to(each) for path in each.rglob("*") if path.is_file()) for each in (reference, folder)
    ]
    there, here = ([path for path in some if not HIDDEN.search(str(path))] for some in files)
    if there != here:
        return f"files differ: {sorted(map(str, set(there) ^ set(here)))[:4]}"
    for path in there:
        if path.suffix == ".json":
            held = [json.loads((each / path).read_text()) for each in (reference, folder)]
            found = unequal(*held)
        elif path.suffix == ".safetensors":
            found = unequal(*(load_file(each / path) for each in (reference, folder)))
        elif path.suffix == ".pt":
            found = unequal(*(torch.load(each / path, weights_only=True) for each in (reference, folder)))
        elif path.name == "clock.jsonl":
            found = None
        elif path.suffix == ".jsonl":
            held = [
                [json.loads(line) for line in (each / path).read_text().splitlines()] for each in (reference, folder)
            ]
            found = unequal(*held)
        elif path.suffix == ".md":  # it names its command, and may say how long it took
            pages = [(each / path).read_text().replace(str(each), "FOLDER") for each in (reference, folder)]
            pages = [TOOK.sub("SECONDS", page) for page in pages]
            found = None if pages[0] == pages[1] else "differs"
        else:
            found = None if (reference / path).read_bytes() == (folder / path).read_bytes() else "differs"
        if found:
            return f"{path} {found}"
    return None


def newest(checkpoints: Path) -> Path | None:
    """The file of the last checkpoint that has a manifest."""
    files = [file for file in sorted(checkpoints.glob("[0-9]*.pt")) if file.with_suffix(".json").is_file()]
    return files[-1] if files else None


def unequal(one: Any, other: Any, where: str = "") -> str | None:
    """Where two checkpoints' values differ, in words; None where they are equal bit for bit."""
    if type(one) is not type(other):
        return f"{where} is a {type(other).__name__}, not a {type(one).__name__}"
    if isinstance(one, dict):
        if where.endswith("sizes") or one.keys() != other.keys():
            return None if where.endswith("sizes") else f"{where} holds {sorted(map(str, other))}"
        pairs = [(f"{where}/{key}", one[key], other[key]) for key in one if key not in ASIDE]
    elif isinstance(one, list | tuple):
        if len(one) != len(other):
            return f"{where} has {len(other)} entries, not {len(one)}"
        pairs = [(f"{where}/{number}", *pair) for number, pair in enumerate(zip(one, other, strict=True))]
    elif isinstance(one, torch.Tensor):
        equal = one.dtype == other.dtype and one.shape == other.shape
        equal = equal and one.contiguous().numpy().tobytes() == other.contiguous().numpy().tobytes()
        return None if equal else f"{where} differs"
    elif isinstance(one, str):
        pair = [re.sub(r"-\d{6}-", "-", text) for text in (one, other)]  # a segment's number: of how many saves
        pair = [TOOK.sub("SECONDS", text) for text in pair]
        return None if pair[0] == pair[1] else f"{where} is {other!r}, not {one!r}"
    else:
        return None if one == other or one != one and other != other else f"{where} is {other!r}, not {one!r}"
    return next((found for pair in pairs if (found := unequal(pair[1], pair[2], pair[0]))), None)


def remembered(one: Path, other: Path) -> str | None:
    """In what the memories of two checkpoints differ, at the positions that both hold."""
    slots = [positions(file) for file in (one, other)]
    for key in slots[0].keys() & slots[1].keys():
        if slots[0][key] != slots[1][key]:
            return f"the memory differs at {key}"
    return None


def positions(checkpoint: Path) -> dict[tuple[str, int], bytes]:
    """What each position of each ring holds, by a checkpoint's segments (replay/segments.py)."""
    found = {}
    for name in sorted(json.loads(checkpoint.with_suffix(".json").read_text())["files"]):
        if not name.endswith(".segment"):
            continue
        with open(checkpoint.parent / "memory" / name, "rb") as file:
            spans = json.loads(file.readline())["spans"]
            rest, data = file.read(), []
        while rest:
            size = int.from_bytes(rest[:8], "little")
            data.append(zlib.decompress(rest[8 : 8 + size]))
            rest = rest[8 + size :]
        whole, at = b"".join(data), 0
        if len(spans) == 1:  # several rings: their slots have sizes that the file does not tell
            for ring, (start, stop) in spans.items():
                size = len(whole) // max(stop - start, 1)
                for position in range(start, stop):
                    found[ring, position] = whole[at : at + size]
                    at += size
        else:
            found[name, 0] = whole
    return found


def unsaid(ended: Ended, names: set[str], way_out: bool = True) -> str | None:
    """What a refusal lacks: None if it is one clear sentence that names a file of `names`, and the way out."""
    if fault := ugly(ended):
        return fault
    if not ended.code:
        return "ended well"
    said = " ".join(ended.said.split())
    if names and not any(name in said for name in names):
        return f"does not name {' or '.join(sorted(names))}"
    if way_out and not WAYS_OUT.search(said):
        return "names no way out"
    return None


def ugly(ended: Ended, signals: tuple[int, ...] = ()) -> str | None:
    """A traceback, a hang or a death in what a program said and how it ended; None where there is none.

    signals: by which it may die.
    """
    if ended.code is None:
        return f"hung for {ended.seconds:.0f} s"
    if "Traceback (most recent call last)" in ended.said:
        last = ended.said.strip().splitlines()[-1]
        return f"traceback: {last[:200]}"
    if "Exception ignored" in ended.said:
        return "exception ignored at the end"
    if ended.code < 0 and -ended.code not in signals:
        return f"died of signal {-ended.code}"
    return None
