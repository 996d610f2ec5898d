"""Accuracy and speed of trained detectors, each from its run's folder: a line of Markdown a run.

    python tests/benchmarks/trained_detectors.py results/pong-coco/detection-yolo-1 results/pong-coco/detection-ssd-1

Accuracy is that of the run's test images, which it wrote when it was trained. Speed is that of `predict`, one test
image at a time, from pixels in memory to boxes, on one thread: images a second of the processor, not of the clock.
"""

import sys
import time
from pathlib import Path

import torch

from runs.reader import read_run
from vision import detection
from vision.detection import data

IMAGES, FIRST = 100, 3  # images that are timed, and those before them that are not


def images_per_second(trained: detection.Trained, images: list[torch.Tensor]) -> float:
    """Of predict, one image at a time."""
    for image in images[:FIRST]:
        trained.predict([image])
    began = time.process_time()
    for image in images:
        trained.predict([image])
    return len(images) / (time.process_time() - began)


def main(folders: list[str]) -> None:
    torch.set_num_threads(1)
    print("| data | detector | mAP@0.5 | masks | images/s |\n|---|---|---:|---:|---:|")
    for folder in folders:
        trained = detection.load(folder, "cpu")
        tested = [read_run(folder).last(f"test/{name}") for name in ("map_50", "mask_map_50")]
        test = data.load(trained.config.data, trained.config.format).test
        images = [test[index].image for index in range(min(IMAGES, len(test)))]
        words = ["" if value is None else f"{value:.3f}" for value in tested]
        name = Path(trained.config.data).name
        print(f"| {name} | {trained.config.model} | {' | '.join(words)} | {images_per_second(trained, images):.0f} |")


if __name__ == "__main__":
    main(sys.argv[1:])
