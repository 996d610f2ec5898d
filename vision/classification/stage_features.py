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
from vision.data.image_ops import GRAY

CHUNK = 250  # images at a time
ALL = slice(None)  # stages


def load(name: str | Path, shape: Sequence[int], **options: object) -> backbones.Backbone:
    """A frozen backbone by name, name:weights or a run's folder, for images of a shape (C, H, W).

    A new one has the cifar stem for images up to 64 pixels. A saved one for gray or color images keeps its channels,
    and `extract` converts images to them.
    """
    if Path(name).is_dir() or Path(name).suffix == ".safetensors":
        own = backbones.load(name).shape
        if {own[0], shape[0]} == {1, 3}:
            shape = (own[0], *shape[1:])
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
        rows = with_channels(rows.to(device), backbone.shape[0])
        if backbone.preprocessing is not None:
            rows = backbone.preprocessing.cut(rows)
        maps = backbone(rows)[stages]
        parts.append([F.adaptive_avg_pool2d(found.float(), side).flatten(1) for found in maps])
    return [torch.cat(stage) for stage in zip(*parts, strict=True)]


def with_channels(images: Tensor, channels: int) -> Tensor:
    """Images (N, C, H, W) uint8 as (N, channels, H, W): gray repeated, or the luma of colors.

    Raises ValueError for other numbers of channels.
    """
    if images.shape[1] == channels:
        return images
    if images.shape[1] == 1:
        return images.expand(-1, channels, -1, -1)
    if (images.shape[1], channels) != (3, 1):
        raise ValueError(f"images of {images.shape[1]} channels cannot be converted to {channels}")
    luma = torch.einsum("nchw,c->nhw", images.float(), torch.tensor(GRAY, device=images.device))
    return luma.round().to(images.dtype)[:, None]
