"""Images as parameters: gradient ascent on pixels, with the regularizers that make its pictures recognizable.

Simonyan et al. 2013 (L2), Yosinski et al. 2015 (blur, clipping of small pixels and of those with small contribution,
arXiv 1506.06579), Mordvintsev et al. 2015 (jitter, gradients of mean magnitude 1), Mahendran & Vedaldi 2014 (total
variation, arXiv 1412.0035).
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable

import torch
from torch import Tensor

from runs.flag_types import Count, NonNegative, Positive, Share, Whole
from vision.interpretation.gradients import Model, as_floats, differentiable
from vision.interpretation.occlusion import gaussian_blur


@dataclasses.dataclass(frozen=True)
class AscentFlags:
    """How an image climbs."""

    ascent_steps: Count = 256  # of gradient ascent
    step_size: Positive = 0.02  # of pixels from 0 to 1, for a gradient of mean magnitude 1
    l2_decay: Share = 0.01  # of the distance to gray that a step takes away
    blur_every: Whole = 4  # steps; 0: never
    blur_deviation: NonNegative = 0.5  # pixels, of a blur
    clip_pixels: Share = 0.0  # share of the pixels, those nearest to gray, that are set to gray every `clip_every`
    clip_contributions: Share = 0.0  # and share of those that contribute least: |pixel x gradient|
    clip_every: Count = 8  # steps
    jitter: Whole = 2  # pixels, by which the image is shifted at random before each step, at most


GRAY = 0.5  # where pixels start, and what decays go to


def ascend(
    score: Callable[[Tensor], Tensor], start: Tensor, flags: AscentFlags, generator: torch.Generator
) -> Tensor:
    """Images (B, C, H, W) from 0 to 1 that were changed by gradient ascent to raise a score each.

    score: images (B, C, H, W) -> (B,), a function with its model in evaluation mode. start: (B, C, H, W) floats.
    """
    images = start.detach().clone()
    for step in range(1, flags.ascent_steps + 1):
        shift = torch.randint(-flags.jitter, flags.jitter + 1, (2,), generator=generator).tolist()
        images = images.roll(shift, (2, 3))
        gradient = gradient_of(score, images)
        images = images + flags.step_size * gradient / mean_magnitude(gradient)
        images = GRAY + (1 - flags.l2_decay) * (images - GRAY)
        if flags.blur_every and step % flags.blur_every == 0 and step < flags.ascent_steps:
            images = gaussian_blur(images, flags.blur_deviation)
        if step % flags.clip_every == 0:
            far = images - GRAY
            images = clip_smallest(images, far.abs().sum(1), flags.clip_pixels)
            images = clip_smallest(images, (far * gradient).sum(1).abs(), flags.clip_contributions)
        images = images.clamp(0, 1).roll([-each for each in shift], (2, 3))
    return images


def gradient_of(score: Callable[[Tensor], Tensor], images: Tensor) -> Tensor:
    """The gradient (B, C, H, W) of each image's score by its pixels."""
    with torch.inference_mode(False), torch.enable_grad():
        pixels = images.clone().requires_grad_()
        return torch.autograd.grad(score(pixels).sum(), pixels)[0]


def mean_magnitude(gradient: Tensor) -> Tensor:
    """The mean magnitude of each image's gradient (B, C, H, W), (B, 1, 1, 1), at least 1e-12."""
    return gradient.abs().mean((1, 2, 3), keepdim=True).clamp(min=1e-12)


def clip_smallest(images: Tensor, sizes: Tensor, share: float) -> Tensor:
    """Images (B, C, H, W) with the share of pixels set to gray whose sizes (B, H, W) are smallest."""
    count = int(share * sizes[0].numel())
    if not count:
        return images
    largest = sizes.flatten(1).kthvalue(count, dim=1).values[:, None, None]
    return torch.where((sizes <= largest)[:, None], GRAY, images)


def total_variation(images: Tensor) -> Tensor:
    """Total variation (B,) of images (B, C, H, W): the sum of squared differences of neighbors."""
    down, across = images.diff(dim=2), images.diff(dim=3)
    return down.square().sum((1, 2, 3)) + across.square().sum((1, 2, 3))


def fooling_images(
    model: Model, images: Tensor, classes: Tensor, step_size: float = 0.5 / 255, steps: int = 200
) -> tuple[Tensor, Tensor]:
    """Fooling images (B, C, H, W): changed by gradient ascent until a network sees in them the classes (B,).

    CS231n, lecture 12, after Szegedy et al. 2013: only the class's score is maximized, in steps of length step_size
    times the square root of the number of values, and an image stops as soon as it is of its class.
    Returns the images from 0 to 1, and the steps (B,) taken; -1 where it was not reached.
    """
    found, taken = as_floats(images), torch.full_like(classes, -1)
    with differentiable(model):
        for step in range(steps + 1):
            pixels = found.clone().requires_grad_()
            scores = model(pixels)
            reached = scores.detach().argmax(1) == classes
            taken = torch.where(reached & (taken < 0), step, taken)
            if reached.all() or step == steps:
                return found.detach(), taken
            chosen = scores.gather(1, classes[:, None])
            (gradient,) = torch.autograd.grad(chosen.sum(), pixels)
            size = gradient.square().mean((1, 2, 3), keepdim=True).sqrt().clamp(min=1e-12)
            moved = (found + step_size * gradient / size).clamp(0, 1)
            found = torch.where(reached[:, None, None, None], found, moved)
    return found, taken
