"""Checks a GPU by one command in a given time: tests, throughputs, and two games learned by the GPU's recipe.

    python tests/benchmarks/gpu.py --minutes 9 --out results/gpu
    python tests/benchmarks/gpu.py --minutes 3 --out results/gpu --device cpu       # all of it, small
    python tests/benchmarks/gpu.py --minutes 9 --out results/gpu --groups table     # one group alone

Three groups, in this order, within the minutes given:
1. tests: `pytest -m gpu`, in several processes side by side.
2. table: steps/s of the emulator, DQN (8 samples a step), PQN, PPO, Rainbow; images/s of RAM and ResNet-18; plain,
   with --capture and with --compile; draws from a memory of a million; the operations that take most of the time.
3. train: Pong and Breakout by GPU_RECIPE, as far as the time goes, with their curves.

Every job runs in a process that may hang, crash or run out of memory: it is then ended, named, and the others go
on. Each writes its result to a file when it has it. summary.json and summary.txt are written after each group.
"""

import argparse
import contextlib
import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import gpu_plan
import gpu_summary

from runs import machine

ROOT = Path(__file__).resolve().parents[2]
FINISH = 20.0  # seconds at the end for the summary
STARTING = 120.0  # seconds that a process has before its first job begins
GROUPS = ("tests", "table", "train")
SHARES = {"tests": 0.3, "table": 0.5, "train": 1.0}  # of the time that is left when the group begins, at most


class Clock:
    """The time that is left."""

    def __init__(self, seconds: float) -> None:
        self.end = time.monotonic() + seconds

    def left(self) -> float:
        """Seconds, 0 at the end."""
        return max(self.end - time.monotonic(), 0.0)


def kill(process: subprocess.Popen) -> None:
    """End a process and its own: first so that it shows where it is (faulthandler), then at once."""
    for number, patience in ((signal.SIGABRT, 1.0), (signal.SIGKILL, 5.0)):
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, number)
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(patience)


class Work:
    """Jobs that processes do one after the other: what is known of each, by name.

    command: of a process for the jobs that are left, which reports to a file of JSON lines as gpu_jobs.Report does.
    limit: seconds of a job at most. log, report: files.
    """

    def __init__(
        self, jobs: list[str], command: Callable[[list[str]], list[str]], limit: float, log: Path, report: Path
    ) -> None:
        self.command, self.limit, self.log, self.report = command, limit, log, report
        self.found: dict[str, dict[str, Any]] = {job: {"status": "not begun"} for job in jobs}
        self.read = 0  # bytes of the report
        self.current: str | None = None
        self.began = 0.0
        report.touch()

    def run(self, clock: Clock) -> None:
        """Do the jobs, each at most once, until all are done or the time is over."""
        while (left := [job for job, about in self.found.items() if about["status"] == "not begun"]) and clock.left():
            self._process(left, clock)
            if clock.left() and all(self.found[job]["status"] == "not begun" for job in left):
                self.found[left[0]] = {
                    "status": "failed",
                    "error": "its process ended before it began: " + self.end(),
                }

    def _process(self, left: list[str], clock: Clock) -> None:
        env = os.environ | {"PYTHONPATH": self.path(), "GPU_REPORT": str(self.report), "PYTHONFAULTHANDLER": "1"}
        with open(self.log, "a") as log:
            process = subprocess.Popen(
                self.command(left), cwd=ROOT, env=env, stdout=log, stderr=log, start_new_session=True
            )
        self.current, self.began = None, time.monotonic()
        why = ""
        while process.poll() is None and not why:
            time.sleep(0.05)
            self._poll()
            if not clock.left():
                why = "out of time"
            elif time.monotonic() - self.began > (self.limit if self.current else STARTING):
                why = f"hung: {time.monotonic() - self.began:.0f} s"
        kill(process)
        self._poll()
        if self.current:
            self.found[self.current] = {
                "status": why.partition(":")[0] or "crashed",
                "error": f"{why or f'exit status {process.returncode}'}; {self.end()}",
            }

    def _poll(self) -> None:
        """Take in what was reported since the last time."""
        with open(self.report, "rb") as file:
            file.seek(self.read)
            new = file.read()
        whole = new[: new.rfind(b"\n") + 1]
        self.read += len(whole)
        for line in whole.splitlines():
            entry = json.loads(line)
            if entry["event"] == "begin":
                self.current, self.began = entry["job"], time.monotonic()
            else:
                self.found[entry["job"]] = {key: entry[key] for key in ("status", "error", "result") if key in entry}
                self.current, self.began = None, time.monotonic()

    def end(self) -> str:
        """The last lines of the log."""
        return self.log.read_text(errors="replace")[-1_500:] if self.log.exists() else ""

    @staticmethod
    def path() -> str:
        """PYTHONPATH of the processes."""
        return os.pathsep.join(
            filter(None, [str(ROOT), str(ROOT / "tests/benchmarks"), os.environ.get("PYTHONPATH")])
        )


def pytest_command(*words: str) -> list[str]:
    """pytest without this project's own options, whose plugins may be missing."""
    plain = ["-o", "addopts=", "-p", "no:cacheprovider", "-p", "no:xdist", "-W", "ignore::pytest.PytestConfigWarning"]
    return [sys.executable, "-m", "pytest", "-q", *plain, *words]


def tests(options: argparse.Namespace, clock: Clock) -> dict[str, Any]:
    """Run the tests for a device in several processes side by side."""
    cuda = options.device != "cpu"
    mark = "gpu" if cuda else "slow and not gpu"
    here = sorted((ROOT / "tests").glob("test_*.py"))
    files = [str(f.relative_to(ROOT)) for f in here if "CUDA_OR_SLOW" in f.read_text() or (cuda and marked(f))]
    listed = subprocess.run(
        pytest_command("--collect-only", "-m", mark, *files),
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=max(clock.left(), 1),
        env=os.environ | {"PYTHONPATH": Work.path()},
    )
    names = [line for line in listed.stdout.splitlines() if "::" in line]
    if not names:
        return {"pytest": {"status": "failed", "error": (listed.stdout + listed.stderr)[-3_000:]}}
    names = [n for n in gpu_plan.order_tests(names, cuda) if not options.only or chosen_by(options.only, n)]
    shards = [names[k :: options.workers] for k in range(options.workers)]
    works = [
        Work(
            shard,
            lambda left: pytest_command("-p", "gpu_report", *left),
            gpu_plan.TEST_LIMIT,
            options.out / f"tests-{number}.log",
            options.out / f"tests-{number}.jsonl",
        )
        for number, shard in enumerate(shards)
        if shard
    ]
    threads = [threading.Thread(target=work.run, args=(clock,)) for work in works]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return {job: about for work in works for job, about in work.found.items()}


def chosen_by(words: list[str], name: str) -> bool:
    """Whether a name has one of the words in it."""
    return any(word in name for word in words)


def marked(file: Path) -> bool:
    """Whether a file of tests has some for a GPU."""
    text = file.read_text()
    return "tests.devices" in text or "mark.gpu" in text


def table(options: argparse.Namespace, clock: Clock) -> dict[str, Any]:
    """Measure, one job after the other."""
    planned = gpu_plan.jobs(options.device, clock.left())
    jobs = {job["name"]: job for job in planned if not options.only or chosen_by(options.only, job["name"])}

    def command(left: list[str]) -> list[str]:
        chosen = options.out / "table-jobs.json"
        chosen.write_text(json.dumps([jobs[name] for name in left]))
        program = str(ROOT / "tests/benchmarks/gpu_jobs.py")
        return [sys.executable, program, str(chosen), str(options.out / "table.jsonl")]

    work = Work(list(jobs), command, gpu_plan.JOB_LIMIT, options.out / "table.log", options.out / "table.jsonl")
    work.run(clock)
    return work.found


def train(options: argparse.Namespace, clock: Clock, found: dict[str, dict[str, Any]]) -> dict[str, Any]:
    """Learn the games, by programs as a user starts them, each until its share of the time is over."""
    results = {}
    games = gpu_plan.games(options.device, clock.left(), gpu_summary.measured(found, gpu_plan.RECIPE))
    for game, seconds, words in games:
        log, until = options.out / f"train-{game}.log", time.monotonic() + min(seconds, clock.left())
        command = [sys.executable, "-m", "agents.pqn", *words, "--folder", str(options.out / "runs")]
        with open(log, "w") as file:
            process = subprocess.Popen(command, cwd=ROOT, stdout=file, stderr=file, start_new_session=True)
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(max(until - time.monotonic() - 5, 0))
        ended = process.poll() is not None
        if not ended:
            process.send_signal(signal.SIGINT)  # it saves, and leaves
            with contextlib.suppress(subprocess.TimeoutExpired):
                process.wait(5)
        kill(process)
        curve = gpu_summary.curve(options.out / "runs" / game / "pqn-1")
        results[game] = {"status": "passed", "result": {"command": command[1:], "curve": curve}}
        if not curve:  # it was not evaluated: it failed, or there was no time
            tail = log.read_text(errors="replace")[-1_500:]
            error = f"exit status {process.returncode}; {tail}"
            results[game] |= {"status": "failed" if ended else "out of time", "error": error}
    return results


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--minutes", type=float, default=9.0, help="of all of it (default %(default)s)")
    parser.add_argument("--out", type=Path, required=True, help="folder for what is found")
    parser.add_argument("--device", default="cuda", help="cuda, or cpu for all of it small (default %(default)s)")
    parser.add_argument("--groups", nargs="+", default=list(GROUPS), choices=GROUPS, help="(default all)")
    parser.add_argument("--only", nargs="+", default=[], help="tests and jobs whose names have one of these words")
    parser.add_argument("--workers", type=int, default=0, help="processes of tests; 0: 5 on a GPU, else 1")
    options = parser.parse_args()
    try:
        device = machine.choose(options.device)
    except ValueError as error:
        parser.error(str(error))
    whole = Clock(60 * options.minutes)
    usable = Clock(max(60 * options.minutes - FINISH, 1.0))
    options.workers = options.workers or (5 if options.device != "cpu" else 1)
    options.out = options.out.resolve()
    if options.out.exists() and any(options.out.iterdir()):
        parser.error(f"{options.out} is not empty: choose another folder")
    options.out.mkdir(parents=True, exist_ok=True)
    about = machine.circumstances("tests.benchmarks.gpu", device)
    found: dict[str, dict[str, Any]] = {}
    for group in options.groups:
        last = group == options.groups[-1]
        clock, began = Clock(usable.left() * (1.0 if last else SHARES[group])), time.monotonic()
        print(f"{group}: {clock.left():.0f} s at most", flush=True)
        try:
            run = {"tests": tests, "table": table}.get(group)
            found[group] = run(options, clock) if run else train(options, clock, found)
        except subprocess.TimeoutExpired as error:
            found[group] = {group: {"status": "out of time", "error": str(error)[:300]}}
        except Exception as error:
            found[group] = {group: {"status": "failed", "error": f"{type(error).__name__}: {error}"}}
        about[f"{group}_seconds"] = round(time.monotonic() - began, 1)
        gpu_summary.write(options.out, about, found)
    with contextlib.suppress(Exception):  # a picture is no reason to fail
        gpu_summary.draw(options.out, found)
    print((options.out / "summary.txt").read_text())
    print(f"{60 * options.minutes - whole.left():.0f} s of {60 * options.minutes:.0f}; all of it is in {options.out}")


if __name__ == "__main__":
    main()
