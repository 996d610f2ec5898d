"""Synthetic data set of drawn shapes: color images that need no download, the same every time.

Ten shapes of random position, size, rotation, aspect and colors, on a shaded background with specks and noise. No
class has a position or color of its own, so that a linear classifier has little to go by.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from pathlib import Path

import torch
from torch import Tensor

from vision.data.sets import Labeled, Sets

SIDE = 32  # pixels
SIZES = (20_000, 2_000, 4_000)  # images for training, validation, testing
RADIUS = (0.25, 0.45)  # of a shape, as a part of the image's side
SPECKS = 2  # an image
CHUNK = 1_000  # images drawn together: fits into a cache


def _polygon(x: Tensor, y: Tensor, corners: int, radius: float) -> Tensor:
    """Inside of a regular polygon with its incircle's radius, as a margin (corners, ...) to each of its sides."""
    turns = [2 * math.pi * k / corners for k in range(corners)]
    return torch.stack([radius - math.cos(turn) * x - math.sin(turn) * y for turn in turns])


def _heart(x: Tensor, y: Tensor) -> Tensor:
    x, y = x + 0.15, y + 0.15
    square = 0.5 - torch.maximum(x.abs(), y.abs())
    lobes = torch.maximum(0.5 - torch.hypot(x - 0.5, y), 0.5 - torch.hypot(x, y - 0.5))
    return torch.maximum(square, lobes)


def _cross(x: Tensor, y: Tensor) -> Tensor:
    wide, tall = torch.minimum(0.9 - x.abs(), 0.28 - y.abs()), torch.minimum(0.28 - x.abs(), 0.9 - y.abs())
    return torch.maximum(wide, tall)


SHAPES: dict[str, Callable[[Tensor, Tensor], Tensor]] = {  # how far inside its outline a point (x, y) is, in radii
    "disc": lambda x, y: 0.85 - torch.hypot(x, y),
    "ring": lambda x, y: 0.22 - (torch.hypot(x, y) - 0.68).abs(),
    "crescent": lambda x, y: torch.minimum(0.95 - torch.hypot(x, y), torch.hypot(x - 0.5, y) - 0.75),
    "half disc": lambda x, y: torch.minimum(0.95 - torch.hypot(x - 0.4, y), x - 0.4),
    "triangle": lambda x, y: _polygon(x, y, 3, 0.48).amin(0),
    "square": lambda x, y: 0.7 - torch.maximum(x.abs(), y.abs()),
    "bar": lambda x, y: torch.minimum(0.95 - x.abs(), 0.3 - y.abs()),
    "cross": _cross,
    "star": lambda x, y: _polygon(x, y, 5, 0.31).sort(0).values[1],  # a tip is outside of one side of the pentagon
    "heart": _heart,
}


def shapes(folder: str | Path | None = None) -> Sets:
    """Drawn shapes, (3, 32, 32): 20,000 images for training, 2,000 for validation, 4,000 for testing.

    Raises ValueError for a folder: there are no files.
    """
    if folder is not None:
        raise ValueError(f"shapes are drawn, not read: they have no use for the folder {folder}")
    return Sets(*(draw(count, seed=part) for part, count in enumerate(SIZES)), tuple(SHAPES))


def draw(count: int, side: int = SIDE, seed: int = 0) -> Labeled:
    """`count` images (count, 3, side, side) of shapes, each class as often, in random order."""
    return draw_with_masks(count, side, seed)[0]


def draw_with_masks(count: int, side: int = SIDE, seed: int = 0) -> tuple[Labeled, Tensor]:
    """The images of `draw`, and the pixels whose middles are inside of the shape, (count, side, side) bool."""
    generator = torch.Generator().manual_seed(seed)
    labels = torch.randperm(count, generator=generator) % len(SHAPES)
    images = torch.empty(count, 3, side, side, dtype=torch.uint8)
    masks = torch.empty(count, side, side, dtype=torch.bool)
    for rows in torch.arange(count).split(CHUNK):
        images[rows], masks[rows] = _draw_shapes(labels[rows], side, generator)
    return Labeled(images, labels), masks


def _draw_shapes(labels: Tensor, side: int, generator: torch.Generator) -> tuple[Tensor, Tensor]:
    """One image (N, 3, side, side) uint8 for each label (N,), and the inside of its shape (N, side, side) bool."""
    count = len(labels)

    def uniform(*shape: int, low: float = 0.0, high: float = 1.0) -> Tensor:
        return low + (high - low) * torch.rand(count, *shape, generator=generator)

    middle = (torch.arange(side) + 0.5) / side
    y, x = middle[:, None], middle[None, :]  # a pixel's place in the image, from 0 to 1
    ink, ground, other = uniform(3, 3).unbind(1)
    turn = uniform(1, 1, high=2 * math.pi)
    shade = ((x - 0.5) * turn.cos() + (y - 0.5) * turn.sin() + 0.5)[:, None] * 0.4
    canvas = torch.lerp(ground[..., None, None], other[..., None, None], shade.clamp(0, 1))

    for _ in range(SPECKS):
        place, color, radius = uniform(2, 1, 1), uniform(3, 1, 1), uniform(1, 1, low=0.02, high=0.07)
        inside = (radius - torch.hypot(x - place[:, 0], y - place[:, 1])) * side + 0.5
        canvas = torch.lerp(canvas, color, inside.clamp(0, 1)[:, None])

    inside, cover = place_shapes(labels, side, RADIUS, uniform)
    canvas = torch.lerp(canvas, distinct(ink, ground)[..., None, None], cover[:, None])
    noise = torch.randn(canvas.shape, generator=generator) * uniform(1, 1, 1, high=0.08)
    return ((canvas + noise).clamp(0, 1) * 255).round().byte(), inside > 0


def distinct(ink: Tensor, ground: Tensor) -> Tensor:
    """Colors (N, 3) from 0 to 1 that differ from those of the ground (N, 3): ink, or where it is near another one."""
    near = (ink - ground).square().sum(1, keepdim=True) < 0.7**2
    return torch.where(near, (ground + 0.5) % 1, ink)


def place_shapes(
    labels: Tensor, side: int, radii: tuple[float, float], uniform: Callable[..., Tensor]
) -> tuple[Tensor, Tensor]:
    """A shape of each label (N,) at a random place, of a random size, rotation and stretch; none where it is -1.

    radii: the least and the largest, as parts of the side. uniform: draws (N, *shape) from low to high.

    Returns (N, side, side) twice: how far inside a pixel's middle is, in radii, negative outside; and how much of the
    pixel is covered, from 0 to 1.
    """
    middle = (torch.arange(side) + 0.5) / side
    y, x = middle[:, None], middle[None, :]
    radius = uniform(1, 1, low=radii[0], high=radii[1])
    place = radius[:, None] + (1 - 2 * radius[:, None]) * uniform(2, 1, 1)
    turn, stretch = uniform(1, 1, high=2 * math.pi), uniform(1, 1, low=0.8, high=1.0)
    across, along = (x - place[:, 0]) / radius, (y - place[:, 1]) / radius
    u = across * turn.cos() + along * turn.sin()
    v = (along * turn.cos() - across * turn.sin()) / stretch
    inside = torch.full((len(labels), side, side), -1.0)
    for label, shape in enumerate(SHAPES.values()):
        rows = labels == label
        inside[rows] = shape(u[rows], v[rows])
    return inside, (inside * radius * side + 0.5).clamp(0, 1)  # edges are smooth
