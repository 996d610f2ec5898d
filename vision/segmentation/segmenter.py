"""Segmenter: the contract of segmentation networks, which of a backbone's maps they read, and their loss."""

from __future__ import annotations

import contextlib
from collections.abc import Callable

from torch import Tensor, nn
from torch.nn import functional as F

from vision.backbones import Backbone
from vision.data.samples import IGNORE


class Segmenter(nn.Module):
    """A network that classifies every pixel: images (B, C, H, W) -> logits (B, classes, H, W).

    images are uint8 or floats in [0, 1]. `backbone` is a Backbone; `autocast` the context in which maps are
    calculated, in bfloat16 where the device is fast at it; logits and losses are float32.
    """

    def __init__(self, backbone: Backbone) -> None:
        super().__init__()
        self.backbone = backbone
        self.autocast: Callable[[], contextlib.AbstractContextManager] = contextlib.nullcontext

    def losses(self, images: Tensor, semantic: Tensor, weights: Tensor | None = None) -> dict[str, Tensor]:
        """Losses by their names, each a scalar: their sum is minimized.

        semantic: (B, H, W) int64 classes, IGNORE where there is none. weights: (classes,), of the classes' pixels.
        """
        return {"loss/pixels": pixel_loss(self(images), semantic, weights)}


def pixel_loss(logits: Tensor, semantic: Tensor, weights: Tensor | None = None) -> Tensor:
    """Cross-entropy, a scalar in nats: the mean over pixels with a class, weighted by their class.

    logits: (B, classes, H, W). semantic: (B, H, W) int64, IGNORE without a class. weights: (classes,). Zero where no
    pixel has a class.
    """
    losses = F.cross_entropy(logits.float(), semantic, weights, ignore_index=IGNORE, reduction="none")
    known = semantic != IGNORE
    share = known.float() if weights is None else weights[semantic.where(known, 0)] * known
    return losses.sum() / share.sum().clamp(min=1e-6)


def levels(backbone: Backbone, least: int = 1) -> list[int]:
    """Indices of the last map of each stride, fine to coarse: what a decoder goes back through.

    Raises ValueError for a backbone without maps of images, or with fewer than `least` strides.
    """
    maps = backbone.imagine(backbone.shape)
    if all(len(features.shape) < 4 or max(features.shape[-2:]) == 1 for features in maps):
        raise ValueError(f"{backbone.spec['name']} gives no maps of images: choose a convolutional backbone")
    last = {stride: index for index, stride in enumerate(backbone.strides)}
    chosen = [index for _, index in sorted(last.items())]
    if len(chosen) < least:
        name, strides = backbone.spec["name"], ", ".join(map(str, sorted(last)))
        raise ValueError(f"maps of {least} strides are needed, and {name} has those of {strides} pixels")
    return chosen


def double_convolution(inputs: int, outputs: int) -> nn.Sequential:
    """Two 3x3 convolutions with batch norm and ReLU: (B, inputs, H, W) -> (B, outputs, H, W)."""
    layers: list[nn.Module] = []
    for channels in (inputs, outputs):
        layers += [nn.Conv2d(channels, outputs, 3, padding=1, bias=False), nn.BatchNorm2d(outputs), nn.ReLU()]
    return nn.Sequential(*layers)


def resized(features: Tensor, size: tuple[int, int]) -> Tensor:
    """Bilinear interpolation of maps (B, C, H, W) to a size (h, w); as they are where they have it."""
    size = tuple(size)
    if tuple(features.shape[-2:]) == size:
        return features
    return F.interpolate(features, size, mode="bilinear", align_corners=False)
