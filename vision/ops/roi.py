"""RoIPool and RoIAlign: features of regions of one size, whatever the region's, by weighted sums of rows of features.

A map lies in memory as a row of C features a place, and a bin of a region is a bag of places: their weighted sum is
RoIAlign, their maximum RoIPool. Both are torch's embedding_bag: parallel, differentiable, on every device. Boxes get
no gradients, as in the papers.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor
from torch.nn import functional as F

from vision.ops import onnx_ops

FINEST, CANONICAL = 4, 224  # the pyramid's level k of regions of side 224 (Lin et al. 2016, equation 1)


def roi_align(
    maps: Tensor,
    boxes: Tensor,
    image: Tensor,
    size: tuple[int, int],
    scale: float = 1.0,
    samples: int = 2,
    aligned: bool = False,
) -> Tensor:
    """RoIAlign: (K, C, h, w), the mean of bilinear samples of each bin (He et al. 2017, arXiv 1703.06870, section 3).

    maps: (B, C, H, W). boxes: (K, 4) in pixels of the image. image: (K,) int64, the map that each box is of.
    scale: steps of the map to a pixel, 1 / stride. samples: a side of a bin; 0: as many as a bin has steps, rounded
        up. aligned: coordinates less half a step, so that a place's value stands at its middle; without, as in the
        paper's code, and torchvision's detectors, a region is at least one step wide and high.
    """
    if torch.onnx.is_in_onnx_export():
        return onnx_ops.Align.apply(maps, boxes, image, size, scale, samples, aligned, _roi_align)
    return _roi_align(maps, boxes, image, size, scale, samples, aligned)


def _roi_align(
    maps: Tensor, boxes: Tensor, image: Tensor, size: tuple[int, int], scale: float, samples: int, aligned: bool
) -> Tensor:
    places, weights, offsets = _bilinear(maps.shape, boxes.detach(), image, size, scale, samples, aligned)
    rows = maps.permute(0, 2, 3, 1).reshape(-1, maps.shape[1])
    found = F.embedding_bag(places, rows, offsets, mode="sum", per_sample_weights=weights.to(rows.dtype))
    return found.view(len(boxes), *size, maps.shape[1]).permute(0, 3, 1, 2)


def roi_pool(maps: Tensor, boxes: Tensor, image: Tensor, size: tuple[int, int], scale: float = 1.0) -> Tensor:
    """RoIPool: (K, C, h, w), the maximum of each bin (Girshick 2015, arXiv 1504.08083, section 2.1).

    As roi_align, with the region and its bins rounded to whole places: bins overlap where they are less than whole,
    and one outside of the map is 0.
    """
    count, device = len(boxes), boxes.device
    corners = _round(boxes.detach().float() * scale).long()
    ends = []
    for axis in (1, 0):  # rows, then columns
        begin = corners[:, axis, None]
        length = (corners[:, axis + 2, None] - begin + 1).clamp(min=1)
        step = length.float() / size[1 - axis]
        place = torch.arange(size[1 - axis], device=device)
        side = maps.shape[3 - axis]
        low = ((place * step).floor().long() + begin).clamp(0, side)
        high = (((place + 1) * step).ceil().long() + begin).clamp(0, side)
        ends.append((low, (high - low).clamp(min=0)))
    (top, tall), (left, wide) = ends
    shape = (count, *size)
    top, tall = (value[:, :, None].expand(shape).reshape(-1) for value in (top, tall))
    left, wide = (value[:, None].expand(shape).reshape(-1) for value in (left, wide))
    area = tall * wide
    bins = torch.arange(len(area), device=device).repeat_interleave(area)
    offsets = area.cumsum(0) - area
    inside = torch.arange(len(bins), device=device) - offsets[bins]
    row, column = top[bins] + inside // wide[bins], left[bins] + inside % wide[bins]
    places = (image.repeat_interleave(size[0] * size[1])[bins] * maps.shape[2] + row) * maps.shape[3] + column
    rows = maps.permute(0, 2, 3, 1).reshape(-1, maps.shape[1])
    found = F.embedding_bag(places, rows, offsets, mode="max")
    return found.view(count, *size, maps.shape[1]).permute(0, 3, 1, 2)


def average_pool(maps: Tensor, side: int) -> Tensor:
    """The mean of each of side x side bins of maps (B, C, H, W): (B, C, side, side).

    As torch's adaptive_avg_pool2d, as two products with constant matrices, which ONNX has for every size.
    """
    matrices = []
    for length in (int(each) for each in maps.shape[-2:]):
        place = torch.arange(length, device=maps.device)
        number = torch.arange(side, device=maps.device)[:, None]
        inside = (place >= number * length // side) & (place < -(-(number + 1) * length // side))
        matrices.append(inside.to(maps.dtype) / inside.sum(1, keepdim=True))
    return matrices[0] @ maps @ matrices[1].T


def pyramid_levels(boxes: Tensor, strides: Sequence[int]) -> Tensor:
    """The level (K,) of a pyramid that each box is pooled from: k = floor(4 + log2(sqrt(area) / 224)), an index.

    Lin et al. 2016, arXiv 1612.03144, equation 1, where level k has a stride of 2^k; cut at the levels there are.
    """
    side = ((boxes[:, 2] - boxes[:, 0]) * (boxes[:, 3] - boxes[:, 1])).clamp(min=0).sqrt()
    level = (FINEST + torch.log2(side / CANONICAL) + 1e-6).floor()  # 1e-6: a side of 224 is of level 4
    first, last = (math.log2(stride) for stride in (strides[0], strides[-1]))
    return (level.clamp(first, last) - first).round().clamp(0, len(strides) - 1).long()


def pyramid_align(
    maps: Sequence[Tensor],
    strides: Sequence[int],
    boxes: Tensor,
    image: Tensor,
    size: tuple[int, int],
    samples: int = 2,
) -> Tensor:
    """RoIAlign of boxes (K, 4), each from the level of a pyramid that fits its size: (K, C, h, w)."""
    level = pyramid_levels(boxes, strides)
    rows = [(level == index).nonzero()[:, 0] for index in range(len(maps))]
    pooled = [
        roi_align(features, boxes[own], image[own], size, 1 / stride, samples)
        for features, stride, own in zip(maps, strides, rows, strict=True)
    ]
    return torch.cat(pooled)[torch.cat(rows).argsort()]


def _bilinear(
    shape: Sequence[int],
    boxes: Tensor,
    image: Tensor,
    size: tuple[int, int],
    scale: float,
    samples: int,
    aligned: bool,
) -> tuple[Tensor, Tensor, Tensor]:
    """For each bin of each box its places in the flattened maps, their weights, and where the bins begin."""
    count, device = len(boxes), boxes.device
    boxes = boxes if boxes.dtype == torch.float64 else boxes.float()
    corners = boxes * scale - (0.5 if aligned else 0.0)
    lines = []
    for axis in (1, 0):  # rows, then columns
        begin, length = corners[:, axis], corners[:, axis + 2] - corners[:, axis]
        length = length if aligned else length.clamp(min=1)
        step = length / size[1 - axis]  # of bins, in steps of the map
        number = torch.full_like(step, samples) if samples else step.ceil().clamp(min=1)
        most = samples or (int(number.max()) if count else 1)
        part = torch.arange(most, device=device)
        offset = (part + 0.5) / number[:, None]  # (K, S), in bins
        place = torch.arange(size[1 - axis], device=device)[:, None] + offset[:, None]  # (K, h, S)
        place = begin[:, None, None] + place * step[:, None, None]
        weight = (part < number[:, None])[:, None] / number[:, None, None]
        lines.append(_ends(place, weight.expand_as(place), shape[3 - axis]))
    (row, down), (column, along) = lines  # (K, h, 2 S) and (K, w, 2 S)
    base = image[:, None, None] * shape[2]
    places = (base + row)[:, :, None, :, None] * shape[3] + column[:, None, :, None, :]
    weights = down[:, :, None, :, None] * along[:, None, :, None, :]
    per_bin = row.shape[2] * column.shape[2]
    offsets = torch.arange(count * size[0] * size[1], device=device) * per_bin
    return places.reshape(-1), weights.reshape(-1), offsets


def _ends(place: Tensor, weight: Tensor, side: int) -> tuple[Tensor, Tensor]:
    """The two whole places (..., 2 S) beside each sample (..., S) and their weights: 0 more than a step outside."""
    weight = torch.where((place >= -1) & (place <= side), weight, 0)
    place = place.clamp(0, side - 1)
    low = place.floor().clamp(max=max(side - 2, 0))
    part = place - low
    high = (low + 1).clamp(max=side - 1)
    return torch.cat([low, high], -1).long(), torch.cat([(1 - part) * weight, part * weight], -1)


def _round(values: Tensor) -> Tensor:
    """Rounded half away from zero, as in C."""
    return values.sign() * (values.abs() + 0.5).floor()
