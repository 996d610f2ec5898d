"""More transforms, on those of transforms.py: random stretch, shear, lens distortion, short side, noise, random mix.

    change = Compose([RandomMix([Stretch(1.2), Shear(10), LensDistortion(0.2)], 2), Noise(0.02)])
    sample = change(sample, generator)              # boxes, masks and keypoints move along

Those of CS231n's lecture on data augmentation ("random mix / combinations of translation, rotation, stretching,
shearing, lens distortions"), batched on the images' device; each image has its own random numbers.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Sequence

import torch
from torch import Tensor

from vision.data import image_ops, transforms
from vision.data.image_ops import integers, uniform
from vision.data.samples import INSTANCES, Batch
from vision.data.transforms import Size, Transform

PIECES = 16  # of a box's side under lens distortion: a bend between two ends of a piece is below a pixel
NEWTON = 8  # steps by which lens distortion is inverted for points


class Stretch(Transform):
    """Random stretch of width and of height about the center, each by a factor log-uniform in [1 / most, most].

    Raises ValueError for a factor below 1.
    """

    def __init__(self, most: float = 1.25) -> None:
        if most < 1:
            raise ValueError(f"a stretch of {most} is below 1: it is the larger of a factor and its inverse")
        self.most = most

    def apply(self, batch: Batch, generator: torch.Generator | None) -> Batch:
        factor = ((2 * uniform(batch.images, 2, generator=generator) - 1) * math.log(self.most)).exp()
        return linear(batch, torch.diag_embed(factor))


class Shear(Transform):
    """Random shear along x and along y, each by an angle of up to `degrees` in either direction, about the center.

    A point moves along x by tan(angle) times its distance from the center line in y, and the other way round.
    Raises ValueError for 45 degrees and more, where both together would turn the image inside out.
    """

    def __init__(self, degrees: float = 15.0) -> None:
        if not 0 <= degrees < 45:
            raise ValueError(f"a shear of {degrees} degrees is not from 0 to below 45")
        self.degrees = degrees

    def apply(self, batch: Batch, generator: torch.Generator | None) -> Batch:
        angle = (2 * uniform(batch.images, 2, generator=generator) - 1) * math.radians(self.degrees)
        along, down = angle.tan().unbind(1)
        one = torch.ones_like(along)
        return linear(batch, torch.stack([one, along, down, one], 1).view(-1, 2, 2))


class LensDistortion(Transform):
    """Random radial lens distortion: what a pixel at radius r shows lay at r (1 + k r^2), k uniform in +- strength.

    Brown 1966, "Decentering distortion of lenses", with its first radial term. Radii are of the center, 1 at the
    corners. k above 0 is a barrel (lines bend outwards, the borders come into view), below 0 a pincushion.
    Raises ValueError for a strength of 1/3 and more, where the map would fold.
    """

    def __init__(self, strength: float = 0.2) -> None:
        if not 0 <= strength < 1 / 3:
            raise ValueError(f"a lens distortion of {strength} is not from 0 to below 1/3")
        self.strength = strength

    def apply(self, batch: Batch, generator: torch.Generator | None) -> Batch:
        k = (2 * uniform(batch.images, generator=generator) - 1) * self.strength
        return distort(batch, k)


class ShortSide(Transform):
    """Random crop after a random resize: the shorter side becomes a whole number of pixels, uniform in `sides`, and a
    window of `size` is cut out at a random place. Images have one size, as a batch has, and each its own scale.

    Simonyan & Zisserman 2014, arXiv 1409.1556, section 3.1 (scale jittering), as He et al. 2015 train ResNets: 256 to
    480 and 224 x 224, the defaults; a size of None is the images' own. Both steps are one resampling, which gives
    the same pixels up to the alignment of the window.
    Raises ValueError where a window is larger than the smallest short side.
    """

    def __init__(self, size: Size | None = (224, 224), sides: tuple[int, int] = (256, 480)) -> None:
        if not 0 < sides[0] <= sides[1]:
            raise ValueError(f"short sides from {sides[0]} to {sides[1]} pixels are no range")
        self.size, self.sides = size, sides

    def apply(self, batch: Batch, generator: torch.Generator | None) -> Batch:
        tall, wide = batch.images.shape[2:]
        size, (low, high) = self.size or (tall, wide), self.sides
        if size[0] * min(tall, wide) > tall * low or size[1] * min(tall, wide) > wide * low:
            raise ValueError(
                f"a window of {size[0]} x {size[1]} does not fit into an image of {tall} x {wide} with a short side "
                f"of {low} pixels"
            )
        scale = (low + integers(batch.images, high - low + 1, generator)) / min(tall, wide)
        down, along = uniform(batch.images, 2, generator=generator).unbind(1)
        height, width = size[0] / scale, size[1] / scale
        return transforms.resampled(batch, ((tall - height) * down, (wide - width) * along, height, width), size)


class Noise(Transform):
    """Gaussian noise on every pixel and channel, of a standard deviation where white is 1, clipped at black and
    white. Targets stay as they are."""

    def __init__(self, std: float = 0.05) -> None:
        self.std = std

    def apply(self, batch: Batch, generator: torch.Generator | None) -> Batch:
        images = batch.images
        noise = torch.randn(images.shape, generator=generator, device=images.device) * self.std
        white = 255 if images.dtype == torch.uint8 else 1
        return dataclasses.replace(batch, images=image_ops.as_type((images + white * noise).clamp(0, white), images))


class RandomMix(Transform):
    """Random mix: `count` rounds, in each of which an image goes through one of the transforms, drawn for it alone.

    Uniformly and with replacement, as Cubuk et al. 2019, arXiv 1909.13719 (RandAugment), with the transforms' own
    strengths. A batch is split so that each round uses every transform on an equal share of it, give or take one
    image. Raises ValueError without transforms.
    """

    def __init__(self, steps: Sequence[Transform], count: int = 2) -> None:
        if not steps:
            raise ValueError("a random mix is of one transform or more")
        self.steps, self.count = list(steps), count

    def apply(self, batch: Batch, generator: torch.Generator | None) -> Batch:
        total, device = len(batch.images), batch.images.device
        for _ in range(self.count):
            rows = torch.randperm(total, generator=generator, device=device)
            order = torch.randperm(len(self.steps), generator=generator, device=device).tolist()
            parts, places = [], []
            for number, chosen in zip(order, rows.tensor_split(len(self.steps)), strict=True):
                if len(chosen):
                    parts.append(self.steps[number].apply(select(batch, chosen), generator))
                    places.append(chosen)
            batch = select(_joined(parts), torch.cat(places).argsort())
        return batch


def linear(batch: Batch, matrix: Tensor) -> Batch:
    """Move each image about its center by a matrix (N, 2, 2) that takes old (x, y) to new ones, in pixels."""
    (a, b), (c, d) = (row.unbind(1) for row in matrix.unbind(1))
    inverse = torch.stack([d, -b, -c, a], 1).view(-1, 2, 2) / (a * d - b * c)[:, None, None]
    size = batch.images.shape[2:]
    middle = matrix.new_tensor([size[1] / 2, size[0] / 2])

    def pixels(images: Tensor, rows: Tensor | slice, fill: float | None) -> Tensor:
        return sample(images, _centers(size, middle) @ inverse[rows].mT[:, None] + middle, fill)

    return transforms.move(
        batch, pixels, lambda places, rows: (places - middle) @ matrix[rows].mT.to(places.dtype) + middle
    )


def distort(batch: Batch, k: Tensor) -> Batch:
    """Lens distortion of each image by a coefficient k (N,), see LensDistortion."""
    size = batch.images.shape[2:]
    middle = k.new_tensor([size[1] / 2, size[0] / 2])
    longest = middle.norm()

    def pixels(images: Tensor, rows: Tensor | slice, fill: float | None) -> Tensor:
        seen = _centers(size, middle)  # (1, H, W, 2)
        square = seen.square().sum(3, keepdim=True) / longest.square()
        return sample(images, seen * (1 + k[rows].view(-1, 1, 1, 1) * square) + middle, fill)

    def points(places: Tensor, rows: Tensor) -> Tensor:
        """r of the old radius g = r (1 + k r^2), by Newton's method; beyond the corner it goes on linearly."""
        away, strength = places - middle, k[rows, None].to(places.dtype)
        old = away.norm(dim=2) / longest
        r = inside = (old / (1 + strength)).clamp(max=1)
        for _ in range(NEWTON):
            r = (r - (r + strength * r**3 - old) / (1 + 3 * strength * r.square())).clamp(0, 1)
        r = torch.where(inside < 1, r, old / (1 + strength))
        ratio = torch.where(old > 0, r / old.clamp(min=1e-9), 1.0)
        return away * ratio[..., None] + middle

    return transforms.move(batch, pixels, points, PIECES)


def sample(images: Tensor, places: Tensor, fill: float | None) -> Tensor:
    """`sample_grid` of images (B, C, H, W) at places (B or 1, h, w, 2), x and y in pixels from the top left."""
    tall, wide = images.shape[2:]
    grid = places / places.new_tensor([wide, tall]) * 2 - 1
    return image_ops.sample_grid(images, grid.expand(len(images), -1, -1, -1), fill)


def _centers(size: Size, middle: Tensor) -> Tensor:
    """The centers (1, H, W, 2) of the pixels, x and y from the image's center."""
    y, x = (torch.arange(side, device=middle.device, dtype=middle.dtype) + 0.5 for side in size)
    return torch.stack(torch.meshgrid(x, y, indexing="xy"), 2)[None] - middle


def select(batch: Batch, rows: Tensor) -> Batch:
    """The images of rows (R,) int64, in that order, with their targets."""
    fields: dict = {name: getattr(batch, name) for name in ("images", "label", "semantic")}
    fields = {name: value if value is None else value[rows] for name, value in fields.items()}
    if batch.captions is not None:
        fields["captions"] = tuple(batch.captions[row] for row in rows.tolist())
    if batch.image_index is not None:
        place = rows.new_full((len(batch.images),), -1).scatter(0, rows, torch.arange(len(rows), device=rows.device))
        index = place[batch.image_index]
        order = index.argsort(stable=True)
        order = order[index[order] >= 0]
        fields["image_index"] = index[order]
        fields |= {name: value[order] for name in INSTANCES if (value := getattr(batch, name)) is not None}
    return Batch(**fields)


def _joined(parts: Sequence[Batch]) -> Batch:
    """The images of all parts, one after the other. Sizes that differ are padded to the largest, black and IGNORE."""
    tall, wide = (max(part.images.shape[axis] for part in parts) for axis in (2, 3))
    if any(part.images.shape[2:] != (tall, wide) for part in parts):
        parts = [transforms.Pad((tall, wide)).apply(part, None) for part in parts]
    fields: dict = {}
    for name in ("images", "label", "semantic", *INSTANCES):
        values = [getattr(part, name) for part in parts]
        fields[name] = None if any(value is None for value in values) else torch.cat(values)  # None: an area changed
    if parts[0].captions is not None:
        fields["captions"] = tuple(captions for part in parts for captions in part.captions)
    if parts[0].image_index is not None:
        begins = [sum(len(part.images) for part in parts[:number]) for number in range(len(parts))]
        fields["image_index"] = torch.cat(
            [part.image_index + begin for part, begin in zip(parts, begins, strict=True)]
        )
    return Batch(**fields)
