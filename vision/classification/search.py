"""Random search of hyperparameters, coarse to fine: many short runs, then fewer and longer ones near the best.

Bergstra & Bengio 2012, "Random search for hyper-parameter optimization": where few numbers matter, random points try
more values of each than a grid does. Rates and penalties are drawn log-uniformly.

    python -m vision.classification.search --data shapes --learning-rate 1e-3 1 --weight-decay 1e-5 1e-2
    python -m vision.classification.search --data cifar10 --backbone resnet20 --runs 12 --rounds 3 --folds 5

Each round keeps the best third of its runs; the next one draws from the interval which they span (a little wider, in
the logarithm), and its runs are `--longer` times as long. With --folds every point is scored by cross-validation, as
the mean over runs that each leave out another fold. Points are ranked by their errors on validation images; no run
of a search uses the test images (--no-test).
The runs lie in results/<data>/search-..., and a search that was stopped goes on where it was, by the same command.
"""

from __future__ import annotations

import dataclasses
import json
import math
import random
import shlex
import sys
from pathlib import Path
from statistics import mean

from rich.console import Console
from rich.table import Table

import runs
from runs import output
from runs.flag_types import Count, Positive, Whole
from runs.flags import parse
from runs.reader import read_run
from vision.classification import train as classification
from vision.data.sets import set_name

Range = tuple[float, float]
SEARCHED = ("learning_rate", "weight_decay", "l1", "l2")  # drawn log-uniformly
WIDER = 0.1  # of the best ones' range in the logarithm, added at both of its ends


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
    seed: int = 1  # of the points, and of the runs
    folder: Path = Path("results")  # where runs lie
    device: str = "auto"  # auto, cpu, cuda, mps
    threads: Whole = 0  # of torch on the CPU; 0: as many as cores are free at the start


Point = dict[str, float]


def draw(intervals: dict[str, Range], count: int, generator: random.Random) -> list[Point]:
    """`count` points, each number log-uniform. Raises ValueError for no range."""
    for name, (low, high) in intervals.items():
        if not 0 < low <= high:
            raise ValueError(f"--{name.replace('_', '-')} {low:g} {high:g} is not a range above 0, low to high")
    spans = {name: (math.log(low), math.log(high)) for name, (low, high) in intervals.items()}
    return [{name: math.exp(generator.uniform(*span)) for name, span in spans.items()} for _ in range(count)]


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


def trial(config: Config, point: Point, steps: int, name: str) -> float:
    """The error on validation, in percent, of a run at a point; with folds the mean over them. Runs what is missing.

    A run that diverges (its loss becomes nan or infinite) has an error of 100.
    """
    program, flags = "vision.classification.search", shlex.split(config.flags)
    asked = parse(classification.Config, program, args=flags)  # what decides on the recipe
    asked = dataclasses.replace(asked, data=config.data, backbone=config.backbone or asked.backbone)
    numbers = parse(classification.Config, program, None, classification.recipe(asked), flags)
    errors = []
    for fold in range(max(1, config.folds)):
        own = f"{name}-fold{fold}" if config.folds else name
        settings = dataclasses.replace(
            numbers,
            **point,
            steps=steps,
            evaluate_every=steps,
            test=False,
            folds=config.folds,
            fold=fold,
            seed=config.seed,
            name=own,
            wandb="disabled",
            folder=config.folder,
            device=config.device,
            threads=config.threads,
        )
        folder = config.folder / set_name(settings.data) / own
        if not (folder / "diverged.json").exists():
            try:
                classification.train(settings)
            except runs.Finished:  # by the same flags: of a search that was stopped
                pass
            except runs.RunError as error:
                if "became" not in str(error):  # loss/train became nan
                    raise
                output.write(folder / "diverged.json", json.dumps({"error": str(error)}), "--folder")
        diverged = (folder / "diverged.json").exists()
        errors.append(100.0 if diverged else read_run(folder).evaluations[-1]["eval/error"])
    return mean(errors)


def search(config: Config) -> list[tuple[float, Point]]:
    """All rounds. Returns the last one's errors and points, best first. Raises ValueError without a range."""
    intervals = {name: getattr(config, name) for name in SEARCHED if getattr(config, name) is not None}
    if not intervals:
        raise ValueError(f"nothing to search: give a range for {', '.join(SEARCHED)}")
    generator, count, steps, ranked = random.Random(config.seed), config.runs, config.steps, []
    for number in range(1, config.rounds + 1):
        points, ranked = draw(intervals, count, generator), []
        for i, point in enumerate(points, 1):
            ranked.append((trial(config, point, round(steps), f"search-{config.seed}-{number}-{i}"), point))
        ranked.sort(key=lambda found: found[0])
        words = ", ".join(f"{name} {low:.2g} to {high:.2g}" for name, (low, high) in intervals.items())
        table = Table("error", *intervals, title=f"round {number}: {count} runs of {steps:,.0f} images, {words}")
        for error, point in ranked:
            table.add_row(f"{error:.2f}%", *(f"{value:.3g}" for value in point.values()))
        Console().print(table)
        intervals = narrow(intervals, [point for _, point in ranked[: max(2, count // 3)]])
        count, steps = max(2, count * 2 // 3), steps * config.longer
    flags = " ".join(f"--{name.replace('_', '-')} {value:.3g}" for name, value in ranked[0][1].items())
    backbone = f" --backbone {config.backbone}" if config.backbone else ""
    own = f" {config.flags}" if config.flags else ""
    Console().print(
        f"best: python -m vision.classification --data {config.data}{backbone}{own} {flags}", soft_wrap=True
    )
    return ranked


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
