"""Architecture search: random search and regularized evolution over cells, at equally many short trainings.

    python -m vision.classification.architecture_search                           # drawn shapes
    python -m vision.classification.architecture_search --data cifar10 --shots 500 --trials 40 --seeds 3

The cells are those of vision/backbones/cells.py (the space of NAS-Bench-201, arXiv 2001.00326). Random search draws
cells; regularized evolution (Real et al. 2018, "Regularized evolution for image classifier architecture search",
arXiv 1802.01548, algorithm 1) begins with --population random ones, and then changes one operation of the best of
--sample members and lets the oldest die. Trials are judged by validation images after the same short training. At the
end the best cell of each search is trained anew with another seed, and tested once.

The picture shows the best accuracy so far by trials. The best cell of all is saved beside it, with weights, as
.safetensors, which --backbone takes. Rows are kept beside it too, .jsonl, and a page with the table, .md: the same
command goes on from there.
"""

from __future__ import annotations

import collections
import dataclasses
import itertools
import random
from collections.abc import Iterator
from pathlib import Path
from statistics import mean
from typing import Any

import torch

import runs
from runs import output, study_report
from runs.flag_types import Count
from runs.printing import printable
from vision import backbones, data
from vision.backbones import cells
from vision.classification import classifier, short_fit
from vision.classification import train as classification
from vision.classification.classifier import Classifier
from vision.data.sets import set_name

PROGRAM = "vision.classification.architecture_search"
SELF = ("trials", "population", "sample", "seeds", "out", "backbone")  # flags of the search itself
METHODS = ("random", "evolution")


@dataclasses.dataclass(frozen=True)
class Config(classification.Config):
    cells: Count = 1  # in each of three stages
    trials: Count = 24  # of each search
    population: Count = 8  # of the evolution
    sample: Count = 3  # members of which the best is changed
    seeds: Count = 3  # searches of each method
    out: Path = Path("architectures.png")  # where the picture goes


def recipe(asked: Config) -> Config:
    """That of vision.classification, but for the network, its rate and 10,000 images a trial."""
    found = classification.recipe(dataclasses.replace(asked, backbone="cell_network"))
    values = {field.name: getattr(found, field.name) for field in dataclasses.fields(found)}
    return Config(**values | dict(steps=10_000, learning_rate=0.1, width=0.5))


def build(config: Config, cell: str, sets: data.Sets, device: torch.device) -> Classifier:
    """A classifier of a cell, initialized by the config's seed."""
    torch.manual_seed(config.seed)
    options = {"width": config.width or 1.0, "cell": cell, "cells": config.cells, "stem": config.stem or "cifar"}
    options |= {key: value for key in ("norm", "activation", "init") if (value := getattr(config, key)) is not None}
    shape = tuple(sets.train.images.shape[1:])
    model = classifier.build("cell_network", shape, len(sets.classes), config.dropout, **options)
    return model.to(device, memory_format=torch.channels_last)


def evolution(config: Config, generator: random.Random) -> Iterator[str]:
    """Regularized evolution as a generator of cells, which is sent the accuracy of each."""
    population: collections.deque[tuple[float, str]] = collections.deque()
    while True:
        if len(population) < config.population:
            cell = cells.draw_cell(generator)
        else:
            members = generator.sample(list(population), min(config.sample, len(population)))
            cell = cells.mutate(max(members)[1], generator)
        accuracy = yield cell
        population.append((accuracy, cell))
        if len(population) > config.population:
            population.popleft()  # the oldest, however good


def drawing(generator: random.Random) -> Iterator[str]:
    """Random search in the same form."""
    while True:
        yield cells.draw_cell(generator)


def search(config: Config, method: str, sets: data.Sets, device: torch.device) -> list[dict[str, Any]]:
    """The rows of one search, in the order of its trials. A cell that was tried before by the same config is not
    trained again, but counts as a trial."""
    generator, path, found = random.Random(config.seed), config.out.with_suffix(".jsonl"), []
    proposals = evolution(config, generator) if method == "evolution" else drawing(generator)
    cell = next(proposals)
    about = short_fit.described(config, *SELF, "seed")
    for number in range(1, config.trials + 1):
        asked = {"cell": cell, "seed": config.seed, "config": about}
        known = short_fit.rows(path, asked)
        if not known:
            model, _ = short_fit.fit(config, sets, device, build(config, cell, sets, device))
            known = [asked | short_fit.validate(config, model, sets.validation)]
            known[0]["parameters"] = sum(weight.numel() for weight in model.parameters())
            short_fit.append(path, known[0])
        found.append(known[0])
        print(f"seed {config.seed}, {method} {number}: {cell}: {known[0]['accuracy']:.2f}%", flush=True)
        cell = proposals.send(known[0]["accuracy"])
    return found


def final(config: Config, cell: str, sets: data.Sets, device: torch.device) -> tuple[float, Classifier]:
    """The test accuracy in percent of a cell trained anew, by a seed that the search has not used."""
    config = dataclasses.replace(config, seed=config.seed + 1_000)
    model, _ = short_fit.fit(config, sets, device, build(config, cell, sets, device))
    return short_fit.validate(config, model, sets.test)["accuracy"], model


def best(rows: list[dict[str, Any]]) -> dict[str, Any]:
    """The row of the highest accuracy, the first of equals."""
    return max(rows, key=lambda row: row["accuracy"])


def draw(found: dict[str, list[list[dict[str, Any]]]], config: Config) -> None:
    """Best accuracy so far by trials: a thin line a search, a thick one their mean."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(6.5, 3.8), layout="constrained")
    panel = figure.subplots()
    for (method, searches), color in zip(found.items(), ("tab:gray", "tab:red"), strict=True):
        curves = [list(itertools.accumulate((row["accuracy"] for row in rows), max)) for rows in searches]
        numbers = range(1, config.trials + 1)
        for curve in curves:
            panel.plot(numbers, curve, color=color, linewidth=0.7, alpha=0.5)
        panel.plot(numbers, [mean(values) for values in zip(*curves, strict=True)], color=color, label=method)
    panel.axvline(config.population, color="0.8", linewidth=0.8)
    panel.set_xlabel("trials")
    panel.set_ylabel("accuracy (%) on validation, best so far")
    panel.set_title(f"{set_name(config.data)}: {config.seeds} searches of each", fontsize=10)
    panel.legend()
    output.draw(config.out, figure, "--out", dpi=110)


def main(config: Config) -> dict[str, list[float]]:
    """Search, draw, test. Returns the tests of every method's best cells, in percent."""
    device = runs.prepare(config.device, config.seed, config.threads)
    found: dict[str, list[list[dict[str, Any]]]] = {method: [] for method in METHODS}
    tested: dict[str, list[float]] = {method: [] for method in METHODS}
    winner: tuple[float, Classifier | None] = (-1.0, None)
    for seed in range(config.seed, config.seed + config.seeds):
        own = dataclasses.replace(config, seed=seed)
        sets = classification.images_of(own)
        for method in METHODS:
            rows = search(own, method, sets, device)
            found[method].append(rows)
            chosen = best(rows)
            accuracy, model = final(own, chosen["cell"], sets, device)
            tested[method].append(accuracy)
            winner = max(winner, (chosen["accuracy"], model), key=lambda pair: pair[0])
            print(
                f"seed {seed}, {method}: from {rows[0]['accuracy']:.2f}% (first) to {chosen['accuracy']:.2f}% "
                f"(best), {chosen['cell']}, test {accuracy:.2f}%",
                flush=True,
            )
    draw(found, config)
    with output.writing(config.out, "--out"):
        backbones.save(winner[1].backbone, config.out.with_suffix(".safetensors"))
    note = conclusion(config, found, tested)
    rows = [
        (method, str(config.seed + number), f"`{best(trials)['cell']}`", f"{trials[0]['accuracy']:.2f}%",
         f"{_top(trials):.2f}%", f"{tested[method][number]:.2f}%")
        for method in METHODS for number, trials in enumerate(found[method])
    ]  # fmt: skip
    title = f"Architecture search: {set_name(config.data)}, {config.trials} trials a search"
    head = ("method", "seed", "best cell", "first trial", "best trial", "trained anew, test")
    every = [{"method": method} | row for method, searches in found.items() for trials in searches for row in trials]
    study_report.write(config.out, PROGRAM, device, title, head, rows, note, every)
    print(note)
    print(printable(f"written to {config.out}, its rows and a page beside it"))
    return tested


def conclusion(config: Config, found: dict[str, list[list[dict[str, Any]]]], tested: dict[str, list[float]]) -> str:
    """In words: how often evolution's best is better than the best of as many random cells, and the means."""
    tops = {method: list(map(_top, found[method])) for method in METHODS}
    ahead = [[a - b for a, b in zip(each["evolution"], each["random"], strict=True)] for each in (tops, tested)]
    wins = [sum(difference > 0 for difference in each) for each in ahead]
    differences = [study_report.plus_minus(*study_report.interval(each), "+") for each in ahead]
    return (
        f"Evolution's best is better than the best of as many random cells in {wins[0]} of {config.seeds} seeds by "
        f"its trial on validation images ({mean(tops['evolution']):.2f}% and {mean(tops['random']):.2f}%; "
        f"{differences[0]} points), and in {wins[1]} of {config.seeds} trained anew, on test images "
        f"({mean(tested['evolution']):.2f}% and {mean(tested['random']):.2f}%; {differences[1]} points)."
    )


def _top(rows: list[dict[str, Any]]) -> float:
    return best(rows)["accuracy"]


if __name__ == "__main__":
    runs.launch(main, Config, recipe, PROGRAM, __doc__)
