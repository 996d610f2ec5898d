"""Classification and localization: the class and the box of one object, by one network with two outputs.

CS231n, lecture 11; as the single-object task of ILSVRC (Simonyan & Zisserman 2014, arXiv 1409.1556, appendix A).
Softmax for the class and squared errors for the box's four numbers are minimized together. It is asked for the
largest object of an image: the others are neither learned nor scored.
"""

from __future__ import annotations

import dataclasses
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
from vision.ops import boxes, roi

PLACES = 4  # side of the map, pooled, that both outputs are made of: where an object is must not be lost


class Options(NamedTuple):
    """Hyperparameters of classification and localization."""

    width: int = 1024  # units of the dense layer
    weight: float = 20.0  # of the squared errors, whose numbers are parts of the image's sides


class Localization(Detector):
    """One object an image. Images are stretched to one size. classes: without background."""

    fixed_size = True
    native = 224
    recipes = {
        "shapes": SMALL | dict(width=0.5, head_width=256, size=128),
        "folder": dict(head_width=512, size=224),
    }

    @classmethod
    def of(cls, config: Any, backbone: Backbone, objects: Objects, size: int) -> Self:
        return cls(backbone, objects.classes, Options(config.head_width))

    def __init__(self, backbone: Backbone, classes: int, options: Options | None = None) -> None:
        super().__init__(backbone)
        self.classes, self.options = classes, options or Options()
        self.chosen = pyramid_maps(backbone)[-1]
        self.fc = nn.Linear(backbone.channels[self.chosen] * PLACES**2, self.options.width)
        self.class_score = nn.Linear(self.options.width, classes)
        self.box = nn.Linear(self.options.width, 4)

    def predict(self, images: Tensor) -> tuple[Tensor, Tensor]:
        """Logits (B, K) and boxes (B, 4), center and size in parts of the image, of images (B, 3, H, W)."""
        with self.autocast():
            features = self.backbone(images)[self.chosen]
        hidden = F.relu(self.fc(roi.average_pool(features.float(), PLACES).flatten(1)))
        return self.class_score(hidden), self.box(hidden).sigmoid()

    def asked(self, target: Target) -> Target:
        objects, _, _ = present(target)
        if not len(objects):
            return target
        crowd = torch.ones(len(target.boxes), dtype=torch.bool, device=target.boxes.device)
        area = boxes.area(target.boxes)
        if target.crowd is not None:
            area = torch.where(target.crowd, -1.0, area)
        crowd[area.argmax()] = False
        return dataclasses.replace(target, crowd=crowd)

    def losses(self, images: Tensor, sizes: Sequence[Size], targets: Sequence[Target]) -> dict[str, Tensor]:
        logits, found = self.predict(images)
        rows, labels, wanted = [], [], []
        for number, target in enumerate(targets):
            objects, label, _ = present(self.asked(target))
            rows += [number] * len(objects)
            labels.append(label)
            wanted.append(objects)
        wanted = boxes.to_center(torch.cat(wanted)) / found.new_tensor([images.shape[-1], images.shape[-2]] * 2)
        if not rows:
            return {"loss/classes": logits.sum() * 0, "loss/boxes": found.sum() * 0}
        box = (found[rows] - wanted).square().sum(1).mean()
        return {
            "loss/classes": F.cross_entropy(logits[rows], torch.cat(labels)),
            "loss/boxes": self.options.weight * box,
        }

    @torch.no_grad()
    def detect(self, images: Tensor, sizes: Sequence[Size]) -> list[Detections]:
        logits, found = self.predict(images)
        score, label = logits.softmax(1).max(1)
        found = boxes.from_center(found) * found.new_tensor([images.shape[-1], images.shape[-2]] * 2)
        return [
            Detections(boxes.clip(found[row, None], size), score[row, None], label[row, None])
            for row, size in enumerate(sizes)
        ]
