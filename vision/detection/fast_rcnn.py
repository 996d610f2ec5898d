"""Fast R-CNN: regions of selective search, pooled from one map of a whole image, then class and box of each.

Girshick 2015, "Fast R-CNN", arXiv 1504.08083. On any backbone: RoIPool takes its last map of stride 16 or less, two
dense layers follow, and one multi-task loss trains all of it (section 2.3).

Deviations: all regions that overlap no object by half are background, where the paper takes those of 0.1 to 0.5: a
network that starts from random weights has to learn what empty places look like. One scale of selective search, not
its fast mode, unless options say so.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple, Self

import torch
from torch import Tensor

from vision.backbones import Backbone
from vision.data.samples import Target
from vision.detection import regions, selective_search
from vision.detection.detections import Detections
from vision.detection.detector import SMALL, Detector, Objects, Size, pyramid_maps
from vision.detection.faster_rcnn import POOLED
from vision.ops import roi

COARSEST = 16  # stride of the map that regions are pooled from, at most


class Options(NamedTuple):
    """Hyperparameters of Fast R-CNN."""

    head_width: int = 4096  # units of the dense layers
    count: int = 64  # regions of an image in the loss
    positives: float = 0.25  # of them, at most
    proposals: int = 2000  # of an image
    strategies: tuple[selective_search.Strategy, ...] = selective_search.SINGLE
    least: float = 0.05  # score of a detection
    threshold: float = 0.5  # IoU of suppression
    most: int = 100  # detections of an image


class FastRCNN(Detector):
    """Two stages, of which the first is not learned: selective search, then class and box of each of its regions.

    classes: without background.
    """

    keeps_scenes = True
    recipes = {
        "shapes": SMALL | dict(width=0.5, head_width=256, regions=64, augment="none"),
        "folder": dict(head_width=512, regions=128, size=320, longest=533, augment="none"),
    }

    @classmethod
    def of(cls, config: Any, backbone: Backbone, objects: Objects, size: int) -> Self:
        return cls(backbone, objects.classes, Options(config.head_width, config.regions, proposals=config.proposals))

    def __init__(self, backbone: Backbone, classes: int, options: Options | None = None) -> None:
        super().__init__(backbone)
        self.classes, self.options = classes, options or Options()
        chosen = pyramid_maps(backbone, coarsest=COARSEST)
        self.chosen, self.stride = chosen[-1], backbone.strides[chosen[-1]]
        self.box_head = regions.BoxHead(backbone.channels[self.chosen] * POOLED**2, self.options.head_width)
        self.box_predictor = regions.BoxPredictor(self.options.head_width, classes)
        self.search = selective_search.Remembered(self.options.strategies, self.options.proposals)

    def _predict(self, images: Tensor, found: Sequence[Tensor]) -> tuple[Tensor, Tensor, Tensor]:
        """Logits (N, K + 1), offsets (N, K + 1, 4) and the image (N,) of the regions (N_i, 4) of each image."""
        with self.autocast():
            features = self.features(images)[self.chosen]
        counts = torch.tensor([len(each) for each in found], device=images.device)
        image = torch.arange(len(found), device=images.device).repeat_interleave(counts)
        pooled = roi.roi_pool(features.float(), torch.cat(list(found)), image, (POOLED, POOLED), 1 / self.stride)
        return *self.box_predictor(self.box_head(pooled)), image

    def losses(self, images: Tensor, sizes: Sequence[Size], targets: Sequence[Target]) -> dict[str, Tensor]:
        found = [self.search(image[:, :tall, :wide]) for image, (tall, wide) in zip(images, sizes, strict=True)]
        sampled = regions.sample_regions(found, targets, self.options.count, self.options.positives)
        own = [sampled.boxes[sampled.image == number] for number in range(len(targets))]
        logits, offsets, _ = self._predict(images, own)
        return regions.region_losses(logits, offsets, sampled)

    @torch.no_grad()
    def detect(self, images: Tensor, sizes: Sequence[Size]) -> list[Detections]:
        found = [self.search(image[:, :tall, :wide]) for image, (tall, wide) in zip(images, sizes, strict=True)]
        logits, offsets, image = self._predict(images, found)
        limits = self.options.least, self.options.threshold, self.options.most
        return regions.select(logits, offsets, torch.cat(found), image, sizes, *limits)
