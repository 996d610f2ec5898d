"""Occlusion maps, and perturbation saliency: how much scores change when a part of the image is covered or blurred.

    map = occlusion(model, images, classes, window=8, stride=4)              # (B, H, W)
    map = perturbation_saliency(model, observations, actions)               # (B, H, W)

Zeiler & Fergus 2013 (arXiv 1311.2901), section 4.2; Greydanus et al. 2018 (arXiv 1711.00138). Both forward many
altered images at a time, and need no gradients. A model, its images and classes are those of gradients.py.
"""

from __future__ import annotations

import functools
import math

import torch
from torch import Tensor

from vision.interpretation.gradients import Classes, Model, as_floats, chosen_classes, evaluation_mode

TRUNCATE = 4.0  # standard deviations, where scipy.ndimage.gaussian_filter cuts its kernel


def occlusion(
    model: Model,
    images: Tensor,
    classes: Classes = None,
    window: int | tuple[int, int] = 8,
    stride: int | tuple[int, int] = 4,
    baseline: Tensor | float = 0.0,
    batch: int = 64,
) -> Tensor:
    """Occlusion map (B, H, W) of images (B, C, H, W): the fall of a class score while a window covers a pixel.

    It is the mean over the windows that cover the pixel, as Captum's. Windows at the lower and right edge are cut.

    window, stride: pixels, down and across. baseline: what covers, a number from 0 to 1 or a tensor that broadcasts
    to the images. batch: altered images at a time.
    Raises ValueError where the window is larger than the image, or the stride than the window.
    """
    size = tuple(images.shape[2:])
    window, stride = _pair(window), _pair(stride)
    sides = zip(window, stride, size, strict=True)
    if not all(0 < step <= wide <= side for wide, step, side in sides):
        raise ValueError(
            f"a window {window} with stride {stride} does not cover images {size}: stride <= window <= side"
        )
    places = [
        range(0, stride[axis] * math.ceil((size[axis] - window[axis]) / stride[axis]) + 1, stride[axis])
        for axis in (0, 1)
    ]
    masks = torch.zeros(len(places[0]) * len(places[1]), 1, *size, device=images.device)
    for number, (top, left) in enumerate((top, left) for top in places[0] for left in places[1]):
        masks[number, 0, top : top + window[0], left : left + window[1]] = 1
    with evaluation_mode(model), torch.no_grad():
        pixels = as_floats(images)
        scores = model(pixels)
        chosen = chosen_classes(scores, classes)
        fall = scores[:, None] - _scores_of_altered(model, pixels, masks, baseline, batch)
        fall = fall.gather(2, chosen[:, None, None].expand(-1, len(masks), 1))[..., 0]  # (B, windows)
        return torch.einsum("bn,nhw->bhw", fall, masks[:, 0]) / masks.sum((0, 1))


def perturbation_saliency(
    model: Model,
    images: Tensor,
    classes: Tensor | int | None = None,
    stride: int = 5,
    radius: float = 5.0,
    blur: float = 3.0,
    batch: int = 64,
) -> Tensor:
    """Perturbation saliency (B, H, W) of observations (B, C, H, W): one place every `stride` pixels, linear between.

    Greydanus et al. 2018, equations 1 to 3: at each place the image is replaced by its blurred self under a mask, a
    Gaussian of deviation `radius` around a disc of radius 1, divided by its largest value; the saliency is half the
    squared change of the scores, L2 over all of them. 80 x 80 pixels make 256 forward passes, `batch` at a time: more
    at a time are slower where they do not fit into a processor's caches. Deviation: the authors stretch the grid of
    places over the image, which displaces it by up to half a stride.

    classes: (B,) or one: half the squared change of this score alone, because the sum over all hardly depends on the
    output layer (Huber et al. 2022). blur: pixels, deviation of the image's blur. All channels (frames) are blurred.
    """
    size = tuple(images.shape[2:])
    with evaluation_mode(model), torch.no_grad():
        pixels = as_floats(images)
        masks = place_masks(size, stride, radius).to(pixels)
        scores = model(pixels)
        change = _scores_of_altered(model, pixels, masks, gaussian_blur(pixels, blur), batch) - scores[:, None]
        if classes is not None:
            chosen = chosen_classes(scores, classes)
            change = change.gather(2, chosen[:, None, None].expand(-1, len(masks), 1))
        found = change.square().sum(2) / 2
        grid = [math.ceil(side / stride) for side in size]
        return _at_places(found.unflatten(1, grid), size, stride)


def _at_places(maps: Tensor, size: tuple[int, int], stride: int) -> Tensor:
    """Maps (B, h, w), of places at the pixels 0, stride, 2 stride, ..., as (B, *size): linear between the places."""
    lines = []
    for side in size:
        places = torch.arange(0, side, stride)
        line = (1 - (torch.arange(side)[:, None] - places).abs() / stride).clamp(min=0)
        line[places[-1] :, -1] = 1  # after the last place
        lines.append(line.to(maps))
    return torch.einsum("yh,bhw,xw->byx", lines[0], maps, lines[1])


@functools.lru_cache(maxsize=4)
def place_masks(size: tuple[int, int], stride: int, radius: float) -> Tensor:
    """Greydanus' masks (places, 1, H, W) from 0 to 1, one every `stride` pixels, row by row."""
    rows, columns = (torch.arange(side)[:, None] - torch.arange(0, side, stride) for side in size)
    discs = [
        (rows[:, i, None].square() + columns[:, j].square() <= 1).float()
        for i in range(rows.shape[1])
        for j in range(columns.shape[1])
    ]
    masks = gaussian_blur(torch.stack(discs)[:, None], radius)
    return masks / masks.amax((2, 3), keepdim=True)


def gaussian_blur(images: Tensor, deviation: float) -> Tensor:
    """Images (B, C, H, W) blurred by a Gaussian, mirrored at the edges, as scipy.ndimage.gaussian_filter does.

    deviation: pixels; 0 changes nothing. The kernel ends at 4 deviations.
    """
    if not deviation:
        return images
    for axis, side in ((2, images.shape[2]), (3, images.shape[3])):
        images = torch.tensordot(images, _blur_matrix(side, deviation).to(images), ([axis], [1])).movedim(-1, axis)
    return images


@functools.lru_cache(maxsize=16)
def _blur_matrix(side: int, deviation: float) -> Tensor:
    """The blur along one axis as a matrix (side, side): row i has the weights of pixel i of the result."""
    reach = int(TRUNCATE * deviation + 0.5)
    steps = torch.arange(-reach, reach + 1)
    weights = torch.exp(-0.5 * (steps / deviation).square())
    weights = (weights / weights.sum()).expand(side, -1)
    index = (torch.arange(side)[:, None] + steps).remainder(2 * side)  # mirrored: d c b a | a b c d | d c b a
    index = torch.where(index < side, index, 2 * side - 1 - index)
    return torch.zeros(side, side).scatter_add_(1, index, weights)


def _scores_of_altered(model: Model, pixels: Tensor, masks: Tensor, other: Tensor | float, batch: int) -> Tensor:
    """Scores (B, P, K) of every image (B, C, H, W) with `other` under each of the masks (P, 1, H, W)."""
    other = torch.as_tensor(other, device=pixels.device, dtype=pixels.dtype).expand_as(pixels)
    found = []
    for image, cover in zip(pixels, other, strict=True):
        parts = [model(torch.lerp(image, cover, some)) for some in masks.split(max(batch, 1))]
        found.append(torch.cat(parts))
    return torch.stack(found)


def _pair(sides: int | tuple[int, int]) -> tuple[int, int]:
    return (sides, sides) if isinstance(sides, int) else tuple(sides)
