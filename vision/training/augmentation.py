"""Augmentation as batched tensor operations: a whole batch at once, on its device, each image by its own lot.

    change = augment.Augmentation("flip,crop", sets.train.images)     # or "flip,crop=2,cutout=8,jitter=0.4"
    normal = augment.Normal.of(sets.train.images)                     # mean and deviation of the training set
    logits = model(normal(change(images)))
    logits = torch.stack([model(normal(view)) for view in augment.views(images, 10)]).mean(0)      # at test time

Every function takes images (B, C, H, W), uint8 or floats in [0, 1], and gives the same type. Chances come from the
generator, which lives on the images' device, or without one from torch's own.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Callable
from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from runs import suggestions

GRAY = (0.299, 0.587, 0.114)  # luma of red, green, blue (ITU-R BT.601)
YIQ = ((0.299, 0.587, 0.114), (0.595716, -0.274453, -0.321263), (0.211456, -0.522591, 0.311135))  # NTSC's
PART = 1_000  # images measured at a time


# Where things are


def flip(images: Tensor, chance: float = 0.5, generator: torch.Generator | None = None) -> Tensor:
    """Mirrored left to right, each image with that chance."""
    chosen = _uniform(images, generator=generator) < chance
    rows = torch.arange(len(images), device=images.device) + len(images) * chosen
    return torch.cat([images, images.flip(3)]).index_select(0, rows)  # where() is slow on bytes


def crop(
    images: Tensor,
    padding: int = 4,
    mode: Literal["zero", "reflect"] = "zero",
    generator: torch.Generator | None = None,
) -> Tensor:
    """A window of the images' own size out of the images with `padding` pixels around them (He et al. 2016, 4.2).

    mode: what the padding shows: nothing, or what lies inside of the edge.
    Raises ValueError when a reflection would reach beyond the other edge.
    """
    top, left = (_whole(images, 2 * padding + 1, generator) for _ in range(2))
    return _windows(_padded(images, padding, padding, mode), top, left, images.shape[2:])


def translate(images: Tensor, part: float = 0.125, generator: torch.Generator | None = None) -> Tensor:
    """Moved by whole pixels, up to that part of height and of width in each direction; what is uncovered is 0."""
    tall, wide = (int(part * side) for side in images.shape[2:])
    top, left = (_whole(images, 2 * reach + 1, generator) for reach in (tall, wide))
    return _windows(_padded(images, tall, wide, "zero"), top, left, images.shape[2:])


def scaled_crop(
    images: Tensor,
    least: float = 0.08,
    aspect: float = 4 / 3,
    size: int | tuple[int, int] | None = None,
    generator: torch.Generator | None = None,
) -> Tensor:
    """A window of random area and aspect, scaled to one size (Szegedy et al. 2014, section 6).

    least: the smallest area, as a part of the image's; areas are uniform in [least, 1]. aspect: the largest ratio
        of width to height, and its inverse the smallest, uniform in the logarithm. A window that would be larger
        than the image is cut at its edges. size: of the result (h, w), or its side; None: the images' own.
    Pixels are averaged with triangular weights, as wide as what becomes one pixel.
    """
    tall, wide = images.shape[2:]
    size = (size, size) if isinstance(size, int) else size or (tall, wide)
    area, ratio, down, along = _uniform(images, 4, generator=generator).unbind(1)
    area = (least + (1 - least) * area) * tall * wide
    ratio = ((2 * ratio - 1) * math.log(aspect)).exp()
    height, width = (area / ratio).sqrt().clamp(max=tall), (area * ratio).sqrt().clamp(max=wide)
    rows = _weights((tall - height) * down, height, tall, size[0])
    columns = _weights((wide - width) * along, width, wide, size[1])
    found = images.to(rows.dtype).flatten(1, 2) @ columns.mT  # (B, C * H, w)
    return _same_type(rows[:, None] @ found.unflatten(1, (-1, tall)), images)


def rotate(images: Tensor, degrees: float = 15.0, generator: torch.Generator | None = None) -> Tensor:
    """Turned about the middle by up to that angle either way, bilinear; what is uncovered is 0."""
    tall, wide = images.shape[2:]
    turn = (2 * _uniform(images, generator=generator) - 1) * math.radians(degrees)
    cos, sin, none = turn.cos(), turn.sin(), torch.zeros_like(turn)
    matrix = torch.stack([cos, -sin * (tall / wide), none, sin * (wide / tall), cos, none], 1).view(-1, 2, 3)
    grid = F.affine_grid(matrix, list(images.shape), align_corners=False)
    return _same_type(F.grid_sample(images.to(grid.dtype), grid, align_corners=False), images)


# What color things have


def jitter(
    images: Tensor,
    brightness: float = 0.4,
    contrast: float = 0.4,
    saturation: float = 0.4,
    hue: float = 0.0,
    generator: torch.Generator | None = None,
) -> Tensor:
    """Brightness, contrast and saturation times a factor in 1 +- what is given, and hue turned (Howard 2013).

    contrast: about the image's mean gray. saturation: about each pixel's gray. hue: of a whole turn, at most; the
    chroma plane of YIQ is rotated. In this order, as one matrix for each image, cut off at black and white once.
    Images are (B, 3, H, W), or (B, 1, H, W), which have neither saturation nor hue. Raises ValueError for others.
    """
    count, channels = images.shape[:2]
    if channels not in (1, 3):
        raise ValueError(f"colors are those of images with 3 channels, or of gray ones with 1, not of {channels}")
    pixels = (images / 255 if images.dtype == torch.uint8 else images).flatten(2)
    lots = 2 * _uniform(images, 4, 1, 1, generator=generator).to(pixels.dtype) - 1
    bright, strong, vivid = (
        1 + limit * lot for limit, lot in zip((brightness, contrast, saturation), lots.unbind(1), strict=False)
    )
    if channels == 1:
        gray, mix = pixels.new_ones(1, 1), pixels.new_ones(count, 1, 1)
    else:
        gray = pixels.new_tensor([GRAY])
        mix = vivid * torch.eye(3, device=images.device, dtype=pixels.dtype) + (1 - vivid) * gray
        if hue:
            mix = _hue_rotation(2 * math.pi * hue * lots[:, 3, 0, 0]) @ mix
    middle = bright * (gray @ pixels.mean(2, keepdim=True))  # (B, 1, 1)
    changed = torch.baddbmm((1 - strong) * middle, mix * bright * strong, pixels).clamp_(0, 1)
    return _same_type(changed * 255 if images.dtype == torch.uint8 else changed, images).view_as(images)


def _hue_rotation(angle: Tensor) -> Tensor:
    """Matrices (B, 3, 3) on RGB that turn the chroma plane of YIQ by angles (B,)."""
    there = torch.tensor(YIQ)
    back, there = torch.linalg.inv(there).to(angle), there.to(angle)  # inverted where nobody waits for it
    turn = torch.zeros(len(angle), 3, 3, dtype=angle.dtype, device=angle.device)
    turn[:, 0, 0] = 1
    turn[:, 1, 1] = turn[:, 2, 2] = angle.cos()
    turn[:, 2, 1] = angle.sin()
    turn[:, 1, 2] = -turn[:, 2, 1]
    return back @ turn @ there


def principal(images: Tensor) -> Tensor:
    """The axes (C, C) of a set's colors: column k is the k-th eigenvector of the pixels' covariance, as long as
    their standard deviation along it, where white is 1."""
    _, covariance = _moments(images)
    values, vectors = torch.linalg.eigh(covariance)
    return (vectors * values.clamp(min=0).sqrt()).float().to(images.device)


def lighting(images: Tensor, axes: Tensor, std: float = 0.1, generator: torch.Generator | None = None) -> Tensor:
    """One color added to all of an image, along the set's principal axes (Krizhevsky et al. 2012, section 4.1).

    axes: of `principal`. std: of the normal factor of each. The paper multiplies by eigenvalues, which are squares of
    colors; their roots, which are meant, are in the axes' lengths.
    """
    lots = torch.randn(len(images), len(axes), generator=generator, device=images.device) * std
    color = (lots @ axes.T)[..., None, None]
    if images.dtype == torch.uint8:
        return _same_type(images + color * 255, images)
    return (images + color.to(images.dtype)).clamp_(0, 1)


# What is left out, what is put together


def cutout(
    images: Tensor, size: int = 16, fill: Tensor | float = 0, generator: torch.Generator | None = None
) -> Tensor:
    """A square of `size` pixels painted over; its middle is anywhere, so it may hang over (DeVries & Taylor 2017).

    fill: the color, a number or (C,), where white is 1. The paper's is the training set's mean.
    """
    down, along = (
        torch.arange(side, device=images.device) - _whole(images, side, generator)[:, None] + size // 2
        for side in images.shape[2:]
    )
    inside = [(line >= 0) & (line < size) for line in (down, along)]
    hole = (inside[0][:, :, None] & inside[1][:, None, :])[:, None].to(images.dtype)
    color = torch.as_tensor(fill, dtype=torch.float32, device=images.device).view(-1, 1, 1)
    color = _same_type(color * 255 if images.dtype == torch.uint8 else color, images)
    return images * (1 - hole) + color * hole


def mixup(
    images: Tensor, labels: Tensor, alpha: float = 1.0, generator: torch.Generator | None = None
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Each image mixed with another one of the batch (Zhang et al. 2018, equation 1).

        images, first, second, weight = mixup(images, labels)
        loss = (weight * cross_entropy(logits, first) + (1 - weight) * cross_entropy(logits, second)).mean()

    images may be normalized ones. labels: (B,). alpha: of the Beta(alpha, alpha) that weights come from.

    Returns:
        Images (B, C, H, W), both labels (B,), and the weight (B,) float32 of the first.
    """
    other = torch.randperm(len(images), generator=generator, device=images.device)
    shares = torch.full((len(images), 2), float(alpha), device=images.device)
    weight = torch._sample_dirichlet(shares, generator=generator)[:, 0]  # as torch.distributions.Beta
    share = weight[:, None, None, None]
    floats = images.float() if images.dtype == torch.uint8 else images
    mixed = torch.lerp(floats[other], floats, share.to(floats.dtype))
    return _same_type(mixed, images), labels, labels[other], weight


def views(images: Tensor, count: int, size: int | None = None) -> Tensor:
    """What a classifier is shown of an image at test time, for its logits to be averaged (Krizhevsky et al. 2012).

    count: 1, the middle; 2, and its mirror image; 5, the middle and four corners; 10, and their mirror images.
    size: side of a view. None: the images' own, and they are padded by a 16th of it with what lies inside their edge.

    Returns:
        (count, B, C, size, size).
    Raises ValueError for another count, and for a size that is larger than the images.
    """
    if count not in (1, 2, 5, 10):
        raise ValueError(f"{count} views: there are 1, 2, 5 or 10 of them")
    shape = tuple(images.shape[2:]) if size is None else (size, size)
    if size is None and count >= 5:
        images = _padded(images, *(max(1, side // 16) for side in shape), mode="reflect")
    down, along = images.shape[2] - shape[0], images.shape[3] - shape[1]
    if down < 0 or along < 0:
        raise ValueError(f"views of side {size} do not fit into images of {images.shape[2]} x {images.shape[3]}")
    places = [(down // 2, along // 2)]
    if count >= 5:
        places += [(top, left) for top in (0, down) for left in (0, along)]
    found = [images[:, :, top : top + shape[0], left : left + shape[1]] for top, left in places]
    if count in (2, 10):
        found += [view.flip(3) for view in found]
    return torch.stack(found)


# A set's own scale


class Normalization(nn.Module):
    """images (B, C, H, W) -> floats of mean 0 and deviation 1 in each channel, where `mean` and `std` are the set's.

    mean, std: one for each channel, where white is 1. Raises ValueError for a std that is not above 0.
    """

    def __init__(self, mean: tuple[float, ...], std: tuple[float, ...]) -> None:
        super().__init__()
        if min(std) <= 0:
            raise ValueError(f"a standard deviation is above 0, not {min(std)}")
        self.register_buffer("mean", torch.tensor(mean, dtype=torch.float32))
        self.register_buffer("std", torch.tensor(std, dtype=torch.float32))

    @classmethod
    def of(cls, images: Tensor) -> Normalization:
        """Measured of a training set (N, C, H, W), on its device. A channel that never changes has std 1."""
        mean, covariance = _moments(images)
        std = covariance.diagonal().clamp(min=0).sqrt()
        return cls(mean.tolist(), torch.where(std > 1e-6, std, 1.0).tolist()).to(images.device)

    def forward(self, images: Tensor) -> Tensor:
        scale = 1 / (self.std * 255) if images.dtype == torch.uint8 else 1 / self.std
        shift = self.mean / self.std
        return (images * scale[:, None, None]).sub_(shift[:, None, None])

    def extra_repr(self) -> str:
        return f"mean={self.mean.tolist()}, std={self.std.tolist()}"


# By name


def _colors(images: Tensor, strength: float, generator: torch.Generator | None = None) -> Tensor:
    return jitter(images, strength, strength, strength, strength / 4, generator)


OPERATIONS: dict[str, tuple[Callable[..., Tensor], Callable[[int], float]]] = {  # and their number for a side
    "flip": (flip, lambda side: 0.5),  # chance
    "crop": (crop, lambda side: side // 8),  # pixels of padding
    "reflect": (functools.partial(crop, mode="reflect"), lambda side: side // 8),  # crop, with reflected padding
    "scaled_crop": (scaled_crop, lambda side: 0.08),  # smallest area
    "translate": (translate, lambda side: 0.125),  # of the side
    "rotate": (rotate, lambda side: 15.0),  # degrees
    "jitter": (_colors, lambda side: 0.4),  # of brightness, contrast, saturation; hue a quarter of it
    "lighting": (lighting, lambda side: 0.1),  # deviations
    "cutout": (cutout, lambda side: side // 2),  # pixels
}


class Augmentation:
    """Operations in a row, chosen by their names: images (B, C, H, W) -> images of the same shape and type.

    names: such as "flip,crop" or "flip,crop=2,cutout=8", where the number is the operation's own (OPERATIONS);
        "none" for none. images: the training set (N, C, H, W), for its side, its mean color and its principal axes.
    Raises ValueError for a name or number that is none.
    """

    def __init__(self, names: str, images: Tensor) -> None:
        self.names = names
        words = [word.strip() for word in names.split(",")] if names.strip() not in ("", "none") else []
        self.steps = [_step(word, images) for word in words]

    def __call__(self, images: Tensor, generator: torch.Generator | None = None) -> Tensor:
        for step in self.steps:
            images = step(images, generator=generator)
        return images


def _step(word: str, images: Tensor) -> Callable[..., Tensor]:
    """The operation that "name" or "name=number" stands for, with what it has to know of a set."""
    name, equals, value = word.partition("=")
    if name not in OPERATIONS:
        raise ValueError(f"unknown augmentation {name!r}: {suggestions.one_of(name, OPERATIONS)}")
    operation, usual = OPERATIONS[name]
    whole = isinstance(usual(32), int)
    try:
        number = (int if whole else float)(value) if equals else usual(min(images.shape[2:]))
    except ValueError:
        raise ValueError(f"{word!r}: {name} takes {'a whole number' if whole else 'a number'}") from None
    if number < 0:
        raise ValueError(f"{word!r}: {name} takes no negative number")
    if name == "cutout":
        mean = _moments(images)[0].float().to(images.device)
        return lambda images, generator: operation(images, number, mean, generator)
    if name == "lighting":
        axes = principal(images)
        return lambda images, generator: operation(images, axes, number, generator)
    return lambda images, generator: operation(images, number, generator=generator)


# What they share


def _uniform(images: Tensor, *shape: int, generator: torch.Generator | None) -> Tensor:
    """Lots (B, *shape) in [0, 1)."""
    return torch.rand(len(images), *shape, generator=generator, device=images.device)


def _whole(images: Tensor, count: int, generator: torch.Generator | None) -> Tensor:
    """Lots (B,) of 0 to count - 1, int64."""
    return torch.randint(count, (len(images),), generator=generator, device=images.device)


def _same_type(found: Tensor, images: Tensor) -> Tensor:
    """`found` as the images' type; in bytes, rounded, and cut off at black and white."""
    return found.round_().clamp_(0, 255).byte() if images.dtype == torch.uint8 else found.to(images.dtype)


def _padded(images: Tensor, tall: int, wide: int, mode: str) -> Tensor:
    if mode == "zero":
        return F.pad(images, (wide, wide, tall, tall))
    if mode != "reflect":
        raise ValueError(f"unknown padding {mode!r}: there are 'zero' and 'reflect'")
    for axis, reach in ((2, tall), (3, wide)):  # F.pad does not reflect bytes
        side = images.shape[axis]
        if reach >= side:
            raise ValueError(f"{side} pixels cannot be reflected {reach} pixels beyond their edge")
        before, after = images.narrow(axis, 1, reach), images.narrow(axis, side - 1 - reach, reach)
        images = torch.cat([before.flip(axis), images, after.flip(axis)], axis)
    return images


def _windows(images: Tensor, top: Tensor, left: Tensor, size: tuple[int, int]) -> Tensor:
    """A window (h, w) of each image, its corner at top, left (B,): rows picked out of all that lie in memory."""
    count, channels, tall, wide = images.shape
    flat = images.contiguous().view(-1)
    rows = flat.as_strided((flat.numel() - size[1] + 1, size[1]), (1, 1))  # one that begins at each pixel
    plane = torch.arange(count * channels, device=images.device).view(count, channels, 1) * tall
    line = top[:, None, None] + torch.arange(size[0], device=images.device)
    begin = (plane + line) * wide + left[:, None, None]
    return rows.index_select(0, begin.view(-1)).view(count, channels, *size)


def _weights(begin: Tensor, length: Tensor, side: int, size: int) -> Tensor:
    """How much each of `side` pixels counts for each of `size` that stretch over begin..begin + length (B,):
    (B, size, side)."""
    scale = (length / size)[:, None, None]
    middle = begin[:, None, None] + (torch.arange(size, device=begin.device)[:, None] + 0.5) * scale
    far = (torch.arange(side, device=begin.device) + 0.5 - middle).abs() / scale.clamp(min=1)
    weights = (1 - far).clamp_(min=0)
    return weights / weights.sum(2, keepdim=True)


def _moments(images: Tensor) -> tuple[Tensor, Tensor]:
    """Mean (C,) and covariance (C, C) of the pixels of a set (N, C, H, W), where white is 1: float64, on the CPU."""
    if not len(images):
        raise ValueError("a set without images has no mean")
    channels, white = images.shape[1], 255 if images.dtype == torch.uint8 else 1
    total, squares, count = 0, 0, images.numel() / channels
    for part in images.split(PART):
        pixels = (part.float() / white - 0.5).transpose(0, 1).flatten(1)  # near 0, where float32 is fine enough
        total = total + pixels.sum(1).cpu().double()
        squares = squares + (pixels @ pixels.T).cpu().double()
    mean = total / count
    return mean + 0.5, squares / count - mean[:, None] * mean
