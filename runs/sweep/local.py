"""Local: the executor of a sweep on this machine, as many runs at once as its cores and memory allow.

A sweep asks an executor for five things: whether there is `room` for another run, to `start` a command, which runs
have `ended`, to `stop` one (it saves its checkpoint and ends), and to `kill` one. It also reads `running`, the runs
by their keys, and `jobs` and `threads`, how many run at once with how many threads each. ray_cluster.py has the same
ones.
"""

from __future__ import annotations

import dataclasses
import signal
import subprocess
import time
from collections.abc import Mapping, Sequence
from pathlib import Path

UNKNOWN = 1.0  # GB that a run is taken to need before one like it has run
NEVER_MORE = 0.9  # of the memory that is available is given to runs


@dataclasses.dataclass(frozen=True)
class Ended:
    """A run's process that has ended.

    code: its exit status, minus the signal's number where that ended it. seconds: of the clock. peak: GB of memory
    that it had at most, 0 where the system does not say. lost: why it ended by no fault of its own, "its node was
    lost"; "" else.
    """

    key: str
    code: int
    seconds: float
    peak: float
    lost: str = ""


@dataclasses.dataclass
class _Process:
    process: subprocess.Popen[bytes]
    began: float
    expected: float  # GB
    place: str | None  # its device
    peak: float = 0.0  # GB


class Local:
    """Runs as processes of this machine.

    Args:
        jobs: at once at most; 0: a run for every core, or for every GPU where there are any.
        memory: GB that a run needs; 0: as much as the largest one like it has had, and UNKNOWN before the first.
        devices: to give the runs in turn, "cuda:0" ...; none: each chooses by itself.
    """

    def __init__(self, jobs: int = 0, memory: float = 0.0, devices: Sequence[str] = ()) -> None:
        self.memory, self.devices = memory, tuple(devices)
        self.cores = cores()
        self.jobs = jobs or len(self.devices) or self.cores
        self.running: dict[str, _Process] = {}

    @property
    def threads(self) -> int:
        """Threads of a run: its share of the cores."""
        return max(self.cores // self.jobs, 1)

    def room(self, expected: float = 0.0) -> bool:
        """Whether there is room for another run.

        expected: GB that it will need, 0 where none like it has run. What runs may still grow by counts as taken. One
        run may always start.
        """
        if len(self.running) >= self.jobs:
            return False
        free = available()
        if free is None or not self.running:
            return True
        growth = sum(max(each.expected - resident(each.process.pid)[0], 0.0) for each in self.running.values())
        return self._needs(expected) <= NEVER_MORE * free - growth

    def start(
        self, key: str, command: Sequence[str], log: Path, environment: Mapping[str, str], expected: float = 0.0
    ) -> None:
        """Start a command, whose output is added to a log. key: of the run. Raises OSError where it cannot start."""
        where, command = None, list(command)
        if self.devices:
            taken = [each.place for each in self.running.values()]
            where = min(self.devices, key=taken.count)
            command.append(f"--device={where}")
        log.parent.mkdir(parents=True, exist_ok=True)
        with open(log, "ab") as output:
            process = subprocess.Popen(
                command,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                env=dict(environment),
                start_new_session=True,  # Ctrl-C is for the sweep, which then has each of them save
            )
        self.running[key] = _Process(process, time.monotonic(), self._needs(expected), where)

    def ended(self) -> list[Ended]:
        """The runs that have ended since the last call."""
        found = []
        for key, each in list(self.running.items()):
            each.peak = max(each.peak, resident(each.process.pid)[1])
            if (code := each.process.poll()) is not None:
                del self.running[key]
                found.append(Ended(key, code, time.monotonic() - each.began, each.peak))
        return found

    def stop(self, key: str) -> None:
        """Have a run save its checkpoint and end."""
        self._send(key, signal.SIGTERM)

    def kill(self, key: str) -> None:
        """End a run at once; it goes on from its last checkpoint when it is started again."""
        self._send(key, signal.SIGKILL)

    def _send(self, key: str, number: int) -> None:
        if key in self.running:
            self.running[key].process.send_signal(number)

    def _needs(self, expected: float) -> float:
        return self.memory or expected or UNKNOWN


def cores() -> int:
    """Cores that this process may use, by its affinity and its control group."""
    from runs import threads

    return max(min(len(threads.usable()), threads.limit()), 1)


def gpus() -> list[str]:
    """The CUDA devices of this machine, "cuda:0" ..."""
    import torch

    return [f"cuda:{number}" for number in range(torch.cuda.device_count())]


def resident(pid: int) -> tuple[float, float]:
    """GB of memory that a process has, and has had at most; 0 where the system does not say."""
    found = {"VmRSS": 0.0, "VmHWM": 0.0}
    try:
        for line in Path(f"/proc/{pid}/status").read_text().splitlines():
            name, _, words = line.partition(":")
            if name in found:
                found[name] = int(words.split()[0]) / 1e6  # kB
    except (OSError, ValueError, IndexError):
        return 0.0, 0.0
    return found["VmRSS"], found["VmHWM"]


def available() -> float | None:
    """GB of memory that programs can still have, by the machine and by the control group; None where neither says."""
    found = []
    try:
        lines = Path("/proc/meminfo").read_text().splitlines()
        found += [int(line.split()[1]) / 1e6 for line in lines if line.startswith("MemAvailable:")]
    except (OSError, ValueError, IndexError):
        pass
    group = Path("/sys/fs/cgroup")
    for most, used in (
        ("memory.max", "memory.current"),
        ("memory/memory.limit_in_bytes", "memory/memory.usage_in_bytes"),
    ):
        try:
            limit = int((group / most).read_text())
            statistics = (group / most).with_name("memory.stat").read_text().split()
            cached = int(statistics[statistics.index("inactive_file") + 1])  # is given back when it is needed
            found.append((limit - int((group / used).read_text()) + cached) / 1e9)
        except (OSError, ValueError, IndexError):  # "max": no limit
            continue
    return min(found) if found else None
