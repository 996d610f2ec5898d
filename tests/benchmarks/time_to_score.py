"""Scores on a game after equal training time on the same machine: our agents, SB3 and CleanRL.

    pip install -e ".[bench]"
    python tests/benchmarks/time_to_score.py
    python tests/benchmarks/time_to_score.py --minutes 12 --threads 1 --json results/time_to_score.json

One contestant after the other trains on the game by its own recipe, seed 1, for so many minutes, or until its run is
over. The score of a moment is the mean unclipped return of the last 30 whole games that were played in training,
exploration included; clocks begin with the first step. Leave the machine alone meanwhile.

- pqn: `agents.pqn` without a flag but --threads, and without evaluations and checkpoints, as the peers make none.
- sb3-ppo, sb3-dqn: stable_baselines3 with RL Zoo's hyperparameters for Atari; see ppo_speed.py.
- cleanrl-ppo, cleanrl-pqn: the parts of ppo_atari_envpool and pqn_atari_envpool (Huang et al., 2022) with their
  hyperparameters; see ppo_speed.py and pqn_speed.py.
"""

import argparse
import itertools
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from statistics import fmean

import dqn_speed
import ppo_speed
import pqn_speed
import torch
from paired import ROOT, Gate, Scene, circumstances, program, report

from runs.reader import read_run

GAMES = 30  # of a score
EVERY = 10.0  # seconds between two points of a curve
DECIDES = 18.0  # Pong is learned


class Clock(Gate):
    """What a training loop calls at its head: keeps the curve, and ends the process when its time is over."""

    def __init__(self, timed: "Timed") -> None:
        self.timed, self.began, self.next = timed, time.perf_counter(), 0.0

    def __call__(self, steps: int) -> None:
        """Note where it is. steps: agent steps so far."""
        seconds = time.perf_counter() - self.began
        if seconds >= self.next:
            self.next = seconds + EVERY
            self.timed.note(seconds, steps)
        if seconds >= self.timed.seconds:
            self.timed.note(seconds, steps)
            os._exit(0)  # the contestants' loops have no other end


@dataclass(frozen=True)
class Timed(Scene):
    """A scene whose contestants train for so many seconds; their curve goes to `path`."""

    seconds: float
    threads: int
    path: Path
    returns: list[float] = field(default_factory=list)
    curve: list[tuple[float, int, float | None]] = field(default_factory=list)

    def gate(self, warm_up: int) -> Clock:
        """A clock that begins now."""
        return Clock(self)

    def played(self, score: float) -> None:
        """Keep the return of a game."""
        self.returns.append(score)

    def note(self, seconds: float, steps: int) -> None:
        """Add a point to the curve: seconds, agent steps, the score."""
        score = fmean(self.returns[-GAMES:]) if self.returns else None
        self.curve.append((round(seconds, 1), steps, score))
        self.path.write_text(json.dumps(self.curve))


def ours(module: str) -> Callable[[Timed], None]:
    """One of our programs by its recipe; its games are in its metrics."""

    def train(scene: Timed) -> None:
        program(module, scene, 0, threads=scene.threads, film_seconds=0, log_every=4_000)

    return train


CONTESTANTS: dict[str, Callable[[Timed], None]] = {
    "pqn": ours("agents.pqn"),
    "sb3-ppo": ppo_speed.sb3,
    "sb3-dqn": lambda scene: dqn_speed.sb3(
        scene,
        worlds=1,
        learning_starts=100_000,
        exploration_initial_eps=1.0,
        exploration_fraction=1e-3,  # of dqn_speed's steps: RL Zoo's tenth of ten million
    ),
    "cleanrl-ppo": ppo_speed.cleanrl,
    "cleanrl-pqn": pqn_speed.cleanrl,
}


def curve_of(folder: Path) -> list[tuple[float, int, float | None]]:
    """The curve of one of our runs, from its folder: the games of one line of its metrics count with their mean."""
    record = read_run(next(folder.glob("*/*/config.json")).parent)
    if record.last("episode/return") is None:
        return [(record.clock[-1]["seconds"] if record.clock else 0.0, record.step, None)]  # no game has ended
    (steps, returns), (_, counts) = record.curve("episode/return"), record.curve("episode/count")
    seconds, _ = record.curve("episode/return", "seconds")
    curve, games = [], []
    for moment, step, score, count in zip(seconds, steps, returns, counts, strict=True):
        games += [float(score)] * max(1, round(count))
        curve.append((round(float(moment), 1), int(step), fmean(games[-GAMES:])))
    return curve


def main() -> None:
    """Let the contestants train one after the other; print and write their curves."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--game", default="Pong")
    parser.add_argument("--device", default="cpu", help="cpu or cuda, for every contestant")
    parser.add_argument("--minutes", type=float, default=10.0, help="of each (default %(default)s)")
    parser.add_argument("--threads", type=int, default=0, help="of each; 0: what it takes by itself")
    parser.add_argument("--score", type=float, default=DECIDES, help="whose time is asked for (default %(default)s)")
    parser.add_argument("--contestants", nargs="+", default=list(CONTESTANTS), choices=CONTESTANTS, metavar="NAME")
    parser.add_argument("--json", type=Path, help="write the result there")
    parser.add_argument("--contestant", help=argparse.SUPPRESS)  # how this program starts one
    parser.add_argument("--folder", type=Path, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.threads:
        torch.set_num_threads(options.threads)
    if options.contestant:
        limits = dict(seconds=options.minutes * 60, threads=options.threads, path=options.folder / "curve.json")
        CONTESTANTS[options.contestant](Timed(options.game, options.device, options.folder, **limits))
        return

    configuration, curves = circumstances(options.device), {}
    for name in options.contestants:
        with tempfile.TemporaryDirectory() as place:
            folder = Path(place)
            command = [sys.executable, *sys.argv, "--contestant", name, "--folder", place]
            search = os.pathsep.join(filter(None, [str(ROOT), os.environ.get("PYTHONPATH")]))
            environment = os.environ | {"PYTHONPATH": search}
            with open(folder / "log", "w") as log:
                subprocess.run(command, stdout=log, stderr=subprocess.STDOUT, env=environment, check=False)
            if not (folder / "curve.json").exists():
                raise RuntimeError(f"{name} ended early; its last lines:\n{(folder / 'log').read_text()[-3000:]}")
            curves[name] = curve_of(folder) if name == "pqn" else json.loads((folder / "curve.json").read_text())
        print(f"{name:<12} {curves[name][-1]}", flush=True)
    soonest = {name: minutes_to(curve, options.score) for name, curve in curves.items()}
    report(
        f"{options.game}: mean of the last {GAMES} training games, {options.minutes:g} minutes each",
        ["contestant", "steps", "steps/s", "score at the end", "best score", f"minutes to {options.score:g}"],
        [
            [
                name,
                curve[-1][1],
                curve[-1][1] / max(curve[-1][0], 1e-9),
                curve[-1][2] if curve[-1][2] is not None else "",
                max((score for _, _, score in curve if score is not None), default=""),
                soonest[name] if soonest[name] is not None else "",
            ]
            for name, curve in curves.items()
        ],
        {"benchmark": "time_to_score", "game": options.game, "minutes": options.minutes, "games": GAMES}
        | {"curves": curves, "score": options.score, "minutes_to_score": soonest}
        | configuration,
        options.json,
    )


def minutes_to(curve: list[tuple[float, int, float | None]], asked: float) -> float | None:
    """Minutes until the score was first at least `asked`; None where it never was."""
    reached = (seconds / 60 for seconds, _, score in curve if score is not None and score >= asked)
    return next(itertools.islice(reached, 1), None)


if __name__ == "__main__":
    main()
