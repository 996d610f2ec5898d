"""Nearest neighbors in feature space against pixel space: a row a query, both side by side.

    python -m vision.interpretation.neighbors results/cifar10/classification-1
    python -m vision.interpretation.neighbors results/Pong/dqn-1 --files observations/observations.npy

Krizhevsky et al. 2012, figure 4: neighbors by the last features show the same things, neighbors by pixels the same
colors. Precision is the share of the neighbors that are of the query's class. A classifier's neighbors are training
images; of another run's images, or of --files, some are the queries, and the others are searched. For other features,
metrics and sets see vision.classification.retrieval.
"""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn import functional as F

import runs
from runs import saved
from runs.flag_types import Count, Whole
from runs.printing import printable
from vision import backbones
from vision.classification import nearest_neighbors, stage_features
from vision.interpretation import examples, pictures, subject


@dataclasses.dataclass(frozen=True)
class Config(examples.ExampleFlags):
    neighbors: Count = 5  # of each query, in each space
    queries: Count = 8  # test images shown
    searched: Whole = 10_000  # images searched, the first ones; 0: all
    evaluate: Count = 500  # test images of a classifier by which precision is measured
    out: Path = Path("neighbors.png")  # where the picture goes


class Search(NamedTuple):
    """Images that neighbors are sought of, and those among which they are."""

    backbone: backbones.Backbone
    queries: Tensor  # (Q, C, H, W) uint8
    images: Tensor  # (N, C, H, W) uint8
    own: Tensor | None  # (Q,) labels of the queries; None: images have no class
    labels: Tensor | None  # (N,)
    classes: tuple[str, ...]


def of_classifier(config: Config) -> Search:
    """Test images as queries, one of each class after the other, and training images."""
    about = subject.load(config)
    images, labels = (field[: config.searched or None].cpu() for field in about.sets.train)
    queries, own = (field.cpu() for field in about.examples(max(config.evaluate, config.queries)))
    return Search(about.model.backbone, queries, images, own, labels, about.sets.classes)


def of_images(config: Config) -> Search:
    """Some images as queries, spread evenly, and the others. Raises ValueError where there are too few."""
    about = examples.load(config)
    known = about.images[: config.searched or None]
    if len(known) < config.queries + config.neighbors:
        raise ValueError(
            f"{config.queries} queries with {config.neighbors} neighbors each need as many images together, not "
            f"{len(known)}: give more --files, or fewer --queries and --neighbors"
        )
    chosen = torch.linspace(0, len(known) - 1, config.queries).round().long()
    others = torch.ones(len(known), dtype=torch.bool)
    others[chosen] = False
    labels = None if about.labels is None else about.labels[: len(known)]
    own, labels = (None, None) if labels is None else (labels[chosen], labels[others])
    return Search(about.backbone, known[chosen], known[others], own, labels, about.classes)


def main(config: Config) -> dict[str, float]:
    """Search, draw and measure. Returns the precision in percent, by space; of images without classes nothing."""
    classifier = saved.about(Path(config.run))["program"] == "vision.classification" and not config.files
    backbone, queries, images, own, labels, names = of_classifier(config) if classifier else of_images(config)
    spaces = {
        "pixels": (queries.flatten(1), images.flatten(1)),
        "features": tuple(
            F.normalize(stage_features.extract(backbone, each, stages=slice(-1, None))[0], dim=1).cpu()
            for each in (queries, images)
        ),
    }
    found, precision = {}, {}
    for space, (asked, known) in spaces.items():
        _, index = nearest_neighbors.nearest(asked, known, config.neighbors)
        found[space] = index
        if labels is not None:
            precision[space] = 100 * (labels[index] == own[:, None]).float().mean().item()
    blank = torch.full_like(queries[0], 255)
    rows, titles = [], []
    for row in range(config.queries):
        by = [found[space][row].tolist() for space in spaces]
        rows.append([queries[row], blank, *(images[i] for i in by[0]), blank, *(images[i] for i in by[1])])
        if labels is None:
            blanks = [""] * config.neighbors
            titles.append(["query", "pixels:", *blanks, "features:", *blanks])
            continue
        titles.append(
            [names[own[row]], "pixels:", *(names[labels[i]] for i in by[0]), "features:"]
            + [names[labels[i]] for i in by[1]]
        )
    if labels is None:
        title = f"the {config.neighbors} nearest of {len(images):,} images"
    else:
        said = ", ".join(f"by {space} {share:.1f}%" for space, share in precision.items())
        title = f"of the {config.neighbors} nearest of {len(images):,} images are of the query's class: {said}"
    pictures.draw_sheet(rows, titles, config.out, title=title, side=0.9)
    print(printable(f"{title}; written to {config.out}"))
    return precision


if __name__ == "__main__":
    runs.launch(main, Config, None, "vision.interpretation.neighbors", __doc__)
