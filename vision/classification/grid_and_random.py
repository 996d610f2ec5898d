"""Grid against random search at equally many trials, measured, on one picture.

    python -m vision.classification.grid_and_random                   # drawn shapes
    python -m vision.classification.grid_and_random --data cifar10 --backbone lenet5 --shots 500 --steps 50000

Bergstra & Bengio 2012, "Random search for hyper-parameter optimization", figure 1, as CS231n shows it: of two
hyperparameters one is important (the learning rate) and one is not (a tiny L2 penalty). A grid of side x side trials
has only `side` values of the important one, as many random trials have a different one each. The grid's points are in
the middle of equal parts of the ranges, evenly in the logarithm, and both searches have the same ranges. Every trial
is a short training, all with the same seed; the random search is drawn --repeats times, and compared by its best
trial on the validation images. Rows are kept beside the picture, .jsonl, and a page with the table, .md; a command
that is repeated goes on from there.
"""

from __future__ import annotations

import dataclasses
import math
import random
from pathlib import Path
from typing import Any

import torch

import runs
from runs import output, study_report
from runs.flag_types import Count
from runs.printing import printable
from vision.classification import short_fit
from vision.classification import train as classification
from vision.data.sets import set_name

PROGRAM = "vision.classification.grid_and_random"
Point = tuple[float, float]  # of learning rate and L2


@dataclasses.dataclass(frozen=True)
class Config(classification.Config):
    side: Count = 3  # of the grid: side x side trials a search
    repeats: Count = 3  # draws of the random search
    rates: tuple[float, float] = (1e-4, 10.0)  # learning rates searched
    penalties: tuple[float, float] = (1e-8, 1e-5)  # L2 penalties searched: too small to have an effect
    out: Path = Path("grid_and_random.png")  # where the picture goes; rows, a page and a record go beside it


def recipe(asked: Config) -> Config:
    """That of vision.classification, but for 10,000 images a trial."""
    found = classification.recipe(asked)
    values = {field.name: getattr(found, field.name) for field in dataclasses.fields(found)}
    return Config(**values | dict(steps=10_000, weight_decay=0.0))


def grid(side: int, rates: tuple[float, float], penalties: tuple[float, float]) -> list[Point]:
    """side x side points, in the middle of equal parts of both ranges, in the logarithm."""
    lines = [
        [math.exp(math.log(low) + (math.log(high) - math.log(low)) * (i + 0.5) / side) for i in range(side)]
        for low, high in (rates, penalties)
    ]
    return [(rate, penalty) for rate in lines[0] for penalty in lines[1]]


def draw_points(count: int, rates: tuple[float, float], penalties: tuple[float, float], seed: int) -> list[Point]:
    """`count` points, log-uniform in both ranges."""
    generator = random.Random(seed)
    return [
        tuple(math.exp(generator.uniform(math.log(low), math.log(high))) for low, high in (rates, penalties))
        for _ in range(count)
    ]


def searches(config: Config) -> dict[str, list[Point]]:
    """The points of every search by its name. Raises ValueError for a range that is empty or not above 0."""
    for low, high in (config.rates, config.penalties):
        if not 0 < low < high:
            raise ValueError(f"{low:g} {high:g} is no range above 0 from small to large")
    found = {"grid": grid(config.side, config.rates, config.penalties)}
    for number in range(1, config.repeats + 1):
        seed = config.seed * 1_000 + number
        found[f"random {number}"] = draw_points(config.side**2, config.rates, config.penalties, seed)
    return found


def measure(config: Config, device: torch.device) -> dict[str, list[dict[str, Any]]]:
    """The rows of every search: learning rate, L2 and the figures of a trial. Fits what the file does not have."""
    sets, path = classification.images_of(config), config.out.with_suffix(".jsonl")
    found: dict[str, list[dict[str, Any]]] = {}
    about = short_fit.described(config, "side", "repeats", "rates", "penalties", "out")
    for name, points in searches(config).items():
        found[name] = []
        for rate, penalty in points:
            asked = {"learning_rate": rate, "l2": penalty, "seed": config.seed, "config": about}
            known = short_fit.rows(path, asked)
            if not known:
                own = dataclasses.replace(config, learning_rate=rate, l2=penalty)
                known = [asked | short_fit.trial(own, sets, device)]
                short_fit.append(path, known[0])
            found[name].append(known[0])
            print(f"{name}: learning rate {rate:.3g}, L2 {penalty:.2g}: {known[0]['accuracy']:.2f}%", flush=True)
    return found


def draw(found: dict[str, list[dict[str, Any]]], config: Config) -> None:
    """The lecture's picture: a panel for the grid and one for a random search, a dot a trial, its color the accuracy;
    above them accuracy against the learning rate, whose values the marks below show."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(9, 5.2), layout="constrained")
    shown = ["grid", "random 1"]
    panels = figure.subplots(2, 2, sharex=True, gridspec_kw={"height_ratios": [1, 2]})
    every = sorted((row["learning_rate"], row["accuracy"]) for rows in found.values() for row in rows)
    low, high = min(y for _, y in every), max(y for _, y in every)
    for name, (above, below) in zip(shown, panels.T, strict=True):
        rows = found[name]
        above.plot([x for x, _ in every], [y for _, y in every], color="0.8", zorder=0)
        x, y, z = ([row[key] for row in rows] for key in ("learning_rate", "l2", "accuracy"))
        dots = above.scatter(x, z, c=z, vmin=low, vmax=high, s=30)
        below.scatter(x, y, c=z, vmin=low, vmax=high, s=60)
        values = len({round(math.log(each), 9) for each in x})
        above.set_title(f"{name}: best {max(z):.1f}%, {values} learning rates tried", fontsize=10)
        below.set_xscale("log")
        below.set_yscale("log")
        below.set_xlabel("learning rate (important)")
        for each in x:
            below.plot([each, each], [0, 0.03], color="tab:red", transform=below.get_xaxis_transform())
    panels[0, 0].set_ylabel("accuracy (%), validation")
    panels[1, 0].set_ylabel("L2 (unimportant)")
    figure.colorbar(dots, ax=panels[:, 1], label="accuracy (%), validation")
    output.draw(config.out, figure, "--out", dpi=110)


def main(config: Config) -> dict[str, float]:
    """Measure, draw, and say which is better. Returns the best accuracy of every search."""
    device = runs.prepare(config.device, config.seed, config.threads)
    found = measure(config, device)
    best = {name: max(row["accuracy"] for row in rows) for name, rows in found.items()}
    draws = [value for name, value in best.items() if name != "grid"]
    draw(found, config)
    wins = sum(value > best["grid"] for value in draws)
    note = (
        f"Best of {config.side**2} trials on validation images: grid {best['grid']:.2f}%, random "
        f"{study_report.plus_minus(*study_report.interval(draws))}% (mean of {len(draws)} draws, {min(draws):.2f} to "
        f"{max(draws):.2f}), which is better {wins} times of {len(draws)}."
    )
    rows = [(name, f"{max(trials, key=_accuracy)['learning_rate']:.3g}", f"{best[name]:.2f}%")
            for name, trials in found.items()]  # fmt: skip
    title = f"Grid against random search: {set_name(config.data)}, {config.backbone}"
    head = ("search", "learning rate of its best trial", "best accuracy")
    every = [{"search": name} | row for name, trials in found.items() for row in trials]
    study_report.write(config.out, PROGRAM, device, title, head, rows, note, every)
    print(note)
    print(printable(f"written to {config.out}, its rows and a page beside it"))
    return best


def _accuracy(row: dict[str, Any]) -> float:
    return row["accuracy"]


if __name__ == "__main__":
    runs.launch(main, Config, recipe, PROGRAM, __doc__)
