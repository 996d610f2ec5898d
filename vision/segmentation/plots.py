"""Pictures of segmentations: images, annotated classes and predicted ones beside each other, in a color a class."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from torch import Tensor

from runs.printing import printable
from vision.data.annotated.coco_writer import palette
from vision.data.samples import IGNORE

LISTED = 24  # classes in a legend, at most


def colors() -> np.ndarray:
    """Colors of classes, (256, 3) uint8: Pascal VOC's, white for pixels without a class."""
    table = np.frombuffer(palette(256), np.uint8).reshape(256, 3).copy()
    table[IGNORE] = 255
    return table


def colored(classes: Tensor) -> np.ndarray:
    """A picture (H, W, 3) uint8 of classes (H, W)."""
    return colors()[classes.numpy()]


def draw_predictions(
    shown: Sequence[tuple[Tensor, Tensor | None, Tensor]], classes: Sequence[str], path: Path
) -> None:
    """Draw images (3, H, W) uint8, what is annotated (H, W), if that is known, and what was predicted (H, W)."""
    from matplotlib.figure import Figure
    from matplotlib.patches import Patch

    known = any(semantic is not None for _, semantic, _ in shown)
    titles = ["image", "annotated", "predicted"] if known else ["image", "predicted"]
    tall, wide = shown[0][0].shape[1:]
    height = 3.0 * tall / wide
    figure = Figure(figsize=(3.0 * len(titles), height * len(shown) + 0.8), layout="constrained")
    axes = figure.subplots(len(shown), len(titles), squeeze=False)
    for row, (image, semantic, found) in zip(axes, shown, strict=True):
        pictures = [image.permute(1, 2, 0).numpy(), colored(found)]
        if known:
            pictures.insert(1, colored(semantic))
        for axis, picture in zip(row, pictures, strict=True):
            axis.imshow(picture, interpolation="nearest")
            axis.axis("off")
    for axis, title in zip(axes[0], titles, strict=True):
        axis.set_title(title, fontsize=9)
    table = colors() / 255
    patches = [
        Patch(facecolor=table[number], edgecolor="gray", label=printable(name))
        for number, name in enumerate(classes[:LISTED])
    ]
    figure.legend(handles=patches, loc="outside lower center", ncols=6, fontsize=7)
    figure.savefig(path, dpi=100, format="png")
