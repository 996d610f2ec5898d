"""Masks of polygons and of COCO's run lengths, pixel for pixel as pycocotools draws them."""

from __future__ import annotations

from typing import Any, NamedTuple, Self

import numpy as np

UPSAMPLED = 5  # steps of a pixel in which a polygon's edges are drawn


class Segment(NamedTuple):
    """What an object's mask is made from: one of these."""

    polygons: tuple[np.ndarray, ...] = ()  # each (P, 2), x and y in pixels
    counts: np.ndarray | None = None  # of runs, down the columns, beginning outside
    size: tuple[int, int] | None = None  # (height, width) of the runs' image

    def scaled(self, wide: float, tall: float) -> Self:
        """Polygons, times factors along and down."""
        return self._replace(polygons=tuple(polygon * (wide, tall) for polygon in self.polygons))


def segment_of(given: Any) -> Segment | None:
    """COCO's "segmentation": polygons, or run lengths as numbers or as text; None where there is nothing.

    Raises ValueError for what is neither.
    """
    if not given:
        return None
    if isinstance(given, list):
        polygons = tuple(np.array(polygon, dtype=np.float64).reshape(-1, 2) for polygon in given)
        if any(len(polygon) < 3 for polygon in polygons):
            raise ValueError("a polygon has three corners or more")
        return Segment(polygons)
    if isinstance(given, dict) and "counts" in given and "size" in given:
        counts, size = given["counts"], tuple(int(side) for side in given["size"])
        runs = decode(counts) if isinstance(counts, str | bytes) else np.array(counts, dtype=np.int64)
        if len(size) != 2 or (runs < 0).any() or sum(runs.tolist()) != size[0] * size[1]:
            raise ValueError(f"runs of {sum(runs.tolist()):,} pixels are not a mask of {size}")
        return Segment(counts=runs, size=size)
    raise ValueError("a segmentation is a list of polygons, or run lengths with their size")


def mask_of(segment: Segment | None, box: tuple[float, ...], size: tuple[int, int]) -> np.ndarray:
    """The mask (H, W) bool of an object; its box's where there is no segment, or one of an image of another size."""
    if segment is not None and segment.counts is not None and segment.size == size:
        values = np.arange(len(segment.counts)) % 2 == 1
        return np.repeat(values, segment.counts).reshape(size[1], size[0]).T
    if segment is not None and segment.polygons:
        mask = np.zeros(size, dtype=bool)
        for polygon in segment.polygons:
            mask |= polygon_mask(polygon, size)
        return mask
    mask = np.zeros(size, dtype=bool)
    left, top, right, bottom = (round(value) for value in box)
    mask[top:bottom, left:right] = True
    return mask


def polygon_mask(polygon: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """The mask (H, W) of one polygon (P, 2): its edges, drawn five times as large, give the rows of each column at
    which inside and outside change.
    """
    tall, wide = size
    x, y = (UPSAMPLED * polygon + 0.5).astype(np.int64).T
    us, vs = [], []
    for x0, y0, x1, y1 in zip(x, y, np.roll(x, -1), np.roll(y, -1), strict=True):  # edges
        dx, dy = abs(x1 - x0), abs(y1 - y0)
        turned = (dx >= dy and x0 > x1) or (dx < dy and y0 > y1)
        if turned:
            x0, y0, x1, y1 = x1, y1, x0, y0
        along = np.arange(max(dx, dy) + 1)
        if dx >= dy:
            u, v = along + x0, (y0 + (y1 - y0) / max(dx, 1) * along + 0.5).astype(np.int64)
        else:
            u, v = (x0 + (x1 - x0) / dy * along + 0.5).astype(np.int64), along + y0
        us.append(u[::-1] if turned else u)
        vs.append(v[::-1] if turned else v)
    u, v = np.concatenate(us), np.concatenate(vs)
    step = np.flatnonzero(u[1:] != u[:-1])
    before, after = u[step], u[step + 1]
    column = (np.where(after < before, after, after - 1) + 0.5) / UPSAMPLED - 0.5
    row = (np.minimum(v[step], v[step + 1]) + 0.5) / UPSAMPLED - 0.5
    inside = (np.floor(column) == column) & (column >= 0) & (column <= wide - 1)
    row = np.ceil(row[inside].clip(0, tall)).astype(np.int64)
    changes = np.bincount(column[inside].astype(np.int64) * tall + row, minlength=wide * tall + 1)[: wide * tall]
    return (changes.cumsum() % 2 == 1).reshape(wide, tall).T


def decode(text: str | bytes) -> np.ndarray:
    """Run lengths (L,) int64 of COCO's text: five bits a character, the sixth says that more follow, differences from
    the last but one. Raises ValueError where it ends within a number.
    """
    data = text.encode() if isinstance(text, str) else text
    counts: list[int] = []
    value = shift = 0
    for byte in data:
        byte -= 48
        value |= (byte & 0x1F) << shift
        shift += 5
        if not byte & 0x20:
            if byte & 0x10:
                value -= 1 << shift
            counts.append(value + (counts[-2] if len(counts) > 2 else 0))
            value = shift = 0
    if shift:
        raise ValueError("run lengths end within a number")
    return np.array(counts, dtype=np.int64)


def runs_of(mask: np.ndarray) -> np.ndarray:
    """Run lengths (L,) int64 of a mask (H, W) bool, down the columns, beginning outside: the inverse of `mask_of`."""
    flat = np.concatenate([[False], mask.T.ravel()])
    places = np.flatnonzero(flat[1:] != flat[:-1])
    return np.diff(np.concatenate([[0], places, [mask.size]]))


def encode(counts: np.ndarray) -> str:
    """COCO's text of run lengths (L,): the inverse of `decode`."""
    text = []
    counts = counts.tolist()
    for number, count in enumerate(counts):
        value = count - counts[number - 2] if number > 2 else count
        while True:
            bits, value = value & 0x1F, value >> 5
            last = value == (-1 if bits & 0x10 else 0)
            text.append(chr(bits + (0 if last else 0x20) + 48))
            if last:
                break
    return "".join(text)
