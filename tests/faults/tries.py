"""A try: a fault, the same command again, and the verdict: identical, named, or failed and why.

identical: the run ends as an undisturbed one does, bit for bit, in metrics, weights, memory and random state
named: the program refuses in one sentence that names the file and the way out; and once the file is put back, the
    same command ends identically, so that nothing was lost by asking
"""

import dataclasses
import random
import time
from collections.abc import Callable
from pathlib import Path

from tests.faults import damage
from tests.faults.case import Case, Failed, Skipped, room
from tests.faults.folders import files, occupied, read
from tests.faults.running import closed, cut_short, disk, killed, mirrored, raises, removed, second, signaled


@dataclasses.dataclass(frozen=True)
class Tried:
    """What came of a try."""

    fault: str
    program: str
    number: int  # of this fault for this program
    outcome: str  # identical, named, failed or skipped
    where: str  # which file, write, signal
    why: str  # of a failure, or the sentence that named
    seconds: float
    commit: str = ""  # of the code that was tried


FAULTS: dict[str, Callable[[Case, Path, str, int, random.Random], tuple[str, str, str]]] = {
    "kill -9 at a write": killed,
    "killed within a write": cut_short,
    "file too large": cut_short,
    "SIGTERM": signaled,
    "SIGINT": signaled,
    "SIGHUP": signaled,
    "| head": closed,
    "2>&1 | head": closed,
    "step() raises": raises,
    "folder removed meanwhile": removed,
    "a second program": second,
    "a second program, lock deleted": second,
    "disk full": disk,
    "output is a directory": occupied,
    "W&B dead": mirrored,
    "W&B silent": mirrored,
    "W&B stopped": mirrored,
} | dict.fromkeys(damage.KINDS, files)
FAULTS |= {
    "damaged, then the same command": files,
    "damaged, then watched": read,
    "damaged, then compared": read,
    "damaged, then published": read,
    "damaged, then averaged": read,
}
WRITING = {  # what can be done to a program that keeps no run
    *("kill -9 at a write", "killed within a write", "file too large", "SIGTERM", "SIGINT", "SIGHUP", "| head"),
    *("2>&1 | head", "disk full", "output is a directory"),
}


def attempt(case: Case, fault: str, number: int, seed: int) -> Tried:
    """Try a fault on a program; the same fault, number and seed strike at the same place."""
    draw = random.Random(f"{seed} {fault} {case.name} {number}")
    if not case.program.runs and fault not in WRITING:
        return Tried(fault, case.name, number, "skipped", "", "keeps no run", 0.0)
    began = time.monotonic()
    with room(case, number, fault) as folder:
        try:
            outcome, where, why = FAULTS[fault](case, folder, fault, number, draw)
        except Failed as failure:
            outcome, where, why = "failed", "", str(failure)
        except Skipped as skip:
            outcome, where, why = "skipped", "", str(skip)
        except Exception as error:  # of this program: the others are tried all the same
            outcome, where, why = "failed", "", f"the try itself: {error!r}"
    why = why.replace(str(folder), "FOLDER")
    return Tried(fault, case.name, number, outcome, where, why, round(time.monotonic() - began, 2))
