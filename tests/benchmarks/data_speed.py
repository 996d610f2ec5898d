"""What data and augmentation cost beside a training step of ResNet-18 (cifar stem) on images of 32 x 32.

    python tests/benchmarks/data_speed.py
    python tests/benchmarks/data_speed.py --stream path/to/images --size 224      # and how fast files are decoded

A step is forward, backward and SGD in float32, on a batch of bytes that is there already. Data is what comes before
it: 128 rows out of a set in memory, one augmentation, and normalization. Each is timed in windows that take turns, in
the process's own time, so that other programs do not count; the median of the windows is shown.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import torch
import tyro
from rich.console import Console
from rich.table import Table
from torch.nn import functional as F

from vision import data
from vision.classification import classifier
from vision.data import folders, image_files
from vision.data import shapes as drawn_shapes
from vision.training import augmentation


@dataclass(frozen=True)
class Config:
    batch: int = 128  # images
    windows: int = 5
    images: int = 10_000  # in the set
    stream: Path | None = None  # a folder of images, anywhere below it
    size: int = 224  # pixels, of the images streamed


def clock(work: Callable[[], object], times: int) -> float:
    """Milliseconds of one call."""
    begin = time.process_time()
    for _ in range(times):
        work()
    return 1_000 * (time.process_time() - begin) / times


def main(config: Config) -> None:
    torch.set_num_threads(1)
    images, labels = drawn_shapes.draw(config.images)
    normal = augmentation.Normalization.of(images)
    model = classifier.build("resnet18", (3, 32, 32), 10, stem="cifar")
    optimizer = torch.optim.SGD(model.parameters(), 0.1, momentum=0.9)
    given = normal(images[: config.batch])

    def step() -> None:
        optimizer.zero_grad()
        F.cross_entropy(model(given), labels[: config.batch]).backward()
        optimizer.step()

    def prepare(change: augmentation.Augmentation) -> Callable[[], object]:
        return lambda: normal(change(images.index_select(0, torch.randint(len(images), (config.batch,)))))

    names = ["none", "flip,crop", "flip,reflect", "flip,crop,cutout", *augmentation.OPERATIONS]
    work = {name: prepare(augmentation.Augmentation(name, images)) for name in names}
    found = {name: [] for name in ["step", *names]}
    for _ in range(config.windows):
        found["step"].append(clock(step, 1))
        for name, call in work.items():
            found[name].append(clock(call, 10))
    whole = statistics.median(found["step"])
    table = Table(title=f"a step of ResNet-18 with {config.batch} images: {whole:.0f} ms of one thread")
    for column in ("data", "ms", "of a step"):
        table.add_column(column, justify="left" if column == "data" else "right")
    for name in names:
        middle = statistics.median(found[name])
        table.add_row(name, f"{middle:.2f}", f"{100 * middle / whole:.2f}%")
    terminal = Console()
    terminal.print(table)
    if config.stream:
        paths = sorted(path for path in config.stream.rglob("*") if path.suffix.lower() in image_files.SUFFIXES)
        stream = data.Stream(
            folders.ImageFiles(paths, torch.zeros(len(paths), dtype=torch.int64)), config.size, workers=1
        )
        spent = clock(lambda: sum(len(batch.labels) for batch in stream.epoch()), 1)
        terminal.print(
            f"{len(paths)} files at {config.size} x {config.size}: {spent / len(paths):.2f} ms each, one thread"
        )


if __name__ == "__main__":
    main(tyro.cli(Config, description=__doc__))
