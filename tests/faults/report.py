"""The table of tries: fault by program, how many, identical, named."""

import json
from collections import Counter
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path

import torch

from runs import machine
from tests.faults.programs import PROGRAMS
from tests.faults.tries import FAULTS, Tried

WORDS = {
    "identical": "ends as an undisturbed run, bit for bit: metrics, weights, optimizer, memory, random states",
    "named": "refused in a sentence that names the file and the way out, equal once it is mended; or marked inexact",
    "failed": "anything else: a traceback, a hang, a silent difference, lost data",
    "skipped": "the fault cannot be made to this program, or on this machine",
}


def table(found: Sequence[Tried]) -> str:
    """Markdown: a row a fault and a row a program, with what came of their tries."""
    parts = [rows("fault", found, lambda tried: tried.fault), rows("program", found, lambda tried: tried.program)]
    return "\n".join(parts)


def rows(head: str, found: Sequence[Tried], key) -> str:
    """Markdown: a row for every value of `key`, and one for all."""
    columns = ("identical", "named", "failed", "skipped")
    lines = [f"| {head} | tried | {' | '.join(columns)} |", "|---" + "|---:" * (len(columns) + 1) + "|"]
    names = sorted(dict.fromkeys(map(key, found)), key=[*FAULTS, "none", *PROGRAMS].index)
    for name in [*names, "all"]:
        some = [tried for tried in found if name == "all" or key(tried) == name]
        counted = Counter(tried.outcome for tried in some)
        cells = [str(counted[column] or "") for column in columns]
        lines.append(
            f"| {name.replace('|', chr(92) + '|')} | {len(some) - counted['skipped']} | {' | '.join(cells)} |"
        )
    return "\n".join(lines) + "\n"


def cross(found: Sequence[Tried]) -> dict[str, dict[str, dict[str, int]]]:
    """fault -> program -> outcome -> how many."""
    counted: dict[str, dict[str, dict[str, int]]] = {}
    for tried in found:
        cell = counted.setdefault(tried.fault, {}).setdefault(tried.program, {})
        cell[tried.outcome] = cell.get(tried.outcome, 0) + 1
    return counted


def write(folder: Path, found: Sequence[Tried], seed: int, every: int = 1) -> None:
    """Write faults.json and faults.md: the counts, and by what commit, when and where they came about."""
    folder.mkdir(parents=True, exist_ok=True)
    order, faults = list(PROGRAMS), ["none", *FAULTS]
    found = sorted(found, key=lambda tried: (order.index(tried.program), faults.index(tried.fault), tried.number))
    about = machine.circumstances("tests.faults", torch.device("cpu"))
    about |= {"date": datetime.now(UTC).date().isoformat(), "seed": seed}
    about["command"] = (
        f"python -m tests.faults --out FOLDER --every {every} --seed {seed}"  # no place of this machine
    )
    about["commit"] = dict(Counter(tried.commit for tried in found))  # and how many tries of each
    failures = [
        {"fault": each.fault, "program": each.program, "why": each.why} for each in found if each.outcome == "failed"
    ]
    whole = {"about": about, "outcomes": WORDS, "tries": cross(found), "failures": failures}
    (folder / "faults.json").write_text(json.dumps(whole, indent=1) + "\n")
    hardware = about["hardware"]
    commits = ", ".join(f"{name} ({count:,} tries)" for name, count in about["commit"].items())
    words = "\n".join(f"- **{word}**: {meaning}" for word, meaning in WORDS.items())
    text = (
        "# Faults injected into every program\n\n"
        f"`{about['command']}`, {about['date']}, commit {commits}, {hardware['processor']}, "
        f"{hardware['cores']} cores.\nEach fault strikes a run on its way, or the folder of one that was killed "
        f"there, and the same command is given again.\n\n{words}\n\n{table(found)}"
    )
    (folder / "faults.md").write_text(text)
