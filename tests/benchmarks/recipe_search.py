"""A search for the recipe that learns soonest: short trainings of a fixed wall time on one core each.

    python tests/benchmarks/recipe_search.py agents.pqn --env Pong --minutes 5 --trials 12 \
        --try learning-rate=2.5e-4,5e-4,1e-3 worlds=16,32 width=0.25,0.5,1 --out results/search/pong-pqn.jsonl
    python tests/benchmarks/recipe_search.py agents.dqn --env Breakout --minutes 20 --trials 1 --seeds 3 \
        --flags "--learn-every 16" --out results/search/breakout-dqn.jsonl
    python tests/benchmarks/recipe_search.py agents.dqn --env Pong --minutes 10 --trials 1 \
        --points "norm=layer" "norm=layer width=0.5" --out results/search/pong-dqn.jsonl

The first trial is the recipe as it is; the others are drawn without repetition from the grid of --try, in an order
that --seed decides, and then come the --points chosen by hand. Every trial trains with --seeds seeds, each a process
with one thread, bound to a core of its own, as many at once as there are cores (--jobs). What counts is the run's own
clock: learning, evaluations and checkpoints, without the start of Python. A run that passes --minutes is stopped. Its
last weights then play --games whole games, which do not count as time; schedules that depend on --steps (annealing,
exploration) fit only where the run ends by itself within the minutes, so `steps` is worth a place in --try.

One line a run goes into --out: what was tried, the command, the curve of evaluations as [minutes, step, return], and
what was played. A search that was stopped goes on by the same command. Trials are ranked by the minutes to --score,
if one is given, where most seeds reach it, and by what was played. Leave the machine alone meanwhile.
"""

import argparse
import functools
import itertools
import json
import math
import os
import queue
import random
import shlex
import shutil
import signal
import subprocess
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from statistics import mean, median
from typing import IO

from paired import circumstances
from rich.console import Console
from rich.table import Table

from runs import threads
from runs.reader import RunRecord, read_run

ROOT = Path(__file__).resolve().parents[2]
PLAY = """
import sys, json, agents
agent = agents.load(sys.argv[1], checkpoint="last")
print(json.dumps(agents.play(agent, games=int(sys.argv[2]))))
"""
GRACE = 60.0  # seconds that a run has to save what it is, before it is killed

Point = dict[str, str]  # flag, without its dashes -> value, as on a command line


def points(space: dict[str, list[str]], count: int, seed: int) -> list[Point]:
    """The recipe as it is ({}), and up to `count` - 1 points of the grid, drawn without repetition."""
    grid = [dict(zip(space, values, strict=True)) for values in itertools.product(*space.values())] if space else []
    return [{}, *random.Random(seed).sample(grid, min(max(count - 1, 0), len(grid)))]


def chosen(words: str) -> Point:
    """The point of words such as "width=0.5 norm=layer". Raises ValueError where a value is missing."""
    point = {flag.strip("-"): value for flag, _, value in (each.partition("=") for each in words.split())}
    if empty := [flag for flag, value in point.items() if not value]:
        raise ValueError(f"{empty[0]}: write {empty[0]}=VALUE")
    return point


def words(point: Point) -> list[str]:
    """{"width": "0.5", "bf16": "no", "noisy": "yes"} -> --width 0.5 --no-bf16 --noisy."""
    found = []
    for flag, value in point.items():
        found += {"yes": [f"--{flag}"], "no": [f"--no-{flag}"]}.get(value, [f"--{flag}", value])
    return found


def curve(run: RunRecord) -> list[tuple[float, int, float]]:
    """(minutes, step, score) of every evaluation, by the first tick of the run's clock at or after it."""
    found = []
    for line in run.evaluations:
        seconds = [tick["seconds"] for tick in run.clock if tick["step"] >= line["step"]]
        if seconds:
            found.append((round(min(seconds) / 60, 3), int(line["step"]), line[run.score.metric]))
    return found


def minutes_to(score: float, found: list[tuple[float, int, float]]) -> float | None:
    """When an evaluation first reached the score; None where none did."""
    return next((minutes for minutes, _, value in found if value >= score), None)


def train(options: argparse.Namespace, point: Point, seed: int, name: str, core: int) -> dict[str, object]:
    """One run, stopped when its minutes are over, and its line of the file. Raises RuntimeError where it failed."""
    command = [sys.executable, "-m", options.program, "--env", options.env, *shlex.split(options.flags)]
    command += [*words(point), "--seed", str(seed), "--name", name, "--folder", str(options.folder), "--threads", "1"]
    command += ["--wandb", "disabled", "--film-seconds", "0", "--evaluate-every", str(options.evaluate_every)]
    command += ["--log-every", str(min(options.evaluate_every, 5_000)), "--device", "cpu"]
    for old in options.folder.glob(f"*/{name}"):  # of a search that was stopped in the middle of it
        shutil.rmtree(old)
    log, passed = options.folder / f"{name}.log", 0.0
    with log.open("w") as said, bound(command, core, subprocess.DEVNULL, said) as program:
        while program.poll() is None and passed < 60 * options.minutes:
            time.sleep(0.2)
            for metrics in options.folder.glob(f"*/{name}/metrics.jsonl"):  # the last file that a run begins with
                passed = read_run(metrics.parent).seconds or 0.0
        if program.poll() is None:
            program.send_signal(signal.SIGTERM)
            try:
                program.wait(GRACE)
            except subprocess.TimeoutExpired:
                program.kill()
    folder = next(iter(options.folder.glob(f"*/{name}")), None)
    run = read_run(folder) if folder else None
    if run is None or not run.clock or (run.status != "finished" and passed < 60 * options.minutes):
        raise RuntimeError(f"{shlex.join(command)}\n{log.read_text()[-2000:]}")
    line = dict(program=options.program, env=options.env, minutes=options.minutes, flags=point, seed=seed)
    line |= dict(command=shlex.join(["python", *command[1:]]), core=core, steps=run.step, ended=run.status)
    line |= dict(took=round((run.seconds or 0.0) / 60, 3), curve=curve(run), played=None)
    line |= dict(steps_per_second=round(run.steps_per_second or 0.0, 1))
    if options.games:
        play = [sys.executable, "-c", PLAY, str(folder), str(options.games)]
        with log.open("a") as said, bound(play, core, subprocess.PIPE, said) as player:
            result = player.communicate()[0].splitlines()
        if player.returncode or not result:
            raise RuntimeError(f"{folder} cannot be played:\n{log.read_text()[-2000:]}")
        line["played"] = json.loads(result[-1])["return"]
    return line


def bound(command: list[str], core: int, stdout: int, stderr: IO[str]) -> subprocess.Popen[str]:
    """A process that runs on one core alone, and so do its threads."""
    bind = functools.partial(os.sched_setaffinity, 0, {core}) if hasattr(os, "sched_setaffinity") else None
    path = os.pathsep.join(filter(None, [str(ROOT), os.environ.get("PYTHONPATH", "")]))
    around = os.environ | {"OMP_NUM_THREADS": "1", "PYTHONPATH": path}
    return subprocess.Popen(command, stdout=stdout, stderr=stderr, text=True, env=around, preexec_fn=bind)


def known(path: Path, options: argparse.Namespace) -> list[dict]:
    """The lines of this search that are in the file already: of the same program, world, minutes and flags."""
    lines = [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []
    asked = dict(program=options.program, env=options.env, minutes=options.minutes, all_flags=options.flags)
    return [line for line in lines if {key: line.get(key) for key in asked} == asked]


def final(line: dict) -> float:
    """The mean of what was played at the end, or the last evaluation; -inf where there is neither."""
    return mean(line["played"]) if line["played"] else line["curve"][-1][2] if line["curve"] else -math.inf


def table(lines: list[dict], score: float | None) -> Table:
    """The trials, best first."""
    groups: dict[str, list[dict]] = {}
    for line in lines:
        groups.setdefault(" ".join(words(line["flags"])) or "the recipe", []).append(line)
    rows = []
    for flags, group in groups.items():
        reached = [minutes_to(score, line["curve"]) for line in group] if score is not None else []
        soonest = median(math.inf if each is None else each for each in reached) if reached else math.inf
        finals = [final(line) for line in group]
        rows.append((soonest, -mean(finals), flags, finals, mean(line["steps_per_second"] for line in group)))
    found = Table(title=f"{lines[0]['env']}, {lines[0]['program']}, {lines[0]['minutes']:g} minutes of one core")
    reaching = [f"minutes to {score:g}"] if score is not None else []
    for column in ("flags", "returns at the end", *reaching, "steps/s"):
        found.add_column(column, justify="left" if column == "flags" else "right")
    for soonest, _, flags, finals, speed in sorted(rows):
        when = [f"{soonest:.1f}" if soonest < math.inf else "not in time"] if score is not None else []
        found.add_row(flags, ", ".join(f"{value:.4g}" for value in finals), *when, f"{speed:,.0f}")
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("program", help="agents.dqn, agents.pqn, ...")
    parser.add_argument("--env", default="Pong")
    parser.add_argument("--minutes", type=float, default=5.0, help="of each run, by its own clock")
    parser.add_argument("--trials", type=int, default=8, help="points, the recipe itself included")
    parser.add_argument(
        "--try", dest="space", nargs="*", default=[], metavar="FLAG=A,B,...", help="yes, no: switches"
    )
    parser.add_argument("--points", nargs="*", default=[], metavar="'FLAG=A FLAG=B ...'", help="trials by hand")
    parser.add_argument("--flags", default="", help="of every run, as '--no-noisy --width 0.5'")
    parser.add_argument("--seeds", type=int, default=1)
    parser.add_argument("--seed", type=int, default=1, help="of the order of points")
    parser.add_argument("--jobs", type=int, default=0, help="runs at once; 0: one a core")
    parser.add_argument("--evaluate-every", type=int, default=25_000, help="agent steps")
    parser.add_argument("--games", type=int, default=10, help="that the last weights play; 0: none")
    parser.add_argument("--score", type=float, help="to be reached soonest")
    parser.add_argument("--folder", type=Path, default=Path("results/search"), help="where runs lie")
    parser.add_argument("--out", type=Path, required=True, help="JSONL")
    options = parser.parse_args()
    options.folder = options.folder.resolve()
    space = {
        flag.strip("-"): values.split(",") for flag, _, values in (each.partition("=") for each in options.space)
    }
    if empty := [flag for flag, values in space.items() if not all(values)]:
        parser.error(f"--try {empty[0]}: write {empty[0]}=A,B")
    try:
        by_hand = [chosen(each) for each in options.points]
    except ValueError as error:
        parser.error(f"--points: {error}")
    for folder in (options.out.parent, options.folder):
        folder.mkdir(parents=True, exist_ok=True)
    done = known(options.out, options)
    cores: queue.Queue[int] = queue.Queue()
    usable = sorted(threads.usable())
    jobs = min(options.jobs or len(usable), len(usable))
    for core in usable[:jobs]:
        cores.put(core)
    writing, around = threading.Lock(), circumstances()

    def run(number: int, point: Point, seed: int) -> None:
        core = cores.get()
        try:
            program = options.program.rsplit(".", 1)[-1]
            line = train(options, point, seed, f"search-{program}-{options.minutes:g}-{number}-{seed}", core)
        finally:
            cores.put(core)
        with writing:
            done.append(line | dict(all_flags=options.flags) | around)
            with options.out.open("a") as file:
                file.write(json.dumps(done[-1]) + "\n")
            print(f"{' '.join(words(point)) or 'the recipe'}, seed {seed}: {line['curve'][-1:]}", flush=True)

    have = [(line["flags"], line["seed"]) for line in done]
    todo = [
        (number, point, seed)
        for seed in range(1, options.seeds + 1)  # every point once before any twice
        for number, point in enumerate([*points(space, options.trials, options.seed), *by_hand])
        if (point, seed) not in have
    ]
    with ThreadPoolExecutor(jobs) as pool:
        for each in [pool.submit(run, *task) for task in todo]:
            each.result()
    Console().print(table(done, options.score))


if __name__ == "__main__":
    main()
