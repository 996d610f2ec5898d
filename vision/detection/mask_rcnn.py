"""Mask R-CNN: Faster R-CNN with a mask of every object, predicted in a grid of its box for each class by itself.

He et al. 2017, "Mask R-CNN", arXiv 1703.06870, with the head of figure 4, right. Torchvision's published weights load
(torchvision_weights.py). Deviation: a mask is pasted into its image with its grid spanning the box exactly, where the
authors' first code rounded boxes to pixels.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import Any, Self

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from vision.backbones import Backbone
from vision.data.samples import Target
from vision.detection import regions
from vision.detection.detections import Detections
from vision.detection.detector import Objects
from vision.detection.faster_rcnn import FasterRCNN, Options
from vision.ops import masks

POOLED = 14  # places, side of a region that a mask is predicted from: masks have twice as many
LAYERS = 4  # 3x3 convolutions of the head


class MaskPredictor(nn.Module):
    """A transposed convolution that doubles the sides, and a mask for each class: logits (N, K + 1, 28, 28).

    Background, the first, has one too, as in published files.
    """

    def __init__(self, width: int, classes: int) -> None:
        super().__init__()
        self.conv5_mask = nn.ConvTranspose2d(width, width, 2, 2)
        self.mask_fcn_logits = nn.Conv2d(width, classes + 1, 1)

    def forward(self, features: Tensor) -> Tensor:
        return self.mask_fcn_logits(F.relu(self.conv5_mask(features)))


class MaskRCNN(FasterRCNN):
    """Faster R-CNN that also finds the mask of each object. Targets need masks. classes: without background."""

    kind = "masks"

    @classmethod
    def of(cls, config: Any, backbone: Backbone, objects: Objects, size: int) -> Self:
        if not objects.masks:
            raise ValueError("mask_rcnn learns from masks, and objects of this data set have none: see faster_rcnn")
        return super().of(config, backbone, objects, size)

    def __init__(self, backbone: Backbone, classes: int, options: Options | None = None) -> None:
        super().__init__(backbone, classes, options)
        width = self.options.width
        self.roi_heads.mask_head = nn.Sequential(
            *(nn.Sequential(nn.Conv2d(width, width, 3, padding=1), nn.ReLU()) for _ in range(LAYERS))
        )
        self.roi_heads.mask_predictor = MaskPredictor(width, classes)
        for head in (self.roi_heads.mask_head, self.roi_heads.mask_predictor):
            for layer in head.modules():
                if isinstance(layer, nn.Conv2d | nn.ConvTranspose2d):
                    nn.init.kaiming_normal_(layer.weight, mode="fan_out", nonlinearity="relu")
                    nn.init.zeros_(layer.bias)

    def mask_logits(self, maps: list[Tensor], found: Sequence[Tensor]) -> Tensor:
        """Logits (N, K + 1, 28, 28) of the boxes (N_i, 4) of each image, from the maps (B, C, H, W)."""
        pooled, _ = regions.pool(maps[:-1], self.strides, found, POOLED)
        return self.roi_heads.mask_predictor(self.roi_heads.mask_head(pooled)).float()

    def extra_losses(
        self, maps: list[Tensor], sampled: regions.Regions, targets: Sequence[Target]
    ) -> dict[str, Tensor]:
        places, wanted, labels = [], [], []
        for number, target in enumerate(targets):
            rows = ((sampled.image == number) & (sampled.labels > 0)).nonzero()[:, 0]
            own = target.masks if target.crowd is None else target.masks[~target.crowd]
            places.append(sampled.boxes[rows])
            labels.append(sampled.labels[rows])
            wanted.append(masks.crop(own, sampled.boxes[rows], sampled.objects[rows], 2 * POOLED))
        logits, labels = self.mask_logits(maps, places), torch.cat(labels)
        if not len(labels):
            return {"loss/masks": logits.sum() * 0}
        logits = regions.of_labels(logits, labels)
        return {"loss/masks": F.binary_cross_entropy_with_logits(logits, torch.cat(wanted))}

    def extra_results(self, maps: list[Tensor], found: list[Detections]) -> list[Detections]:
        logits = self.mask_logits(maps, [each.boxes for each in found])
        labels = torch.cat([each.labels for each in found]) + 1
        parts = regions.per_image(regions.of_labels(logits, labels).sigmoid(), found)
        return [dataclasses.replace(each, masks=part) for each, part in zip(found, parts, strict=True)]
