"""Keypoint R-CNN, human pose: Faster R-CNN with the keypoints of every object, each one place of a grid of its box.

He et al. 2017, "Mask R-CNN", arXiv 1703.06870, section 5: eight 3x3 convolutions, a transposed one and bilinear
upsampling give a heatmap of 56 x 56 a keypoint, of which softmax over all places is learned. Torchvision's published
weights load (torchvision_weights.py). Of several classes each has the same keypoints.

Deviation: a keypoint is the largest place of a heatmap that is enlarged to twice its sides by bicubic interpolation,
for all objects at once; the authors enlarge each to its own box. Drawn scenes have five keypoints an object, its
outermost points and its center (Maninis et al. 2018, arXiv 1711.09081).
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

POOLED = 14  # places, side of a region that keypoints are predicted from
SIDE = 4 * POOLED  # of a heatmap
FINER = 2  # times the heatmap's sides, where its largest place is found
LAYERS = 8  # 3x3 convolutions of the head


class KeypointPredictor(nn.Module):
    """A transposed convolution and bilinear upsampling, each of which doubles the sides: logits (N, P, 56, 56)."""

    def __init__(self, width: int, keypoints: int) -> None:
        super().__init__()
        self.kps_score_lowres = nn.ConvTranspose2d(width, keypoints, 4, 2, padding=1)

    def forward(self, features: Tensor) -> Tensor:
        low = self.kps_score_lowres(features)
        return F.interpolate(low, scale_factor=2, mode="bilinear", align_corners=False)


class KeypointRCNN(FasterRCNN):
    """Faster R-CNN that also finds keypoints of each object. Targets need keypoints. classes: without background."""

    kind = "keypoints"

    @classmethod
    def of(cls, config: Any, backbone: Backbone, objects: Objects, size: int) -> Self:
        if not objects.keypoints:
            raise ValueError("keypoint_rcnn learns from keypoints, and the objects of this data set have none")
        return cls(backbone, objects.classes, Options.of(config), objects.keypoints)

    def __init__(self, backbone: Backbone, classes: int, options: Options | None = None, keypoints: int = 17) -> None:
        super().__init__(backbone, classes, options)
        inputs, width, layers = self.options.width, 2 * self.options.width, []
        for _ in range(LAYERS):
            layers += [nn.Conv2d(inputs, width, 3, padding=1), nn.ReLU()]
            inputs = width
        self.roi_heads.keypoint_head = nn.Sequential(*layers)
        self.roi_heads.keypoint_predictor = KeypointPredictor(width, keypoints)
        for layer in [*layers, self.roi_heads.keypoint_predictor.kps_score_lowres]:
            if not isinstance(layer, nn.ReLU):
                nn.init.kaiming_normal_(layer.weight, mode="fan_out", nonlinearity="relu")
                nn.init.zeros_(layer.bias)

    def heatmaps(self, maps: list[Tensor], found: Sequence[Tensor]) -> Tensor:
        """Logits (N, P, 56, 56) of the boxes (N_i, 4) of each image, from the maps (B, C, H, W)."""
        pooled, _ = regions.pool(maps[:-1], self.strides, found, POOLED)
        return self.roi_heads.keypoint_predictor(self.roi_heads.keypoint_head(pooled)).float()

    def extra_losses(
        self, maps: list[Tensor], sampled: regions.Regions, targets: Sequence[Target]
    ) -> dict[str, Tensor]:
        places, wanted = [], []
        for number, target in enumerate(targets):
            rows = ((sampled.image == number) & (sampled.labels > 0)).nonzero()[:, 0]
            own = target.keypoints if target.crowd is None else target.keypoints[~target.crowd]
            places.append(sampled.boxes[rows])
            wanted.append(grid_places(own[sampled.objects[rows]], sampled.boxes[rows], SIDE))
        logits, wanted = self.heatmaps(maps, places).flatten(0, 1).flatten(1), torch.cat(wanted).flatten()
        rows = (wanted >= 0).nonzero()[:, 0]
        if not len(rows):
            return {"loss/keypoints": logits.sum() * 0}
        return {"loss/keypoints": F.cross_entropy(logits[rows], wanted[rows])}

    def extra_results(self, maps: list[Tensor], found: list[Detections]) -> list[Detections]:
        own = [each.boxes for each in found]
        points = regions.per_image(from_heatmaps(self.heatmaps(maps, own), torch.cat(own)), found)
        return [dataclasses.replace(each, keypoints=part) for each, part in zip(found, points, strict=True)]


def grid_places(keypoints: Tensor, boxes: Tensor, side: int) -> Tensor:
    """The place (N, P) int64 of a side x side grid of boxes (N, 4) that keypoints (N, P, 3) lie in, row by row; -1
    for those that are not labeled or lie outside.
    """
    low, extent = boxes[:, None, :2], (boxes[:, 2:] - boxes[:, :2]).clamp(min=1e-6)[:, None]
    part = (keypoints[..., :2] - low) / extent
    inside = ((part >= 0) & (part <= 1)).all(2) & (keypoints[..., 2] > 0)
    x, y = (part * side).long().clamp(0, side - 1).unbind(2)
    return torch.where(inside, y * side + x, -1)


def from_heatmaps(logits: Tensor, boxes: Tensor) -> Tensor:
    """Keypoints (N, P, 3), x, y and score, of heatmaps (N, P, S, S) of boxes (N, 4); scores are logits, as published
    detectors have them.
    """
    if not len(logits):
        return logits.new_zeros(0, logits.shape[1], 3)
    fine = F.interpolate(logits, scale_factor=FINER, mode="bicubic", align_corners=False)
    side = fine.shape[-1]
    score, place = fine.flatten(2).max(2)
    part = torch.stack([place % side, place // side], 2) + 0.5
    points = boxes[:, None, :2] + part / side * (boxes[:, 2:] - boxes[:, :2])[:, None]
    return torch.cat([points, score[..., None]], 2)
