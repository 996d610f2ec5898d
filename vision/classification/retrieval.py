"""Image retrieval: the nearest images by a backbone's features, over any data set, as a picture.

    python -m vision.classification.retrieval results/cifar10/classification-1 --data cifar10
    python -m vision.classification.retrieval resnet18:imagenet --data path/to/folder --file photograph.jpg
    python -m vision.classification.retrieval pixels --data cifar10           # for comparison

Krizhevsky et al. 2012, figure 4 right: images whose last features are near each other show the same things, though
their pixels differ. Queries are test images (or --file), and the training images are searched, by Euclidean distance
between features of length one (cosine) or as they are (l2). Precision is measured on --evaluate test images: the
share of the k nearest that are of the query's class. The picture has a row a query, with its neighbors' classes.
"""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Annotated, Literal

import torch
import tyro
from torch import Tensor
from torch.nn import functional as F

import runs
from runs import output
from runs.flag_types import Count, Whole
from runs.printing import printable
from vision import data
from vision.classification import features, nearest_neighbors, stage_features
from vision.data.image_files import read_image
from vision.training import sampling

SEED = 1  # of the images that are drawn, and of a new backbone


@dataclasses.dataclass(frozen=True)
class Config:
    backbone: Annotated[str, tyro.conf.Positional] = "pixels"  # a run's folder, name or name:weights; or a feature
    data: str = "shapes"  # the image set or folder that is searched
    data_folder: Path | None = None  # where its files lie; None: $SACCADE_DATA/<data> or ~/.cache/saccade/<data>
    size: Count | None = None  # pixels, side of the images read from a folder; None: 224
    images: Whole = 10_000  # training images searched, drawn at random; 0: all
    stage: int = -1  # of the backbone, from 0, or from the end: -1 is the last
    metric: Literal["cosine", "l2"] = "cosine"  # of features; l2 of those as they are
    neighbors: Count = 8  # of each query
    queries: Count = 6  # test images shown, one of each class in turn
    file: Path | None = None  # a query of its own, instead of test images
    evaluate: Whole = 1_000  # test images by which precision is measured; 0: it is not
    device: str = "auto"  # auto, cpu, cuda, mps
    threads: Whole = 0  # of torch on the CPU; 0: as many as cores are free at the start
    out: Path = Path("retrieval.png")  # where the picture goes


def embed(config: Config, images: Tensor, device: torch.device) -> Tensor:
    """Features (N, D) float32 of images (N, C, H, W) uint8, of length 1 for the cosine. Raises ValueError for a stage
    that the backbone does not have."""
    if config.backbone in features.FEATURES:
        found = features.extract(images.to(device), config.backbone).float()
    else:
        backbone = stage_features.load(config.backbone, tuple(images.shape[1:])).to(device)
        count = len(backbone.channels)
        if not -count <= config.stage < count:
            raise ValueError(f"there is no --stage {config.stage} of {count}: from 0 to {count - 1}, or -1, the last")
        stage = config.stage % count
        (found,) = stage_features.extract(backbone, images, stages=slice(stage, stage + 1))
    return F.normalize(found, dim=1) if config.metric == "cosine" else found


def precision(neighbors: Tensor, labels: Tensor) -> float:
    """The share of neighbors' labels (Q, k) that are the queries' (Q,), in percent."""
    return 100 * (neighbors == labels[:, None]).float().mean().item()


def draw(
    queries: Tensor, found: Tensor, names: list[str], neighbors: list[list[str]], title: str, path: Path
) -> None:
    """A row a query (Q, C, H, W): itself and its neighbors (Q, k, C, H, W), framed green if of its class."""
    from matplotlib.figure import Figure

    rows, columns = len(queries), found.shape[1] + 1
    figure = Figure(figsize=(1.1 * columns, 1.3 * rows + 0.4), layout="constrained")
    panels = figure.subplots(rows, columns, squeeze=False)
    for line, query, others, name, labels in zip(panels, queries, found, names, neighbors, strict=True):
        shown = [(query, name, "black"), *((image, label, None) for image, label in zip(others, labels, strict=True))]
        for panel, (image, label, color) in zip(line, shown, strict=True):
            picture = image.permute(1, 2, 0).cpu().numpy()
            panel.imshow(picture.squeeze(2) if picture.shape[2] == 1 else picture, cmap="gray")
            panel.set_xticks([])
            panel.set_yticks([])
            frame = color or ("tab:green" if label == name else "tab:red" if name else "0.5")
            for spine in panel.spines.values():
                spine.set(color=frame, linewidth=2.5)
            panel.set_title(printable(label)[:14], fontsize=7, pad=2, parse_math=False)
    panels[0, 0].set_ylabel("query", fontsize=8)
    figure.suptitle(title, fontsize=9)
    output.draw(path, figure, "--out", dpi=110)


def main(config: Config) -> float | None:
    """Search, draw and measure. Returns the precision in percent."""
    device = runs.prepare(config.device, SEED, config.threads)
    sets = data.load(config.data, config.data_folder, config.size)
    known = sampling.sample(sets.train, config.images, SEED)
    searched = embed(config, known.images, device)
    if config.file:
        images, labels = read_image(config.file, known.images.shape[2])[None], None
    else:
        rows = sampling.one_of_each(sets.test.labels, config.queries)
        images, labels = sets.test.images[rows], sets.test.labels[rows]
    _, index = nearest_neighbors.nearest(embed(config, images, device), searched, config.neighbors)
    index = index.cpu()
    names = [""] if labels is None else [sets.classes[label] for label in labels.tolist()]
    neighbors = [[sets.classes[label] for label in row] for row in known.labels[index].tolist()]
    measured = None
    if config.evaluate:
        queries = sampling.sample(sets.test, config.evaluate, SEED)
        _, near = nearest_neighbors.nearest(embed(config, queries.images, device), searched, config.neighbors)
        measured = precision(known.labels[near.cpu()], queries.labels)
        print(
            f"precision of the {config.neighbors} nearest of {len(known.labels):,} images: {measured:.2f}% over "
            f"{len(queries.labels):,} queries"
        )
    title = printable(f"{config.backbone}, {config.metric}" + (f": precision {measured:.1f}%" if measured else ""))
    draw(images, known.images[index], names, neighbors, title, config.out)
    print(printable(f"written to {config.out}"))
    return measured


if __name__ == "__main__":
    runs.launch(main, Config, None, "vision.classification.retrieval", __doc__)
