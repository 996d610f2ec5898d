"""Image features: histograms of oriented gradients (HOG) and of hues, and those of a pretrained network.

HOG: Dalal & Triggs 2005, "Histograms of oriented gradients for human detection", section 6, as simple as the features
of CS231n's first assignment: cells of 8x8 pixels, 9 unsigned orientations, the mean magnitude of each, and no
normalization over blocks. The hue histogram is the assignment's too.

Deviation from the assignment: a gradient and its opposite count as one orientation; there, half of them are dropped.
"""

from __future__ import annotations

import math
from pathlib import Path

import torch
from torch import Tensor
from torch.nn import functional as F

from vision.classification import stage_features
from vision.data.image_ops import GRAY

FEATURES = ("pixels", "hog", "color", "hog+color")


def extract(images: Tensor, name: str, chunk: int = 500) -> Tensor:
    """A row of features an image, (N, D): uint8 as they are for "pixels", else float32.

    name: of FEATURES, or a pretrained backbone: a run's folder, or published weights as "resnet18:imagenet", whose
        features are the mean over places of its last map.
    images: (N, C, H, W) uint8. chunk: images of which HOG or hues are calculated at a time.
    Raises ValueError on another name, or where the images have no colors or are too small.
    """
    if name == "pixels":
        return images.flatten(1)
    if name not in FEATURES:
        if ":" not in name and not Path(name).exists():
            known = ", ".join(FEATURES)
            raise ValueError(
                f"unknown features {name!r}: there are {known}, and pretrained backbones (a run's folder)"
            )
        backbone = stage_features.load(name, images.shape[1:]).to(images.device)
        return stage_features.extract(backbone, images, stages=slice(-1, None))[0]
    parts = [{"hog": hog, "color": hue_histogram}[part] for part in name.split("+")]
    return torch.cat([torch.cat([part(some) for part in parts], 1) for some in images.split(chunk)])


def gray(images: Tensor) -> Tensor:
    """(B, C, H, W) uint8 of 1 or 3 channels -> (B, 1, H, W) float32 in [0, 1]."""
    if images.shape[1] == 1:
        return images / 255
    if images.shape[1] != 3:
        raise ValueError(f"images of {images.shape[1]} channels have no gray: 1 or 3 are needed")
    return torch.einsum("bchw,c->bhw", images / 255, torch.tensor(GRAY, device=images.device))[:, None]


def hog(images: Tensor, cell: int = 8, bins: int = 9) -> Tensor:
    """Histograms of oriented gradients, (B, bins * cells): the mean over a cell of the magnitude in each bin.

    Bin b holds gradients that point b..b+1 times 180/bins degrees, or the opposite way, from the x axis towards the
    y axis, which points down. Differences are of neighbors, and 0 in the last column and row.

    images: (B, C, H, W) uint8. cell: pixels, side of one; what remains of the image is left out.
    Raises ValueError where the image is smaller than a cell.
    """
    if min(images.shape[2:]) < cell:
        raise ValueError(f"images of {tuple(images.shape[2:])} pixels are smaller than a cell of {cell}")
    light = gray(images)
    across, down = F.pad(light.diff(dim=3), (0, 1)), F.pad(light.diff(dim=2), (0, 0, 0, 1))
    turned = torch.atan2(down, across).remainder(math.pi)
    index = (turned * (bins / math.pi)).long().clamp(max=bins - 1)
    votes = light.new_zeros(len(light), bins, *light.shape[2:]).scatter_(1, index, torch.hypot(across, down))
    return F.avg_pool2d(votes, cell).flatten(1)


def hue_histogram(images: Tensor, bins: int = 10) -> Tensor:
    """The share of an image's pixels whose hue is in each bin, (B, bins). Gray has the hue 0, that of red.

    images: (B, 3, H, W) uint8. Raises ValueError where they have no three channels.
    """
    if images.shape[1] != 3:
        raise ValueError(f"images of {images.shape[1]} channels have no hue: use --features pixels or hog")
    red, green, blue = (images / 255).unbind(1)
    high, low = torch.maximum(torch.maximum(red, green), blue), torch.minimum(torch.minimum(red, green), blue)
    span = torch.where(high > low, high - low, 1.0)
    hue = torch.where(
        high == red,
        ((green - blue) / span).remainder(6),
        torch.where(high == green, (blue - red) / span + 2, (red - green) / span + 4),
    )  # in sixths of the circle, from red over green and blue
    index = (hue * (bins / 6)).long().clamp(max=bins - 1).flatten(1)
    return (
        red.new_zeros(len(images), bins).scatter_add_(1, index, torch.full_like(hue, 1.0).flatten(1)) / index.shape[1]
    )
