"""Synthetic scenes with sentences: one to three colored shapes, and the sentence and questions that fit them.

    a red disc
    a red disc to the left of a blue star          a red disc above a blue star
    from left to right a red disc a blue star and a green ring

Each scene has exactly one sentence, so that a caption is right or wrong, and needs no download. Objects stand in
different cells of a grid of 3 x 3, three of them in different columns; those in a sentence are boxes of a sample, in
the sentence's order, of classes such as "red disc".
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor

from vision.data.samples import Sample, Target, boxes_of_masks
from vision.data.shapes import SHAPES

SIDE = 48  # pixels
GRID = 3  # cells along and down
MOST = 3  # objects of a scene
KINDS = ("disc", "ring", "triangle", "square", "cross", "star")
COLORS = {
    "red": (0.9, 0.1, 0.1),
    "green": (0.1, 0.75, 0.15),
    "blue": (0.15, 0.25, 0.95),
    "yellow": (0.95, 0.9, 0.1),
    "pink": (0.95, 0.4, 0.8),
    "white": (0.97, 0.97, 0.97),
}
CLASSES = tuple(f"{color} {kind}" for color in COLORS for kind in KINDS)
RADIUS = (0.115, 0.15)  # of an object, as a part of the image's side
JITTER = 0.035  # of an object about the middle of its cell, each way, as a part of the image's side
GROUND = (0.15, 0.45)  # gray of the ground
NOISE = 0.05  # standard deviation of pixels, where white is 1, at most
TINT = 0.08  # that a color may differ from its own in each channel
CHUNK = 500  # scenes drawn together


class DescribedScenes(Sequence):
    """N scenes as samples with captions, held in memory.

    images: (N, 3, SIDE, SIDE) uint8. labels: (N, MOST) int64 indices of CLASSES in the order of the sentence, -1
    where there is no object. cells: (N, MOST) int64, row times GRID plus column.
    """

    classes = CLASSES

    def __init__(self, count: int, seed: int, side: int = SIDE) -> None:
        generator = torch.Generator().manual_seed(2_000 + seed)
        self.labels, self.cells = _arranged(count, generator)
        parts = [
            _draw(self.labels[rows], self.cells[rows], side, generator) for rows in torch.arange(count).split(CHUNK)
        ]
        self.images, self.owner = (torch.cat(part) for part in zip(*parts, strict=True))

    def __len__(self) -> int:
        return len(self.images)

    def __getitem__(self, index: int) -> Sample:
        """Raises IndexError beyond the last."""
        return Sample(self.images[index], self.target(index))

    def target(self, index: int) -> Target:
        """The sentence, and the objects in its order."""
        labels = self.labels[index]
        count = int((labels >= 0).sum())
        masks = self.owner[index] == torch.arange(count)[:, None, None]
        return Target(
            boxes=boxes_of_masks(masks), labels=labels[:count], captions=(self.sentence(index),)
        )  # masks would be of no use

    def sentence(self, index: int) -> str:
        """The sentence of a scene."""
        labels, cells = self.labels[index].tolist(), self.cells[index].tolist()
        return describe([label for label in labels if label >= 0], cells)


def describe(labels: Sequence[int], cells: Sequence[int]) -> str:
    """The sentence of objects, indices of CLASSES, in cells; they come in the sentence's order, see `ordered`."""
    names = [f"a {CLASSES[label]}" for label in labels]
    if len(names) == 1:
        return names[0]
    if len(names) == 2:
        relation = "above" if cells[0] % GRID == cells[1] % GRID else "to the left of"
        return f"{names[0]} {relation} {names[1]}"
    return f"from left to right {' '.join(names[:-1])} and {names[-1]}"


def ordered(cells: Tensor) -> Tensor:
    """The order (N, MOST) in which objects in cells (N, MOST) are named: from the left, in a column from the top.

    Cells of missing objects are counted as beyond the right edge: GRID * GRID or more.
    """
    there = cells < GRID * GRID
    key = torch.where(there, cells % GRID * GRID + cells // GRID, GRID * GRID + torch.arange(cells.shape[1]))
    return key.argsort(1)


def _arranged(count: int, generator: torch.Generator) -> tuple[Tensor, Tensor]:
    """Labels and cells (N, MOST) of objects in the order of their sentence, -1 where there is none."""
    objects = torch.arange(count) % MOST + 1
    objects = objects[torch.randperm(count, generator=generator)]
    labels = torch.rand(count, len(CLASSES), generator=generator).argsort(1)[:, :MOST]  # all different
    anywhere = torch.rand(count, GRID * GRID, generator=generator).argsort(1)[:, :MOST]
    columns = torch.rand(count, GRID, generator=generator).argsort(1)
    rows = torch.randint(GRID, (count, MOST), generator=generator)
    cells = torch.where(objects[:, None] == MOST, rows * GRID + columns, anywhere)
    missing = torch.arange(MOST) >= objects[:, None]
    order = ordered(cells.masked_fill(missing, GRID * GRID))
    return labels.masked_fill(missing, -1).gather(1, order), cells.masked_fill(missing, -1).gather(1, order)


def _draw(labels: Tensor, cells: Tensor, side: int, generator: torch.Generator) -> tuple[Tensor, Tensor]:
    """Images (N, 3, side, side) uint8, and the object of each pixel (N, side, side) int8, -1 for the ground."""
    count = len(labels)

    def uniform(*shape: int, low: float = 0.0, high: float = 1.0) -> Tensor:
        return low + (high - low) * torch.rand(count, *shape, generator=generator)

    middle = (torch.arange(side) + 0.5) / side
    y, x = middle[:, None], middle[None, :]
    turn = uniform(1, 1, high=2 * math.pi)
    shade = ((x - 0.5) * turn.cos() + (y - 0.5) * turn.sin())[:, None] * 0.2
    canvas = uniform(1, 1, 1, low=GROUND[0], high=GROUND[1]) + shade.expand(-1, 3, -1, -1)
    owner = torch.full((count, side, side), -1, dtype=torch.int8)
    inks = torch.tensor(list(COLORS.values()))
    for number in range(labels.shape[1]):
        label, cell = labels[:, number], cells[:, number]
        ink = inks[label.clamp(min=0) // len(KINDS)] + uniform(3, low=-TINT, high=TINT)
        radius = uniform(1, 1, low=RADIUS[0], high=RADIUS[1])
        place = (torch.stack([cell % GRID, cell // GRID], 1)[..., None, None] + 0.5) / GRID
        place = place + uniform(2, 1, 1, low=-JITTER, high=JITTER)
        turn = uniform(1, 1, high=2 * math.pi)
        across, along = (x - place[:, 0]) / radius, (y - place[:, 1]) / radius
        u = across * turn.cos() + along * turn.sin()
        v = along * turn.cos() - across * turn.sin()
        inside = torch.full((count, side, side), -1.0)
        for kind, name in enumerate(KINDS):
            rows = (label >= 0) & (label % len(KINDS) == kind)
            inside[rows] = SHAPES[name](u[rows], v[rows])
        cover = (inside * radius * side + 0.5).clamp(0, 1)
        canvas = torch.lerp(canvas, ink.clamp(0, 1)[..., None, None], cover[:, None])
        owner[cover >= 0.5] = number
    noise = torch.randn(canvas.shape, generator=generator) * uniform(1, 1, 1, high=NOISE)
    return ((canvas + noise).clamp(0, 1) * 255).round().byte(), owner
