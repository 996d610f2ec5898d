"""Torch's number of threads on the CPU: that of the cores which no other program uses.

Every operation is shared out among the threads and waits for the last of them. Where another program holds one of the
cores, that wait lasts until the scheduler gives the core back, some milliseconds an operation: a convolution by two
threads on two cores, one of them taken, takes several times as long as by one thread. So the load is measured before
the number is chosen. Another number of threads adds sums up in another order, which changes their last digits: a run
keeps the number that it began with, in its checkpoint.
"""

from __future__ import annotations

import math
import os
import time
from collections.abc import Set
from pathlib import Path

import torch

WINDOW = 0.3  # seconds in which the load is measured, at least
RECENT = 10.0  # and at most: a load of long ago says nothing of now
LITTLE = 0.25  # of a core, used by others: not worth giving a core up for

_reason = ""  # for the start line of a run


def choose(asked: int = 0) -> int:
    """Set torch's threads, and return their number.

    asked: the number; 0 measures how many cores are free, unless OMP_NUM_THREADS (or MKL_NUM_THREADS) says it.
    """
    global _reason
    _reason = ""
    cores = usable()
    if asked:
        torch.set_num_threads(asked)
    elif "OMP_NUM_THREADS" not in os.environ and "MKL_NUM_THREADS" not in os.environ and len(cores) > 1:
        most = min(len(cores), limit(), torch.get_num_threads())
        others = since_start() if most > 1 else 0.0
        torch.set_num_threads(min(most, free(len(cores), others)))
        if torch.get_num_threads() < most:
            _reason = f", for other programs use {others:.1f} of the cores (--threads sets another number)"
    return torch.get_num_threads()


def since_start() -> float:
    """Cores that other programs use, while this one was imported; waits where that has taken less than WINDOW."""
    load = _imported if _imported.seconds() < RECENT else Load()
    time.sleep(max(WINDOW - load.seconds(), 0.0))
    return load.others()


def keep(saved: int | None, asked: int = 0) -> None:
    """Go on with the number of threads that a checkpoint was made with, unless another was asked for or cores lack.

    saved: as the checkpoint has it; None: it does not know.
    """
    global _reason
    if saved is None:
        return
    if not asked and saved <= len(usable()):
        torch.set_num_threads(saved)
        _reason = " as before"
    elif torch.get_num_threads() != saved:
        _reason = f", and {saved} before: sums differ in their last digits from those of a run that was not stopped"


def in_words() -> str:
    """The number of torch's threads and, where it is not simply that of the cores, the reason."""
    count = torch.get_num_threads()
    return f"{count} thread{'s' * (count > 1)}{_reason}"


def crowded(load: Load) -> str | None:
    """A hint for a run with more threads than cores were free since `load` began; None where there are enough."""
    others, cores, count = load.others(), len(usable()), torch.get_num_threads()
    if count == 1 or count <= free(cores, others):
        return None
    return (
        f"other programs use {others:.1f} of the {cores} cores, where {count} threads wait for each other: the same "
        f"command with --threads {free(cores, others)} goes on from here, and may be several times as fast"
    )


def free(cores: int, others: float) -> int:
    """Cores left where other programs use `others` of them, at least 1."""
    return max(cores - math.ceil(others - LITTLE), 1)


def usable() -> Set[int]:
    """The cores that this process may run on, by number."""
    if hasattr(os, "sched_getaffinity"):
        return os.sched_getaffinity(0)
    return set(range(os.cpu_count() or 1))


def limit() -> int:
    """Whole cores' worth of time that the control group (a container's --cpus) allows; very many without a limit."""
    found = [math.inf]
    try:
        ours = Path("/proc/self/cgroup").read_text().splitlines()
        path = next(line.removeprefix("0::/") for line in ours if line.startswith("0::"))
        here = Path("/sys/fs/cgroup") / path
        for folder in (here, *here.parents[: len(Path(path).parts)]):
            found += _quota((folder / "cpu.max").read_text().split()) if (folder / "cpu.max").exists() else []
    except (OSError, StopIteration):
        pass
    try:  # version 1 of control groups
        group = Path("/sys/fs/cgroup/cpu")
        found += _quota([(group / f"cpu.cfs_{name}_us").read_text() for name in ("quota", "period")])
    except OSError:
        pass
    return max(int(min(min(found), 1 << 16)), 1)


def _quota(words: list[str]) -> list[float]:
    """Cores from a quota and its period, in microseconds; nothing where there is no quota."""
    quota, period = words[0].strip(), float(words[1])
    return [] if quota in ("max", "-1") else [float(quota) / period]


class Load:
    """How much of the usable cores other programs use, from its making on."""

    def __init__(self) -> None:
        self._busy, self._own, self._began = _busy(), _own(), time.monotonic()

    def seconds(self) -> float:
        """Since its making."""
        return time.monotonic() - self._began

    def others(self) -> float:
        """Cores, on average; the system's mean of a minute where it does not count by core, 0 where by nothing."""
        now, took = _busy(), self.seconds()
        if self._busy is None or now is None:
            return os.getloadavg()[0] if hasattr(os, "getloadavg") else 0.0
        return max(now - self._busy - (_own() - self._own), 0.0) / took if took > 0 else 0.0


def _own() -> float:
    """Seconds of this process on the cores."""
    times = os.times()
    return times.user + times.system


def _busy() -> float | None:
    """Seconds that the usable cores were not idle since the system started; None where Linux does not say."""
    try:
        lines = Path("/proc/stat").read_text().splitlines()
        ours = {f"cpu{number}" for number in usable()}
        found = [[int(word) for word in line.split()[1:]] for line in lines if line.split()[0] in ours]
    except (OSError, ValueError, IndexError):
        return None
    ticks = sum(sum(times[:8]) - times[3] - times[4] for times in found)  # without idle and waiting for a disk
    return ticks / os.sysconf("SC_CLK_TCK") if found else None


_imported = Load()  # the rest of a program's imports, and the reading of its flags, are the time to measure in
