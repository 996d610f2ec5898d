"""FCOS: every place of a pyramid predicts a class, the distances to a box's four sides, and how central it lies.

Tian et al. 2019, "FCOS: fully convolutional one-stage object detection", arXiv 1904.01355, with center sampling and
the centerness beside the box, as its authors' improved version. No anchors. Layers are those of torchvision's
fcos_resnet50_fpn, and as many weights.

Deviation: distances are exponentials, as in the paper, without a learned scale for each level.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, NamedTuple, Self

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from vision.backbones import Backbone
from vision.data.samples import Target
from vision.detection.detections import Detections
from vision.detection.detector import SMALL, Detector, Objects, Size, pyramid_maps
from vision.detection.regions import present
from vision.ops import anchors, boxes, nms
from vision.ops.pyramid import FeaturePyramid

LAYERS = 4  # convolutions of each tower
GROUPS = 32  # of their group norms, at most
RADIUS = 1.5  # strides from an object's center within which places learn it
REACH = 8.0  # strides, the longest distance that a level predicts; the next one has what is longer
ALPHA, GAMMA = 0.25, 2.0  # of the focal loss (Lin et al. 2017, arXiv 1708.02002)
RARE = 0.01  # probability of an object in the beginning


class Options(NamedTuple):
    """Hyperparameters of FCOS."""

    width: int = 256  # channels of pyramid and towers
    least: float = 0.05  # score of a detection
    before: int = 1000  # places of a level, before suppression
    threshold: float = 0.6  # of suppression
    most: int = 100  # detections of an image


class FCOS(Detector):
    """One-stage detector without anchors. classes: without background."""

    keeps_scenes = True
    recipes = {
        "shapes": SMALL | dict(width=0.5, channels=64),
        "folder": dict(channels=128, size=320, longest=533),
    }

    @classmethod
    def of(cls, config: Any, backbone: Backbone, objects: Objects, size: int) -> Self:
        return cls(backbone, objects.classes, Options(config.channels))

    def __init__(self, backbone: Backbone, classes: int, options: Options | None = None) -> None:
        super().__init__(backbone)
        self.classes, self.options = classes, options or Options()
        width = self.options.width
        self.chosen = pyramid_maps(backbone, finest=8, coarsest=32)
        self.fpn = FeaturePyramid([backbone.channels[index] for index in self.chosen], width, coarser=False)
        self.further = nn.ModuleList(nn.Conv2d(width, width, 3, 2, 1) for _ in range(2))  # P6 and P7
        strides = [backbone.strides[index] for index in self.chosen]
        self.strides = [*strides, 2 * strides[-1], 4 * strides[-1]]
        self.class_tower, self.box_tower = _tower(width), _tower(width)
        self.class_logits = nn.Conv2d(width, classes, 3, padding=1)
        self.distances = nn.Conv2d(width, 4, 3, padding=1)
        self.centerness = nn.Conv2d(width, 1, 3, padding=1)
        for module in (self.class_tower, self.box_tower, self.class_logits, self.distances, self.centerness):
            for layer in module.modules():
                if isinstance(layer, nn.Conv2d):
                    nn.init.normal_(layer.weight, std=0.01)
                    nn.init.zeros_(layer.bias)
        nn.init.constant_(self.class_logits.bias, -math.log((1 - RARE) / RARE))

    def predict(self, images: Tensor) -> tuple[list[Tensor], list[Tensor], list[Tensor], list[Tensor]]:
        """For each pyramid level of images (B, 3, H, W): places' centers (M, 2) in pixels, class logits (B, M, K),
        distances (B, M, 4) to the left, top, right and bottom in pixels, and logits (B, M) of the centerness.
        """
        with self.autocast():
            maps = self.features(images)
            maps = self.fpn([maps[index] for index in self.chosen])
            maps.append(self.further[0](maps[-1]))
            maps.append(self.further[1](F.relu(maps[-1])))
        places, logits, distances, central = [], [], [], []
        for features, stride in zip(maps, self.strides, strict=True):
            features = features.float()
            box = self.box_tower(features)
            places.append(anchors.grid(tuple(features.shape[-2:]), (stride, stride), images.device) + stride / 2)
            logits.append(self.class_logits(self.class_tower(features)).permute(0, 2, 3, 1).flatten(1, 2))
            distances.append(self.distances(box).clamp(max=8).exp().permute(0, 2, 3, 1).flatten(1, 2) * stride)
            central.append(self.centerness(box).permute(0, 2, 3, 1).flatten(1))
        return places, logits, distances, central

    def losses(self, images: Tensor, sizes: Sequence[Size], targets: Sequence[Target]) -> dict[str, Tensor]:
        places, logits, distances, central = self.predict(images)
        strides = [place.new_full((len(place),), stride) for place, stride in zip(places, self.strides, strict=True)]
        last = [torch.full_like(each, number == len(strides) - 1) for number, each in enumerate(strides)]
        places, strides = torch.cat(places), torch.cat(strides)
        high = torch.where(torch.cat(last) > 0, torch.inf, REACH * strides)
        low = torch.where(strides == self.strides[0], 0.0, REACH / 2 * strides)
        logits, distances, central = (torch.cat(each, 1) for each in (logits, distances, central))
        shares, learned = torch.zeros_like(logits), torch.ones_like(central)
        image, rows, wanted = [], [], []
        for number, target in enumerate(targets):
            objects, labels, crowds = present(target)
            whose = assign(places, strides, low, high, objects)
            if len(crowds):
                inside = sides_of(places, crowds).amin(2) > 0
                learned[number, inside.any(0) & (whose < 0)] = 0
            row = (whose >= 0).nonzero()[:, 0]
            shares[number, row, labels[whose[row]]] = 1
            image.append(torch.full_like(row, number))
            rows.append(row)
            wanted.append(objects[whose[row]])
        image, rows, wanted = torch.cat(image), torch.cat(rows), torch.cat(wanted)
        count = max(1, len(rows))
        middle, found = places[rows], distances[image, rows]
        overlap = boxes.paired_giou(torch.cat([middle - found[:, :2], middle + found[:, 2:]], 1), wanted)
        center = centerness_of(sides_of(middle[:, None], wanted[:, None])[:, 0, 0])
        score = F.binary_cross_entropy_with_logits(central[image, rows], center, reduction="sum")
        return {
            "loss/classes": (focal(logits, shares) * learned[..., None]).sum() / count,
            "loss/boxes": (1 - overlap).sum() / count,
            "loss/centerness": score / count,
        }

    @torch.no_grad()
    def detect(self, images: Tensor, sizes: Sequence[Size]) -> list[Detections]:
        levels = list(zip(*self.predict(images), strict=True))
        results = []
        for number, size in enumerate(sizes):
            found, scores, labels = [], [], []
            for places, logits, distances, central in levels:
                score = (logits[number].sigmoid() * central[number].sigmoid()[:, None]).sqrt().flatten()
                score, index = score.topk(min(self.options.before, len(score)))
                likely = score > self.options.least
                score, index = score[likely], index[likely]
                row = index // self.classes
                middle, far = places[row], distances[number, row]
                found.append(torch.cat([middle - far[:, :2], middle + far[:, 2:]], 1))
                scores.append(score)
                labels.append(index % self.classes)
            found, scores, labels = boxes.clip(torch.cat(found), size), torch.cat(scores), torch.cat(labels)
            kept = nms.batched_nms(found, scores, labels, self.options.threshold, self.classes)[: self.options.most]
            results.append(Detections(found[kept], scores[kept], labels[kept]))
        return results


def sides_of(places: Tensor, objects: Tensor) -> Tensor:
    """Distances (..., G, M, 4) of places (..., M, 2) to the left, top, right and bottom of boxes (..., G, 4): all are
    positive inside.
    """
    low = places[..., None, :, :] - objects[..., :, None, :2]
    return torch.cat([low, objects[..., :, None, 2:] - places[..., None, :, :]], -1)


def assign(places: Tensor, strides: Tensor, low: Tensor, high: Tensor, objects: Tensor) -> Tensor:
    """The object (M,) int64 that each place (M, 2) learns, or -1: the smallest of those (G, 4) in which it lies,
    within RADIUS strides (M,) of the center, whose farthest side is from `low` to `high` pixels away (M,).
    """
    if not len(objects):
        return torch.full((len(places),), -1, dtype=torch.int64, device=places.device)
    sides = sides_of(places, objects)
    center = (objects[:, None, :2] + objects[:, None, 2:]) / 2
    near = (places - center).abs().amax(2) < RADIUS * strides
    far = sides.amax(2)
    fits = (sides.amin(2) > 0) & near & (far >= low) & (far <= high)
    area = torch.where(fits, boxes.area(objects)[:, None], torch.inf)
    smallest, whose = area.min(0)
    return torch.where(smallest.isfinite(), whose, -1)


def centerness_of(sides: Tensor) -> Tensor:
    """Centerness (N,) of distances (N, 4) to left, top, right, bottom: section 3.3, equation 3."""
    along, down = sides[:, 0::2], sides[:, 1::2]
    ratio = (along.amin(1) / along.amax(1)) * (down.amin(1) / down.amax(1))
    return ratio.clamp(min=0).sqrt()


def focal(logits: Tensor, shares: Tensor) -> Tensor:
    """Focal loss (...) of logits (...) for targets 0 or 1 (...): easy places count little."""
    probability = logits.sigmoid()
    right = probability * shares + (1 - probability) * (1 - shares)
    weight = ALPHA * shares + (1 - ALPHA) * (1 - shares)
    loss = F.binary_cross_entropy_with_logits(logits, shares, reduction="none")
    return weight * (1 - right) ** GAMMA * loss


def _tower(width: int) -> nn.Sequential:
    groups = math.gcd(GROUPS, max(1, width // 2))  # two channels at least: a map may have a single place
    layers = [(nn.Conv2d(width, width, 3, padding=1), nn.GroupNorm(groups, width), nn.ReLU()) for _ in range(LAYERS)]
    return nn.Sequential(*(layer for block in layers for layer in block))
