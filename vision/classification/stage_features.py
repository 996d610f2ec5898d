"""Features of a backbone's stages as vectors: for linear classifiers on them, retrieval and transfer.

    backbone = stage_features.load("results/cifar10/classification-1", (3, 32, 32))
    last = stage_features.extract(backbone, images)[-1]         # (N, channels) float32

Razavian et al. 2014, "CNN features off-the-shelf", arXiv 1403.6382.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import torch
from torch import Tensor
from torch.nn import functional as F

from vision import backbones

CHUNK = 250  # images at a time
ALL = slice(None)  # stages


def load(name: str | Path, shape: Sequence[int], **options: object) -> backbones.Backbone:
    """A frozen backbone by name, name:weights or a run's folder, with the cifar stem for images up to 64 pixels where
    it is a new one."""
    if str(name) in backbones.BACKBONES and max(shape[1:]) <= 64 and "stem" not in options:
        options |= {"stem": "cifar"} if "cifar" in backbones.BACKBONES[str(name)].stems else {}
    return backbones.build(name, shape, frozen=True, **options)


@torch.inference_mode()
def extract(backbone: backbones.Backbone, images: Tensor, side: int = 1, stages: slice = ALL) -> list[Tensor]:
    """The maps of stages, fine to coarse, averaged over a grid of side x side places: (N, channels * side^2) float32.

    images: (N, C, H, W) uint8. They are resized and cut as the backbone's weights were trained, where these are
    published ones (backbone.preprocessing). stages: those that are wanted, by themselves all.
    """
    device = next(backbone.parameters()).device
    parts: list[list[Tensor]] = []
    for rows in images.split(CHUNK):
        rows = rows.to(device)
        if backbone.preprocessing is not None:
            rows = backbone.preprocessing.cut(rows)
        maps = backbone(rows)[stages]
        parts.append([F.adaptive_avg_pool2d(found.float(), side).flatten(1) for found in maps])
    return [torch.cat(stage) for stage in zip(*parts, strict=True)]
