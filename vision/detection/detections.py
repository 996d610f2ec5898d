"""Detections: what a detector finds in one image."""

from __future__ import annotations

import dataclasses
from typing import Self

import torch
from torch import Tensor


@dataclasses.dataclass(frozen=True)
class Detections:
    """K objects found in an image of height H and width W, in any order.

    Raises ValueError, which names the field, where the fields do not agree in number.
    """

    boxes: Tensor  # (K, 4) floats: left, top, right, bottom, in pixels
    scores: Tensor  # (K,) floats
    labels: Tensor  # (K,) int64: classes
    masks: Tensor | None = None  # (K, H, W) bool
    keypoints: Tensor | None = None  # (K, P, 3) floats: x, y, score

    def __post_init__(self) -> None:
        count = len(self.boxes)
        if self.boxes.shape != (count, 4):
            raise ValueError(f"boxes has shape (K, 4), not {tuple(self.boxes.shape)}")
        for name, value in vars(self).items():
            if value is not None and len(value) != count:
                raise ValueError(f"there are {count} boxes, and {name} has shape {tuple(value.shape)}")

    def __len__(self) -> int:
        return len(self.boxes)

    def __getitem__(self, rows: Tensor) -> Self:
        """Some of them, in the order of `rows`, indices or bools."""
        fields = vars(self).items()
        return dataclasses.replace(self, **{name: value[rows] for name, value in fields if value is not None})

    def to(self, device: str | torch.device) -> Self:
        """Every tensor on that device."""
        fields = vars(self).items()
        return dataclasses.replace(self, **{name: value.to(device) for name, value in fields if value is not None})
