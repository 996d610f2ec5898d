"""SIFT: key points of a scale space, and descriptors of the gradients around them, or on a grid (dense SIFT).

    points, descriptors = sift.detect(images)             # (K,) each field, (K, 128) float32
    points, descriptors = sift.dense(images, step=4, cell=4)

Lowe 2004, "Distinctive image features from scale-invariant key points", IJCV 60, section by section; dense SIFT as
Lazebnik et al. 2006, "Beyond bags of features". Coordinates are continuous, in pixels: a pixel's center is at 0.5.
Images are (B, C, H, W) uint8 of 1 or 3 channels, and all of them are calculated together. Other than the paper, a key
point whose refined place is more than a sample away is dropped instead of followed there.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn import functional as F

from vision.classification.features import gray

INTERVALS = 3  # scales an octave (section 3.2)
SIGMA = 1.6  # of the first scale of an octave, in its pixels (section 3.3)
CAMERA = 0.5  # blur that an image is taken to have
CONTRAST = 0.03  # of an extremum, at least, where white is 1 (section 4)
EDGE = 10.0  # ratio of principal curvatures, at most (section 4.1)
LEAST = 12  # pixels, side of the smallest octave
PEAK = 0.8  # of the highest bin, from which on an orientation makes a key point of its own (section 5)
CELLS, BINS, SAMPLES = 4, 8, 16  # of a descriptor: cells along a side, orientations, samples along a side (section 6)
LARGEST = 0.2  # of a normalized descriptor's numbers, before it is normalized again (section 6.1)
DIMENSIONS = CELLS * CELLS * BINS
CHUNK = 2_000  # key points described at a time
FLAT = 1e-3  # length of a descriptor before it is normalized, below which there is no gradient: it is zero


class KeyPoints(NamedTuple):
    """Key points of a batch of images, K of them."""

    image: Tensor  # (K,) int64, ascending within an octave
    x: Tensor  # (K,) pixels
    y: Tensor  # (K,)
    scale: Tensor  # (K,) sigma, pixels
    angle: Tensor  # (K,) radians from the x axis towards the y axis, which points down


def detect(images: Tensor, double: bool = True) -> tuple[KeyPoints, Tensor]:
    """Key points and their descriptors (K, 128): extrema of differences of Gaussians, with orientations.

    double: begin with the images at twice their size, which finds four times as many points (section 3.3).
    """
    light, pixel, shift = gray(images), 1.0, 0.0  # a place x of the octave is pixel * x + shift in the image
    blur_now = CAMERA
    if double:
        light = F.interpolate(light, scale_factor=2, mode="bilinear", align_corners=False)
        pixel, blur_now = 0.5, 2 * CAMERA
    base = blur(light, math.sqrt(max(SIGMA**2 - blur_now**2, 0.01)))
    points, descriptors = [], []
    while min(base.shape[2:]) >= LEAST:
        levels = [base]
        for number in range(1, INTERVALS + 3):
            before, after = (SIGMA * 2 ** (n / INTERVALS) for n in (number - 1, number))
            levels.append(blur(levels[-1], math.sqrt(after**2 - before**2)))
        space = torch.cat(levels, 1)  # (B, levels, H, W)
        image, level, x, y = refine(space.diff(dim=1))
        maps = gradients(space).flatten(0, 1)  # (B * levels, 2, H, W)
        sigma = SIGMA * 2 ** (level / INTERVALS)
        nearest = level.round().long().clamp(0, space.shape[1] - 1)
        index = image * space.shape[1] + nearest
        which, angle = orientations(maps, index, x, y, sigma)
        index, x, y, sigma = (field[which] for field in (index, x, y, sigma))
        points.append(KeyPoints(image[which], x * pixel + shift, y * pixel + shift, sigma * pixel, angle))
        descriptors.append(describe(maps, index, x, y, 3 * sigma, angle))
        base, pixel, shift = levels[INTERVALS][:, :, ::2, ::2], 2 * pixel, shift - 0.5 * pixel  # every other center
    if not points:
        none = torch.zeros(0, device=images.device)
        return KeyPoints(none.long(), none, none, none, none), none.view(0, DIMENSIONS)
    return KeyPoints(*(torch.cat(field) for field in zip(*points, strict=True))), torch.cat(descriptors)


def dense(images: Tensor, step: int = 4, cell: float = 4.0) -> tuple[KeyPoints, Tensor]:
    """Descriptors (B * places, 128) on a grid of `step` pixels, upright, with cells of `cell` pixels; those without a
    gradient are zero. Images are blurred by a sixth of a cell first.

    Raises ValueError where an image is smaller than a descriptor.
    """
    light, reach = gray(images), CELLS * cell / 2
    tall, wide = light.shape[2:]
    if min(tall, wide) < 2 * reach:
        raise ValueError(f"images of {tall} x {wide} are smaller than a descriptor of {CELLS} x {cell:g} pixels")
    maps = gradients(blur(light, max(cell / 6, 0.1))).flatten(0, 1)
    ys, xs = (torch.arange(reach, side - reach + 1e-6, step, device=images.device) for side in (tall, wide))
    y, x = (each.flatten().repeat(len(images)) for each in torch.meshgrid(ys, xs, indexing="ij"))
    image = torch.arange(len(images), device=images.device).repeat_interleave(len(ys) * len(xs))
    angle = torch.zeros_like(x)
    found = describe(maps, image, x, y, torch.full_like(x, cell), angle)
    return KeyPoints(image, x, y, torch.full_like(x, cell / 3), angle), found


def blur(x: Tensor, sigma: float) -> Tensor:
    """Gaussian blur of maps (B, C, H, W), whose edges go on beyond them."""
    reach = max(1, math.ceil(4 * sigma))
    line = torch.arange(-reach, reach + 1, device=x.device, dtype=x.dtype)
    kernel = (-line.square() / (2 * sigma**2)).exp()
    kernel = (kernel / kernel.sum()).expand(x.shape[1], 1, 1, -1)
    x = F.conv2d(F.pad(x, (reach, reach, 0, 0), mode="replicate"), kernel, groups=x.shape[1])
    return F.conv2d(F.pad(x, (0, 0, reach, reach), mode="replicate"), kernel.mT, groups=x.shape[1])


def gradients(x: Tensor) -> Tensor:
    """Central differences (B, C, 2, H, W) of maps (B, C, H, W), along x and along y; 0 at the edges."""
    across = F.pad((x[..., 2:] - x[..., :-2]) / 2, (1, 1))
    down = F.pad((x[..., 2:, :] - x[..., :-2, :]) / 2, (0, 0, 1, 1))
    return torch.stack([across, down], 2)


def refine(differences: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Extrema of differences of Gaussians (B, D, H, W): the image (K,) int64, and the refined level, x and y (K,).

    An extremum is above or below its 26 neighbors. A quadratic fitted to them gives its place and its value; flat
    ones and those on edges are dropped (section 4).
    """
    padded = differences[:, None]
    high = F.max_pool3d(padded, 3, 1, 1)[:, 0]
    low = -F.max_pool3d(-padded, 3, 1, 1)[:, 0]
    strong = differences.abs() > 0.5 * CONTRAST
    found = strong & ((differences == high) | (differences == low))
    inner = torch.zeros_like(found)
    inner[:, 1:-1, 1:-1, 1:-1] = True
    image, level, y, x = (found & inner).nonzero().unbind(1)

    def at(dl: int, dy: int, dx: int) -> Tensor:
        return differences[image, level + dl, y + dy, x + dx]

    steps = ((1, 0, 0), (0, 1, 0), (0, 0, 1))
    middle = at(0, 0, 0)
    slope = torch.stack([(at(*step) - at(*(-n for n in step))) / 2 for step in steps], 1)  # (K, 3)
    curve = middle.new_zeros(len(middle), 3, 3)
    for i, one in enumerate(steps):
        curve[:, i, i] = at(*one) + at(*(-n for n in one)) - 2 * middle
        for j, other in enumerate(steps[:i]):
            plus, minus = ([a + sign * b for a, b in zip(one, other, strict=True)] for sign in (1, -1))
            mixed = at(*plus) + at(*(-n for n in plus)) - at(*minus) - at(*(-n for n in minus))
            curve[:, i, j] = curve[:, j, i] = mixed / 4
    solvable = torch.linalg.det(curve).abs() > 1e-12
    safe = torch.where(solvable[:, None, None], curve, torch.eye(3, device=curve.device))
    offset = -torch.linalg.solve(safe, slope)
    value = middle + 0.5 * (slope * offset).sum(1)
    trace = curve[:, 1, 1] + curve[:, 2, 2]
    det = curve[:, 1, 1] * curve[:, 2, 2] - curve[:, 1, 2].square()
    round_enough = (det > 0) & (trace.square() * EDGE < (EDGE + 1) ** 2 * det)
    kept = solvable & round_enough & (offset.abs() <= 1).all(1) & (value.abs() > CONTRAST)
    place = torch.stack([level, y, x], 1)[kept] + offset[kept]
    return image[kept], place[:, 0], place[:, 2] + 0.5, place[:, 1] + 0.5


def orientations(maps: Tensor, index: Tensor, x: Tensor, y: Tensor, sigma: Tensor) -> tuple[Tensor, Tensor]:
    """Dominant directions of the gradients (M, 2, H, W) around points in the maps `index`: which point each is of
    (K',) int64, and the angle (K',), from histograms of 36 bins; one from each peak near the highest's height."""
    bins = 36
    line = (torch.arange(SAMPLES, device=x.device) + 0.5) / SAMPLES * 2 - 1
    away = torch.stack(torch.meshgrid(line, line, indexing="xy"), 2).view(1, -1, 2) * 4.5 * sigma.view(-1, 1, 1)
    found = bilinear(maps, index, torch.stack([x, y], 1)[:, None] + away)
    weight = found.norm(dim=2) * (-away.square().sum(2) / (2 * (1.5 * sigma[:, None]) ** 2)).exp()
    bin_of = torch.atan2(found[..., 1], found[..., 0]).remainder(2 * math.pi) * (bins / (2 * math.pi))
    lower = bin_of.floor()
    share = bin_of - lower
    votes = x.new_zeros(len(x), bins)
    votes.scatter_add_(1, lower.long() % bins, weight * (1 - share))
    votes.scatter_add_(1, (lower.long() + 1) % bins, weight * share)
    for _ in range(2):
        votes = (votes.roll(1, 1) + votes + votes.roll(-1, 1)) / 3
    before, after = votes.roll(1, 1), votes.roll(-1, 1)
    peaks = (votes > before) & (votes >= after) & (votes >= PEAK * votes.amax(1, keepdim=True))
    which, place = peaks.nonzero().unbind(1)
    left, middle, right = (each[which, place] for each in (before, votes, after))
    shift = 0.5 * (left - right) / (left - 2 * middle + right).clamp(max=-1e-12)
    return which, ((place + shift) * (2 * math.pi / bins)).remainder(2 * math.pi)


def describe(maps: Tensor, index: Tensor, x: Tensor, y: Tensor, cell: Tensor, angle: Tensor) -> Tensor:
    """Descriptors (K, 128) of gradients (M, 2, H, W) around points in the maps `index`, with cells of `cell` pixels,
    turned by `angle`: 4 x 4 histograms of 8 directions, rows before columns before directions."""
    found = [
        _describe(maps, *(field[rows] for field in (index, x, y, cell, angle)))
        for rows in torch.arange(len(x), device=x.device).split(CHUNK)
    ]
    return torch.cat(found) if found else x.new_zeros(0, DIMENSIONS)


def _describe(maps: Tensor, index: Tensor, x: Tensor, y: Tensor, cell: Tensor, angle: Tensor) -> Tensor:
    line = ((torch.arange(SAMPLES, device=x.device) + 0.5) / SAMPLES - 0.5) * CELLS  # in cells, from the center
    upright = torch.stack(torch.meshgrid(line, line, indexing="xy"), 2).view(-1, 2)  # (S, 2)
    cos, sin = angle.cos()[:, None], angle.sin()[:, None]
    across, down = upright.unbind(1)
    away = torch.stack([cos * across - sin * down, sin * across + cos * down], 2) * cell[:, None, None]
    found = bilinear(maps, index, torch.stack([x, y], 1)[:, None] + away)
    weight = found.norm(dim=2) * (-upright.square().sum(1) / (2 * (CELLS / 2) ** 2)).exp()
    turned = (torch.atan2(found[..., 1], found[..., 0]) - angle[:, None]).remainder(2 * math.pi)
    centers = torch.arange(CELLS, device=x.device) - (CELLS - 1) / 2
    columns, rows = ((1 - (each[:, None] - centers).abs()).clamp(min=0) for each in (across, down))  # (S, 4)
    far = (turned[..., None] * (BINS / (2 * math.pi)) - torch.arange(BINS, device=x.device)).abs()
    directions = (1 - torch.minimum(far, BINS - far)).clamp(min=0) * weight[..., None]  # (K, S, 8)
    places = (rows[:, :, None] * columns[:, None, :]).flatten(1)  # (S, 16)
    votes = (places.T @ directions).flatten(1)  # (K, 128)
    length = votes.norm(dim=1, keepdim=True)
    votes = F.normalize(F.normalize(votes, dim=1).clamp(max=LARGEST), dim=1)
    return torch.where(length > FLAT, votes, 0.0)


def bilinear(maps: Tensor, index: Tensor, places: Tensor) -> Tensor:
    """Values (K, S, C) of maps (M, C, H, W) at places (K, S, 2), x and y in pixels, each K in its map; 0 outside."""
    count, channels, tall, wide = maps.shape
    x, y = (places - 0.5).unbind(2)
    left, top = x.floor(), y.floor()
    flat = maps.permute(0, 2, 3, 1).reshape(-1, channels)
    total = places.new_zeros(*places.shape[:2], channels)
    for down in (0, 1):
        for across in (0, 1):
            column, row = left + across, top + down
            share = (1 - (x - column).abs()) * (1 - (y - row).abs())
            inside = (column >= 0) & (column < wide) & (row >= 0) & (row < tall)
            where = (index[:, None] * tall + row.clamp(0, tall - 1).long()) * wide + column.clamp(0, wide - 1).long()
            total = total + flat[where] * (share * inside)[..., None]
    return total
