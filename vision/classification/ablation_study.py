"""Ablation study: what every regularizer, initializer and augmentation is worth on one small network.

    python -m vision.classification.ablation_study --data cifar10
    python -m vision.classification.ablation_study --data cifar10 --only "dropout,flip,xavier initializer"
    python -m vision.classification.ablation_study --data cifar10 --list          # the variations, and stop

Each variation changes one thing of a baseline without any regularization, and is trained from scratch with the same
number of images shown, from the same few labeled images, under --seeds seeds. The picture has a line for each: what
it adds to the accuracy of the baseline of the same seed, on the validation images, as a mean with its 95% interval
(Student's t over seeds). All flags of vision.classification change the baseline. One JSON object a trial is kept
beside the picture, .jsonl, and a page with the table, .md; the same command goes on where it was stopped. Two
processes share the work with --parts 2 and --part 0 or 1, each with an --out of its own; the rows of both in one file
are what the command without them goes on from.
"""

from __future__ import annotations

import dataclasses
import shlex
import textwrap
from collections.abc import Iterable
from pathlib import Path
from typing import Any, NamedTuple

import torch

import runs
from runs import output, study_report, suggestions
from runs.flag_types import Count, Whole
from runs.printing import printable
from vision.backbones.layers import pooling
from vision.backbones.layers.initialization import INITS
from vision.backbones.layers.normalization import NORMS
from vision.classification import short_fit
from vision.classification import train as classification
from vision.data.sets import set_name
from vision.training import augmentation

PROGRAM = "vision.classification.ablation_study"
SELF = ("seeds", "only", "part", "parts", "list", "out")  # flags of the study itself


@dataclasses.dataclass(frozen=True)
class Config(classification.Config):
    seeds: Count = 3  # of each variation
    only: str = ""  # variations, as "dropout,flip"; empty: all of them
    part: Whole = 0  # of the trials, the one to calculate, from 0: each process has an --out of its own
    parts: Count = 1  # into which the trials are divided
    list: bool = False  # print the variations, and stop
    out: Path = Path("ablation.png")  # where the picture goes; rows, a page and a record go beside it


REGULARIZERS: dict[str, dict[str, Any]] = {
    "weight decay 5e-4": {"weight_decay": 5e-4},
    "weight decay 5e-3": {"weight_decay": 5e-3},
    "L1": {"l1": 1e-5},
    "L2": {"l2": 5e-4},
    "elastic net": {"l1": 1e-5, "l2": 5e-4},
    "max norm": {"max_weight_norm": 3.0},
    "dropout": {"dropout": 0.5},
    "dropout of maps": {"body_dropout": 0.2},
    "dropconnect": {"dropconnect": 0.5},
    "label smoothing": {"smoothing": 0.1},
    "mixup": {"mixup": 0.4},
    **{f"{name} norm": {"norm": name} for name in NORMS if name != "none"},
    **{f"{name.replace('_', ' ')} pool": {"pool": name} for name in pooling.POOLS if name != "max"},
}


def recipe(asked: Config) -> Config:
    """LeNet-5 on 500 labeled images a class, 100,000 images shown: it overfits without regularization."""
    found = classification.recipe(dataclasses.replace(asked, backbone=asked.backbone or "lenet5"))
    values = {field.name: getattr(found, field.name) for field in dataclasses.fields(found)}
    plain = dict(augment="none", weight_decay=0.0, smoothing=0.0, whiten=False, bias_scale=1.0, batch=100)
    rate = dict(learning_rate=0.02, momentum=0.9, schedule="one_cycle", views=1, log_every=Config.log_every)
    return Config(**values | plain | rate | dict(shots=500, steps=100_000))


def variations(config: Config) -> dict[str, dict[str, Any]]:
    """The flags that each variation changes, by its name, the baseline's first. Raises ValueError for an unknown one
    in --only, with near matches."""
    found: dict[str, dict[str, Any]] = {"baseline": {}}
    found |= REGULARIZERS
    found |= {f"{name} initializer": {"init": name} for name in INITS}
    found |= {"he with biases of 0.1 initializer": {"init": "he,bias=0.1"}}
    found |= {name.replace("_", " "): {"augment": name} for name in augmentation.OPERATIONS}
    found |= {"flip and crop": {"augment": "flip,crop"}, "random mix": {"augment": f"flip,{MIX}"}}
    if not config.only:
        return found
    chosen = [word.strip() for word in config.only.split(",")]
    for word in chosen:
        if word not in found:
            raise ValueError(f"unknown variation {word!r}: {suggestions.one_of(word, found)}")
    return {name: flags for name, flags in found.items() if name in ("baseline", *chosen)}


MIX = "2of(rotate stretch shear lens translate jitter)"


def trials(config: Config) -> Iterable[tuple[str, Config]]:
    """Every trial of a process: the variation's name, and its config. Seed after seed, so that a study that is
    stopped has something of every variation."""
    every = [
        (name, dataclasses.replace(config, seed=seed, **flags))
        for seed in range(config.seed, config.seed + config.seeds)
        for name, flags in variations(config).items()
    ]
    return every[config.part :: config.parts]


def study(config: Config, device: torch.device) -> dict[str, list[dict[str, Any]]]:
    """The rows of every variation, one a seed. Calculates what the file does not have yet.

    A variation that a backbone cannot have (another pool where it has no pools) is kept with the reason. Raises
    ValueError for a --part that is not below --parts.
    """
    if config.part >= config.parts:
        raise ValueError(f"there is no --part {config.part} of {config.parts}: they are counted from 0")
    path, sets = config.out.with_suffix(".jsonl"), {}
    found: dict[str, list[dict[str, Any]]] = {}
    for name, own in trials(config):
        asked = {"variation": name, "seed": own.seed, "config": short_fit.described(own, *SELF, "seed")}
        known = short_fit.rows(path, asked)
        if not known:
            if own.seed not in sets:
                sets = {own.seed: classification.images_of(own)}
            try:
                row = asked | short_fit.trial(own, sets[own.seed], device)
            except ValueError as error:
                if name == "baseline":
                    raise
                row = asked | {"left_out": str(error)}
            short_fit.append(path, row)
            known = [row]
            print(printable(f"seed {own.seed}, {name}: {words(row)}"), flush=True)
        found.setdefault(name, []).append(known[0])
    return found


def words(row: dict[str, Any]) -> str:
    """A trial's figures, or why there are none."""
    if "left_out" in row:
        return f"left out: {row['left_out']}"
    return f"{row['accuracy']:.2f}% accuracy, training loss {row['train_loss']}, {row['seconds']:.0f} s"


class Worth(NamedTuple):
    """What a variation reaches, in percent and points, each a mean and half its 95% interval (None for one seed)."""

    accuracy: tuple[float, float | None]
    difference: tuple[float, float | None]  # to the baseline of the same seed


def summary(found: dict[str, list[dict[str, Any]]]) -> dict[str, Worth]:
    """What each variation is worth, the best first. Those left out, and seeds without a baseline, do not count."""
    table, baselines = {}, {row["seed"]: row["accuracy"] for row in found["baseline"]}
    for name, rows in found.items():
        known = [row for row in rows if "accuracy" in row and row["seed"] in baselines]
        if known:
            accuracies = [row["accuracy"] for row in known]
            differences = [row["accuracy"] - baselines[row["seed"]] for row in known]
            table[name] = Worth(study_report.interval(accuracies), study_report.interval(differences))
    return dict(sorted(table.items(), key=lambda item: -item[1].difference[0]))


def kind(name: str) -> str:
    """What a variation is of."""
    if name == "baseline":
        return "baseline"
    if name.endswith(" initializer"):
        return "initializer"
    return "regularizer" if name in REGULARIZERS else "augmentation"


def title(found: dict[str, list[dict[str, Any]]], config: Config) -> str:
    """The data, network and training of all trials, and how many seeds each variation has."""
    seeds = sorted({len(rows) for rows in found.values()})
    return (
        f"{set_name(config.data)}, {config.backbone}, {config.shots or 'all'} images a class, "
        f"{config.steps:,} shown, {' or '.join(map(str, seeds))} seeds"
    )


def draw(found: dict[str, list[dict[str, Any]]], config: Config) -> None:
    """The picture: a line a variation, the best at the top, colored by its kind."""
    from matplotlib.figure import Figure

    table = summary(found)
    figure = Figure(figsize=(7.5, 0.21 * len(table) + 1.3), layout="constrained")
    panel = figure.subplots()
    colors = {
        "baseline": "black",
        "regularizer": "tab:blue",
        "initializer": "tab:green",
        "augmentation": "tab:orange",
    }
    drawn = set()
    for place, (name, worth) in enumerate(table.items()):
        group, (mean, half) = kind(name), worth.difference
        label = None if group in drawn else group
        drawn.add(group)
        panel.errorbar(mean, -place, xerr=half, fmt="o", color=colors[group], capsize=3, markersize=4, label=label)
    panel.axvline(0, color="0.5", linewidth=0.8)
    panel.grid(axis="x", color="0.9")
    panel.set_yticks([-place for place in range(len(table))], list(table), fontsize=8)
    panel.set_ylim(-len(table), 1)
    mean = table["baseline"].accuracy[0]
    panel.set_xlabel(
        f"points of accuracy on validation images\nminus the baseline's ({mean:.1f}%): mean, 95% interval"
    )
    words = printable("\n".join(textwrap.wrap(title(found, config), 76)))
    panel.set_title(words, fontsize=9, parse_math=False)
    panel.legend(fontsize=8, loc="lower right")
    output.draw(config.out, figure, "--out", dpi=110)


def write(found: dict[str, list[dict[str, Any]]], config: Config, device: torch.device) -> None:
    """The page: the picture, and a table of the flags of each variation and what it is worth."""
    rows = [
        (
            name,
            kind(name),
            f"`{flags(config, name)}`",
            study_report.plus_minus(*worth.accuracy),
            study_report.plus_minus(*worth.difference, "+"),
        )
        for name, worth in summary(found).items()
    ]
    head = ("variation", "kind", "flags", "accuracy (%)", "minus the baseline")
    differences = [worth.difference for name, worth in summary(found).items() if name != "baseline"]
    without_zero = sum(half is not None and abs(mean) > half for mean, half in differences)
    note = (
        "Accuracy on validation images: mean and 95% interval (Student's t over seeds). Differences are to the "
        f"baseline of the same seed, which has the same labeled images. The intervals of {without_zero} of "
        f"{len(differences)} variations do not contain 0; without any effect about one in twenty would not either."
    )
    trials = [row for each in found.values() for row in each]
    words = f"Ablation study: {title(found, config)}"
    study_report.write(config.out, PROGRAM, device, words, head, rows, note, trials)


def flags(config: Config, name: str) -> str:
    """The flags of a variation, as the command line takes them."""
    changed = variations(config)[name]
    words = [f"--{key.replace('_', '-')} {shlex.quote(str(value))}" for key, value in changed.items()]
    return " ".join(words) or "none"


def main(config: Config) -> None:
    if config.list:
        for name in variations(config):
            print(f"{name:36} {flags(config, name)}")
        return
    device = runs.prepare(config.device, config.seed, config.threads)
    found = study(config, device)
    for name, worth in summary(found).items():
        accuracy, difference = (
            study_report.plus_minus(*worth.accuracy),
            study_report.plus_minus(*worth.difference, "+"),
        )
        print(f"{name:36} {accuracy:>14}%, to the baseline {difference}")
    for name, rows in found.items():
        if "left_out" in rows[0]:
            print(printable(f"{name}: {words(rows[0])}"))
    draw(found, config)
    write(found, config, device)
    print(printable(f"written to {config.out}, its rows and a page beside it"))


if __name__ == "__main__":
    runs.launch(main, Config, recipe, PROGRAM, __doc__)
