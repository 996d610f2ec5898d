"""ONNX or torch.export of a trained classifier: one file that classifies images in ONNX Runtime, or in torch.

    python -m vision.classification.export results/shapes/classification-1 classifier.onnx
    python -m vision.classification.export results/shapes/classification-1 classifier.pt2

ONNX needs the extra `onnx`; a .pt2 is read by torch.export.load, without us. The graph's input is `images`
(N, C, H, W) uint8, any number of the size that the run has learned from; its outputs are `probabilities` (N, classes)
and `label` (N,). Snapshots of a run are averaged, as in `vision.classification.load`. Standardization of the images
is part of the graph; the file's metadata (about.json in a .pt2) has the names of the classes.
"""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Annotated

import torch
import tyro
from torch import Tensor, nn

import runs
from runs import onnx_file, torch_export
from runs.printing import printable
from vision.classification.train import Trained, load


@dataclasses.dataclass(frozen=True)
class Config:
    run: Annotated[Path, tyro.conf.Positional]  # its folder
    out: Annotated[Path, tyro.conf.Positional] = Path("classifier.onnx")


class Graph(nn.Module):
    """What is traced: images (N, C, H, W) uint8 -> probabilities (N, classes), label (N,)."""

    def __init__(self, trained: Trained) -> None:
        super().__init__()
        self.models = nn.ModuleList(trained.models)

    def forward(self, images: Tensor) -> tuple[Tensor, Tensor]:
        probability = torch.stack([model(images).float().softmax(1) for model in self.models]).mean(0)
        return probability, probability.argmax(1)


def export(trained: Trained, path: Path) -> None:
    """Write a run's classifier as ONNX, or as a torch.export program where the path ends in .pt2. Raises RunError
    where the extra `onnx` is missing."""
    example = trained.sets.train.images[:2].cpu().clone()
    names = ("probabilities", "label")
    about = {"classes": list(trained.sets.classes)}
    varying = dict.fromkeys(("images", *names), "images")
    writer = torch_export if path.suffix == torch_export.SUFFIX else onnx_file
    writer.write(path, Graph(trained).cpu().eval(), {"images": example}, names, varying, about)


def main(config: Config) -> None:
    trained = load(config.run, "cpu")
    export(trained, config.out)
    shape = ", ".join(map(str, trained.sets.train.images.shape[1:]))
    print(
        printable(f"{config.out}: images (N, {shape}) uint8 -> probabilities of {len(trained.sets.classes)} classes")
    )


if __name__ == "__main__":
    runs.launch(main, Config, None, "vision.classification.export", __doc__)
