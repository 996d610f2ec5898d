"""Faults are injected into every program, and each is tried again by the same command.

    python -m tests.faults --out /tmp/faults                                  # all programs, all faults
    python -m tests.faults --out /tmp/faults --programs dqn ppo --faults flip "disk full" --tries 3
    python -m tests.faults --out /tmp/faults --publish runs/published/faults  # and keep the table

A try ends as identical (bit for bit what an undisturbed run gives), named (refused in a sentence that names the file
and the way out, nothing lost), or failed. Linux only: it forks, reads /proc and counts writes. The exit code is 1
where anything failed.
"""

import argparse
import dataclasses
import json
import os
import queue
import shutil
import sys
import tempfile
import threading
from collections.abc import Sequence
from pathlib import Path

from runs import machine
from tests.faults import report, server
from tests.faults.case import Case, Failed
from tests.faults.process import Server
from tests.faults.programs import PROGRAMS, draw
from tests.faults.tries import FAULTS, Tried, attempt


def work(
    serving: Server,
    names: "queue.Queue[str]",
    faults: Sequence[str],
    tries: int,
    every: int,
    seed: int,
    place: Path,
    found: list[Tried],
    lines: Path,
) -> None:
    """Take programs from a queue and try every fault on each."""
    while True:
        try:
            name = names.get_nowait()
        except queue.Empty:
            break
        folder = place / name.replace(" ", "-").replace(",", "")
        try:
            case = Case(serving, folder, place / "pictures", name, PROGRAMS[name])
            first = seed + list(PROGRAMS).index(name)
            chosen = [fault for number, fault in enumerate(faults, first) if number % every == 0]
            some = (attempt(case, fault, number, seed) for fault in chosen for number in range(tries))
            for tried in some:
                tell(tried, found, lines)
        except Failed as failure:
            tell(Tried("none", name, 0, "failed", "", str(failure), 0.0), found, lines)
        shutil.rmtree(folder, ignore_errors=True)
    serving.close()


_telling = threading.Lock()
COMMIT = machine.commit() or "none"


def tell(tried: Tried, found: list[Tried], lines: Path) -> None:
    """Add a try to those found, to a file of lines, and to what is seen of it."""
    tried = dataclasses.replace(tried, commit=COMMIT)
    with _telling:
        found.append(tried)
        with open(lines, "a") as file:
            file.write(json.dumps(dataclasses.asdict(tried)) + "\n")
        if tried.outcome == "failed":
            print(f"{len(found):4} {tried.program}: {tried.fault}: FAILED: {tried.why[:600]}", flush=True)


def fast_disk() -> Path:
    """Where files are written soonest."""
    memory = Path("/dev/shm")
    return memory if memory.is_dir() else Path(tempfile.gettempdir())


def asked_for() -> argparse.Namespace:
    """The flags."""
    parser = argparse.ArgumentParser(
        prog="python -m tests.faults", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--programs", nargs="+", default=list(PROGRAMS), choices=list(PROGRAMS), metavar="NAME")
    parser.add_argument("--faults", nargs="+", default=list(FAULTS), choices=list(FAULTS), metavar="FAULT")
    parser.add_argument("--tries", type=int, default=1, help="of each fault on each program")
    parser.add_argument("--every", type=int, default=1, help="try one in so many pairs of a fault and a program")
    parser.add_argument("--seed", type=int, default=1, help="of where faults strike")
    parser.add_argument("--workers", type=int, default=1, help="programs at a time")
    parser.add_argument("--out", type=Path, required=True, help="folder for tries.jsonl and the table")
    parser.add_argument("--work", type=Path, default=fast_disk(), help="folder for the runs")
    parser.add_argument("--keep", action="store_true", help="what an earlier command found of other programs")
    parser.add_argument("--publish", type=Path, help="folder that gets the table too")
    return parser.parse_args()


def fork(workers: int) -> tuple[list[Server], dict | None]:
    """Fork servers off this process. In a fork of theirs that is to run a program: what it is to run."""
    servers = []
    for _ in range(workers):
        (asking, questions), (answers, answering) = os.pipe(), os.pipe()
        if os.fork() == 0:
            os.close(questions)
            os.close(answers)
            start = server.serve(asking, answering)
            if start is None:
                os._exit(0)
            return [], start
        os.close(asking)
        os.close(answering)
        servers.append(Server(questions, answers))
    return servers, None


def main(asked: argparse.Namespace, servers: list[Server]) -> int:
    """Try everything that is asked for, and write the table. Returns the exit code."""
    asked.out.mkdir(parents=True, exist_ok=True)
    lines = asked.out / "tries.jsonl"
    before = lines.read_text().splitlines() if asked.keep and lines.is_file() else []
    kept = [Tried(**json.loads(line)) for line in before]
    kept = [tried for tried in kept if tried.program not in asked.programs]
    lines.write_text("".join(json.dumps(dataclasses.asdict(tried)) + "\n" for tried in kept))
    place = asked.work / f"saccade-faults-{os.getpid()}"
    draw(place / "pictures")
    names: queue.Queue[str] = queue.Queue()
    for name in reversed(asked.programs):  # the kinds that are only there once come last in the list, and first here
        names.put(name)
    found: list[Tried] = [*kept]
    rest = (names, asked.faults, asked.tries, asked.every, asked.seed, place, found, lines)
    workers = [threading.Thread(target=work, args=(serving, *rest)) for serving in servers]
    try:
        for worker in workers:
            worker.start()
        for worker in workers:
            worker.join()
    finally:
        shutil.rmtree(place, ignore_errors=True)
    for folder in filter(None, (asked.out, asked.publish)):
        report.write(folder, found, asked.seed, asked.every)
    print(report.table(found))
    return int(any(tried.outcome == "failed" for tried in found))


if __name__ == "__main__":
    flags = asked_for()
    server.prepare()
    forked, program = fork(flags.workers)
    if program:  # at the bottom of the stack, with nothing above that a program's end could run through
        server.run(program)
    else:
        sys.exit(main(flags, forked))
