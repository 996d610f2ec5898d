"""A try: a fault, the same command again, and the verdict: identical, named, or failed and why.

identical: the run ends as an undisturbed one does, bit for bit, in metrics, weights, memory and random state
named: the program refuses in one sentence that names the file and the way out; and once the file is put back, the
    same command ends identically, so that nothing was lost by asking
"""

import contextlib
import dataclasses
import functools
import os
import random
import shutil
import signal
import socket
import subprocess
import time
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path

from tests.faults import damage
from tests.faults.outcome import difference, newest, ugly, unsaid
from tests.faults.process import Ended, Server, head, stopped
from tests.faults.programs import Program

RARE = "--save-every=3600"  # only what a fault itself has saved counts then
LONG = 240.0  # seconds after which a program hangs; the machine may be busy


class Failed(Exception):
    """A fault was not handled."""


class Skipped(Exception):
    """A fault cannot be made here, or not to this program."""


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


class Case:
    """A program with what its tries are measured by: runs that were left in peace, and runs killed on their way."""

    def __init__(self, server: Server, work: Path, pictures: Path, name: str, program: Program) -> None:
        self.server, self.name, self.program, self.pictures = server, name, program, pictures
        self.work = work
        work.mkdir(parents=True, exist_ok=True)
        self.reference, self.writes, self.seconds = self._whole("reference")

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

    @staticmethod
    def of(folder: Path) -> Path:
        """The run in a folder of runs. Raises Failed where there is none."""
        found = [path for path in folder.glob("*/run")]
        if len(found) != 1:
            raise Failed(f"{folder} has no run: it holds {[path.name for path in folder.iterdir()]}")
        return found[0]

    def identical(self, folder: Path, ended: Ended) -> None:
        """Raise Failed unless a program ended well, and its run as an undisturbed one."""
        if ended.code != 0:
            raise Failed(ugly(ended) or f"refused to go on: {last(ended)}")
        if found := ugly(ended) or difference(self.reference, self.of(folder)):
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


# ---- faults of files ------------------------------------------------------------------------------------------


def files(case: Case, folder: Path, kind: str, number: int, draw: random.Random) -> tuple[str, str, str]:
    """A file or folder of a killed run is damaged, and the run goes on."""
    shutil.copytree(case.killed.parent, folder / case.killed.parent.name)
    run, elsewhere, kept = case.of(folder), folder / "elsewhere", None
    if kind == damage.STRAY:
        target = damage.stray(run, case.other)
        role, names = damage.STRAY, {target.stem, target.parent.name}
    elif kind.startswith("folder "):
        role = ("checkpoint", "checkpoint/memory")[number % 2]
        target = run / role
        if not target.is_dir() or not any(target.iterdir()):
            role, target = "checkpoint", run / "checkpoint"
        damage.hurt_folder(kind.removeprefix("folder "), target, case.other / role, elsewhere)
        names = {target.name, run.name}
    else:
        known = damage.roles(run)
        others = damage.roles(case.other)
        fitting = [role for role in known if damage.suits(kind, known[role])]
        fitting = [role for role in fitting if kind != "other's" or role in others]
        role = fitting[(number + draw.randrange(len(fitting))) % len(fitting)]
        target = known[role]
        kept = damage.hurt(kind, target, others.get(role), elsewhere, draw)
        names = {target.name, target.stem}
    ended = case.run(folder)
    if kept is not None and (elsewhere / target.name).read_bytes() != kept:
        raise Failed(f"{role}: wrote through a symbolic link")
    if kind == "folder symlink" and not (elsewhere / "precious").is_file():
        raise Failed(f"{role}: a stranger's file was deleted through a symbolic link")
    if ended.code == 0:
        with told(role):
            case.identical(folder, ended)
            if "from the start" in ended.said and not warned(ended):
                raise Failed("began again from the start without a word")
        return "identical", role, warned(ended)
    if lacks := unsaid(ended, names):
        raise Failed(f"{role}: {lacks}: {last(ended)}")
    put_back(case.killed / target.relative_to(run), target)
    with told(f"{role}, refused and put back"):
        case.identical(folder, case.run(folder))
    return "named", role, last(ended)


@contextlib.contextmanager
def told(where: str) -> Iterator[None]:
    """Put the place before the reason of a failure."""
    try:
        yield
    except Failed as failure:
        raise Failed(f"{where}: {failure}") from None


def put_back(source: Path, target: Path) -> None:
    """Have a file or folder be what it was; a checkpoint's manifest with its file."""
    if not source.exists():
        for path in (target, target.with_suffix(".pt")):
            path.unlink(missing_ok=True)
        return
    if target.is_dir() and not target.is_symlink():
        shutil.rmtree(target)
    else:
        target.unlink(missing_ok=True)
    shutil.copytree(source, target) if source.is_dir() else shutil.copy2(source, target)


# ---- faults while a program runs ------------------------------------------------------------------------------


def killed(case: Case, folder: Path, kind: str, number: int, draw: random.Random) -> tuple[str, str, str]:
    """kill -9 at a write."""
    at = draw.randint(1, case.writes)
    ended = case.run(folder, fault={"at": at, "do": "kill"})
    if ended.code != -signal.SIGKILL:
        raise Failed(f"write {at}: was to be killed: {ended.code}, {last(ended)}")
    with told(f"write {at}"):
        case.identical(folder, case.run(folder))
    return "identical", f"write {at} of {case.writes}", ""


def signalled(case: Case, folder: Path, kind: str, number: int, draw: random.Random) -> tuple[str, str, str]:
    """A signal that asks to leave, between checkpoints that are hours apart: what it has is saved."""
    at = draw.randint(1, case.few)
    ended = case.run(folder, RARE, fault={"at": at, "do": kind.removeprefix("SIG").lower()})
    return left(case, folder, ended, f"write {at} of {case.few}", (getattr(signal, kind),))


def left(case: Case, folder: Path, ended: Ended, where: str, signals: tuple[int, ...] = ()) -> tuple[str, str, str]:
    """The verdict on a program that was asked to leave: it saved what it had, and goes on to the same end."""
    if found := ugly(ended, signals):
        raise Failed(f"{where}: {found}")
    if ended.code == 0:
        case.identical(folder, ended)
        return "identical", where, "ended before it was asked"
    run = next(folder.glob("*/run"), None)
    begun = run and (run / "metrics.jsonl").is_file() and (run / "metrics.jsonl").stat().st_size
    if begun and newest(run / "checkpoint") is None:
        raise Failed(f"{where}: nothing was saved: {last(ended)}")
    with told(where):
        case.identical(folder, case.run(folder))
    return "identical", where, last(ended)


def cut_short(case: Case, folder: Path, kind: str, number: int, draw: random.Random) -> tuple[str, str, str]:
    """A write that ends in the middle of its bytes: by death, or by an error as that of a quota."""
    sizes = [path.stat().st_size for path in case.reference.rglob("*") if path.is_file()]
    largest = draw.randint(max(sizes) // 8, max(sizes) - 1)
    dies = kind == "killed within a write"
    ended = case.run(folder, fault={"largest": largest, "kill": dies})
    if ended.code == 0:
        case.identical(folder, ended)
        return "identical", f"files of {largest} bytes", ""
    if dies and ended.code != -signal.SIGXFSZ or not dies and (lacks := unsaid(ended, {"run"})):
        raise Failed(f"files of {largest} bytes: {'' if dies else lacks}: {ended.code}, {last(ended)}")
    with told(f"files of {largest} bytes"):
        case.identical(folder, case.run(folder))
    return "identical", f"files of {largest} bytes", "" if dies else last(ended)


def closed(case: Case, folder: Path, kind: str, number: int, draw: random.Random) -> tuple[str, str, str]:
    """`| head -n`: the reader of the output leaves."""
    lines, pipe = draw.randint(1, 3), folder / "pipe"
    reader = head(pipe, lines)
    ended = case.run(folder, RARE, stdout=pipe, **({"stderr": pipe} if kind.endswith("2>&1") else {}))
    reader.join(10)
    pipe.unlink()
    return left(case, folder, ended, f"after {lines} lines", (signal.SIGPIPE,))


def raises(case: Case, folder: Path, kind: str, number: int, draw: random.Random) -> tuple[str, str, str]:
    """A world's step raises: its own error is shown, and what was learned until then is saved."""
    if not case.program.steps:
        raise Skipped("plays no world")
    step = draw.randint(8, 60)
    ended = case.run(folder, RARE, fault={"step": step})
    if ended.code in (0, None) or "the simulator has lost its game" not in ended.said:
        raise Failed(f"step {step}: {ended.code}, without the world's own error: {last(ended)}")
    run = case.of(folder)
    if newest(run / "checkpoint") is None:
        raise Failed(f"step {step}: nothing was saved: {last(ended)}")
    with told(f"step {step}"):
        case.identical(folder, case.run(folder))
    return "identical", f"step {step}", last(ended)


def removed(case: Case, folder: Path, kind: str, number: int, draw: random.Random) -> tuple[str, str, str]:
    """rm -rf of the run's folder while it runs."""
    at = draw.randint(10, case.writes - 1)
    ended = case.run(folder, fault={"at": at, "do": "remove"})
    if ended.code == 0:
        case.identical(folder, ended)
        return "identical", f"write {at}", ""
    if lacks := unsaid(ended, {"run"}):
        raise Failed(f"write {at}: {lacks}: {last(ended)}")
    with told(f"write {at}"):
        again = case.run(folder)
        if again.code and not unsaid(again, {"run"}):
            return "named", f"write {at}", last(again)
        case.identical(folder, again)
    return "named", f"write {at}", last(ended)


def second(case: Case, folder: Path, kind: str, number: int, draw: random.Random) -> tuple[str, str, str]:
    """A second program in the folder of one that runs; also after its lock was deleted."""
    at, found = draw.randint(8, case.writes - 1), []

    def meanwhile(pid: int) -> None:
        if not stopped(pid):
            return
        found.append(case.run(folder))
        os.kill(pid, signal.SIGCONT)

    ended = case.run(folder, fault={"at": at, "do": "unlock" if "lock" in kind else "stop"}, meanwhile=meanwhile)
    where = f"write {at}"
    if not found:
        raise Failed(f"{where}: did not stop: {last(ended)}")
    other = found[0]
    with told(where):
        if other.code == 0 and ended.code != 0:  # the second has taken it, and the first noticed
            if lacks := unsaid(ended, {"run", ".lock"}):
                raise Failed(f"the first of two: {lacks}: {last(ended)}")
            case.identical(folder, other)
            return "named", where, last(ended)
        if lacks := unsaid(other, {"run"}):
            raise Failed(f"a second program: {lacks}: {last(other)}")
        case.identical(folder, ended if ended.code == 0 else case.run(folder))
    return "named", where, last(other)


def disk(case: Case, folder: Path, kind: str, number: int, draw: random.Random) -> tuple[str, str, str]:
    """A disk (a small tmpfs) that fills up, and then is made larger."""
    used = sum(path.stat().st_size for path in case.reference.rglob("*") if path.is_file()) // 1024 + 64
    size = draw.randint(used // 4, used)
    place = folder / "disk"
    place.mkdir()
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", f"size={size}k", "tmpfs", place], capture_output=True, text=True
    )
    if mounted.returncode:
        raise Skipped(f"no tmpfs can be mounted here: {mounted.stderr.strip()}")
    try:
        (place / "runs").mkdir()
        ended = case.run(place / "runs")
        if ended.code == 0:
            case.identical(place / "runs", ended)
            return "identical", f"{size} KiB", "had room enough"
        if lacks := unsaid(ended, {"run", "disk"}):
            raise Failed(f"{size} KiB: {lacks}: {last(ended)}")
        subprocess.run(["mount", "-o", "remount,size=1g", place], check=True)
        with told(f"{size} KiB"):
            case.identical(place / "runs", case.run(place / "runs"))
        return "identical", f"{size} KiB", last(ended)
    finally:
        subprocess.run(["umount", "-l", place], check=False)


# ---- faults of W&B --------------------------------------------------------------------------------------------


def mirrored(case: Case, folder: Path, kind: str, number: int, draw: random.Random) -> tuple[str, str, str]:
    """A W&B server that is not there, that says nothing, or whose service stops: the run never notices."""
    with socket.socket() as listening:
        listening.bind(("127.0.0.1", 0))
        port = listening.getsockname()[1]
        if kind == "W&B dead":
            listening.close()
        else:
            listening.listen(64)  # connections are taken by the kernel, and never answered
        mark = f"FAULTS_TRY={folder}"
        environment = {"WANDB_BASE_URL": f"http://127.0.0.1:{port}", "WANDB_API_KEY": "0" * 40}
        environment |= dict([mark.split("=", 1)])
        meanwhile = (lambda pid: halt(pid, mark)) if kind == "W&B stopped" else None
        try:
            ended = case.run(folder, "--wandb=online", environment=environment, meanwhile=meanwhile)
        finally:
            for pid in marked(mark):
                with contextlib.suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)
    case.identical(folder, ended)
    if ended.seconds > 20 + 3 * case.seconds:  # a bound that holds on a busy machine
        raise Failed(f"took {ended.seconds:.0f} s, and without W&B {case.seconds:.0f} s")
    return "identical", "", f"{ended.seconds:.1f} s"


def marked(mark: str) -> list[int]:
    """The processes whose environment holds `mark`."""
    found = []
    for entry in Path("/proc").iterdir():
        with contextlib.suppress(OSError):
            if entry.name.isdigit() and mark.encode() in (entry / "environ").read_bytes():
                found.append(int(entry.name))
    return found


def halt(pid: int, mark: str) -> None:
    """Stop (SIGSTOP) everything that a program has started beside itself, as soon as there is anything."""
    end = time.monotonic() + 20
    while time.monotonic() < end and Path(f"/proc/{pid}/exe").exists():
        others = [each for each in marked(mark) if each != pid]
        for each in others:
            with contextlib.suppress(ProcessLookupError):
                os.kill(each, signal.SIGSTOP)
        if others:
            return
        time.sleep(0.1)


FAULTS: dict[str, Callable[[Case, Path, str, int, random.Random], tuple[str, str, str]]] = {
    "kill -9 at a write": killed,
    "killed within a write": cut_short,
    "file too large": cut_short,
    "SIGTERM": signalled,
    "SIGINT": signalled,
    "SIGHUP": signalled,
    "| head": closed,
    "2>&1 | head": closed,
    "step() raises": raises,
    "folder removed meanwhile": removed,
    "a second program": second,
    "a second program, lock deleted": second,
    "disk full": disk,
    "W&B dead": mirrored,
    "W&B silent": mirrored,
    "W&B stopped": mirrored,
} | dict.fromkeys(damage.KINDS, files)


def attempt(case: Case, fault: str, number: int, seed: int) -> Tried:
    """Try a fault on a program; the same fault, number and seed strike at the same place."""
    draw = random.Random(f"{seed} {fault} {case.name} {number}")
    began = time.monotonic()
    with room(case, number, fault) as folder:
        try:
            outcome, where, why = FAULTS[fault](case, folder, fault, number, draw)
        except Failed as failure:
            outcome, where, why = "failed", "", str(failure)
        except Skipped as skip:
            outcome, where, why = "skipped", "", str(skip)
    why = why.replace(str(folder), "FOLDER")
    return Tried(fault, case.name, number, outcome, where, why, round(time.monotonic() - began, 2))
