"""Bag of visual words: SIFT descriptors, a k-means vocabulary, histograms of words, and a linear SVM.

    python -m vision.classification.bag_of_words --data cifar10 --images 10000
    python -m vision.classification.bag_of_words --data path/to/folder --points detected --words 500

Image classification before 2012: descriptors on a grid or at key points (sift.py), words and histograms
(visual_words.py), and Weston & Watkins' SVM. The vocabulary is made of training images alone; the decay is selected
on the validation images, and the test images are evaluated once. The picture shows patches of some of the words; a
page with the figures, .md, is written beside it.
"""

from __future__ import annotations

import dataclasses
import time
from pathlib import Path
from typing import Literal

import torch
from torch import Tensor

import runs
from runs import output, study_report
from runs.flag_types import Count, Whole
from runs.printing import printable
from vision import data
from vision.classification import classical, sift, visual_words
from vision.classification.linear_probe import Vectors
from vision.training import sampling

PROGRAM = "vision.classification.bag_of_words"
SHOWN = (10, 10)  # words, and patches of each, in the picture
BATCH = 200  # images at a time


@dataclasses.dataclass(frozen=True)
class Config:
    data: str = "shapes"  # an image set or folder
    data_folder: Path | None = None  # where its files lie; None: $SACCADE_DATA/<data> or ~/.cache/saccade/<data>
    size: Count | None = None  # pixels, side of the images read from a folder; None: 224
    images: Whole = 5_000  # training images, drawn at random; 0: all of them
    tested: Whole = 0  # test images, drawn at random; 0: all of them
    points: Literal["dense", "detected"] = "dense"  # descriptors on a grid, or at key points of the scale space
    step: Count = 4  # dense: pixels between places
    cells: tuple[float, ...] = (2.0, 4.0)  # dense: pixels of a cell, of which a descriptor has 4 x 4
    words: Count = 300  # of the vocabulary
    sample: Count = 50_000  # descriptors that it is made of
    iterations: Count = 15  # of k-means
    levels: Count = 2  # of the pyramid of places: 1 the whole image, 2 its quarters too
    decays: tuple[float, ...] = (1e-5, 1e-4, 1e-3)  # of the SVM, of which one is selected
    epochs: Count = 20  # of the SVM
    seed: int = 1  # of everything random
    device: str = "auto"  # auto, cpu, cuda, mps
    threads: Whole = 0  # of torch on the CPU; 0: as many as cores are free at the start
    out: Path = Path("words.png")  # where the picture goes; a page goes beside it, .md


def described(config: Config, images: Tensor) -> tuple[sift.KeyPoints, Tensor]:
    """Key points and descriptors of some images (B, C, H, W) uint8, those without a gradient left out."""
    if config.points == "detected":
        found = [sift.detect(images)]
    else:
        found = [sift.dense(images, config.step, cell) for cell in config.cells]
    points = sift.KeyPoints(*(torch.cat(field) for field in zip(*(each for each, _ in found), strict=True)))
    descriptors = torch.cat([each for _, each in found])
    kept = descriptors.any(1)
    return sift.KeyPoints(*(field[kept] for field in points)), descriptors[kept]


def vocabulary(config: Config, images: Tensor, generator: torch.Generator) -> Tensor:
    """Centers (words, 128) of descriptors of training images. Raises ValueError where these have too few."""
    parts = []
    wanted = -(-config.sample // max(1, -(-len(images) // BATCH)))  # of each batch of images
    for rows in images.split(BATCH):
        _, descriptors = described(config, rows)
        chosen = torch.randperm(len(descriptors), generator=generator, device=descriptors.device)[:wanted]
        parts.append(descriptors[chosen])
    centers, costs = visual_words.kmeans(torch.cat(parts), config.words, config.iterations, generator)
    total = sum(map(len, parts))
    print(f"{config.words} words of {total:,} descriptors: squared distance {costs[-1]:.4f}", flush=True)
    return centers


def encode(config: Config, images: Tensor, centers: Tensor) -> Tensor:
    """Histograms (N, D) of the words of images."""
    parts = []
    for rows in images.split(BATCH):
        points, descriptors = described(config, rows)
        words, _ = visual_words.assign(descriptors, centers)
        size = tuple(rows.shape[2:])
        parts.append(visual_words.histograms(words, points, len(centers), len(rows), size, config.levels))
    return torch.cat(parts)


def examples(config: Config, images: Tensor, centers: Tensor) -> list[list[Tensor]]:
    """Patches (C, h, w) of the descriptors that are nearest to each of some words, of a batch of images."""
    points, descriptors = described(config, images)
    found = []
    for center in centers[: SHOWN[0]]:
        near = visual_words.squared(descriptors, center[None])[:, 0].topk(
            min(SHOWN[1], len(descriptors)), largest=False
        )
        line = []
        for row in near.indices.tolist():
            reach = 6 * points.scale[row].item()  # of two cells, each of three scales
            x, y = points.x[row].item(), points.y[row].item()
            top, left = max(0, round(y - reach)), max(0, round(x - reach))
            line.append(
                images[
                    points.image[row], :, top : max(top + 1, round(y + reach)), left : max(left + 1, round(x + reach))
                ]
            )
        found.append(line)
    return found


def draw(patches: list[list[Tensor]], title: str, path: Path) -> None:
    """One row of patches (C, h, w) for each visual word: those nearest to it."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(0.8 * SHOWN[1], 0.85 * len(patches)), layout="constrained")
    panels = figure.subplots(len(patches), SHOWN[1], squeeze=False)
    for line in panels:
        for panel in line:
            panel.axis("off")
    for line, word in zip(panels, patches, strict=True):
        for panel, patch in zip(line, word, strict=False):
            picture = patch.permute(1, 2, 0).cpu().numpy()
            panel.imshow(picture.squeeze(2) if picture.shape[2] == 1 else picture, cmap="gray")
    figure.suptitle(title, fontsize=9)
    output.draw(path, figure, "--out", dpi=100)


def main(config: Config) -> float:
    """Learn the words, fit the SVM, test and draw. Returns the test accuracy in percent."""
    device, began = runs.prepare(config.device, config.seed, config.threads), time.perf_counter()
    sets = classical.subsample(data.load(config.data, config.data_folder, config.size), config.images, config.seed)
    sets = sets._replace(test=sampling.sample(sets.test, config.tested, config.seed))
    train, validation, test = (part.images.to(device) for part in sets[:3])
    labels = [part.labels for part in sets[:3]]
    generator = torch.Generator(device).manual_seed(config.seed)
    centers = vocabulary(config, train, generator)
    known = Vectors(encode(config, train, centers), labels[0])
    chosen = Vectors(encode(config, validation, centers), labels[1], known.scale)
    best: tuple[float, float, torch.nn.Module | None] = (-1.0, 0.0, None)
    for decay in config.decays:
        settings = classical.Config(
            method="svm", features="hog", learning_rate=1e-2, decay=decay, epochs=config.epochs, seed=config.seed
        )
        model, _ = classical.fit(settings, known, chosen, len(sets.classes))
        best = max(best, (classical.accuracy(model, chosen), decay, model), key=lambda each: each[0])
    tested = classical.accuracy(best[2], Vectors(encode(config, test, centers), labels[2], known.scale))
    name = Path(config.data).resolve().name
    note = (
        f"accuracy {tested:.2f}% of {len(test):,} test images of {name}, validation {best[0]:.2f}% with a decay of "
        f"{best[1]:g}; {config.points} SIFT, {config.words} words, {config.levels} levels, {len(train):,} training "
        f"images, {time.perf_counter() - began:.0f} s"
    )
    print(note)
    draw(examples(config, train[:BATCH], centers), f"{config.words} words of {name}, some of them", config.out)
    head = ("descriptors", "words", "levels", "training images", "decay", "validation", "test")
    row = (f"{config.points} SIFT", str(config.words), str(config.levels), f"{len(train):,}", f"{best[1]:g}",
           f"{best[0]:.2f}%", f"{tested:.2f}%")  # fmt: skip
    study_report.write(config.out, PROGRAM, device, f"Bag of visual words: {name}", head, [row], f"{note}, one seed.")
    print(printable(f"written to {config.out}, and a page beside it"))
    return tested


if __name__ == "__main__":
    runs.launch(main, Config, None, PROGRAM, __doc__)
