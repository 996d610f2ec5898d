"""Sliding window: a classifier on windows of several sizes at every place of an image, the baseline of detection.

CS231n, lecture 11; as Dalal & Triggs 2005, "Histograms of oriented gradients for human detection", section 6, with a
network on any backbone instead of histograms. The shapes of windows are k-means clusters of the training boxes'
(Redmon & Farhadi 2016, arXiv 1612.08242, section 2); nothing moves them to their objects.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple, Self

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from vision.backbones import Backbone
from vision.data.samples import Sample, Target
from vision.detection import crops
from vision.detection.clusters import cluster, shapes_of
from vision.detection.detections import Detections
from vision.detection.detector import SMALL, Detector, Objects, Size
from vision.ops import anchors, boxes, nms


class Options(NamedTuple):
    """Hyperparameters of the sliding window."""

    side: int = 64  # pixels, of the crops
    width: int = 256  # features
    count: int = 16  # windows of an image in the loss
    positives: float = 0.5  # of them, at most
    shapes: int = 5  # of windows
    step: float = 0.2  # of a window's sides, from one to the next
    high: float = 0.6  # IoU of a window that shows an object
    low: float = 0.4  # below it, one shows background
    least: float = 0.05  # score of a detection
    threshold: float = 0.3  # IoU of suppression
    most: int = 100  # detections of an image


class SlidingWindow(Detector):
    """Every window is warped and classified by itself. classes: without background."""

    keeps_scenes = True
    recipes = {
        "shapes": SMALL | dict(width=0.5, head_width=256, regions=16, crop=32),
        "folder": dict(head_width=256, regions=32, size=320, longest=533, crop=48),
    }

    @classmethod
    def of(cls, config: Any, backbone: Backbone, objects: Objects, size: int) -> Self:
        options = Options(config.crop, config.head_width, config.regions, shapes=config.anchors or 1)
        return cls(backbone, objects.classes, options)

    def __init__(self, backbone: Backbone, classes: int, options: Options | None = None) -> None:
        super().__init__(backbone)
        self.classes, self.options = classes, options or Options()
        self.network = crops.CropNetwork(backbone, self.options.side, self.options.width)
        self.last = nn.Linear(self.options.width, classes + 1)
        shapes = torch.linspace(0.2, 0.8, self.options.shapes)[:, None].expand(-1, 2)
        self.register_buffer("shapes", shapes.clone())  # (S, 2) widths and heights, in parts of the image

    def prepare(self, samples: Sequence[Sample]) -> None:
        sizes = shapes_of(samples).to(self.shapes.device)
        self.shapes.copy_(cluster(sizes, len(self.shapes)))

    def windows(self, size: Size) -> Tensor:
        """The windows (N, 4) of an image of `size` (height, width), inside of it, shape by shape."""
        found = []
        for width, height in (self.shapes * self.shapes.new_tensor([size[1], size[0]])).tolist():
            steps = max(1.0, self.options.step * height), max(1.0, self.options.step * width)
            counts = int((size[0] - height) / steps[0]) + 1, int((size[1] - width) / steps[1]) + 1
            corner = anchors.grid(counts, steps, self.shapes.device)
            found.append(torch.cat([corner, corner + corner.new_tensor([width, height])], 1))
        return torch.cat(found)

    def losses(self, images: Tensor, sizes: Sequence[Size], targets: Sequence[Target]) -> dict[str, Tensor]:
        options = self.options
        limits = options.count, options.positives, options.high, options.low
        own, whose, labels = crops.sample_crops([self.windows(size) for size in sizes], targets, *limits)
        with self.autocast():
            _, features = self.network(self.backbone, self.network.warp(images, own, whose))
        return {"loss/classes": F.cross_entropy(self.last(features.float()), labels)}

    @torch.no_grad()
    def detect(self, images: Tensor, sizes: Sequence[Size]) -> list[Detections]:
        results = []
        for image, size in zip(images, sizes, strict=True):
            found = self.windows(size)
            _, features = self.network.describe(self.backbone, image[:, : size[0], : size[1]], found)
            probability = self.last(features).softmax(1)[:, 1:]
            row, label = (probability > self.options.least).nonzero(as_tuple=True)
            own, score = boxes.clip(found[row], size), probability[row, label]
            kept = nms.batched_nms(own, score, label, self.options.threshold, self.classes)[: self.options.most]
            results.append(Detections(own[kept], score[kept], label[kept]))
        return results
