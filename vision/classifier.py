"""A backbone with the head that names classes."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from torch import Tensor, nn

from vision import backbones


class Classifier(nn.Module):
    """images (B, C, H, W), floats or uint8 -> logits (B, classes).

    backbone: any; its own `head` is put on top. classes: how many. dropout: of the head, instead of the paper's.
    """

    def __init__(self, backbone: backbones.Backbone, classes: int, dropout: float | None = None) -> None:
        super().__init__()
        self.backbone = backbone
        self.head = backbone.head(classes, dropout)

    def forward(self, images: Tensor) -> Tensor:
        return self.head(self.backbone(images))


def build(name: str, shape: Sequence[int], classes: int, dropout: float | None = None, **options: Any) -> Classifier:
    """A classifier with a backbone as vision.backbones.build makes it; options are the backbone's."""
    return Classifier(backbones.build(name, shape, **options), classes, dropout)
