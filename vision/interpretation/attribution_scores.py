"""Scores of attribution methods: pointing game, relevance mass and rank on drawn shapes, and the sanity check.

    python -m vision.interpretation.attribution_scores results/shapes/classification-1 --images 1000

Shapes are drawn anew, with the pixels of each known, and those that the classifier recognizes are explained. A map
points right if its largest value is inside of the shape (Zhang et al. 2016); relevance mass is the part of the map's
sum that is inside, relevance rank the part of as many largest values as the shape has pixels (Arras et al. 2022).
Maps of zeros, whose share is given too, have found nothing in all three; a map that knows nothing has the shape's
share of the image, the first line. The sanity check (Adebayo et al. 2018) replaces weights by permutations of
themselves from the output to the input: rank correlations with the original map, after the output layer and after
all, which should be small.
"""

from __future__ import annotations

import dataclasses
from pathlib import Path

from rich.console import Console
from rich.table import Table

import runs
from runs import study_report
from runs.flag_types import Count, Whole
from vision.data import shapes
from vision.interpretation import explain, localization, sanity_check, subject

PROGRAM = "vision.interpretation.attribution_scores"
DRAWN_SEED = 1_000  # of shapes that no training and no test has seen
CHUNK = 100  # images at a time
WIDTH = 110  # columns, where the table is not printed on a terminal


@dataclasses.dataclass(frozen=True)
class Config(subject.SubjectFlags):
    images: Count = 500  # drawn shapes
    stage: int = -1  # whose map Grad-CAM weights, from 0 or from the end
    sanity_images: Whole = 20  # of them, for the sanity check; 0: it is left out
    out: Path = Path("attribution_scores.json")  # where the scores go, and as .md their page


def scores(config: Config, about: subject.Subject) -> dict[str, dict[str, float]]:
    """For each method that the network can be explained by: pointing, mass, rank, the share of maps of zeros, and the
    correlations after the output layer's and all layers' randomization."""
    (images, labels), masks = shapes.draw_with_masks(config.images, about.shape[1], DRAWN_SEED + config.seed)
    images, labels, masks = (each.to(about.device) for each in (images, labels, masks))
    right = (about.model(images).argmax(1) == labels).nonzero()[:, 0]
    if not len(right):
        raise ValueError(f"the classifier recognizes none of {config.images} drawn shapes: nothing can be explained")
    images, labels, masks = images[right], labels[right], masks[right]
    share = masks.float().mean().item()
    found = {"the shape's share": {"pointing": share, "mass": share, "rank": share}}
    for method in explain.applicable(about.model, images):
        sums = {"pointing": 0.0, "mass": 0.0, "rank": 0.0, "zeros": 0.0}
        for rows in right.new_tensor(range(len(images))).split(CHUNK):
            maps = explain.maps(method, about.model, images[rows], labels[rows], config.stage)
            points = maps.amax((1, 2)) > 0  # a map of zeros finds nothing, though all its values are the largest
            sums["pointing"] += (localization.pointing_game(maps, masks[rows]) & points).sum().item()
            mass = localization.relevance_mass_accuracy(maps, masks[rows])
            sums["mass"] += mass.nan_to_num(0).sum().item()
            sums["rank"] += (localization.relevance_rank_accuracy(maps, masks[rows]) * points).sum().item()
            sums["zeros"] += (~points).sum().item()
        found[method] = {key: value / len(images) for key, value in sums.items()}
        if some := min(config.sanity_images, len(images)):
            steps = list(
                sanity_check.cascading_randomization(
                    about.model,
                    lambda *given, method=method: explain.attribute(method, *given, config.stage),
                    images[:some],
                    labels[:some],
                    config.seed,
                )
            )
            found[method] |= {"output layer": steps[0].rank_correlation, "all layers": steps[-1].rank_correlation}
    return found


def main(config: Config) -> None:
    about = subject.load(config)
    if about.sets.classes != tuple(shapes.SHAPES):
        raise ValueError("only of drawn shapes the pixels are known: give a run with --data shapes")
    found = scores(config, about)
    keys = ("pointing", "mass", "rank", "zeros", "output layer", "all layers")
    table = Table("method", *keys, title="share inside of the shape, and rank correlation once weights are random")
    for method, line in found.items():
        table.add_row(method, *(f"{line[key]:.3f}" if key in line else "" for key in keys))
    Console(width=None if Console().is_terminal else WIDTH).print(table)
    rows = [[method, *(f"{line[key]:.3f}" if key in line else "" for key in keys)] for method, line in found.items()]
    note = (
        f"Of {config.images} drawn shapes those that are classified rightly, one seed: a map's largest value inside "
        "of the shape, shares of its sum and of its largest values there, maps of zeros, and the rank correlation "
        "with the map once the output layer's and all layers' weights are random."
    )
    title = f"Attribution scores of {about.model.backbone.spec['name']}"
    trials = [{"method": method} | line for method, line in found.items()]
    study_report.write(config.out, PROGRAM, about.device, title, ["method", *keys], rows, note, trials)


if __name__ == "__main__":
    runs.launch(main, Config, None, PROGRAM, __doc__)
