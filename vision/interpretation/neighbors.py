"""Nearest neighbors in feature space against pixel space: a row a query, both side by side.

    python -m vision.interpretation.neighbors results/cifar10/classification-1

Krizhevsky et al. 2012, figure 4: neighbors by the last features show the same things, neighbors by pixels the same
colors. Precision is the share of the neighbors that are of the query's class. For other features, metrics and sets
see vision.classification.retrieval.
"""

from __future__ import annotations

import dataclasses
from pathlib import Path

import torch
from torch.nn import functional as F

import runs
from runs.flag_types import Count, Whole
from runs.printing import printable
from vision.classification import nearest_neighbors, stage_features
from vision.interpretation import pictures, subject


@dataclasses.dataclass(frozen=True)
class Config(subject.SubjectFlags):
    neighbors: Count = 5  # of each query, in each space
    queries: Count = 8  # test images shown
    searched: Whole = 10_000  # training images searched, the first ones; 0: all
    evaluate: Count = 500  # test images by which precision is measured
    out: Path = Path("neighbors.png")  # where the picture goes


def main(config: Config) -> dict[str, float]:
    """Search, draw and measure. Returns the precision in percent, by space."""
    about = subject.load(config)
    images, labels = (field[: config.searched or None] for field in about.sets.train)
    queries, own = about.examples(max(config.evaluate, config.queries))
    queries, own = queries.cpu(), own.cpu()
    spaces = {
        "pixels": (queries.flatten(1), images.flatten(1)),
        "features": tuple(
            F.normalize(stage_features.extract(about.model.backbone, each, stages=slice(-1, None))[0], dim=1).cpu()
            for each in (queries, images)
        ),
    }
    found, precision = {}, {}
    for space, (asked, known) in spaces.items():
        _, index = nearest_neighbors.nearest(asked, known, config.neighbors)
        found[space] = index
        precision[space] = 100 * (labels[index] == own[:, None]).float().mean().item()
    names = about.sets.classes
    blank = torch.full_like(queries[0], 255)
    rows, titles = [], []
    for row in range(config.queries):
        by = [found[space][row].tolist() for space in spaces]
        rows.append([queries[row], blank, *(images[i] for i in by[0]), blank, *(images[i] for i in by[1])])
        titles.append(
            [names[own[row]], "pixels:", *(names[labels[i]] for i in by[0]), "features:"]
            + [names[labels[i]] for i in by[1]]
        )
    said = ", ".join(f"by {space} {share:.1f}%" for space, share in precision.items())
    title = f"of the {config.neighbors} nearest of {len(images):,} images are of the query's class: {said}"
    pictures.draw_sheet(rows, titles, config.out, title=title, side=0.9)
    print(printable(f"{title}; written to {config.out}"))
    return precision


if __name__ == "__main__":
    runs.launch(main, Config, None, "vision.interpretation.neighbors", __doc__)
