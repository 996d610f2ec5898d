"""Image operations on batches: flip, window, resample, rotate, and changes of color, as plain functions.

Images are (B, C, H, W), uint8 or floats in [0, 1], and results have the same type; parameters are tensors (B,), one
for each image. transforms.py draws them at random, and transforms boxes, masks and keypoints as well.
"""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor
from torch.nn import functional as F

GRAY = (0.299, 0.587, 0.114)  # luma of red, green, blue (ITU-R BT.601)
YIQ = ((0.299, 0.587, 0.114), (0.595716, -0.274453, -0.321263), (0.211456, -0.522591, 0.311135))  # NTSC's
PART = 1_000  # images measured at a time


# Geometry


def flip(images: Tensor, chosen: Tensor, axis: int) -> Tensor:
    """Flip the images that are chosen, (B,) bool, along axis 3 (left to right) or axis 2 (top to bottom)."""
    rows = torch.arange(len(images), device=images.device) + len(images) * chosen
    return torch.cat([images, images.flip(axis)]).index_select(0, rows)  # where() is slow on bytes


def pad(images: Tensor, tall: int, wide: int, mode: Literal["zero", "reflect"] = "zero", fill: float = 0) -> Tensor:
    """Pad images (B, C, H, W) by `tall` rows above and below and `wide` columns left and right, with `fill` or by
    reflection at the edge.

    Raises ValueError where a reflection would reach beyond the other edge.
    """
    if mode == "zero":
        return F.pad(images, (wide, wide, tall, tall), value=fill)
    if mode != "reflect":
        raise ValueError(f"unknown padding {mode!r}: there are 'zero' and 'reflect'")
    for axis, reach in ((2, tall), (3, wide)):  # F.pad does not reflect bytes
        side = images.shape[axis]
        if reach >= side:
            raise ValueError(f"{side} pixels cannot be reflected {reach} pixels beyond their edge")
        before, after = images.narrow(axis, 1, reach), images.narrow(axis, side - 1 - reach, reach)
        images = torch.cat([before.flip(axis), images, after.flip(axis)], axis)
    return images


def windows(images: Tensor, top: Tensor, left: Tensor, size: tuple[int, int]) -> Tensor:
    """Crop one window (h, w) of each image, with its corner at top, left (B,) int64, by gathering rows of pixels."""
    count, channels, tall, wide = images.shape
    flat = images.contiguous().view(-1)
    rows = flat.as_strided((flat.numel() - size[1] + 1, size[1]), (1, 1))  # one that begins at each pixel
    plane = torch.arange(count * channels, device=images.device).view(count, channels, 1) * tall
    line = top[:, None, None] + torch.arange(size[0], device=images.device)
    begin = (plane + line) * wide + left[:, None, None]
    return rows.index_select(0, begin.view(-1)).view(count, channels, *size)


def resample(
    images: Tensor, top: Tensor, left: Tensor, height: Tensor, width: Tensor, size: tuple[int, int]
) -> Tensor:
    """Resample windows at top, left of height and width (B,) floats to one size (h, w).

    Pixels are averaged with triangular weights, as wide as what becomes one pixel (bilinear with antialiasing).
    """
    rows = _weights(top, height, images.shape[2], size[0])
    columns = _weights(left, width, images.shape[3], size[1])
    found = images.to(rows.dtype).flatten(1, 2) @ columns.mT  # (B, C * H, w)
    return as_type(rows[:, None] @ found.unflatten(1, (-1, images.shape[2])), images)


def nearest(masks: Tensor, top: Tensor, left: Tensor, height: Tensor, width: Tensor, size: tuple[int, int]) -> Tensor:
    """Nearest-neighbor `resample` of masks (B, 1, H, W): the pixel that contains the new one's center."""
    places = []
    for begin, length, side, new in zip((top, left), (height, width), masks.shape[2:], size, strict=True):
        center = begin[:, None] + (torch.arange(new, device=begin.device) + 0.5) * (length / new)[:, None]
        places.append(center.long().clamp(0, side - 1))
    rows = torch.arange(len(masks), device=masks.device)[:, None, None]
    return masks[:, 0][rows, places[0][:, :, None], places[1][:, None, :]][:, None]


def rotate(images: Tensor, angle: Tensor, fill: float | None = None) -> Tensor:
    """Rotate counterclockwise about the center by angles (B,) in radians: bilinear, 0 outside of the image.

    fill: for masks: values are taken from the nearest pixel, and are `fill` outside of the image.
    """
    tall, wide = images.shape[2:]
    cos, sin, none = angle.cos(), angle.sin(), torch.zeros_like(angle)
    matrix = torch.stack([cos, -sin * (tall / wide), none, sin * (wide / tall), cos, none], 1).view(-1, 2, 3)
    grid = F.affine_grid(matrix, list(images.shape), align_corners=False)
    return sample_grid(images, grid, fill)


def sample_grid(images: Tensor, grid: Tensor, fill: float | None) -> Tensor:
    """Images (B, C, H, W) at a grid (B, h, w, 2) of x and y from -1 to 1, edge to edge: bilinear, 0 outside of the
    image; or of the nearest pixel, where there is a `fill` for what is outside (masks)."""
    if fill is None:
        return as_type(F.grid_sample(images.to(grid.dtype), grid, align_corners=False), images)
    moved = F.grid_sample(images.to(grid.dtype) - fill, grid, mode="nearest", align_corners=False) + fill
    return moved.to(images.dtype)


def rotate_points(points: Tensor, angle: Tensor, size: tuple[int, int]) -> Tensor:
    """Rotate points (B, P, 2), x and y from the top left corner, as `rotate` does images of `size` (H, W)."""
    middle = points.new_tensor([size[1] / 2, size[0] / 2])
    x, y = (points - middle).unbind(2)
    cos, sin = angle.cos()[:, None], angle.sin()[:, None]
    return torch.stack([cos * x + sin * y, cos * y - sin * x], 2) + middle


def _weights(begin: Tensor, length: Tensor, side: int, size: int) -> Tensor:
    """Interpolation weights (B, size, side) of `side` pixels for `size` new ones over begin..begin + length (B,)."""
    scale = (length / size)[:, None, None]
    middle = begin[:, None, None] + (torch.arange(size, device=begin.device)[:, None] + 0.5) * scale
    far = (torch.arange(side, device=begin.device) + 0.5 - middle).abs() / scale.clamp(min=1)
    weights = (1 - far).clamp_(min=0)
    return weights / weights.sum(2, keepdim=True)


# Color


def jitter(images: Tensor, brightness: Tensor, contrast: Tensor, saturation: Tensor, hue: Tensor | None) -> Tensor:
    """Color jitter: brightness, contrast and saturation times a factor (B, 1, 1), hue rotated by radians (B,).

    Howard 2013. contrast: about the image's mean gray. saturation: about each pixel's gray. hue: the chroma plane of
    YIQ is rotated; None: it is not. In this order, as one matrix for each image, clipped at black and white once.
    Images are (B, 3, H, W), or (B, 1, H, W), which have neither saturation nor hue. Raises ValueError for others.
    """
    count, channels = images.shape[:2]
    if channels not in (1, 3):
        raise ValueError(f"color jitter takes images with 3 channels, or gray ones with 1, not with {channels}")
    pixels = (images / 255 if images.dtype == torch.uint8 else images).flatten(2)
    brightness, contrast, saturation = (factor.to(pixels.dtype) for factor in (brightness, contrast, saturation))
    if channels == 1:
        gray, mix = pixels.new_ones(1, 1), pixels.new_ones(count, 1, 1)
    else:
        gray = pixels.new_tensor([GRAY])
        mix = saturation * torch.eye(3, device=images.device, dtype=pixels.dtype) + (1 - saturation) * gray
        if hue is not None:
            mix = hue_rotation(hue.to(pixels.dtype)) @ mix
    middle = brightness * (gray @ pixels.mean(2, keepdim=True))  # (B, 1, 1)
    changed = torch.baddbmm((1 - contrast) * middle, mix * brightness * contrast, pixels).clamp_(0, 1)
    return as_type(changed * 255 if images.dtype == torch.uint8 else changed, images).view_as(images)


def hue_rotation(angle: Tensor) -> Tensor:
    """Matrices (B, 3, 3) on RGB that rotate the chroma plane of YIQ by angles (B,) in radians."""
    there = torch.tensor(YIQ)
    back, there = torch.linalg.inv(there).to(angle), there.to(angle)  # inverted on the CPU: no waiting for a device
    turn = torch.zeros(len(angle), 3, 3, dtype=angle.dtype, device=angle.device)
    turn[:, 0, 0] = 1
    turn[:, 1, 1] = turn[:, 2, 2] = angle.cos()
    turn[:, 2, 1] = angle.sin()
    turn[:, 1, 2] = -turn[:, 2, 1]
    return back @ turn @ there


def with_colors_of(pictures: Tensor, images: Tensor) -> Tensor:
    """The luminance of pictures (B, 3, H, W) with the two color channels of images (B, 3, H, W), floats, in YIQ.

    Gatys et al. 2016, arXiv 1606.05897: preserving color.
    """
    there = torch.tensor(YIQ)
    back, there = torch.linalg.inv(there).to(pictures), there.to(pictures)  # inverted on the CPU: no waiting
    light, color = (torch.einsum("bchw,dc->bdhw", each, there) for each in (pictures, images))
    return torch.einsum("bchw,dc->bdhw", torch.cat([light[:, :1], color[:, 1:]], 1), back).clamp(0, 1)


def add_color(images: Tensor, color: Tensor) -> Tensor:
    """Add one color (B, C), where white is 1, to all pixels of an image, clipped at black and white."""
    color = color[..., None, None]
    if images.dtype == torch.uint8:
        return as_type(images + color * 255, images)
    return (images + color.to(images.dtype)).clamp_(0, 1)


def erase(images: Tensor, middle: tuple[Tensor, Tensor], size: int, fill: Tensor | float = 0) -> Tensor:
    """Fill a square of `size` pixels, its center at rows and columns (B,) int64, cut at the images' edges.

    fill: the color, a number or (C,), where white is 1.
    """
    down, along = (
        torch.arange(side, device=images.device) - place[:, None] + size // 2
        for side, place in zip(images.shape[2:], middle, strict=True)
    )
    inside = [(line >= 0) & (line < size) for line in (down, along)]
    hole = (inside[0][:, :, None] & inside[1][:, None, :])[:, None].to(images.dtype)
    color = torch.as_tensor(fill, dtype=torch.float32, device=images.device).view(-1, 1, 1)
    color = as_type(color * 255 if images.dtype == torch.uint8 else color, images)
    return images * (1 - hole) + color * hole


def principal_axes(images: Tensor) -> Tensor:
    """Principal components (C, C) of a set's colors: column k is the k-th eigenvector of the pixels' covariance, as
    long as their standard deviation along it, where white is 1."""
    _, covariance = moments(images)
    values, vectors = torch.linalg.eigh(covariance)
    return (vectors * values.clamp(min=0).sqrt()).float().to(images.device)


def moments(images: Tensor) -> tuple[Tensor, Tensor]:
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


# Random numbers and types


def uniform(images: Tensor, *shape: int, generator: torch.Generator | None) -> Tensor:
    """Random numbers (B, *shape) in [0, 1), one row an image."""
    return torch.rand(len(images), *shape, generator=generator, device=images.device)


def integers(images: Tensor, count: int, generator: torch.Generator | None) -> Tensor:
    """Random integers (B,) from 0 to count - 1, int64, one an image."""
    return torch.randint(count, (len(images),), generator=generator, device=images.device)


def as_type(found: Tensor, images: Tensor) -> Tensor:
    """`found` (B, C, H, W) in the dtype of images; rounded and clipped to 0..255 for uint8."""
    return found.round_().clamp_(0, 255).byte() if images.dtype == torch.uint8 else found.to(images.dtype)
