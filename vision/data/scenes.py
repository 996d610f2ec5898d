"""Synthetic scenes of drawn shapes with boxes, masks and keypoints: detection data without a download.

One to five shapes of shapes.py an image, of random position, size, rotation and colors, on a shaded background; later
ones hide earlier ones. Boxes and masks are of what is visible; what is hidden for the most part is no object.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor

from vision.data.samples import Sample, Target, boxes_of_masks
from vision.data.shapes import SHAPES, distinct, place_shapes

SIDE = 128  # pixels
SIZES = (2_000, 100, 200)  # scenes for training, validation, testing
MOST = 5  # shapes of a scene
RADIUS = (0.08, 0.22)  # of a shape, as a part of the image's side
CHUNK = 200  # scenes drawn together: fits into a cache
VISIBLE = 0.3  # of its pixels that an object shows at least
KEYPOINTS = ("left", "top", "right", "bottom", "center")  # of an object: see extreme_points
NOISE = 0.05  # standard deviation of pixels, where white is 1, at most


class Scenes(Sequence):
    """N scenes as samples, held in memory: images, and for each pixel the object that it is of."""

    classes = tuple(SHAPES)

    def __init__(self, count: int, seed: int, side: int = SIDE) -> None:
        generator = torch.Generator().manual_seed(1_000 + seed)
        parts = [_draw(len(rows), side, generator) for rows in torch.arange(count).split(CHUNK)]
        self.images, self.owner, self.labels = (torch.cat(part) for part in zip(*parts, strict=True))

    def __len__(self) -> int:
        return len(self.images)

    def __getitem__(self, index: int) -> Sample:
        """Raises IndexError beyond the last."""
        return Sample(self.images[index], self.target(index))

    def target(self, index: int) -> Target:
        """Boxes, labels, masks and keypoints of a scene."""
        labels = self.labels[index]
        numbers = (labels >= 0).nonzero()[:, 0]
        masks = self.owner[index] == numbers[:, None, None]
        points = extreme_points(masks)
        return Target(boxes=boxes_of_masks(masks), labels=labels[numbers], masks=masks, keypoints=points)


def extreme_points(masks: Tensor) -> Tensor:
    """The leftmost, topmost, rightmost and bottommost point of masks (K, H, W) bool, and their centroid: KEYPOINTS
    (K, 5, 3), visible. Maninis et al. 2018, arXiv 1711.09081; of several pixels that are equally far, their middle.
    """
    masks = masks.float()
    tall, wide = masks.shape[1:]
    y, x = torch.arange(tall) + 0.5, torch.arange(wide) + 0.5
    points = []
    for axis, first in ((2, True), (1, True), (2, False), (1, False)):  # left, top, right, bottom
        line = masks.amax(3 - axis)  # (K, W) of columns, or (K, H) of rows
        place = line.argmax(1) if first else line.shape[1] - 1 - line.flip(1).argmax(1)
        index = place[:, None, None].expand(-1, *((tall, 1) if axis == 2 else (1, wide)))
        cut = masks.gather(axis, index).flatten(1)  # the outermost column or row
        along = (cut * (y if axis == 2 else x)).sum(1) / cut.sum(1).clamp(min=1)
        edge = place + (0.0 if first else 1.0)
        points.append(torch.stack([edge, along] if axis == 2 else [along, edge], 1))
    area = masks.sum((1, 2)).clamp(min=1)
    points.append(torch.stack([(masks.sum(1) * x).sum(1) / area, (masks.sum(2) * y).sum(1) / area], 1))
    found = torch.stack(points, 1)
    return torch.cat([found, torch.full_like(found[..., :1], 2.0)], 2)


def _draw(count: int, side: int, generator: torch.Generator) -> tuple[Tensor, Tensor, Tensor]:
    """Images (N, 3, side, side) uint8, the object of each pixel (N, side, side) int8 or -1, and labels (N, MOST)
    int64, -1 where there is no object.
    """

    def uniform(*shape: int, low: float = 0.0, high: float = 1.0) -> Tensor:
        return low + (high - low) * torch.rand(count, *shape, generator=generator)

    middle = (torch.arange(side) + 0.5) / side
    y, x = middle[:, None], middle[None, :]  # a pixel's place in the image, from 0 to 1
    ground, other = uniform(2, 3).unbind(1)
    turn = uniform(1, 1, high=2 * math.pi)
    shade = ((x - 0.5) * turn.cos() + (y - 0.5) * turn.sin() + 0.5)[:, None] * 0.4
    canvas = torch.lerp(ground[..., None, None], other[..., None, None], shade.clamp(0, 1))
    owner = torch.full((count, side, side), -1, dtype=torch.int8)
    labels = torch.randint(len(SHAPES), (count, MOST), generator=generator)
    labels[torch.arange(MOST) >= torch.randint(1, MOST + 1, (count, 1), generator=generator)] = -1
    drawn = torch.zeros(count, MOST)
    for number in range(MOST):
        ink = distinct(uniform(3), ground)[..., None, None]
        _, cover = place_shapes(labels[:, number], side, RADIUS, uniform)
        canvas = torch.lerp(canvas, ink, cover[:, None])
        owner[cover >= 0.5] = number
        drawn[:, number] = (cover >= 0.5).sum((1, 2))
    seen = torch.stack([(owner == number).sum((1, 2)) for number in range(MOST)], 1)
    labels[seen < VISIBLE * drawn.clamp(min=1)] = -1
    noise = torch.randn(canvas.shape, generator=generator) * uniform(1, 1, 1, high=NOISE)
    return ((canvas + noise).clamp(0, 1) * 255).round().byte(), owner, labels
