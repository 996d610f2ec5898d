"""Selective search: boxes of likely objects, from a segmentation whose most similar neighbors are merged, again and
again.

Uijlings et al. 2013, "Selective search for object recognition", IJCV 104; the segmentation is that of Felzenszwalb &
Huttenlocher 2004, "Efficient graph-based image segmentation", IJCV 59. In NumPy: the loop over edges of pixels is
Python's, a tenth of a second for 128 x 128 pixels.

    boxes = selective_search(image)                        # (N, 4), the largest groups first
    boxes = selective_search(image, FAST)                  # eight strategies: more boxes, more of which fit

Deviations: a single strategy has k = 50, not 100, because images are smaller here; of color spaces there are HSV and
Lab; boxes come in the order of the hierarchy, without the paper's random ranks, which matter only where some are left
out.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import torch
from scipy import ndimage
from torch import Tensor

SIGMA = 0.8  # pixels: smoothing before the segmentation
COLOR_BINS, TEXTURE_BINS, ORIENTATIONS = 25, 10, 8  # sections 3.2: 75 and 240 numbers of three channels
NARROWEST = 4  # pixels, side of a box
REMEMBERED = 100_000  # images whose boxes are kept
BORDERS = ((0, 1), (1, 0), (1, 1), (1, -1))  # half of a pixel's eight neighbors: down, along


class Strategy(NamedTuple):
    """One way to group: color space, granularity of the segmentation, and what similarity is made of."""

    space: str = "hsv"  # or lab
    k: float = 50.0  # of the segmentation: larger, fewer regions; also the least size of one, in pixels
    parts: str = "CTSF"  # color, texture, size, fill


SINGLE = (Strategy(),)
FAST = tuple(
    Strategy(space, k, parts) for space in ("hsv", "lab") for k in (50.0, 100.0) for parts in ("CTSF", "TSF")
)


def segment(image: np.ndarray, k: float, smallest: int) -> np.ndarray:
    """Regions (H, W) int64, numbered from 0, of an image (H, W, C) whose values span 255.

    Two regions are merged along an edge that is no heavier than either's heaviest inner edge plus k / its size
    (Felzenszwalb & Huttenlocher, algorithm 1); regions below `smallest` pixels then join their nearest neighbor.
    """
    tall, wide = image.shape[:2]
    smooth = ndimage.gaussian_filter(image.astype(np.float32), (SIGMA, SIGMA, 0))
    number = np.arange(tall * wide).reshape(tall, wide)
    ones, others, weights = [], [], []
    for down, along in BORDERS:
        a = (slice(0, tall - down), slice(max(0, -along), wide - max(0, along)))
        b = (slice(down, tall), slice(max(0, along), wide - max(0, -along)))
        ones.append(number[a].ravel())
        others.append(number[b].ravel())
        weights.append(np.sqrt(np.square(smooth[a] - smooth[b]).sum(2)).ravel())
    columns = [np.concatenate(each) for each in (ones, others, weights)]
    order = np.argsort(columns[2], kind="stable")
    edges = list(zip(*(column[order].tolist() for column in columns), strict=True))
    parent, size, limit = list(range(tall * wide)), [1] * (tall * wide), [float(k)] * (tall * wide)

    def root(place: int) -> int:
        while parent[place] != place:
            parent[place] = parent[parent[place]]
            place = parent[place]
        return place

    for a, b, weight in edges:
        a, b = root(a), root(b)
        if a != b and weight <= limit[a] and weight <= limit[b]:
            parent[b] = a
            size[a] += size[b]
            limit[a] = weight + k / size[a]
    for a, b, _ in edges:
        a, b = root(a), root(b)
        if a != b and min(size[a], size[b]) < smallest:
            parent[b] = a
            size[a] += size[b]
    roots = np.array([root(place) for place in range(tall * wide)])
    return np.unique(roots, return_inverse=True)[1].reshape(tall, wide)


def color_space(image: np.ndarray, name: str) -> np.ndarray:
    """An RGB image (H, W, 3) uint8 in another space, its channels from 0 to 255: hsv, or lab.

    Raises ValueError for another name.
    """
    part = image.astype(np.float64) / 255
    if name == "hsv":
        from matplotlib.colors import rgb_to_hsv

        return rgb_to_hsv(part) * 255
    if name != "lab":
        raise ValueError(f"unknown color space {name!r}: there are hsv and lab")
    linear = np.where(part > 0.04045, ((part + 0.055) / 1.055) ** 2.4, part / 12.92)  # sRGB, IEC 61966-2-1
    to_xyz = [[0.4124564, 0.3575761, 0.1804375], [0.2126729, 0.7151522, 0.0721750], [0.0193339, 0.1191920, 0.9503041]]
    xyz = linear @ np.array(to_xyz).T / np.array([0.95047, 1.0, 1.08883])  # white of D65
    f = np.where(xyz > 0.008856, np.cbrt(xyz), 7.787 * xyz + 16 / 116)
    lab = np.stack([116 * f[..., 1] - 16, 500 * (f[..., 0] - f[..., 1]), 200 * (f[..., 1] - f[..., 2])], 2)
    return np.clip(lab * [2.55, 1, 1] + [0, 128, 128], 0, 255)


def histograms(values: np.ndarray, regions: np.ndarray, bins: int, span: tuple[float, float]) -> np.ndarray:
    """Histograms (R, C * bins) of the channels of values (H, W, C) in each region (H, W), each row of sum 1."""
    count, channels = int(regions.max()) + 1, values.shape[2]
    place = np.clip((values - span[0]) / (span[1] - span[0]) * bins, 0, bins - 1).astype(np.int64)
    place += (regions[..., None] * channels + np.arange(channels)) * bins
    found = np.bincount(place.ravel(), minlength=count * channels * bins).reshape(count, -1).astype(np.float64)
    return found / found.sum(1, keepdims=True)


def gradients(image: np.ndarray) -> np.ndarray:
    """Gaussian derivatives (H, W, 8 C) of sigma 1 in eight directions of an image (H, W, C), positive parts."""
    image = image.astype(np.float64)
    down, along = (ndimage.gaussian_filter(image, (1, 1, 0), order) for order in ((1, 0, 0), (0, 1, 0)))
    turns = np.arange(ORIENTATIONS) * 2 * np.pi / ORIENTATIONS
    return np.concatenate([np.maximum(np.cos(turn) * along + np.sin(turn) * down, 0) for turn in turns], 2)


class _Grouping:
    """Regions of an image and their groups: features and boxes, with room for a group of every merge."""

    def __init__(self, regions: np.ndarray, color: np.ndarray, texture: np.ndarray, parts: str) -> None:
        self.parts, self.pixels, count = parts, regions.size, len(color)
        self.color, self.texture = (np.concatenate([each, np.zeros_like(each)]) for each in (color, texture))
        self.size = np.zeros(2 * count)
        self.size[:count] = np.bincount(regions.ravel(), minlength=count)
        self.boxes = np.zeros((2 * count, 4))
        for row, (down, along) in enumerate(ndimage.find_objects(regions + 1)):
            self.boxes[row] = along.start, down.start, along.stop, down.stop

    def similarity(self, one: int, others: np.ndarray) -> np.ndarray:
        """(N,) of a group and others (N,): section 3.2, equations 1 to 6."""
        found = np.zeros(len(others))
        if "C" in self.parts:
            found += np.minimum(self.color[one], self.color[others]).sum(1)
        if "T" in self.parts:
            found += np.minimum(self.texture[one], self.texture[others]).sum(1)
        if "S" in self.parts:
            found += 1 - (self.size[one] + self.size[others]) / self.pixels
        if "F" in self.parts:
            low = np.minimum(self.boxes[one, :2], self.boxes[others, :2])
            high = np.maximum(self.boxes[one, 2:], self.boxes[others, 2:])
            found += 1 - ((high - low).prod(1) - self.size[one] - self.size[others]) / self.pixels
        return found

    def merge(self, a: int, b: int, new: int) -> None:
        """The group of two, in a row of its own: features are means by size."""
        total = self.size[a] + self.size[b]
        for feature in (self.color, self.texture):
            feature[new] = (self.size[a] * feature[a] + self.size[b] * feature[b]) / total
        self.size[new] = total
        self.boxes[new, :2] = np.minimum(self.boxes[a, :2], self.boxes[b, :2])
        self.boxes[new, 2:] = np.maximum(self.boxes[a, 2:], self.boxes[b, 2:])


def group(regions: np.ndarray, color: np.ndarray, texture: np.ndarray, parts: str = "CTSF") -> np.ndarray:
    """Boxes (2 R - 1, 4) of regions (H, W) and of all groups of a hierarchical grouping, the last first: the two most
    similar neighbors become one until one is left (Uijlings et al., algorithm 1).

    color, texture: histograms (R, D) of the regions.
    """
    groups, count = _Grouping(regions, color, texture, parts), len(color)
    score = np.full((2 * count, 2 * count), -np.inf)  # above the diagonal: the later one is the column
    for a, b in ((regions[:, :-1], regions[:, 1:]), (regions[:-1], regions[1:])):
        pairs = np.unique(np.stack([np.minimum(a, b)[a != b], np.maximum(a, b)[a != b]], 1), axis=0)
        for one in np.unique(pairs[:, 0]):
            others = pairs[pairs[:, 0] == one, 1]
            score[one, others] = groups.similarity(one, others)
    made = count
    while made < 2 * count - 1:
        a, b = divmod(int(score[:made, :made].argmax()), made)
        if not np.isfinite(score[a, b]):
            break
        groups.merge(a, b, made)
        near = np.isfinite(score[[a, b]]).any(0) | np.isfinite(score[:, [a, b]]).any(1)
        score[[a, b]] = score[:, [a, b]] = -np.inf
        near[[a, b]] = False
        others = near.nonzero()[0]
        score[others, made] = groups.similarity(made, others)
        made += 1
    return groups.boxes[:made][::-1]


def selective_search(image: Tensor, strategies: Sequence[Strategy] = SINGLE, most: int = 2_000) -> Tensor:
    """Boxes (N, 4) float32 of an image (3, H, W) uint8, each once, the largest groups of each strategy first.

    most: boxes, at most.
    """
    pixels = image.permute(1, 2, 0).cpu().numpy()
    found, segmented = [], {}
    for space, k, parts in strategies:
        if (space, k) not in segmented:
            changed = color_space(pixels, space)
            regions = segment(changed, k, round(k))
            color = histograms(changed, regions, COLOR_BINS, (0, 255))
            texture = histograms(gradients(changed), regions, TEXTURE_BINS, (0, 128))
            segmented[space, k] = regions, color, texture
        found.append(group(*segmented[space, k], parts))
    boxes = np.concatenate(found)
    boxes = boxes[(boxes[:, 2:] - boxes[:, :2] >= NARROWEST).all(1)]
    _, first = np.unique(boxes, axis=0, return_index=True)
    return torch.from_numpy(boxes[np.sort(first)][:most].astype(np.float32))


class Remembered:
    """Selective search that keeps what it found: the same image is not searched again in the next epoch."""

    def __init__(self, strategies: Sequence[Strategy] = SINGLE, most: int = 2_000) -> None:
        self.strategies, self.most = tuple(strategies), most
        self._known: dict[bytes, Tensor] = {}

    def __call__(self, image: Tensor) -> Tensor:
        """Boxes (N, 4) of an image (3, H, W), uint8 or floats in [0, 1], on its device."""
        pixels = (image if image.dtype == torch.uint8 else (image * 255).round().byte()).cpu().contiguous()
        key = hashlib.blake2b(pixels.numpy().tobytes() + repr(tuple(pixels.shape)).encode(), digest_size=16).digest()
        if key not in self._known:
            if len(self._known) >= REMEMBERED:
                self._known.pop(next(iter(self._known)))
            self._known[key] = selective_search(pixels, self.strategies, self.most)
        return self._known[key].to(image.device)
