"""Segmentation of image files by a trained run: pictures and masks.

    python -m vision.segmentation predict results/shapes/segmentation-1 photo.jpg other.png
    python -m vision.segmentation predict results/camvid/segmentation-1 street.png --out found

<out>/<name>.png shows each image beside its classes; <out>/<name>-mask.png has a class number a pixel, with a palette
of colors, and classes.json says what the numbers are.
"""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, NamedTuple

import numpy as np
import torch
import tyro
from PIL import Image
from torch import Tensor

from runs import output, saved
from runs.machine import choose
from runs.printing import printable
from vision import backbones
from vision.data.annotated.coco_writer import palette
from vision.data.image_files import read_whole
from vision.segmentation import plots, train
from vision.segmentation.evaluation import segment
from vision.segmentation.segmenter import Segmenter


@dataclasses.dataclass(frozen=True)
class Config:
    run: Annotated[Path, tyro.conf.Positional]  # its folder
    images: Annotated[tuple[Path, ...], tyro.conf.Positional]  # files
    out: Path = Path("predictions")  # folder of pictures and masks
    device: str = "auto"  # auto, cpu, cuda, mps


class Trained(NamedTuple):
    """A run's network: load(run).predict(images)."""

    config: train.Config
    classes: tuple[str, ...]
    model: Segmenter  # of the best evaluation

    def predict(self, images: Sequence[Tensor | str | Path]) -> list[Tensor]:
        """The class of each pixel, (H, W) int64, of images (3, H, W) uint8 of any sizes, or of files."""
        given = [each if isinstance(each, Tensor) else read_whole(each) for each in images]
        return [segment(self.model, image, self.config.size) for image in given]

    def shares(self, found: Tensor) -> dict[str, float]:
        """The share of an image's pixels that each class has in a prediction (H, W), the largest first."""
        counts = torch.bincount(found.flatten(), minlength=len(self.classes)) / found.numel()
        order = counts.argsort(descending=True).tolist()
        return {self.classes[number]: counts[number].item() for number in order if counts[number] > 0}


def load(folder: Path | str, device: str | torch.device = "auto") -> Trained:
    """A run's config, class names and network, that of the best evaluation.

    Raises RunError where there is no such run, or nothing was saved yet.
    """
    device, folder = choose(str(device)), Path(folder)
    config, parts = saved.trained(train.Config, folder, "vision.segmentation", train.CLASSES)
    classes = tuple(json.loads((folder / train.CLASSES).read_text())["classes"])
    known = config.backbone in backbones.BACKBONES  # a pretrained one is saved here
    own = config if known else dataclasses.replace(config, backbone=str(folder), width=None, stem=None)
    model = train.build(own, len(classes))
    model.load_state_dict(parts["model"])
    return Trained(config, classes, model.to(device, memory_format=torch.channels_last).eval())


def main(config: Config) -> list[Tensor]:
    """Write pictures and masks, and print what was found. Returns the classes of each image's pixels, (H, W)."""
    trained = load(config.run, config.device)
    if not config.images:
        raise ValueError("name one or more image files after the run's folder")
    results = []
    with output.writing(config.out / train.CLASSES, "--out"):
        (config.out / train.CLASSES).write_text(json.dumps({"classes": list(trained.classes)}))
        for path in config.images:
            image = read_whole(path)
            (found,) = trained.predict([image])
            plots.draw_predictions([(image, None, found)], trained.classes, config.out / f"{path.stem}.png")
            mask = Image.fromarray(found.numpy().astype(np.uint8), "P")
            mask.putpalette(palette(len(trained.classes)))
            mask.save(config.out / f"{path.stem}-mask.png")
            listed = ", ".join(f"{name} {100 * share:.1f}%" for name, share in trained.shares(found).items())
            print(printable(f"{path}: {listed}"))
            results.append(found)
    print(printable(f"pictures, masks and {train.CLASSES} in {config.out}"))
    return results
