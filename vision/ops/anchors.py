"""Anchors of a feature pyramid (Faster R-CNN, RPN) and default boxes of SSD, for maps of any strides."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor

Size = tuple[int, int]  # height, width


def cell_anchors(sides: Sequence[float], ratios: Sequence[float]) -> Tensor:
    """Anchors (R * S, 4) about the origin, of R ratios (height / width) and S sides; an anchor's area is side^2.

    Ren et al. 2015, arXiv 1506.01497, section 3.1.1. Corners are rounded to whole pixels, as in the published code
    and in torchvision, whose weights expect it.
    """
    side, ratio = torch.tensor(sides, dtype=torch.float32), torch.tensor(ratios, dtype=torch.float32)
    high = ratio.sqrt()
    widths, heights = ((factor[:, None] * side).flatten() for factor in (1 / high, high))
    return (torch.stack([-widths, -heights, widths, heights], 1) / 2).round()


def grid(size: Size, stride: tuple[float, float], device: torch.device | str = "cpu") -> Tensor:
    """Corners (H * W, 2), x and y in pixels, of the places of a map (H, W), row by row. stride: down, along."""
    down = torch.arange(size[0], device=device) * stride[0]
    along = torch.arange(size[1], device=device) * stride[1]
    return torch.stack([along.expand(len(down), -1), down[:, None].expand(-1, len(along))], 2).view(-1, 2).float()


def pyramid_anchors(
    maps: Sequence[Size],
    strides: Sequence[int],
    sides: Sequence[Sequence[float]],
    ratios: Sequence[float] = (0.5, 1.0, 2.0),
    device: torch.device | str = "cpu",
) -> list[Tensor]:
    """Anchors of every map (H, W), one tensor (H * W * A, 4) a level: those of a place follow each other.

    strides: pixels to a step in each map, a backbone's. sides: of each level's anchors, in pixels; ratios: height to
        width, of all.
    Raises ValueError where the levels do not agree in number.
    """
    if not len(maps) == len(strides) == len(sides):
        raise ValueError(f"{len(maps)} maps, {len(strides)} strides and {len(sides)} levels of sides do not agree")
    return at_places(maps, strides, [cell_anchors(side, ratios).to(device) for side in sides])


def at_places(maps: Sequence[Size], strides: Sequence[int], cells: Sequence[Tensor]) -> list[Tensor]:
    """Anchors (H * W * A, 4) of every map (H, W): at each place its level's of `cells`, (A, 4) about the origin."""
    found = []
    for size, stride, own in zip(maps, strides, cells, strict=True):
        corners = grid(size, (stride, stride), own.device)
        found.append((corners.repeat(1, 2)[:, None] + own).view(-1, 4))
    return found


def default_boxes(
    maps: Sequence[Size],
    strides: Sequence[float | tuple[float, float]],
    size: Size,
    scales: Sequence[float],
    ratios: Sequence[Sequence[float]],
    device: torch.device | str = "cpu",
    more: Tensor | None = None,
) -> Tensor:
    """SSD's default boxes (M, 4) in pixels: at each place two squares, and two boxes a ratio of its level.

    Liu et al. 2015, arXiv 1512.02325, section 2.2. The squares of level k have the sides s_k and sqrt(s_k s_k+1), the
    others s_k sqrt(r) by s_k / sqrt(r) and upright. None is larger than the image, beyond whose edges they may reach.

    strides: pixels to a step, or those down and along. size: of the image (height, width). scales: s_k, as parts of
        the image's sides, one more than levels. more: (A, 2) further widths and heights of the first level's boxes,
        behind its own, as such parts.
    Raises ValueError where the levels do not agree in number.
    """
    if not len(maps) == len(strides) == len(scales) - 1 == len(ratios):
        raise ValueError(
            f"{len(maps)} maps, {len(strides)} strides, {len(ratios)} levels of ratios and {len(scales)} scales do "
            "not agree: there is one scale more than levels"
        )
    found = []
    for level, (shape, stride) in enumerate(zip(maps, strides, strict=True)):
        scale = scales[level]
        shapes = [(scale, scale), (math.sqrt(scale * scales[level + 1]),) * 2]
        for ratio in ratios[level]:
            root = math.sqrt(ratio)
            shapes += [(scale * root, scale / root), (scale / root, scale * root)]
        own = torch.tensor(shapes, device=device)
        own = own if level or more is None else torch.cat([own, more])
        half = own.clamp(max=1) * torch.tensor([size[1], size[0]], device=device) / 2
        down, along = stride if isinstance(stride, tuple) else (stride, stride)
        centers = grid(shape, (down, along), device)[:, None] + torch.tensor([along, down], device=device) / 2
        found.append(torch.cat([centers - half, centers + half], 2).view(-1, 4))
    return torch.cat(found)
