"""Pictures of points of the plane: densities of data and samples, and the discriminator's output over the plane."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from runs.printing import printable
from vision.generation.toy_points import Mixture

SIDE = 200  # cells of a density, along and down
COLORS = "magma"


def places(reach: float, side: int = SIDE) -> Tensor:
    """The middles of the cells of a square from -reach to reach, (side * side, 2), rows from the top."""
    middle = reach * ((torch.arange(side) + 0.5) * 2 / side - 1)
    y, x = torch.meshgrid(middle.flip(0), middle, indexing="ij")
    return torch.stack([x.flatten(), y.flatten()], 1)


def histogram(points: Tensor, reach: float, side: int = SIDE) -> Tensor:
    """Density (side, side) of points (N, 2) in the cells of a square from -reach to reach, rows from the top.

    It sums to the share of points inside, divided by the area of a cell.
    """
    column, row = ((points / reach + 1) * side / 2).floor().long().unbind(1)
    inside = (column >= 0) & (column < side) & (row >= 0) & (row < side)
    cells = (side - 1 - row[inside]) * side + column[inside]
    counts = torch.bincount(cells, minlength=side * side).view(side, side)
    return counts / (len(points) * (2 * reach / side) ** 2)


def shaded(density: Tensor) -> np.ndarray:
    """A picture (H, W, 3) uint8 of a density (H, W): the color goes with its root, up to its 99.9th percentile."""
    from matplotlib import colormaps

    root = density.sqrt()
    top = torch.quantile(root[root > 0], 0.999) if (root > 0).any() else root.new_ones(())
    return (colormaps[COLORS]((root / top).clamp(0, 1).numpy())[..., :3] * 255).astype(np.uint8)


def frame(points: Tensor, mixture: Mixture, words: str) -> np.ndarray:
    """A frame (400, 376, 3) uint8 of a film: points (N, 2) over circles at the mixture's means, words below."""
    from PIL import Image, ImageDraw

    side, reach = 376, mixture.reach
    page = Image.new("RGB", (side, side + 24), (255, 255, 255))
    draw = ImageDraw.Draw(page)

    def pixels(at: Tensor) -> list[list[float]]:
        return ((at * torch.tensor([1, -1]) / reach + 1) * side / 2).tolist()

    for x, y in pixels(mixture.means):
        draw.ellipse((x - 7, y - 7, x + 7, y + 7), outline=(220, 120, 20))
    for x, y in pixels(points[points.abs().amax(1) < reach]):
        draw.rectangle((x - 0.5, y - 0.5, x + 0.5, y + 0.5), fill=(30, 70, 160))
    draw.rectangle((0, side, side, side + 24), fill=(0, 0, 0))
    draw.text((6, side + 6), printable(words), fill=(255, 255, 255))
    return np.asarray(page)


def draw_densities(
    mixture: Mixture, samples: Tensor, probability: Callable[[Tensor], Tensor], title: str, path: Path
) -> None:
    """Draw the density of the data, of samples (N, 2), and what the discriminator gives for places (N, 2) -> (N,)."""
    from matplotlib.figure import Figure

    reach = mixture.reach
    where = places(reach)
    data = mixture.sample(len(samples), torch.Generator().manual_seed(0))
    surface = probability(where).view(SIDE, SIDE)
    figure = Figure(figsize=(11, 4), layout="constrained")
    panels = figure.subplots(1, 3)
    bounds = (-reach, reach, -reach, reach)
    for panel, points, name in zip(panels, (data, samples), ("data", "samples"), strict=False):
        panel.imshow(shaded(histogram(points, reach)), extent=bounds, interpolation="bilinear")
        panel.set_title(name, fontsize=9)
    shown = panels[2].imshow(surface.numpy(), extent=bounds, cmap="RdBu_r")
    panels[2].set_title("output of the discriminator", fontsize=9)
    figure.colorbar(shown, ax=panels[2], shrink=0.8)
    figure.suptitle(printable(title), fontsize=10)
    figure.savefig(path, dpi=100, format="png")
