"""Tries of faults that strike a program while it runs; then the same command goes on.

Each gets a case, a new folder, the fault's name, the number of the try and what draws where it strikes, and returns
the outcome, where it struck and what was said; raises Failed, Skipped.
"""

import contextlib
import json
import os
import random
import signal
import socket
import subprocess
import time
from pathlib import Path

from tests.faults.case import RARE, Case, Failed, Skipped, last, locating
from tests.faults.outcome import newest, ugly, unsaid
from tests.faults.process import Ended, head, stopped


def killed(case: Case, folder: Path, kind: str, number: int, draw: random.Random) -> tuple[str, str, str]:
    """kill -9 at a write."""
    if not case.writes:
        raise Skipped("writes in one go")
    at = draw.randint(1, case.writes)
    ended = case.run(folder, fault={"at": at, "do": "kill"})
    if ended.code != -signal.SIGKILL:
        raise Failed(f"write {at}: was to be killed: {ended.code}, {last(ended)}")
    with locating(f"write {at}"):
        case.identical(folder, case.run(folder))
    return "identical", f"write {at} of {case.writes}", ""


def signaled(case: Case, folder: Path, kind: str, number: int, draw: random.Random) -> tuple[str, str, str]:
    """A signal that asks to leave, between checkpoints that are hours apart: what it has is saved."""
    if not case.few:
        raise Skipped("writes in one go")
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
    with locating(where):
        case.identical(folder, case.run(folder))
    return "identical", where, last(ended)


def cut_short(case: Case, folder: Path, kind: str, number: int, draw: random.Random) -> tuple[str, str, str]:
    """A write that ends in the middle of its bytes: by death, or by an error as that of a quota.

    Python ignores SIGXFSZ when it starts: a program that has others write for it is told of an error, and lives.
    """
    sizes = [path.stat().st_size for path in case.reference.rglob("*") if path.is_file()]
    largest = draw.randint(max(sizes) // 8, max(sizes) - 1)
    dies = kind == "killed within a write"
    ended = case.run(folder, fault={"largest": largest, "kill": dies})
    if ended.code == 0:
        case.identical(folder, ended)
        return "identical", f"files of {largest} bytes", ""
    died = dies and ended.code == -signal.SIGXFSZ
    if not died and (lacks := unsaid(ended, {folder.name})):
        raise Failed(f"files of {largest} bytes: {lacks}: {ended.code}, {last(ended)}")
    with locating(f"files of {largest} bytes"):
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
    step = draw.randint(3, 22)
    ended = case.run(folder, RARE, fault={"step": step})
    if ended.code in (0, None) or "the simulator has lost its game" not in ended.said:
        raise Failed(f"step {step}: {ended.code}, without the world's own error: {last(ended)}")
    run = case.of(folder)
    if newest(run / "checkpoint") is None:
        raise Failed(f"step {step}: nothing was saved: {last(ended)}")
    again = case.run(folder)
    inexact = json.loads((run / "config.json").read_text()).get("inexact")
    with locating(f"step {step}"):
        if again.code == 0 and not ugly(again) and inexact:  # saved in the middle of an iteration: the record says so
            return "named", f"step {step}", str(inexact)
        case.identical(folder, again)
    return "identical", f"step {step}", last(ended)


def removed(case: Case, folder: Path, kind: str, number: int, draw: random.Random) -> tuple[str, str, str]:
    """rm -rf of the run's folder while it runs."""
    at = draw.randint(10, case.writes - 1)
    ended = case.run(folder, fault={"at": at, "do": "remove"})
    if ended.code == 0:
        case.identical(folder, ended)
        return "identical", f"write {at}", ""
    if lacks := unsaid(ended, {folder.name}):
        raise Failed(f"write {at}: {lacks}: {last(ended)}")
    with locating(f"write {at}"):
        again = case.run(folder)
        if again.code and not unsaid(again, {folder.name}):
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
    with locating(where):
        if other.code == 0 and ended.code != 0:  # the second has taken it, and the first noticed
            if lacks := unsaid(ended, {folder.name}):
                raise Failed(f"the first of two: {lacks}: {last(ended)}")
            case.identical(folder, other)
            return "named", where, last(ended)
        if lacks := unsaid(other, {folder.name}):
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
        if lacks := unsaid(ended, {"disk"}):
            raise Failed(f"{size} KiB: {lacks}: {last(ended)}")
        subprocess.run(["mount", "-o", "remount,size=1g", place], check=True)
        with locating(f"{size} KiB"):
            case.identical(place / "runs", case.run(place / "runs"))
        return "identical", f"{size} KiB", last(ended)
    finally:
        subprocess.run(["umount", "-l", place], check=False)


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
