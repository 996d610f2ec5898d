"""Images of multi-label classification: drawn scenes or an annotated folder, and the classes that are in each."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import torch
from torch import Tensor

from vision.data import annotated, scenes
from vision.data.loader import Loader
from vision.data.samples import Sample, Target
from vision.data.transforms import ColorJitter, Compose, Flip, Resize, Transform

AUGMENTATIONS = {"none": [], "flip": [Flip()], "color": [ColorJitter(0.3, 0.3, 0.3), Flip()]}
RARE = 0.01  # share of the training images that have a class, and that lack it, at least, for it to be learned


class Images(NamedTuple):
    """Samples with boxes and labels, in three parts: train on `train`, select on `validation`, test on `test` once.

    The parts also give the target of an image that is not read: `train.target(0)`.
    """

    train: annotated.AnnotatedImages | scenes.Scenes
    validation: annotated.AnnotatedImages | scenes.Scenes
    test: annotated.AnnotatedImages | scenes.Scenes
    classes: tuple[str, ...]  # in the order of labels
    notes: list[str]  # what is wrong with files, in sentences


def load(name: str, format: str = "auto") -> Images:
    """The scenes ("shapes"), or the annotated images of a folder. Raises ValueError where there is neither."""
    if name == annotated.SHAPES:
        parts = (scenes.Scenes(count, seed) for seed, count in enumerate(scenes.SIZES))
        return Images(*parts, scenes.Scenes.classes, [])
    if not Path(name).is_dir():
        raise ValueError(f"unknown data {name!r}: shapes, or a folder of annotated images (COCO, VOC or YOLO)")
    found = annotated.load(name, format)
    parts = (
        annotated.AnnotatedImages(part.annotations) for part in found[:3]
    )  # masks and keypoints say nothing more
    return Images(*parts, found.classes, annotated.summary(found.problems))


def presence(target: Target, classes: int) -> Tensor:
    """Which classes are in an image, (classes,) floats: 1 and 0, NaN where it is not to be said.

    That is where all objects of the class are crowds or difficult (VOC), which count neither way.
    """
    found = torch.zeros(classes)
    crowd = torch.zeros(len(target.labels), dtype=torch.bool) if target.crowd is None else target.crowd
    found[target.labels[crowd]] = torch.nan
    found[target.labels[~crowd]] = 1.0
    return found


def presences(samples: annotated.AnnotatedImages | scenes.Scenes, classes: int) -> Tensor:
    """The presence (N, classes) of classes in N samples, whose images are not read."""
    return torch.stack([presence(samples.target(index), classes) for index in range(len(samples))])


def size_of(samples: annotated.AnnotatedImages | scenes.Scenes, index: int) -> tuple[int, int]:
    """The height and width of a sample's image, which is not read."""
    if isinstance(samples, scenes.Scenes):
        return tuple(samples.images.shape[2:])
    return samples.annotations[index].size


def learnable(present: Tensor) -> Tensor:
    """The labels (K,) int64 of the classes that can be learned from a presence (N, classes) in training images.

    A class that is in nearly every image, or in hardly any, teaches nothing: at least 1% have it, and 1% lack it.
    """
    share = present.nanmean(0)
    return ((share >= RARE) & (share <= 1 - RARE)).nonzero()[:, 0]


def resizing(size: int | None) -> Transform:
    """How images are resized: stretched to squares, so that none of their objects is cut off; None: not at all."""
    return Compose([Resize((size, size))] if size else [])


def stack(images: Sequence[Tensor]) -> Tensor:
    """Images (C, H, W) as one tensor (N, C, H, W). Raises ValueError where they are of several sizes."""
    if len(sizes := {tuple(image.shape) for image in images}) > 1:
        listed = ", ".join("{2} x {1}".format(*size) for size in sorted(sizes))
        raise ValueError(f"the images are of several sizes ({listed}): choose one by --size")
    return torch.stack(list(images))


class Batches:
    """Training batches, read ahead of time.

    present: (N, K), of the learned classes in the samples. size: as of `resizing`. change: of training images.
    """

    def __init__(
        self,
        samples: Sequence[Sample],
        present: Tensor,
        size: int | None,
        batch: int,
        seed: int,
        change: str = "none",
        device: torch.device | str = "cpu",
    ) -> None:
        self.samples, self.present, self.device = samples, present, device
        self.change = Compose([resizing(size), *AUGMENTATIONS[change]])
        self._loader = Loader(len(samples), batch, seed, self._make)
        self.close = self._loader.close

    def training(self, step: int) -> tuple[Tensor, Tensor]:
        """The batch at a step, counted in images: images (B, C, H, W) uint8, and the classes' presence (B, K)."""
        images, present = self._loader.at(step)
        return images.to(self.device), present.to(self.device)

    def _make(self, rows: list[int], generator: torch.Generator) -> tuple[Tensor, Tensor]:
        return stack([self.change(self.samples[row], generator).image for row in rows]), self.present[rows]
