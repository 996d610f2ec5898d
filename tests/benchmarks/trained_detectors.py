"""Accuracy and speed of trained detectors, each from its run's folder.

    python tests/benchmarks/trained_detectors.py results/pong-coco/detection-yolo-1 results/pong-coco/detection-ssd-1
    python tests/benchmarks/trained_detectors.py results/*-coco/detection-*-1 --json detectors.json

Accuracy is the average precision at an IoU of 0.5 of the run's test images, also class by class, by the weights of
its best evaluation. Speed is that of `predict`, one test image at a time, from pixels in memory to boxes, on one
thread: images a second of the processor, not of the clock.
"""

import argparse
import time
from pathlib import Path

import torch
from paired import circumstances, report

import runs
from vision import detection
from vision.detection import data, train
from vision.detection.evaluation import evaluate

IMAGES, FIRST = 100, 3  # images that are timed, and those before them that are not


def images_per_second(trained: detection.Trained, images: list[torch.Tensor]) -> float:
    """Of predict, one image at a time."""
    for image in images[:FIRST]:
        trained.predict([image])
    began = time.process_time()
    for image in images:
        trained.predict([image])
    return len(images) / (time.process_time() - began)


def measure(folder: Path) -> dict[str, object]:
    """A run's data, model, average precisions and speed."""
    trained = detection.load(folder, "cpu")
    config = trained.config
    sets = data.load(config.data, config.format)
    scored, _ = evaluate(config, trained.model, sets, sets.test, len(sets.test), train.side(config))
    precisions = scored[""].by_class(at_50=True)
    images = [sets.test[index].image for index in range(min(IMAGES, len(sets.test)))]
    return {
        "data": Path(config.data).name,
        "model": config.model,
        "images": len(sets.test),
        "map_50": {f"{kind}all": each.results()["map_50"] for kind, each in scored.items()},
        "by_class": {name: ap for name, ap in zip(sets.classes, precisions, strict=True) if ap >= 0},
        "objects": {name: objects_of(sets, label) for label, name in enumerate(sets.classes)},
        "images_per_second": images_per_second(trained, images),
    }


def objects_of(sets: data.Images, label: int) -> list[int]:
    """How many objects of a class training and test images have."""
    parts = (sets.train, sets.test)
    return [sum(int((part.target(n).labels == label).sum()) for n in range(len(part))) for part in parts]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folders", nargs="+", type=Path, help="of runs of vision.detection")
    parser.add_argument("--json", type=Path, help="write the result there")
    options = parser.parse_args()
    runs.prepare("cpu", 1, 1)
    configuration = circumstances()
    found = [measure(folder) for folder in options.folders]
    rows = [
        [each["data"], each["model"], *(each["map_50"].get(f"{kind}all", "") for kind in ("", "mask_"))]
        + [each["images_per_second"], ", ".join(f"{name} {ap:.3f}" for name, ap in each["by_class"].items())]
        for each in found
    ]
    columns = ["data", "detector", "mAP@0.5", "masks", "images/s", "by class"]
    report("trained detectors, one thread", columns, rows, configuration | {"found": found}, options.json)


if __name__ == "__main__":
    main()
