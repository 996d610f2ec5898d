"""Detections of a trained run on image files: pictures and JSON.

    python -m vision.detection predict results/shapes/detection-1 photo.jpg other.png
    python -m vision.detection predict results/bccd/detection-1 photo.jpg --least 0.5 --out found

<out>/<name>.png is each image with its boxes; <out>/detections.json is a list of all detections, like COCO's results
but with names instead of numbers of images and classes: "file_name", "category", "score", and "bbox" (left, top,
width, height) in pixels. Mask R-CNN adds "segmentation", the mask as COCO's run lengths, which
pycocotools.mask.decode reads; Keypoint R-CNN adds "keypoints", a list x, y, 1, x, y, 1, ... (COCO's results have 1 as
the visibility of each), and "keypoint_scores", a logit of each.
"""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any, NamedTuple

import torch
import tyro
from torch import Tensor

from runs import RunError, saved
from runs.flag_types import Share
from runs.machine import choose
from runs.printing import printable
from vision import backbones
from vision.data.annotated.polygons import encode, runs_of
from vision.data.image_files import read_whole
from vision.detection import plots, train
from vision.detection.detections import Detections
from vision.detection.detector import Detector, Objects
from vision.detection.evaluation import find


@dataclasses.dataclass(frozen=True)
class Config:
    run: Annotated[Path, tyro.conf.Positional]  # its folder
    images: Annotated[tuple[Path, ...], tyro.conf.Positional]  # files
    least: Share = 0.3  # score of what is drawn and written
    out: Path = Path("predictions")  # folder of pictures and JSON
    device: str = "auto"  # auto, cpu, cuda, mps


class Trained(NamedTuple):
    """A run's detector: load(run).predict(images)."""

    config: train.Config
    classes: tuple[str, ...]
    model: Detector  # of the best evaluation

    def predict(self, images: Sequence[Tensor | str | Path], least: float = 0.0) -> list[Detections]:
        """What is found, of `least` score, in images (3, H, W) uint8 of any sizes, or files, in their own pixels."""
        given = [each if isinstance(each, Tensor) else read_whole(each) for each in images]
        results = []
        for begin in range(0, len(given), self.config.batch):
            part = given[begin : begin + self.config.batch]
            results += find(self.model, part, train.side(self.config), self.config.longest)
        return [found[found.scores >= least] for found in results]

    def names(self, found: Detections) -> list[str]:
        """The classes' names of what was found."""
        return [self.classes[label] for label in found.labels.tolist()]


def load(folder: Path | str, device: str | torch.device = "auto") -> Trained:
    """A run's config, class names and detector, that of the best evaluation.

    Raises RunError where there is no such run, nothing was saved yet, or another version of the detector saved it.
    """
    device, folder = choose(str(device)), Path(folder)
    config, parts = saved.trained(train.Config, folder, "vision.detection", train.CLASSES)
    known = json.loads((folder / train.CLASSES).read_text())
    classes = tuple(known["classes"])
    objects = Objects(len(classes), known.get("keypoints", 0), known.get("masks", False))
    listed = config.backbone in backbones.BACKBONES
    backbone = config.backbone if listed else str(folder)  # a pretrained one is saved here
    own = dataclasses.replace(config, backbone=backbone, fix_norms=config.fix_norms if listed else True)
    model = train.build(own, objects)
    try:
        model.load_state_dict(parts["model"])
    except RuntimeError as error:
        raise RunError(
            f"the weights of {folder} are those of another version of the detector. Read them with the commit that "
            "its config.json names, or train it again"
        ) from error
    return Trained(config, classes, model.to(device, memory_format=torch.channels_last).eval())


def described(found: Detections, names: Sequence[str]) -> list[dict[str, Any]]:
    """What the JSON holds of each detection of an image, without the file's name. names: the classes' of each."""
    lines: list[dict[str, Any]] = []
    for row, name in enumerate(names):
        left, top, right, bottom = found.boxes[row].tolist()
        box = [round(value, 2) for value in (left, top, right - left, bottom - top)]
        line = {"category": name, "score": round(found.scores[row].item(), 4), "bbox": box}
        if found.masks is not None:
            mask = found.masks[row].numpy()
            line["segmentation"] = {"size": list(mask.shape), "counts": encode(runs_of(mask))}
        if found.keypoints is not None:
            points = found.keypoints[row].tolist()
            line["keypoints"] = [value for x, y, _ in points for value in (round(x, 2), round(y, 2), 1)]
            line["keypoint_scores"] = [round(score, 4) for _, _, score in points]
        lines.append(line)
    return lines


def main(config: Config) -> list[dict[str, Any]]:
    """Write pictures and JSON, and print what was found. Returns what the JSON holds."""
    trained = load(config.run, config.device)
    if not config.images:
        raise ValueError("name one or more image files after the run's folder")
    config.out.mkdir(parents=True, exist_ok=True)
    lines: list[dict[str, Any]] = []
    for path in config.images:
        image = read_whole(path)
        (found,) = trained.predict([image], config.least)
        plots.draw_predictions([(image, None, found)], trained.classes, config.out / f"{path.stem}.png", config.least)
        lines += [{"file_name": str(path)} | line for line in described(found, trained.names(found))]
        listed = ", ".join(
            f"{name} {score:.2f}" for name, score in zip(trained.names(found), found.scores, strict=True)
        )
        print(printable(f"{path}: {listed or 'nothing'}"))
    (config.out / "detections.json").write_text(json.dumps(lines, indent=1))
    print(printable(f"pictures and detections.json in {config.out}"))
    return lines
