"""Data augmentation of images with boxes, masks and keypoints: flip, crop, resize, pad, rotate, color jitter.

    change = Compose([ScaledCrop((224, 224)), Flip(), ColorJitter(0.4, 0.4, 0.4)])
    sample = change(sample, generator)                     # one, of its own size
    batch = change(Batch.of(samples), generator)           # N of one size together, on their device
    images = change(images, generator)                     # (N, C, H, W) without targets
    samples = change(samples, generator)                   # a list, whatever their sizes: one after the other

Each image of a batch gets its own random numbers, from the generator (on the images' device) or else from torch's.
Boxes become the axis-aligned hull of their moved corners, cut at the image's edge; where nothing is left of one, the
object is dropped with its label, mask and keypoints. A keypoint outside of the image becomes (0, 0, 0), not labeled.
Images are interpolated, masks take the nearest pixel; what is uncovered is black, and IGNORE in a semantic mask.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable, Sequence
from typing import Literal, TypeVar

import torch
from torch import Tensor
from torch.nn import functional as F

from vision.data import image_ops
from vision.data.image_ops import integers, uniform
from vision.data.samples import IGNORE, INSTANCES, Batch, Sample

Given = TypeVar("Given", Batch, Sample, Tensor, list)
Size = tuple[int, int]  # height, width
EMPTY = 1e-3  # pixels: a box of which no longer side is left is empty (rotated corners are inexact)

# (images (R, C, H, W), the samples that they are of (R,), None for images or else the fill of masks) -> new ones
Pixels = Callable[[Tensor, Tensor | slice, float | None], Tensor]
Points = Callable[[Tensor, Tensor], Tensor]  # (x, y (M, P, 2), the samples that they are in (M,)) -> new x, y


class Transform:
    """Base class of transforms: callable on a sample, a batch, images or a list of samples, and returns the same."""

    def __call__(self, given: Given, generator: torch.Generator | None = None) -> Given:
        if isinstance(given, Batch):
            return self.apply(given, generator)
        if isinstance(given, Tensor):
            return self.apply(Batch(given), generator).images
        if isinstance(given, Sample):
            return self.apply(Batch.of([given]), generator).samples()[0]
        return [self(sample, generator) for sample in given]

    def apply(self, batch: Batch, generator: torch.Generator | None) -> Batch:
        """The transformed batch, with images (B, C, H, W) and their targets. generator: of random parameters."""
        raise NotImplementedError


class Compose(Transform):
    """Composition: transforms applied one after the other."""

    def __init__(self, steps: Sequence[Transform]) -> None:
        self.steps = list(steps)

    def apply(self, batch: Batch, generator: torch.Generator | None) -> Batch:
        for step in self.steps:
            batch = step.apply(batch, generator)
        return batch


# Geometry: targets move too


class Flip(Transform):
    """Random horizontal or vertical flip, of each image with the same probability.

    pairs: keypoints that change places in a mirror, such as (left eye, right eye), by their indices.
    """

    def __init__(
        self, probability: float = 0.5, vertical: bool = False, pairs: Sequence[tuple[int, int]] = ()
    ) -> None:
        self.probability, self.vertical, self.pairs = probability, vertical, tuple(pairs)

    def apply(self, batch: Batch, generator: torch.Generator | None) -> Batch:
        chosen = uniform(batch.images, generator=generator) < self.probability
        axis = 2 if self.vertical else 3
        span, along = batch.images.shape[axis], 3 - axis  # along: 0 for x, 1 for y

        def points(places: Tensor, rows: Tensor) -> Tensor:
            mirrored = places.clone()
            mirrored[..., along] = span - places[..., along]
            return torch.where(chosen[rows, None, None], mirrored, places)

        if batch.keypoints is not None and self.pairs:
            order = list(range(batch.keypoints.shape[1]))
            for left, right in self.pairs:
                order[left], order[right] = right, left
            swapped = torch.where(chosen[batch.image_index, None, None], batch.keypoints[:, order], batch.keypoints)
            batch = dataclasses.replace(batch, keypoints=swapped)
        return move(batch, lambda images, rows, fill: image_ops.flip(images, chosen[rows], axis), points)


class RandomCrop(Transform):
    """Random crop of the images with `padding` pixels around them (He et al. 2016, section 4.2).

    size: of the window (h, w); smaller images are padded at the right and bottom first. None: the images' own size.
    mode: what the padding shows: "zero", nothing; "reflect", what lies inside of the edge. A semantic mask is
        reflected too; objects are not.
    Raises ValueError when a reflection would reach beyond the other edge.
    """

    def __init__(self, padding: int = 4, size: Size | None = None, mode: Literal["zero", "reflect"] = "zero") -> None:
        self.padding, self.size, self.mode = padding, size, mode

    def apply(self, batch: Batch, generator: torch.Generator | None) -> Batch:
        if self.size:
            batch = Pad(self.size).apply(batch, generator)
        shape = batch.images.shape[2:]
        size = self.size or tuple(shape)
        counts = [side + 2 * self.padding - new + 1 for side, new in zip(shape, size, strict=True)]
        top, left = (integers(batch.images, count, generator) for count in counts)
        return _windowed(batch, self.padding, self.padding, top, left, size, self.mode)


class Translate(Transform):
    """Random translation by whole pixels, up to `share` of height and of width in each direction."""

    def __init__(self, share: float = 0.125) -> None:
        self.share = share

    def apply(self, batch: Batch, generator: torch.Generator | None) -> Batch:
        shape = tuple(batch.images.shape[2:])
        tall, wide = (int(self.share * side) for side in shape)
        top, left = (integers(batch.images, 2 * reach + 1, generator) for reach in (tall, wide))
        return _windowed(batch, tall, wide, top, left, shape)


class ScaledCrop(Transform):
    """Random resized crop: a window of random area and aspect, scaled to one size (Szegedy et al. 2014, section 6).

    size: of the result (h, w); None: the images' own. least: the smallest area, as a part of the image's; areas are
        uniform in [least, 1]. aspect: the largest ratio of width to height, and its inverse the smallest, uniform in
        the logarithm. A window that would be larger than the image is cut at its edges.
    """

    def __init__(self, size: Size | None = None, least: float = 0.08, aspect: float = 4 / 3) -> None:
        self.size, self.least, self.aspect = size, least, aspect

    def apply(self, batch: Batch, generator: torch.Generator | None) -> Batch:
        tall, wide = batch.images.shape[2:]
        area, ratio, down, along = uniform(batch.images, 4, generator=generator).unbind(1)
        area = (self.least + (1 - self.least) * area) * tall * wide
        ratio = ((2 * ratio - 1) * math.log(self.aspect)).exp()
        height, width = (area / ratio).sqrt().clamp(max=tall), (area * ratio).sqrt().clamp(max=wide)
        window = ((tall - height) * down, (wide - width) * along, height, width)
        return resampled(batch, window, self.size or (tall, wide))


class Resize(Transform):
    """Resize, bilinear with antialiasing.

    size: (h, w); or pixels of the shorter side, which keeps the aspect. longest: at most that many pixels of the
        longer side, where the aspect is kept (Faster R-CNN: 800 and 1,333).
    """

    def __init__(self, size: int | Size, longest: int | None = None) -> None:
        self.size, self.longest = size, longest

    def apply(self, batch: Batch, generator: torch.Generator | None) -> Batch:
        old = tuple(batch.images.shape[2:])
        new = self.new_size(old)
        if new == old:
            return batch
        down, along = new[0] / old[0], new[1] / old[1]

        def pixels(images: Tensor, rows: Tensor | slice, fill: float | None) -> Tensor:
            if fill is not None:
                begin = torch.zeros(len(images), device=images.device)
                return image_ops.nearest(images, begin, begin, begin + old[0], begin + old[1], new)
            on_cpu = images.device.type == "cpu"  # where torch resizes bytes as they are
            found = F.interpolate(images if on_cpu else images.float(), new, mode="bilinear", antialias=True)
            return image_ops.as_type(found, images) if found.dtype != images.dtype else found

        return move(batch, pixels, lambda places, rows: places * places.new_tensor([along, down]))

    def new_size(self, old: Size) -> Size:
        """The size (h, w) to which an image of size `old` is resized."""
        if isinstance(self.size, tuple):
            return self.size
        scale = self.size / min(old)
        if self.longest:
            scale = min(scale, self.longest / max(old))
        return max(1, round(old[0] * scale)), max(1, round(old[1] * scale))


class Pad(Transform):
    """Zero padding at the right and the bottom, to at least a size (h, w), and then to a multiple of a number."""

    def __init__(self, size: Size = (0, 0), multiple: int = 1) -> None:
        self.size, self.multiple = size, multiple

    def apply(self, batch: Batch, generator: torch.Generator | None) -> Batch:
        shape = batch.images.shape[2:]
        sides = [max(least, side) for least, side in zip(self.size, shape, strict=True)]
        below, right = (
            -(-new // self.multiple) * self.multiple - side for new, side in zip(sides, shape, strict=True)
        )
        if not below and not right:
            return batch
        return move(
            batch,
            lambda images, rows, fill: F.pad(images, (0, right, 0, below), value=fill or 0),
            lambda places, rows: places,
        )


class Rotate(Transform):
    """Random rotation about the center by up to `degrees` in either direction."""

    def __init__(self, degrees: float = 15.0) -> None:
        self.degrees = degrees

    def apply(self, batch: Batch, generator: torch.Generator | None) -> Batch:
        angle = (2 * uniform(batch.images, generator=generator) - 1) * math.radians(self.degrees)
        size = tuple(batch.images.shape[2:])
        return move(
            batch,
            lambda images, rows, fill: image_ops.rotate(images, angle[rows], fill),
            lambda places, rows: image_ops.rotate_points(places, angle[rows], size),
        )


# Color: targets stay as they are


class ColorJitter(Transform):
    """Color jitter: brightness, contrast, saturation times factors in 1 +- the given ones, hue shifted (Howard 2013).

    hue: of a whole turn, at most. Raises ValueError for images of other than 1 or 3 channels; see image_ops.jitter.
    """

    def __init__(
        self, brightness: float = 0.4, contrast: float = 0.4, saturation: float = 0.4, hue: float = 0.0
    ) -> None:
        self.limits, self.hue = (brightness, contrast, saturation), hue

    def apply(self, batch: Batch, generator: torch.Generator | None) -> Batch:
        numbers = 2 * uniform(batch.images, 4, 1, 1, generator=generator) - 1
        factors = [1 + limit * number for limit, number in zip(self.limits, numbers.unbind(1), strict=False)]
        turn = 2 * math.pi * self.hue * numbers[:, 3, 0, 0] if self.hue else None
        return dataclasses.replace(batch, images=image_ops.jitter(batch.images, *factors, turn))


class Lighting(Transform):
    """PCA color augmentation: one color added to all of an image, along a set's principal axes.

    Krizhevsky et al. 2012, section 4.1.

    axes: of image_ops.principal_axes. std: of the normal factor of each. The paper multiplies by eigenvalues, which
        are squares of colors; their roots, which are meant, are in the axes' lengths.
    """

    def __init__(self, axes: Tensor, std: float = 0.1) -> None:
        self.axes, self.std = axes, std

    def apply(self, batch: Batch, generator: torch.Generator | None) -> Batch:
        shape, device = (len(batch.images), len(self.axes)), batch.images.device
        factors = torch.randn(shape, generator=generator, device=device) * self.std
        return dataclasses.replace(batch, images=image_ops.add_color(batch.images, factors @ self.axes.T))


class Cutout(Transform):
    """Cutout: a square of `size` pixels filled with one color (DeVries & Taylor 2017). Its center is anywhere in the
    image, so that it may be cut at an edge.

    fill: the color, a number or (C,), where white is 1. The paper's is the training set's mean.
    """

    def __init__(self, size: int = 16, fill: Tensor | float = 0) -> None:
        self.size, self.fill = size, fill

    def apply(self, batch: Batch, generator: torch.Generator | None) -> Batch:
        middle = tuple(integers(batch.images, side, generator) for side in batch.images.shape[2:])
        return dataclasses.replace(batch, images=image_ops.erase(batch.images, middle, self.size, self.fill))


def resampled(batch: Batch, window: tuple[Tensor, Tensor, Tensor, Tensor], size: Size) -> Batch:
    """Windows at top, left of a height and width, (N,) floats each, scaled to `size`, with what is in them."""

    def pixels(images: Tensor, rows: Tensor | slice, fill: float | None) -> Tensor:
        scaled = image_ops.resample if fill is None else image_ops.nearest
        return scaled(images, *(number[rows] for number in window), size)

    def points(places: Tensor, rows: Tensor) -> Tensor:
        top, left, height, width = (number[rows, None] for number in window)
        x, y = places.unbind(2)
        return torch.stack([(x - left) * size[1] / width, (y - top) * size[0] / height], 2)

    return move(batch, pixels, points)


def _windowed(
    batch: Batch,
    tall: int,
    wide: int,
    top: Tensor,
    left: Tensor,
    size: Size,
    mode: Literal["zero", "reflect"] = "zero",
) -> Batch:
    """Windows of `size` at top, left (N,) int64 of the images with `tall` rows and `wide` columns around them."""
    shift = torch.stack([wide - left, tall - top], 1)

    def pixels(images: Tensor, rows: Tensor | slice, fill: float | None) -> Tensor:
        instances = isinstance(rows, Tensor)  # a reflection shows objects again, which have no boxes there
        padded = image_ops.pad(images, tall, wide, "zero" if instances else mode, fill or 0)
        return image_ops.windows(padded, top[rows], left[rows], size)

    return move(batch, pixels, lambda places, rows: places + shift[rows, None])


def move(batch: Batch, pixels: Pixels, points: Points, pieces: int = 1) -> Batch:
    """Apply one geometric transform to all fields of a batch, and drop the objects whose boxes become empty.

    pieces: of each side of a box, whose ends are moved: more than one where straight lines become bent.
    """
    moved: dict[str, Tensor] = {"images": pixels(batch.images, slice(None), None)}
    tall, wide = moved["images"].shape[2:]
    if batch.semantic is not None:
        moved["semantic"] = pixels(batch.semantic[:, None], slice(None), IGNORE)[:, 0]
    if batch.boxes is None:
        return dataclasses.replace(batch, **moved)
    rows = batch.image_index
    left, top, right, bottom = batch.boxes.unbind(1)
    share = torch.linspace(0, 1, pieces + 1, device=rows.device, dtype=batch.boxes.dtype)
    x, y = torch.lerp(left[:, None], right[:, None], share), torch.lerp(top[:, None], bottom[:, None], share)
    sides = [(x, top[:, None].expand_as(x)), (x, bottom[:, None].expand_as(x))]
    sides += [(left[:, None].expand_as(y), y), (right[:, None].expand_as(y), y)] if pieces > 1 else []
    corners = points(torch.cat([torch.stack(side, 2) for side in sides], 1), rows)
    edge = corners.new_tensor([wide, tall])
    low, high = (corner.clamp(min=0).minimum(edge) for corner in (corners.amin(1), corners.amax(1)))
    moved["boxes"] = torch.cat([low, high], 1)
    if batch.keypoints is not None:
        places = points(batch.keypoints[..., :2], rows)
        inside = ((places >= 0) & (places <= edge)).all(2, keepdim=True) & (batch.keypoints[..., 2:] > 0)
        moved["keypoints"] = torch.cat([places, batch.keypoints[..., 2:]], 2) * inside
    if batch.masks is not None:
        masks = batch.masks[:, None].byte()
        moved["masks"] = (pixels(masks, rows, 0) if len(rows) else masks.new_zeros(0, 1, tall, wide))[:, 0].bool()
    moved["area"] = None  # of the object as it was
    kept = (high - low > EMPTY).all(1)
    for name in (*INSTANCES, "image_index"):
        if (value := moved.get(name, getattr(batch, name))) is not None:
            moved[name] = value[kept]
    return dataclasses.replace(batch, **moved)
