"""Features of a backbone's stages as vectors: for linear probes, retrieval and transfer.

backbone = stage_features.load("results/cifar10/classification-1", (3, 32, 32))
last = stage_features.extract(backbone, images)[-1]         # (N, channels) float32

A linear classifier on them is `linear`, of `Vectors`.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import torch
from torch import Tensor
from torch.nn import functional as F

from vision import backbones
from vision.classification import classical

CHUNK = 250  # images at a time


def load(name: str | Path, shape: Sequence[int], **options: object) -> backbones.Backbone:
    """A frozen backbone by name, name:weights or a run's folder, with the cifar stem for images up to 64 pixels where
    it is a new one."""
    if str(name) in backbones.BACKBONES and max(shape[1:]) <= 64 and "stem" not in options:
        options |= {"stem": "cifar"} if "cifar" in backbones.BACKBONES[str(name)].stems else {}
    return backbones.build(name, shape, frozen=True, **options)


@torch.inference_mode()
def extract(backbone: backbones.Backbone, images: Tensor, side: int = 1) -> list[Tensor]:
    """The maps of every stage, fine to coarse, averaged over a grid of side x side places: (N, channels * side^2).

    images: (N, C, H, W) uint8. They are resized and cut as the backbone's weights were trained, where these are
    published ones (backbone.preprocessing).
    """
    device = next(backbone.parameters()).device
    parts: list[list[Tensor]] = []
    for rows in images.split(CHUNK):
        rows = rows.to(device)
        if backbone.preprocessing is not None:
            rows = backbone.preprocessing.cut(rows)
        maps = backbone(rows)
        parts.append([F.adaptive_avg_pool2d(found.float(), side).flatten(1) for found in maps])
    return [torch.cat(stage) for stage in zip(*parts, strict=True)]


class Vectors(classical.Inputs):
    """Features (N, D) and labels (N,) as vision.classification.classical fits them, standardized by the training
    set's scale, or by a given one."""

    def __init__(self, inputs: Tensor, labels: Tensor, scale: backbones.Standardization | None = None) -> None:
        self.inputs, self.labels, self.shape = inputs, labels.to(inputs.device), inputs.shape[1:]
        if scale is None:
            scale = backbones.Standardization(self.shape, "image", "each").to(inputs.device).fit(inputs)
        self.scale = scale


def linear(
    train: Vectors, validation: Vectors, classes: int, method: str = "softmax", epochs: int = 20, seed: int = 1
) -> float:
    """Accuracy in percent, on validation vectors, of a linear classifier on train vectors, by softmax or svm."""
    config = classical.Config(
        method=method, features="hog", epochs=epochs, seed=seed, batch=min(200, len(train)), **RATES[method]
    )
    model, _ = classical.fit(config, train, validation, classes)
    return classical.accuracy(model, validation)


RATES = {"softmax": dict(learning_rate=3e-2, decay=1e-3), "svm": dict(learning_rate=1e-2, decay=1e-3)}
