"""ONNX export of a trained run: one file that finds objects in ONNX Runtime, suppression included.

    python -m vision.detection export results/shapes/detection-1 detector.onnx
    python -m vision.detection export results/bccd/detection-1 detector.onnx --height 320 --width 416

Needs the extra `onnx`. The graph's input is `image` (1, 3, H, W) uint8, of the one size that it is exported for;
its outputs are `boxes` (K, 4) in pixels of that image, `scores` (K,) and `labels` (K,), and where the detector has
them `masks` (K, 28, 28), probabilities in boxes, or `keypoints` (K, P, 3). The file's metadata has the names of the
classes. R-CNN and Fast R-CNN are not exported: their regions come from selective search, which is no network.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any

import torch
import tyro
from torch import Tensor, nn

from runs import onnx_file
from runs.flag_types import Count
from runs.printing import printable
from vision.data import scenes
from vision.detection import train
from vision.detection.detector import Detector, Size
from vision.detection.predict import load

OUTPUTS = ("boxes", "scores", "labels", "masks", "keypoints")


@dataclasses.dataclass(frozen=True)
class Config:
    run: Annotated[Path, tyro.conf.Positional]  # its folder
    out: Annotated[Path, tyro.conf.Positional] = Path("detector.onnx")
    height: Count | None = None  # pixels of the image; None: the size that the run was trained with
    width: Count | None = None


class _Graph(nn.Module):
    """What is traced: one image (1, 3, H, W) uint8 -> its detections' tensors."""

    def __init__(self, model: Detector) -> None:
        super().__init__()
        self.model = model

    def forward(self, image: Tensor) -> tuple[Tensor, ...]:
        size = tuple(int(side) for side in image.shape[-2:])
        (found,) = self.model.detect(image.float() / 255, [size])
        return tuple(value for name in OUTPUTS if (value := getattr(found, name)) is not None)


def export(model: Detector, path: Path, size: Size, classes: Sequence[str]) -> None:
    """Write a detector as ONNX, for images of `size` (height, width).

    Raises ValueError for a detector whose regions come from selective search, RunError without the extra `onnx`.
    """
    if hasattr(model, "search"):
        raise ValueError(f"{type(model).__name__} takes its regions from selective search, which is not in ONNX")
    model = model.cpu().eval()
    example = torch.randint(256, (1, 3, *size), dtype=torch.uint8)
    (found,) = model.detect(example.float() / 255, [size])
    names = [name for name in OUTPUTS if getattr(found, name) is not None]
    varying, about = dict.fromkeys(names, "objects"), {"classes": list(classes)}
    onnx_file.write(path, _Graph(model).eval(), {"image": example}, names, varying, about)


def main(config: Config) -> dict[str, Any]:
    """Write the file, and say what it takes."""
    trained = load(config.run, "cpu")
    side = train.side(trained.config) or scenes.SIDE
    size = (config.height or side, config.width or side)
    export(trained.model, config.out, size, trained.classes)
    print(printable(f"{config.out}: image (1, 3, {size[0]}, {size[1]}) uint8 -> {', '.join(OUTPUTS[:3])}"))
    return {"path": str(config.out), "size": list(size)}
