"""Dimension clusters: k-means of the shapes of training boxes, to be anchors, default boxes or windows.

Redmon & Farhadi 2016, "YOLO9000: better, faster, stronger", arXiv 1612.08242, section 2.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from vision.data.samples import Sample
from vision.detection.detector import Size

CLUSTER_STEPS = 50  # of k-means, at most


def shape_overlap(one: Tensor, other: Tensor) -> Tensor:
    """IoU (N, M) of widths and heights (N, 2) and (M, 2), as if boxes had one center."""
    shared = torch.minimum(one[:, None], other[None]).prod(2)
    return shared / (one.prod(1)[:, None] + other.prod(1)[None] - shared).clamp(min=1e-12)


def shapes_of(samples: Sequence[Sample], resized: Callable[[Size], Size] = lambda size: (1, 1)) -> Tensor:
    """Widths and heights (N, 2) of boxes, in parts of their images, or in pixels of what their sizes are resized to.

    Raises ValueError where there are no boxes.
    """
    found = []
    for index in range(len(samples)):
        target = samples.target(index)
        tall, wide = (
            samples.annotations[index].size if hasattr(samples, "annotations") else samples[index].image.shape[1:]
        )
        down, along = resized((tall, wide))
        found.append((target.boxes[:, 2:] - target.boxes[:, :2]) * torch.tensor([along / wide, down / tall]))
    sizes = torch.cat(found)
    if not len(sizes):
        raise ValueError("the training images have no objects")
    return sizes


def cluster(sizes: Tensor, count: int) -> Tensor:
    """Dimension clusters (count, 2) of widths and heights (N, 2): k-means with the distance 1 - IoU."""
    different = sizes.unique(dim=0)  # a shape that most boxes have would begin several clusters, and keep them
    order = different.prod(1).argsort()
    middles = different[order[torch.linspace(0, len(order) - 1, count).long()]].clone()
    for _ in range(CLUSTER_STEPS):
        nearest = shape_overlap(sizes, middles).argmax(1)
        moved = torch.stack(
            [sizes[nearest == k].median(0).values if (nearest == k).any() else middles[k] for k in range(count)]
        )
        if torch.equal(moved, middles):
            break
        middles = moved
    return middles
