"""Pictures of detections: found boxes with class and score, annotated ones dotted."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path

from torch import Tensor

from vision.data.boxes_picture import panel
from vision.data.samples import Target
from vision.detection.detections import Detections

LEAST = 0.3  # score of what is drawn
COLUMNS = 4


def draw_predictions(
    shown: Sequence[tuple[Tensor, Target | None, Detections]],
    classes: Sequence[str],
    path: Path,
    least: float = LEAST,
) -> None:
    """Draw images (3, H, W) uint8 with what is in them, if that is known, and what was found of `least` score."""
    from matplotlib.figure import Figure

    columns = min(COLUMNS, len(shown))
    rows = math.ceil(len(shown) / columns)
    figure = Figure(figsize=(3.2 * columns, 3.2 * rows), layout="constrained")
    axes = figure.subplots(rows, columns, squeeze=False).flatten()
    for axis in axes:
        axis.axis("off")
    for axis, (image, target, found) in zip(axes, shown, strict=False):
        if target is not None:
            panel(axis, image, target.boxes, target.labels, [""] * len(target.boxes), dashed=True)
        found = found[found.scores >= least]
        pairs = zip(found.labels.tolist(), found.scores.tolist(), strict=True)
        names = [f"{classes[label]} {score:.2f}" for label, score in pairs]
        panel(axis, image, found.boxes, found.labels, names, found.masks)
    figure.savefig(path, dpi=100, format="png")
