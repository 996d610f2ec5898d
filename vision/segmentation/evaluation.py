"""Evaluation of a segmentation network: the classes of every pixel at the image's own size, scored."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from vision.data.samples import Sample
from vision.data.transforms import Resize
from vision.segmentation.metrics import Confusion
from vision.segmentation.segmenter import Segmenter, resized

Shown = list[tuple[Tensor, Tensor, Tensor]]  # images with annotated and predicted classes


@torch.no_grad()
def segment(model: Segmenter, image: Tensor, size: int | None) -> Tensor:
    """The class of each pixel, (H, W) int64 on the CPU, of an image (C, H, W) uint8 that the network sees with its
    shorter side at `size` pixels; None: as it is.
    """
    device = next(model.parameters()).device
    seen = Resize(size)(image[None]) if size else image[None]
    model.eval()
    logits = model(seen.to(device).contiguous(memory_format=torch.channels_last))
    return resized(logits, image.shape[1:])[0].argmax(0).cpu()


def evaluate(
    model: Segmenter, samples: Sequence[Sample], count: int, classes: int, size: int | None, shown: int = 0
) -> tuple[Confusion, Shown]:
    """Score the first `count` samples, and keep the first `shown` for pictures."""
    confusion, kept = Confusion(classes), []
    for index in range(count):
        sample = samples[index]
        found = segment(model, sample.image, size)
        confusion.add(found, sample.target.semantic)
        if index < shown:
            kept.append((sample.image, sample.target.semantic, found))
    return confusion, kept
