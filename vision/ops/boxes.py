"""Boxes (left, top, right, bottom): area, IoU, generalized IoU, clipping, and offsets from anchors."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor

LARGEST_STEP = math.log(1000 / 16)  # of a logarithm of a side's ratio: larger ones would overflow (Detectron's limit)


def area(boxes: Tensor) -> Tensor:
    """Areas (..., N) of boxes (..., N, 4), in square pixels."""
    return (boxes[..., 2] - boxes[..., 0]) * (boxes[..., 3] - boxes[..., 1])


def intersection(one: Tensor, other: Tensor) -> Tensor:
    """Areas (..., N, M) that boxes (..., N, 4) share with boxes (..., M, 4)."""
    one, other = (
        each.transpose(-1, -2).contiguous() for each in (one, other)
    )  # numbers of one kind beside each other: vectorized
    sides = []
    for axis in (0, 1):
        high = torch.minimum(one[..., axis + 2, :, None], other[..., axis + 2, None, :])
        sides.append((high - torch.maximum(one[..., axis, :, None], other[..., axis, None, :])).clamp_(min=0))
    return sides[0] * sides[1]


def iou(one: Tensor, other: Tensor) -> Tensor:
    """Intersection over union (..., N, M) of boxes (..., N, 4) and (..., M, 4), the Jaccard index.

    0 between two boxes without area.
    """
    shared = intersection(one, other)
    union = area(one)[..., :, None] + area(other)[..., None, :] - shared
    return shared / torch.where(union > 0, union, 1)


def giou(one: Tensor, other: Tensor) -> Tensor:
    """Generalized IoU (..., N, M), from -1 to 1 (Rezatofighi et al. 2019, arXiv 1902.09630, algorithm 1).

    IoU less the part of the smallest box around both that neither covers, so that boxes apart have a gradient too.
    """
    shared = intersection(one, other)
    union = area(one)[..., :, None] + area(other)[..., None, :] - shared
    low = torch.minimum(one[..., :, None, :2], other[..., None, :, :2])
    high = torch.maximum(one[..., :, None, 2:], other[..., None, :, 2:])
    hull = (high - low).prod(-1)
    return shared / torch.where(union > 0, union, 1) - (hull - union) / torch.where(hull > 0, hull, 1)


def paired_giou(one: Tensor, other: Tensor) -> Tensor:
    """Generalized IoU (N,) of the boxes of two lists (N, 4) pair by pair: 1 less it is a loss."""
    return giou(one[:, None], other[:, None])[:, 0, 0]


def clip(boxes: Tensor, size: tuple[int, int]) -> Tensor:
    """Boxes (..., 4), cut at the edges of an image of `size` (height, width)."""
    x, y = boxes[..., 0::2].clamp(0, size[1]), boxes[..., 1::2].clamp(0, size[0])
    return torch.stack([x[..., 0], y[..., 0], x[..., 1], y[..., 1]], -1)


def to_center(boxes: Tensor) -> Tensor:
    """Boxes (..., 4) as (center x, center y, width, height)."""
    low, high = boxes[..., :2], boxes[..., 2:]
    return torch.cat([(low + high) / 2, high - low], -1)


def from_center(boxes: Tensor) -> Tensor:
    """Boxes (..., 4) as corners from (center x, center y, width, height): the inverse of to_center."""
    center, size = boxes[..., :2], boxes[..., 2:]
    return torch.cat([center - size / 2, center + size / 2], -1)


def encode(boxes: Tensor, anchors: Tensor, weights: Sequence[float] = (1.0, 1.0, 1.0, 1.0)) -> Tensor:
    """Offsets (..., 4) of boxes from anchors (..., 4): ((x - x_a) / w_a, (y - y_a) / h_a, ln w / w_a, ln h / h_a).

    Girshick et al. 2013, arXiv 1311.2524, equations 6 to 9 of appendix C, times weights, which make their deviations
    alike: Fast R-CNN's (10, 10, 5, 5) are the inverse of Caffe's 0.1, 0.1, 0.2, 0.2. Boxes without a width or a
    height have no finite offsets.
    """
    box, anchor = to_center(boxes), to_center(anchors)
    shift = (box[..., :2] - anchor[..., :2]) / anchor[..., 2:]
    return torch.cat([shift, (box[..., 2:] / anchor[..., 2:]).log()], -1) * box.new_tensor(weights)


def decode(offsets: Tensor, anchors: Tensor, weights: Sequence[float] = (1.0, 1.0, 1.0, 1.0)) -> Tensor:
    """Boxes (..., 4) of offsets from anchors, the inverse of encode; no side grows more than 62.5-fold."""
    offsets, anchor = offsets / offsets.new_tensor(weights), to_center(anchors)
    center = anchor[..., :2] + offsets[..., :2] * anchor[..., 2:]
    return from_center(torch.cat([center, anchor[..., 2:] * offsets[..., 2:].clamp(max=LARGEST_STEP).exp()], -1))
