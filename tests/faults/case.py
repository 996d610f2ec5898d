"""A program on which faults are tried, and the runs that tries are measured by."""

import contextlib
import functools
import shutil
import signal
import zlib
from collections.abc import Iterator
from pathlib import Path

from tests.faults.outcome import difference, ugly, written
from tests.faults.process import Ended, Server
from tests.faults.programs import Program

RARE = "--save-every=3600"  # only what a fault itself has saved counts then
LONG = 240.0  # seconds after which a program hangs, without those in which other programs had the cores


class Failed(Exception):
    """A fault was not handled."""


class Skipped(Exception):
    """A fault cannot be made here, or not to this program."""


class Case:
    """A program with what its tries are measured by: runs that were left in peace, and runs killed on their way."""

    def __init__(self, server: Server, work: Path, pictures: Path, name: str, program: Program) -> None:
        self.server, self.name, self.program, self.pictures = server, name, program, pictures
        self.work = work
        work.mkdir(parents=True, exist_ok=True)
        self.reference, self.writes, self.seconds = self._whole("reference")
        self.heard: dict[str, Ended] = {}  # what was said of the undisturbed run

    @functools.cached_property
    def few(self) -> int:
        """The writes of a run between whose checkpoints are hours."""
        return self._whole("rarely", RARE)[1]

    @functools.cached_property
    def killed(self) -> Path:
        """A run that was killed on its way."""
        return self._killed("killed", seed=1)

    @functools.cached_property
    def other(self) -> Path:
        """Another one, of another seed."""
        return self._killed("other", seed=2)

    def _whole(self, name: str, *more: str) -> tuple[Path, int, float]:
        count = self.work / f"{name}.count"
        ended = self.run(self.work / name, *more, fault={"count": str(count)})
        if ended.code != 0:
            raise Failed(f"{self.name} does not run undisturbed: {ended.said[-2000:]}")
        return self.of(self.work / name), int(count.read_text()), ended.seconds

    def _killed(self, name: str, seed: int) -> Path:
        ended = self.run(self.work / name, seed=seed, fault={"at": round(self.writes * 0.62), "do": "kill"})
        if ended.code != -signal.SIGKILL:
            raise Failed(f"{self.name} was to be killed, and ended by {ended.code}: {ended.said[-2000:]}")
        return self.of(self.work / name)

    def run(self, folder: Path, *more: str, seed: int = 1, **how: object) -> Ended:
        """Run the program's command on a folder of runs."""
        folder.mkdir(exist_ok=True)
        arguments = self.program.arguments(folder, self.pictures, seed, *more)
        return self.server.run(self.program.module, arguments, folder, LONG, **how)

    def of(self, folder: Path) -> Path:
        """The run in a folder of runs, or for a program that keeps none the folder. Raises Failed where none is."""
        if not self.program.runs:
            return folder
        found = [path for path in folder.glob("*/run")]
        if len(found) != 1:
            raise Failed(f"{folder} has no run: it holds {[path.name for path in folder.iterdir()]}")
        return found[0]

    def identical(self, folder: Path, ended: Ended) -> None:
        """Raise Failed unless a program ended well, and its run as an undisturbed one."""
        if ended.code != 0:
            raise Failed(ugly(ended) or f"refused to go on: {last(ended)}")
        compare = difference if self.program.runs else written
        if found := ugly(ended) or compare(self.reference, self.of(folder), ended.said):
            raise Failed(f"{found}{warned(ended)}")


def last(ended: Ended) -> str:
    """The end of what was said."""
    return " ".join(ended.said.split())[-300:]


def warned(ended: Ended) -> str:
    """The warnings of a program that went on, to be shown beside what it made of it."""
    lines = [line for line in ended.said.splitlines() if "Warning" in line]
    return f" (warned: {' '.join(lines)[:300]})" if lines else ""


@contextlib.contextmanager
def room(case: Case, number: int, fault: str) -> Iterator[Path]:
    """A new folder of runs beside the case's, removed afterwards."""
    place = case.work / f"try-{zlib.crc32(fault.encode()):08x}-{number}"
    shutil.rmtree(place, ignore_errors=True)
    place.mkdir()
    try:
        yield place
    finally:
        shutil.rmtree(place, ignore_errors=True)


@contextlib.contextmanager
def locating(where: str) -> Iterator[None]:
    """Put the place before the reason of a failure."""
    try:
        yield
    except Failed as failure:
        raise Failed(f"{where}: {failure}") from None
