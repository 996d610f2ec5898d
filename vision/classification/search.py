"""Random search of hyperparameters, coarse to fine: many short runs, then fewer and longer ones near the best.

Bergstra & Bengio 2012, "Random search for hyper-parameter optimization": where few numbers matter, random points try
more values of each than a grid does. Rates and penalties are drawn log-uniformly.

    python -m vision.classification.search --data shapes --learning-rate 1e-3 1 --weight-decay 1e-5 1e-2
    python -m vision.classification.search --data cifar10 --backbone resnet20 --runs 12 --rounds 3 --folds 5

Each round is a sweep (runs.sweep). It keeps the best third of its points; the next one draws from the interval which
they span (a little wider, in the logarithm), and its runs are `--longer` times as long. With --folds every point is
scored by cross-validation, as the mean over runs that each leave out another fold. Points are ranked by their errors
on validation images; no run of a search uses the test images (--no-test).
The runs lie in results/<data>/classification-<sweep>-..., as many at once as there are cores or GPUs, and a search
that was stopped goes on where it was, by the same command.
"""

from __future__ import annotations

import dataclasses
import math
import shlex
import sys
from pathlib import Path

from rich.table import Table

import runs
from runs.flag_types import Count, Positive, Whole
from runs.sweep import local, plan
from runs.sweep.engine import Sweep
from runs.sweep.local import Local
from runs.sweep.record import Record
from runs.sweep.samplers import Sampler
from runs.sweep.table import LiveTable, closing, ranked

Range = tuple[float, float]
SEARCHED = ("learning_rate", "weight_decay", "l1", "l2")  # drawn log-uniformly
WIDER = 0.1  # of the best ones' range in the logarithm, added at both of its ends
PROGRAM = "vision.classification"


@dataclasses.dataclass(frozen=True)
class Config:
    data: str = "shapes"  # as in vision.classification
    backbone: str | None = None  # as in vision.classification
    flags: str = ""  # more flags of vision.classification for all runs, as "--batch 256 --schedule cosine"
    learning_rate: Range | None = (1e-3, 1.0)  # between which to search
    weight_decay: Range | None = None
    l1: Range | None = None
    l2: Range | None = None
    runs: Count = 9  # points of the first round; a third less in each later one
    rounds: Count = 2  # coarse, fine, ...
    steps: Count = 20_000  # images shown to a run of the first round
    longer: Positive = 3.0  # times as many in each later round
    folds: Whole = 0  # of cross-validation; 0: the data's own validation images
    seed: Whole = 1  # of the points, and of the runs
    folder: Path = Path("results")  # where runs lie
    device: str = "auto"  # auto, cpu, cuda, mps
    jobs: Whole = 0  # runs at once; 0: one for every core, or GPU
    threads: Whole = 0  # of torch on the CPU for each run; 0: its share of the cores


Point = dict[str, float]


def narrow(intervals: dict[str, Range], best: list[Point]) -> dict[str, Range]:
    """The ranges that the best points span in the logarithm, a little wider, but within the old ones."""
    narrowed = {}
    for name, (low, high) in intervals.items():
        logs = [math.log(point[name]) for point in best]
        margin = WIDER * math.log(high / low)
        narrowed[name] = (
            max(low, math.exp(min(logs) - margin)),
            min(high, math.exp(max(logs) + margin)),
        )
    return narrowed


def flags_of(config: Config, steps: int) -> list[str]:
    """The flags of vision.classification for all runs of a round."""
    found = [f"--backbone={config.backbone}"] if config.backbone else []
    found += [*shlex.split(config.flags), f"--steps={steps}", f"--evaluate-every={steps}"]
    found += ["--no-test", "--wandb=disabled"]
    found += [f"--device={config.device}"] if config.device != "auto" else []
    return found + ([f"--threads={config.threads}"] if config.threads else [])


def search_round(
    config: Config, number: int, intervals: dict[str, Range], count: int, steps: int
) -> list[tuple[float, Point]]:
    """A round as a sweep: errors in percent and points, the best first; at a point that diverged it is 100.

    Raises ValueError for a wrong range or flag, RunError where a run fails, KeyboardInterrupt after a signal.
    """
    texts = [f"{name}={low:.6g}:{high:.6g}:log" for name, (low, high) in intervals.items()]
    planned = plan.make(
        [PROGRAM], [("data", config.data)], [config.seed], texts, flags_of(config, steps), str(config.folder),
        folds=config.folds,
    )  # fmt: skip
    about = {key: value for key, value in planned.state().items() if key != "folder"}
    planned = dataclasses.replace(planned, name=f"{plan.digest(about)}-{number}")  # the same in each folder
    sampler = Sampler("random", planned.dimensions, count, 1000 * config.seed + number)
    record = Record(config.folder / "sweeps" / planned.name, planned.state() | sampler.state())
    table = LiveTable()
    try:
        executor = Local(config.jobs, 0.0, local.gpus() if config.device == "auto" else ())
        sweep = Sweep(planned, sampler, executor, record, say=table.say, show=table.show)
        with table.opened():
            sweep.run()
    finally:
        record.close()
    if sweep.interrupted:
        raise KeyboardInterrupt
    (study,) = planned.studies
    rows = ranked(sweep, study)
    if any(status == "failed" for *_, status in rows):
        raise runs.RunError(next(line for line in closing(sweep) if line.startswith("failed: ")))
    errors = {at: 100.0 if status == "diverged" else value for at, value, status in rows}
    return [(error, sweep.of(study, at)[0].trial.point) for at, error in errors.items()]


def search(config: Config) -> list[tuple[float, Point]]:
    """All rounds. Returns the last one's errors and points, best first. Raises ValueError without a range."""
    intervals = {name: getattr(config, name) for name in SEARCHED if getattr(config, name) is not None}
    if not intervals:
        raise ValueError(f"nothing to search: give a range for {', '.join(SEARCHED)}")
    for name, (low, high) in intervals.items():
        if not 0 < low < high:
            raise ValueError(f"--{name.replace('_', '-')} {low:g} {high:g} is not a range above 0, low to high")
    terminal, count, steps, found = LiveTable().terminal, config.runs, float(config.steps), []
    for number in range(1, config.rounds + 1):
        found = search_round(config, number, intervals, count, round(steps))
        words = ", ".join(f"{name} {low:.2g} to {high:.2g}" for name, (low, high) in intervals.items())
        said = f"round {number}: {count} points, {steps:,.0f} images a run, {words}"
        terminal.print(said, highlight=False, soft_wrap=True)
        table = Table("error", *intervals)
        for error, point in found:
            table.add_row(f"{error:.2f}%", *(f"{value:.3g}" for value in point.values()))
        terminal.print(table)
        intervals = narrow(intervals, [point for _, point in found[: max(2, count // 3)]])
        count, steps = max(2, count * 2 // 3), steps * config.longer
    flags = " ".join(f"--{name.replace('_', '-')} {value:.3g}" for name, value in found[0][1].items())
    backbone = f" --backbone {config.backbone}" if config.backbone else ""
    own = f" {config.flags}" if config.flags else ""
    terminal.print(f"best: python -m {PROGRAM} --data {config.data}{backbone}{own} {flags}", soft_wrap=True)
    return found


def joined(arguments: list[str]) -> list[str]:
    """A command line in which `--flags TEXT` is `--flags=TEXT`: as an argument of its own, a TEXT that begins with
    dashes is taken for a flag of this program."""
    found = list(arguments)
    for i in range(len(found) - 2, -1, -1):
        if found[i] == "--flags":
            found[i : i + 2] = [f"--flags={found[i + 1]}"]
    return found


if __name__ == "__main__":
    sys.argv[1:] = joined(sys.argv[1:])
    runs.launch(search, Config, None, "vision.classification.search", __doc__)
