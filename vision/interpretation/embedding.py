"""Maps of features: images placed by PCA or t-SNE of a network's features, as thumbnails and as points by class.

    python -m vision.interpretation.embedding results/cifar10/classification-1
    python -m vision.interpretation.embedding results/cifar10/classification-1 --method pca --of pixels
    python -m vision.interpretation.embedding results/Pong/dqn-1 --files observations/observations.npy

van der Maaten & Hinton 2008 (t-SNE, by openTSNE: pip install saccade[embedding]); CS231n, lecture 12. Features are
the mean over places of a stage's map. Thumbnails are laid on a grid of places, each the image nearest to its place.
Beside them the same points colored by class, or by their order where images have none, and, as a figure, how often a
point's nearest neighbor in the map is of its class. Any run with a backbone will do, and any images: see
vision/interpretation/examples.py; for states by value see agents.studies.state_embedding.
"""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import numpy as np
import torch
from torch import Tensor

import runs
from runs import output
from runs.flag_types import Count, Positive
from runs.printing import printable
from vision.classification import nearest_neighbors, stage_features
from vision.interpretation import examples, pictures

if TYPE_CHECKING:
    from matplotlib.axes import Axes


@dataclasses.dataclass(frozen=True)
class Config(examples.ExampleFlags):
    method: Literal["tsne", "pca"] = "tsne"
    of: Literal["features", "pixels"] = "features"  # what is placed
    stage: int = -1  # of the backbone, from 0 or from the end
    images: Count = 1_000  # test images
    perplexity: Positive = 30.0  # of t-SNE: about as many neighbors count
    grid: Count = 30  # thumbnails along a side
    out: Path = Path("embedding.png")  # where the picture goes


def pca(features: Tensor, dimensions: int = 2) -> Tensor:
    """The first principal components (N, dimensions) of features (N, D), the one of largest variance first.

    The sign of a component is such that its largest weight is positive.
    """
    centered = features.double().cpu() - features.double().cpu().mean(0)
    _, _, axes = torch.linalg.svd(centered, full_matrices=False)
    axes = axes[:dimensions]
    largest = axes.abs().argmax(1, keepdim=True)
    return (centered @ (axes * axes.gather(1, largest).sign()).T).float()


def tsne(features: Tensor, perplexity: float = 30.0, seed: int = 1, threads: int = 1) -> Tensor:
    """The t-SNE map (N, 2) of features (N, D). Raises ValueError without openTSNE, and for too few of them."""
    try:
        from openTSNE import TSNE
    except ImportError as error:
        raise ValueError("t-SNE needs openTSNE: pip install saccade[embedding] (or --method pca)") from error
    if len(features) < 3 * perplexity:
        raise ValueError(f"a perplexity of {perplexity:g} needs {3 * perplexity:g} images, not {len(features)}")
    reduced = pca(features, min(50, *features.shape)).numpy()  # 30 in the paper (section 4.2)
    found = TSNE(perplexity=perplexity, n_jobs=threads, random_state=seed).fit(reduced)
    return torch.from_numpy(np.asarray(found)).float()


def thumbnails(images: Tensor, points: Tensor, grid: int) -> np.ndarray:
    """A picture (H, W, 3) uint8 of images (N, C, h, w) at their points (N, 2), a place of a grid x grid each.

    A place shows the image whose point is nearest to its middle, among those inside of it; it is black without any.
    """
    low, high = points.amin(0), points.amax(0)
    scaled = (points - low) / (high - low).clamp(min=1e-12) * grid
    cell = scaled.floor().clamp(max=grid - 1)
    far = (scaled - cell - 0.5).square().sum(1)
    height, width = images.shape[2:]
    picture = np.zeros((grid * height, grid * width, 3), np.uint8)
    for index in far.argsort(descending=True).tolist():  # the nearest is drawn last
        column, row = (int(each) for each in cell[index])
        row = grid - 1 - row  # upwards
        picture[row * height : (row + 1) * height, column * width : (column + 1) * width] = pictures.in_color(
            images[index]
        )
    return picture


def neighbor_accuracy(points: Tensor, labels: Tensor) -> float:
    """The share of points (N, 2) whose nearest neighbor has their label (N,), in percent."""
    _, index = nearest_neighbors.nearest(points, points, 2)
    own = torch.arange(len(points))
    neighbor = torch.where(index[:, 0] == own, index[:, 1], index[:, 0])
    return 100 * (labels[neighbor] == labels).float().mean().item()


def main(config: Config) -> float | None:
    """Place, draw and measure. Returns the nearest neighbor's accuracy in percent; None of images without classes."""
    about = examples.load(config)
    images = about.images[: config.images]
    labels = None if about.labels is None else about.labels[: config.images]
    if config.of == "pixels":
        found = images.flatten(1).float() / 255
    else:
        backbone = about.backbone
        count = len(backbone.channels)
        if not -count <= config.stage < count:
            raise ValueError(f"there is no --stage {config.stage} of {count}: from 0 to {count - 1}, or -1, the last")
        stage = config.stage % count
        (found,) = stage_features.extract(backbone, images, stages=slice(stage, stage + 1))
    if config.method == "pca":
        points = pca(found.cpu())
    else:
        points = tsne(found.cpu(), config.perplexity, config.seed, torch.get_num_threads())
    accuracy = None if labels is None else neighbor_accuracy(points, labels)

    from matplotlib.figure import Figure

    figure = Figure(figsize=(14, 7), layout="constrained")
    left, right = figure.subplots(1, 2)
    left.imshow(thumbnails(images, points, config.grid))
    left.axis("off")
    _scatter(right, points, labels, about.classes)
    what = f"{'t-SNE' if config.method == 'tsne' else 'PCA'} of {config.of}"
    said = f"{what} of {len(images):,} images, from the first (dark) to the last"
    if accuracy is not None:
        said = f"{what}: the nearest neighbor of {accuracy:.1f}% of {len(images):,} points is of their class"
    figure.suptitle(said)
    output.draw(config.out, figure, "--out", dpi=110)
    print(printable(f"{said}; written to {config.out}"))
    return accuracy


def _scatter(axes: Axes, points: Tensor, labels: Tensor | None, classes: tuple[str, ...]) -> None:
    """Points (N, 2) colored by labels (N,), or by their order."""
    from matplotlib import colormaps

    if labels is None:
        axes.scatter(*points.T.numpy(), s=6, c=np.arange(len(points)), cmap="viridis")
    else:
        colors = colormaps["tab10" if len(classes) <= 10 else "tab20"]
        for label, name in enumerate(classes[:20]):
            own = labels == label
            axes.scatter(*points[own].T.numpy(), s=6, color=colors(label), label=printable(name))
        axes.legend(fontsize=8, markerscale=2)
    axes.set_xticks([])
    axes.set_yticks([])


if __name__ == "__main__":
    runs.launch(main, Config, None, "vision.interpretation.embedding", __doc__)
