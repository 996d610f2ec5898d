"""Paired measurement: contestants take turns in short windows, so that what a shared machine does meanwhile
happens to all of them, and only their ratios are quoted.

    contest("DQN", __doc__, {"saccade": train_ours, "peer": train_theirs}, seconds=7, numbers={})  # training loops
    rates = alternate({"a": step_a, "b": step_b}, rounds=3, seconds=2)  # functions of one process

In a contest each contestant is a process of its own, warmed up one after the other. Its training loop calls
`gate(steps)` at its head: it blocks there, idle, until the parent gives it a window. "name+flush" is the contestant
`name` with torch.set_flush_denormal(True), which our programs do themselves.
"""

import argparse
import contextlib
import json
import os
import runpy
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path
from statistics import median

import torch
from rich.console import Console
from rich.table import Table

import runs
from runs import machine
from runs.printing import compact_json

ROOT = Path(__file__).resolve().parents[2]
SEED = 1  # of every contestant
NEVER = 1_000_000_000  # steps, or seconds
PEERS = ("stable-baselines3", "tianshou", "torchrl", "tensordict", "envpool", "cpprb", "opencv-python-headless")


@dataclass(frozen=True)
class Scene:
    """What every contestant is told."""

    game: str
    device: str  # cpu or cuda
    folder: Path  # for what it writes

    def gate(self, warm_up: int) -> "Gate":
        """Where its training loop waits for its turn. warm_up: agent steps before the first window."""
        return Gate(warm_up)

    def played(self, score: float) -> None:
        """Called with the unclipped return of each whole game played in training; nothing reads it in a contest."""


class Gate:
    """Where a contestant's training loop waits for its turn: `gate(steps)` once every time around.

    Reads a window's seconds as a line on stdin and answers with one line of JSON, {"steps", "seconds"}.
    Whatever else the contestant prints goes to stderr, so that it cannot be taken for an answer.
    """

    def __init__(self, warm_up: int):
        self.warm_up = warm_up  # agent steps before the first window
        self.answers = os.fdopen(os.dup(1), "w", buffering=1)
        os.dup2(2, 1)
        self.begin: tuple[int, float] | None = None
        self.seconds = 0.0

    def __call__(self, steps: int) -> None:
        if self.begin is None:
            if steps < self.warm_up:
                return
        else:
            if time.perf_counter() - self.begin[1] < self.seconds:
                return
            if torch.cuda.is_initialized():  # the work asked for in the window belongs to the window
                torch.cuda.synchronize()
        now = time.perf_counter()
        first, start = self.begin or (steps, now)
        self.answers.write(json.dumps({"steps": steps - first, "seconds": now - start}) + "\n")
        line = sys.stdin.readline()
        if not line:
            os._exit(0)  # no orderly end: a contestant has nothing worth saving
        self.seconds = float(line)
        self.begin = (steps, time.perf_counter())


class Contestants:
    """A program's contestants, each a process of its own (threads, settings), warmed up one by one."""

    def __init__(self, commands: dict[str, list[str]], logs: Path):
        self.commands, self.logs = commands, logs
        self.processes: dict[str, subprocess.Popen[str]] = {}
        self.others: dict[str, list[float]] = {}

    def __enter__(self) -> "Contestants":
        path = os.pathsep.join(filter(None, [str(ROOT), os.environ.get("PYTHONPATH", "")]))
        for name, command in self.commands.items():
            print(f"warming up {name}", flush=True)
            with open(self.logs / f"{name}.log", "w") as log:
                self.processes[name] = subprocess.Popen(
                    command,
                    stdin=subprocess.PIPE,
                    stdout=subprocess.PIPE,
                    stderr=log,
                    text=True,
                    env=os.environ | {"PYTHONPATH": path},
                    start_new_session=True,  # with its workers, so that they are measured and end with it
                )
            try:
                self.answer(name)
            except BaseException:
                self.__exit__()
                raise
        return self

    def __exit__(self, *_: object) -> None:
        for process in self.processes.values():
            if hasattr(os, "killpg"):
                with contextlib.suppress(ProcessLookupError):
                    os.killpg(process.pid, signal.SIGKILL)
            process.kill()
            process.wait()

    def answer(self, name: str) -> dict[str, float]:
        line = self.processes[name].stdout.readline()
        if not line:
            log = (self.logs / f"{name}.log").read_text()
            raise RuntimeError(f"contestant {name!r} ended early; its last lines:\n{log[-3000:]}")
        return json.loads(line)

    def measure(self, rounds: int, seconds: float) -> dict[str, list[float]]:
        """Steps per second of every window, by contestant; one window each a round.

        `self.others` gets the cores that other processes kept busy meanwhile (Linux; NaN elsewhere).
        """
        rates: dict[str, list[float]] = {name: [] for name in self.processes}
        for number in range(rounds):
            order = list(rates) if number % 2 == 0 else list(rates)[::-1]  # a drift favors nobody
            for name in order:
                before = foreign_seconds(self.processes[name].pid)
                self.processes[name].stdin.write(f"{seconds}\n")
                self.processes[name].stdin.flush()
                window = self.answer(name)
                others = (foreign_seconds(self.processes[name].pid) - before) / window["seconds"]
                rates[name].append(window["steps"] / window["seconds"])
                self.others.setdefault(name, []).append(others)
                print(
                    f"round {number + 1}/{rounds}  {name:<16} {rates[name][-1]:8,.0f} steps/s"
                    f"   (others kept {others:.2f} cores busy)",
                    flush=True,
                )
        return rates


def foreign_seconds(group: int) -> float:
    """CPU seconds the machine has spent on everything but a process group; NaN where there is no /proc."""
    try:
        user, nice, system, _, _, interrupt, soft, stolen = map(
            int, Path("/proc/stat").read_text().split("\n", 1)[0].split()[1:9]
        )
    except OSError:
        return float("nan")
    own = 0
    for file in Path("/proc").glob("[0-9]*/stat"):
        with contextlib.suppress(OSError):  # ended meanwhile
            fields = file.read_text().rsplit(")", 1)[1].split()
            if int(fields[2]) == group:
                own += int(fields[11]) + int(fields[12])
    return (user + nice + system + interrupt + soft + stolen - own) / os.sysconf("SC_CLK_TCK")


def contest(
    title: str,
    description: str,
    contestants: dict[str, Callable[[Scene], None]],
    seconds: float,
    numbers: dict[str, object],
    default: Sequence[str] = (),
) -> None:
    """The program that lets contestants train in turns, and compares ours with the others.

    Args:
        description: for --help.
        contestants: by name, training loops that end with the process; ours have names that begin with "saccade".
        seconds: length of a window unless asked otherwise.
        numbers: what else the JSON is to say of the setting.
        default: who competes unless asked otherwise; all of them if empty.
    """
    parser = argparse.ArgumentParser(description=description, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--game", default="Breakout")
    parser.add_argument("--device", default="cpu", help="cpu or cuda, for every contestant")
    parser.add_argument("--seconds", type=float, default=seconds, help="length of a window (default %(default)s)")
    parser.add_argument("--rounds", type=int, default=3, help="windows of each contestant (default %(default)s)")
    parser.add_argument(
        "--contestants",
        nargs="+",
        default=list(default or contestants),
        metavar="NAME",
        help=f"of {', '.join(contestants)}, each also as NAME+flush (default {' '.join(default) or 'all'})",
    )
    parser.add_argument("--json", type=Path, help="write the result there")
    # How this program starts its contestants:
    parser.add_argument("--contestant", help=argparse.SUPPRESS)
    parser.add_argument("--folder", type=Path, help=argparse.SUPPRESS)
    options = parser.parse_args()
    for name in options.contestants:
        if name.partition("+")[0] not in contestants:
            parser.error(f"unknown contestant {name!r}: there are {', '.join(contestants)}")
    if options.contestant:
        recipe, _, flush = options.contestant.partition("+")
        if flush:
            torch.set_flush_denormal(True)
        contestants[recipe](Scene(options.game, options.device, options.folder))
        return

    configuration = circumstances(options.device)
    command = [sys.executable, sys.argv[0], "--game", options.game, "--device", options.device]
    with tempfile.TemporaryDirectory() as folder:
        commands = {name: [*command, "--contestant", name, "--folder", folder] for name in options.contestants}
        with Contestants(commands, Path(folder)) as competing:
            rates = competing.measure(options.rounds, options.seconds)
    ours = [name for name in rates if name.startswith("saccade")]
    peers = [name for name in rates if name not in ours]
    ratios = {name: {peer: ratio(rates, name, peer) for peer in peers} for name in ours}
    report(
        f"{title} on {options.game}: agent steps/s, {options.rounds} windows of {options.seconds:g} s",
        ["contestant", "median", "least", "most", "others' cores", *(f"{name} / it" for name in ours)],
        [
            [
                name,
                median(windows),
                min(windows),
                max(windows),
                f"{max(competing.others[name]):.2f}",
                *(f"{ratios[our][name]:.2f}" if name in peers else "" for our in ours),
            ]
            for name, windows in rates.items()
        ],
        {"benchmark": Path(sys.argv[0]).stem, "game": options.game, "seconds": options.seconds}
        | numbers
        | {"steps_per_second": rates, "ratios": ratios, "cores_busy_with_others": competing.others}
        | configuration,
        options.json,
    )


def program(module: str, scene: Scene, warm_up: int, **flags: object) -> None:
    """Be one of our programs as a user runs it, its loop gated at its head, without evaluations and checkpoints."""
    gate, steps = scene.gate(warm_up), runs.Run.steps

    def gated(run: runs.Run, *arguments: object, **options: object) -> Iterator[int]:
        for step in steps(run, *arguments, **options):
            gate(step)
            yield step

    runs.Run.steps = gated
    flags = dict(env=scene.game, device=scene.device, folder=scene.folder, seed=SEED, wandb="disabled") | flags
    sys.argv = [module, *command_line(evaluate_every=NEVER, save_every=NEVER, **flags)]
    runpy.run_module(module, run_name="__main__", alter_sys=True)


def command_line(**flags: object) -> list[str]:
    """learn_every=8, center=False -> --learn-every 8 --no-subtract-mean."""
    words = []
    for name, value in flags.items():
        flag = name.replace("_", "-")
        words += [f"--{'' if value else 'no-'}{flag}"] if isinstance(value, bool) else [f"--{flag}", str(value)]
    return words


def alternate(calls: dict[str, Callable[[], int]], rounds: int, seconds: float) -> dict[str, list[float]]:
    """Work per second of every window; each call does some work and returns how much work it was."""
    rates: dict[str, list[float]] = {name: [] for name in calls}
    for call in calls.values():
        call()  # first-call costs (lazy imports, first page touches) are not throughput
    for number in range(rounds):
        for name in list(calls) if number % 2 == 0 else list(calls)[::-1]:
            done, start = 0, time.perf_counter()
            while (passed := time.perf_counter() - start) < seconds:
                done += calls[name]()
            rates[name].append(done / passed)
    return rates


def ratio(rates: dict[str, list[float]], name: str, peer: str) -> float:
    """Median over rounds of the ratio within the round."""
    return median(ours / theirs for ours, theirs in zip(rates[name], rates[peer], strict=True))


def circumstances(device: str = "cpu") -> dict[str, object]:
    """What a number depends on: hardware, load before measuring, versions, commit."""
    packages = {}
    for package in PEERS:
        with contextlib.suppress(metadata.PackageNotFoundError):
            packages[package] = metadata.version(package)
    load = round(os.getloadavg()[0], 2) if hasattr(os, "getloadavg") else None  # of the last minute
    return {
        "hardware": machine.hardware(torch.device(device)),
        "load_average": load,
        "versions": machine.versions() | packages,
        "commit": machine.commit(),
        "date": time.strftime("%Y-%m-%d"),
    }


def report(title: str, columns: list[str], rows: list[list[object]], result: dict, json_path: Path | None) -> None:
    """Print the table and the circumstances; write the result as JSON when a path is given."""
    table = Table(title=title)
    for column in columns:
        table.add_column(column, justify="left" if column == columns[0] else "right")
    for row in rows:
        table.add_row(*(f"{cell:,.4g}" if isinstance(cell, float) else str(cell) for cell in row))
    terminal = Console()
    terminal.print(table)
    hardware, load = result["hardware"], result["load_average"]
    terminal.print(
        f"{hardware['processor']}, {hardware['cores']} cores, {hardware.get('gpu', 'no GPU')}, "
        f"{hardware['torch_threads']} threads, load average before: {load}, commit {result['commit']}",
        highlight=False,
    )
    terminal.print("  ".join(f"{name} {number}" for name, number in result["versions"].items()), highlight=False)
    if json_path is not None:
        json_path.write_text(compact_json(result) + "\n")
        terminal.print(f"written to {json_path}")
