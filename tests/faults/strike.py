"""Faults that hit a program from within while it runs, at a point that is the same each time.

A write is counted where Python reports it to its audit hooks: a file below the run's folder opened for writing,
renamed, removed, cut or made. At write number `at` the fault strikes, before that write happens.
"""

import os
import resource
import shutil
import signal
import sys
import threading
from pathlib import Path
from typing import Any

WRITES = {"os.rename", "os.remove", "os.truncate", "os.mkdir", "os.link", "os.symlink", "os.rmdir"}
SIGNALS = {"kill": signal.SIGKILL, "term": signal.SIGTERM, "int": signal.SIGINT, "hup": signal.SIGHUP}
SIGNALS |= {"stop": signal.SIGSTOP}


class BrokenWorld(RuntimeError):
    """What a world's step raises."""


def arm(fault: dict[str, Any], folder: Path) -> None:
    """Arrange for a fault to strike this process.

    Args:
        fault: "at", a number of a write, with "do": a name of SIGNALS, or "remove" (the folder) or "unlock" (delete
            its lock, then stop); "count", a path that gets the number of writes; "largest", bytes that a file may
            have: the write beyond that is cut there and kills ("kill": True) or fails; "step", which of the worlds'
            steps raises.
        folder: in which the run's lies.
    """
    if "count" in fault or "at" in fault:
        sys.addaudithook(_Hook(fault, folder))
    if "largest" in fault:
        signal.signal(signal.SIGXFSZ, signal.SIG_DFL if fault.get("kill") else signal.SIG_IGN)
        resource.setrlimit(resource.RLIMIT_FSIZE, (fault["largest"], resource.RLIM_INFINITY))
    if "step" in fault:
        _break_worlds(fault["step"])


class _Hook:
    def __init__(self, fault: dict[str, Any], folder: Path) -> None:
        self.fault, self.folder, self.writes, self.struck = fault, f"{folder}{os.sep}", 0, False
        self.process = os.getpid()
        if "count" in fault:
            import atexit

            atexit.register(lambda: os.getpid() == self.process and self._tell())

    def _tell(self) -> None:
        Path(self.fault["count"]).write_text(str(self.writes))

    def __call__(self, event: str, arguments: tuple) -> None:
        if event == "open":
            path, _, flags = arguments
            if not isinstance(flags, int) or not flags & (os.O_WRONLY | os.O_RDWR | os.O_CREAT):
                return
        elif event in WRITES:
            path = arguments[0]
        else:
            return
        if self.struck or not isinstance(path, str | bytes | os.PathLike) or os.getpid() != self.process:
            return
        path = os.fsdecode(path)
        if os.path.isabs(path) and not path.startswith(self.folder):
            return
        self.writes += 1
        if self.writes == self.fault.get("at"):
            self.struck = True
            self._strike(self.fault["do"])

    def _strike(self, what: str) -> None:
        if what == "remove":
            for run in Path(self.folder).glob("*/run"):
                shutil.rmtree(run)
        elif what == "unlock":
            for lock in Path(self.folder).glob("*/run/.lock*"):
                lock.unlink()
            os.kill(os.getpid(), signal.SIGSTOP)
        else:
            os.kill(os.getpid(), SIGNALS[what])


def _break_worlds(number: int) -> None:
    """Have step `number` of the worlds that are learned from raise where the simulator is asked."""
    import envs.world
    from tests.faults import programs

    lock, taken, receive = threading.Lock(), [0], envs.world.World.recv

    def recv(world: Any) -> Any:
        with lock:
            taken[0] += world.count == programs.WORLDS  # evaluations have fewer
            if taken[0] == number:
                raise BrokenWorld("the simulator has lost its game")
        return receive(world)

    envs.world.World.recv = recv
