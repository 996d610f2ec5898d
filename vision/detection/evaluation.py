"""Evaluation of a detector: what it finds in samples, in the pixels of their own images, scored by COCO's rules."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from vision.data.samples import Sample, Target
from vision.detection import data
from vision.detection.detections import Detections
from vision.detection.detector import Detector
from vision.detection.metrics import CocoEvaluator

Shown = list[tuple[Tensor, Target, Detections]]  # images with what is in them and what was found


@torch.no_grad()
def find(model: Detector, images: Sequence[Tensor], size: int | None, longest: int | None) -> list[Detections]:
    """What a detector finds in images (3, H, W) uint8 of any sizes, in their own pixels, on the CPU."""
    device = next(model.parameters()).device
    resize = data.resizing(size, longest, model.fixed_size)
    batch = data.collate([resize(Sample(image)) for image in images], [tuple(each.shape[1:]) for each in images])
    model.eval()
    results = []
    for found, scale in zip(model.detect(batch.images.to(device), batch.sizes), batch.scales, strict=True):
        boxes = found.boxes / found.boxes.new_tensor(scale * 2)
        results.append(dataclasses.replace(found, boxes=boxes).to("cpu"))
    return results


def evaluate(
    config: Any,
    model: Detector,
    sets: data.Images,
    samples: Sequence[Sample],
    count: int,
    size: int | None,
    shown: int = 0,
) -> tuple[CocoEvaluator, Shown]:
    """Score the first `count` samples, and keep the first `shown` for pictures."""
    evaluator, kept = CocoEvaluator(len(sets.classes)), []
    for begin in range(0, count, config.batch):
        part = [samples[index] for index in range(begin, min(begin + config.batch, count))]
        found = find(model, [sample.image for sample in part], size, config.longest)
        for sample, each in zip(part, found, strict=True):
            evaluator.add(each, sample.target)
            if len(kept) < shown:
                kept.append((sample.image, sample.target, each))
    return evaluator, kept
