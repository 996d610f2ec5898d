"""Average precision by the rules of Pascal VOC: 11 recalls in 2007, all of them from 2010 on.

Everingham et al. 2010, "The Pascal visual object classes challenge", section 4.2, and the development kit's code: a
detection belongs to the object of its class that it overlaps most; the first by score is right if it overlaps by the
threshold or more, each later one is wrong. Difficult objects (Target.crowd) count neither way.
"""

from __future__ import annotations

from typing import Literal

import numpy as np

from vision.data.samples import Target
from vision.detection.detections import Detections
from vision.detection.metrics.overlaps import box_overlaps


class VocEvaluator:
    """Collects images, and scores boxes by VOC's rules.

    rule: "2007", the mean of the precision at 11 recalls; "2010", the area under the curve. threshold: least IoU.
    Raises ValueError for another rule.
    """

    def __init__(self, classes: int, rule: Literal["2007", "2010"] = "2010", threshold: float = 0.5) -> None:
        if rule not in ("2007", "2010"):
            raise ValueError(f"unknown rule {rule!r}: there are '2007' and '2010'")
        self.classes, self.rule, self.threshold = classes, rule, threshold
        self._objects = 0
        self._wanted = np.zeros(classes, dtype=np.int64)
        self._columns: list[list[np.ndarray]] = [[], [], [], []]  # label, score, object (-1: none), aside

    def add(self, found: Detections, target: Target) -> None:
        """Add an image: what was found and what there is."""
        boxes, objects = (each.detach().cpu().numpy().astype(np.float64) for each in (found.boxes, target.boxes))
        labels, classes = (each.cpu().numpy() for each in (found.labels, target.labels))
        none = np.zeros(len(objects), dtype=bool)
        difficult = none if target.crowd is None else target.crowd.cpu().numpy()
        self._wanted += np.bincount(classes[~difficult], minlength=self.classes)
        overlap = box_overlaps(boxes, objects, none)
        overlap[labels[:, None] != classes[None]] = -1.0
        if len(objects):
            best = overlap.argmax(1)
            hit = overlap[np.arange(len(boxes)), best] >= self.threshold
        else:
            best, hit = np.zeros(len(boxes), dtype=np.int64), np.zeros(len(boxes), dtype=bool)
        aside = hit & (difficult[best] if len(objects) else hit)
        columns = (labels, found.scores.detach().cpu().numpy(), np.where(hit, best + self._objects, -1), aside)
        for column, values in zip(self._columns, columns, strict=True):
            column.append(values)
        self._objects += len(objects)

    def by_class(self) -> list[float]:
        """The average precision of each class, -1 where it has no objects."""
        label, score, match, aside = (np.concatenate(each) if each else np.zeros(0) for each in self._columns)
        return [
            _average(
                *self._ordered(label == number, score, match, aside.astype(bool)), self._wanted[number], self.rule
            )
            for number in range(self.classes)
        ]

    def results(self) -> dict[str, float]:
        """The mean of the classes' average precisions, {"map": ...}; -1 where there are no objects."""
        found = [value for value in self.by_class() if value >= 0]
        return {"map": float(np.mean(found)) if found else -1.0}

    def _ordered(
        self, chosen: np.ndarray, score: np.ndarray, match: np.ndarray, aside: np.ndarray
    ) -> tuple[np.ndarray, np.ndarray]:
        """Which detections of a class are right and which wrong, best score first."""
        rows = chosen.nonzero()[0]
        rows = rows[np.argsort(-score[rows].astype(np.float64), kind="stable")]
        rows = rows[~aside[rows]]
        objects = match[rows].astype(np.int64)
        first = np.zeros(len(rows), dtype=bool)
        first[np.unique(objects, return_index=True)[1]] = True
        right = first & (objects >= 0)
        return right, ~right


def _average(right: np.ndarray, wrong: np.ndarray, wanted: int, rule: str) -> float:
    if not wanted:
        return -1.0
    hits, misses = np.cumsum(right, dtype=np.float64), np.cumsum(wrong, dtype=np.float64)
    recall, precision = hits / wanted, hits / np.maximum(hits + misses, 1)
    if rule == "2007":
        best = [precision[recall >= least].max(initial=0.0) for least in np.linspace(0, 1, 11)]
        return float(np.mean(best))
    precision = np.maximum.accumulate(precision[::-1])[::-1]
    return float((np.diff(recall, prepend=0.0) * precision).sum())
