"""Metrics of segmentation: mean intersection over union, pixel accuracy, and what they are made of.

Long et al. 2015 (arXiv 1411.4038), section 5, from one confusion matrix over the pixels of all images.
"""

from __future__ import annotations

import torch
from torch import Tensor

from vision.data.samples import IGNORE


class Confusion:
    """Counts of pixels by their class and the class that was predicted; those without a class do not count.

    counts: (classes, classes) int64, rows are the annotated ones.
    """

    def __init__(self, classes: int) -> None:
        self.counts = torch.zeros(classes, classes, dtype=torch.int64)

    def add(self, predicted: Tensor, semantic: Tensor) -> None:
        """Count the pixels of predictions (..., H, W) int64, of annotated classes (..., H, W) int64."""
        known = semantic != IGNORE
        classes = len(self.counts)
        pairs = semantic[known] * classes + predicted[known]
        self.counts += torch.bincount(pairs, minlength=classes**2).view(classes, classes).cpu()

    def iou(self) -> Tensor:
        """Intersection over union of each class, (classes,) float64: true positives by all true and false positives
        and false negatives. NaN of a class that neither occurs nor was predicted.
        """
        counts = self.counts.double()
        right = counts.diag()
        return right / (counts.sum(0) + counts.sum(1) - right)

    def results(self) -> dict[str, float]:
        """miou, the mean over classes that occur or are predicted; pixel_accuracy; mean_accuracy, of each class's
        pixels; and weighted_iou, by how many pixels classes have.
        """
        counts = self.counts.double()
        pixels, right, iou = counts.sum(1), counts.diag(), self.iou()
        there = pixels > 0
        total = pixels.sum().clamp(min=1)
        return {
            "miou": iou[~iou.isnan()].mean().item() if there.any() else 0.0,
            "pixel_accuracy": (right.sum() / total).item(),
            "mean_accuracy": (right[there] / pixels[there]).mean().item() if there.any() else 0.0,
            "weighted_iou": (pixels[there] * iou[there]).sum().div(total).item(),
        }
