"""Evaluation of a detector: what it finds in samples, in the pixels of their own images, scored by COCO's rules,
and by VOC's where the data are in its format."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import Any, Literal

import torch
from torch import Tensor

from vision.data.samples import Sample, Target
from vision.detection import data
from vision.detection.detections import Detections
from vision.detection.detector import Detector
from vision.detection.metrics import CocoEvaluator, VocEvaluator
from vision.detection.metrics.libraries import Library, LibraryEvaluator
from vision.detection.metrics.overlaps import COCO_SIGMAS
from vision.ops import masks

SIGMA = 0.05  # of keypoints that are not COCO's: between its noses and its elbows
Scored = dict[str, CocoEvaluator | VocEvaluator]  # by the beginning of their metrics' names
Shown = list[tuple[Tensor, Target, Detections]]  # images with what is in them and what was found


@torch.no_grad()
def find(model: Detector, images: Sequence[Tensor], size: int | None, longest: int | None) -> list[Detections]:
    """What a detector finds in images (3, H, W) uint8 of any sizes, in their own pixels, on the CPU."""
    device = next(model.parameters()).device
    resize = data.resizing(size, longest, model.fixed_size)
    batch = data.collate([resize(Sample(image)) for image in images], [tuple(each.shape[1:]) for each in images])
    model.eval()
    results = []
    pairs = zip(images, model.detect(batch.images.to(device), batch.sizes), batch.scales, strict=True)
    for image, found, scale in pairs:
        found = found.to("cpu")
        fields = {"boxes": found.boxes / found.boxes.new_tensor(scale * 2)}
        if found.masks is not None:
            fields["masks"] = masks.paste(found.masks, fields["boxes"], tuple(image.shape[1:]))
        if found.keypoints is not None:
            fields["keypoints"] = found.keypoints / found.keypoints.new_tensor([*scale, 1.0])
        results.append(dataclasses.replace(found, **fields))
    return results


def evaluators(model: Detector, sets: data.Images, library: Library = "own") -> Scored:
    """The evaluators of what a detector finds: that of boxes is "", and "voc_" has VOC's rule of 2010 to 2012, which
    does not count difficult objects, at an IoU of 0.5. library: that scores boxes and masks by COCO's rules."""
    objects = sets.objects

    def coco(kind: Literal["boxes", "masks"]) -> CocoEvaluator:
        if library == "own":
            return CocoEvaluator(objects.classes, kind)
        return LibraryEvaluator(objects.classes, kind, library)

    found: Scored = {"": coco("boxes")}
    if sets.format == "voc":
        found["voc_"] = VocEvaluator(objects.classes)
    if model.kind == "masks" and objects.masks:
        found["mask_"] = coco("masks")
    if model.kind == "keypoints" and objects.keypoints:
        sigmas = COCO_SIGMAS if objects.keypoints == len(COCO_SIGMAS) else (SIGMA,) * objects.keypoints
        found["keypoint_"] = CocoEvaluator(objects.classes, "keypoints", sigmas)
    return found


def evaluate(
    config: Any,
    model: Detector,
    sets: data.Images,
    samples: Sequence[Sample],
    count: int,
    size: int | None,
    shown: int = 0,
) -> tuple[Scored, Shown]:
    """Score the first `count` samples, and keep the first `shown` for pictures."""
    scored, kept = evaluators(model, sets, config.evaluator), []
    for begin in range(0, count, config.batch):
        part = [samples[index] for index in range(begin, min(begin + config.batch, count))]
        found = find(model, [sample.image for sample in part], size, config.longest)
        for sample, each in zip(part, found, strict=True):
            target = model.asked(sample.target)
            for evaluator in scored.values():
                evaluator.add(each, target)
            if len(kept) < shown:
                kept.append((sample.image, target, each))
    return scored, kept
