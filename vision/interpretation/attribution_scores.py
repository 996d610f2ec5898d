"""Scores of attribution methods: pointing game, relevance mass and rank on shapes or boxes, and the sanity check.

    python -m vision.interpretation.attribution_scores results/shapes/classification-1 --images 1000
    python -m vision.interpretation.attribution_scores results/seaquest-coco/multi_label-1

Of a run on shapes, shapes are drawn anew, with the pixels of each known, and those that the classifier recognizes are
explained. Of a run of vision.classification.multi_label every learned class in its test images is explained, and is
to be found in its boxes. A map points right if its largest value is inside (Zhang et al. 2016); relevance mass is the
part of the map's sum that is inside, relevance rank the part of as many largest values as there are pixels inside
(Arras et al. 2022). Where there are several classes the scores are means over classes, as in the paper, and the
record has each class. Maps of zeros, whose share is given too, have found nothing in all three.

A classifier may find a class by something else, which a good map then shows: "dependent" is the pointing where it
does not find the class any more once the median of training images stands in the place of the class's boxes.
"near" is the pointing within --tolerance pixels, for objects that are thinner than a map's step.

The first lines need no network. "chance" is the share of the image inside, the pointing and mass of a map that knows
nothing. "training boxes" is one map a class, how many training images have the class at a pixel: it knows where a
class mostly is.

The sanity check replaces weights by permutations of themselves (Adebayo et al. 2018): the mean rank correlation with
the original map and its 95% interval, after the output layer alone and after all layers. "empty" is the share of
constant maps, after the one and after the other. A method passes if both intervals end below 0.5, and fewer than half
of the maps are empty (sanity_check.py).
"""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor

import runs
from runs import study_report, suggestions
from runs.flag_types import Count, Whole
from vision.interpretation import explain, localization, located, sanity_check, subject

PROGRAM = "vision.interpretation.attribution_scores"
PIXELS = 1 << 18  # of images at a time
WIDTH = 130  # columns, where the table is not printed on a terminal
SCORES = ("pointing", "mass", "rank", "zeros")
DEPENDENT = "dependent"  # pointing where the class is found by its objects
NEAR = "near"  # pointing, with a tolerance
CHECKS = ("output layer", "all layers")
Scores = dict[str, float]


@dataclasses.dataclass(frozen=True)
class Config(subject.SubjectFlags):
    images: Count = 500  # drawn shapes, or test images at most
    methods: tuple[str, ...] = ()  # of vision.interpretation; none: all that the network can be explained by
    stage: int = -1  # whose map Grad-CAM and HiResCAM weight, from 0 or from the end
    tolerance: Whole = 0  # pixels from the object within which a map's largest value points right too; 0: not scored
    sanity_images: Whole = 100  # for the sanity check, evenly spaced; 0: it is left out
    sanity_draws: Count = 5  # of random weights, at least two
    out: Path = Path("attribution_scores.json")  # where the scores go, and as .md their page


class Scored(NamedTuple):
    """What was found, and as a table."""

    found: dict[str, dict[str, Scores]]  # by method, then by class, and "mean"
    head: list[str]
    rows: list[list[str]]
    trials: list[dict[str, Any]]  # of the record
    classes: list[str]  # whose pointing is in the last columns


def scored(config: Config, about: located.Located) -> Scored:
    """Explain and score images of which it is known where the explained class is.

    Raises ValueError for a method that is not known, and for fewer than two draws of random weights.
    """
    if unknown := [name for name in config.methods if name not in explain.METHODS]:
        raise ValueError(f"unknown method {unknown[0]!r}: {suggestions.one_of(unknown[0], explain.METHODS)}")
    if config.sanity_images:
        sanity_check.check_draws(config.sanity_draws)
    found = measure(config, about)
    checks = check(config, about) if config.sanity_images else {}
    known = [key for key in (DEPENDENT, NEAR) if any(key in scores["mean"] for scores in found.values())]
    keys = (SCORES[0], *known, *SCORES[1:])
    head = ["method", *keys, *([*CHECKS, "empty", "passes"] if checks else ())]
    rows, trials = [], []
    for method, scores in found.items():
        line = {"method": method} | scores["mean"]
        row = [method, *(f"{line[key]:.3f}" if key in line else "" for key in keys)]
        if method in checks:
            line |= {name: each._asdict() for name, each in checks[method].items()}
            line["passes"] = sanity_check.passes(checks[method])
            row += [f"{each.mean:.2f} [{each.low:.2f}, {each.high:.2f}]" for each in checks[method].values()]
            row.append(", ".join(f"{each.empty:.2f}" for each in checks[method].values()))
            row.append("yes" if line["passes"] else "no")
        classes = {name: each for name, each in scores.items() if name != "mean"}
        rows.append(row + [""] * (len(head) - len(row)) + [f"{each['pointing']:.3f}" for each in classes.values()])
        trials.append(line | ({"classes": classes} if classes else {}))
    there = [name for name in about.names if name in found["chance"]]
    return Scored(found, head, rows, trials, there)


def main(config: Config) -> dict[str, dict[str, Scores]]:
    """Explain, score, print and write. Returns the scores of each method and class, and of the mean over classes."""
    about = located.load(config, config.images)
    found, head, rows, trials, there = scored(config, about)
    title = "found inside, and rank correlation once weights are random"
    study_report.show(title, head, [row[: len(head)] for row in rows], WIDTH)
    title = f"Attribution scores of {about.model.backbone.spec['name']}"
    title += f" on {Path(config.run).resolve().parent.name}" if there else ""
    note = described(config, about, there)
    study_report.write(config.out, PROGRAM, about.device, title, [*head, *there], rows, note, trials)
    return found


def described(config: Config, about: located.Located, classes: Sequence[str]) -> str:
    """What the figures are, in sentences. classes: those with columns of their own."""
    words = (
        f"Of {about.about}, one network: how often a map's largest value is inside, shares of its sum and of its "
        "largest values there, and maps of zeros."
    )
    if config.tolerance:
        words += f" Near: how often the largest value is inside or at most {config.tolerance} pixels away."
    if config.sanity_images:
        words += (
            " Output layer, all layers: the rank correlation with the map once their weights are random, mean and "
            f"95% interval of {min(config.sanity_images, len(about.images))} maps and {config.sanity_draws} draws of "
            f"weights. Empty: shares of constant maps after the one and the other. A method {sanity_check.RULE}."
        )
    if classes:
        counts = {name: int((about.classes == about.names.index(name)).sum()) for name in classes}
        listed = ", ".join(f"{name} ({count:,})" for name, count in counts.items())
        words += f" Means are over classes, whose pointing is in the last columns: {listed}."
        by = {name: int(about.dependent[about.classes == about.names.index(name)].sum()) for name in classes}
        listed = ", ".join(f"{name} ({count:,})" for name, count in by.items())
        words += f" Dependent: those of them that the network finds, and does not without their objects: {listed}."
    return words


def measure(config: Config, about: located.Located) -> dict[str, dict[str, Scores]]:
    """For each method: the scores of each class, and their mean over classes. Of drawn shapes all are one class."""
    share = about.masks.float().mean((1, 2))
    rows: dict[str, dict[str, Tensor]] = {"chance": dict.fromkeys(SCORES[:3], share)}
    if about.frequency is not None:
        rows["training boxes"] = scores_of(about, lambda images, classes: about.frequency[classes], config.tolerance)
    for method in config.methods or explain.applicable(about.model, about.images):
        maps = functools.partial(explain.maps, method, about.model, stage=config.stage)
        rows[method] = scores_of(about, maps, config.tolerance)
    found = {}
    for method, values in rows.items():
        groups = {"mean": torch.ones_like(about.classes, dtype=torch.bool)}
        if about.frequency is not None:
            there = about.classes.unique().tolist()
            groups = {about.names[output]: about.classes == output for output in there}
        means = {
            name: {key: value[chosen].mean().item() for key, value in values.items()}
            for name, chosen in groups.items()
        }
        if about.dependent is not None:
            for name, chosen in groups.items():
                if (chosen & about.dependent).any():
                    means[name][DEPENDENT] = values["pointing"][chosen & about.dependent].mean().item()
        mean = {key: average([each[key] for each in means.values() if key in each]) for key in (*values, DEPENDENT)}
        found[method] = means | {"mean": {key: value for key, value in mean.items() if value is not None}}
    return found


def average(values: Sequence[float]) -> float | None:
    """The mean of some values; None of no values."""
    return sum(values) / len(values) if values else None


def scores_of(
    about: located.Located, maps: Callable[[Tensor, Tensor], Tensor], tolerance: int = 0
) -> dict[str, Tensor]:
    """Pointing, mass, rank and whether all is zero, (N,) floats each, of the maps (B, H, W) of images and classes.

    tolerance: pixels; not 0: pointing within them too.
    """
    found: dict[str, list[Tensor]] = {key: [] for key in (*SCORES, *[NEAR] * bool(tolerance))}
    for rows in chunks(about):
        made, masks = maps(about.images[rows], about.classes[rows]), about.masks[rows]
        points = made.amax((1, 2)) > 0  # a map of zeros finds nothing, though all its values are the largest
        found["pointing"].append(localization.pointing_game(made, masks) & points)
        found["mass"].append(localization.relevance_mass_accuracy(made, masks).nan_to_num(0))
        found["rank"].append(localization.relevance_rank_accuracy(made, masks) * points)
        found["zeros"].append(~points)
        if tolerance:
            found[NEAR].append(localization.pointing_game(made, localization.widened(masks, tolerance)) & points)
    return {key: torch.cat(value).float() for key, value in found.items()}


def check(config: Config, about: located.Located) -> dict[str, dict[str, sanity_check.Verdict]]:
    """The verdicts of the sanity check of each method."""
    count = min(config.sanity_images, len(about.images))
    chosen = torch.linspace(0, len(about.images) - 1, count).round().long()
    some = about._replace(images=about.images[chosen], classes=about.classes[chosen])

    def attribute(method: str, model: torch.nn.Module, images: Tensor, classes: Tensor) -> Tensor:
        found = [explain.attribute(method, model, images[rows], classes[rows], config.stage) for rows in chunks(some)]
        return torch.cat(found)

    return {
        method: sanity_check.randomization_test(
            about.model,
            functools.partial(attribute, method),
            some.images,
            some.classes,
            config.sanity_draws,
            config.seed,
        )
        for method in config.methods or explain.applicable(about.model, about.images)
    }


def chunks(about: located.Located) -> tuple[Tensor, ...]:
    """The rows (n,) of the images, as many at a time as fit into a cache."""
    at_once = max(1, PIXELS // about.images[0, 0].numel())
    return torch.arange(len(about.images), device=about.device).split(at_once)


if __name__ == "__main__":
    runs.launch(main, Config, None, PROGRAM, __doc__)
