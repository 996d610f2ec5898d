"""Images of segmentation: drawn scenes, folders with masks, annotated folders; resized, cropped, batched in order."""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import torch
from torch import Tensor

from vision.data import annotated, mask_folders, scenes
from vision.data.loader import Loader
from vision.data.samples import IGNORE, Sample, Target
from vision.data.transforms import ColorJitter, Compose, Flip, Pad, RandomCrop, Resize, Transform

AUGMENTATIONS = ("none", "flip", "color")
FORMATS = ("auto", "masks", *annotated.FORMATS)
BACKGROUND = "background"


class Images(NamedTuple):
    """Samples whose targets have `semantic`, in three parts."""

    train: Sequence[Sample]
    validation: Sequence[Sample]
    test: Sequence[Sample]
    classes: tuple[str, ...]  # in the order of their numbers
    notes: list[str]  # what is wrong with files, in sentences


class SemanticSamples(Sequence):
    """Samples with instance masks as samples with classes of pixels: 0 is background, an object label + 1.

    Where objects overlap, the smaller one is in front. Pixels of crowds have no class.
    """

    def __init__(self, samples: Sequence[Sample]) -> None:
        self.samples = samples

    def __len__(self) -> int:
        return len(self.samples)

    def __getitem__(self, index: int) -> Sample:
        sample = self.samples[index]
        return Sample(sample.image, Target(semantic=painted(sample.target, tuple(sample.image.shape[1:]))))


def painted(target: Target, size: tuple[int, int]) -> Tensor:
    """Classes of pixels (H, W) int64 of a target's masks (K, H, W) bool, for an image of size (H, W)."""
    semantic = torch.zeros(size, dtype=torch.int64)
    if target.masks is None or not len(target.masks):
        return semantic
    for row in target.masks.flatten(1).sum(1).argsort(descending=True).tolist():
        crowd = target.crowd is not None and bool(target.crowd[row])
        semantic[target.masks[row]] = IGNORE if crowd else int(target.labels[row]) + 1
    return semantic


def load(name: str, format: str = "auto") -> Images:
    """The scenes ("shapes"), or the images of a folder with masks, or with annotated ones.

    Raises ValueError where there is neither, or where objects have boxes alone.
    """
    if name == annotated.SHAPES:
        return _scenes(scenes.SIZES)
    folder = Path(name)
    if not folder.is_dir():
        raise ValueError(f"unknown data {name!r}: shapes, or a folder of images with masks")
    if format == "masks" or (format == "auto" and mask_folders.fits(folder)):
        sets = mask_folders.read(folder)
        return Images(*sets[:3], sets.classes, annotated.summary(sets.problems))
    found = annotated.load(name, format)
    if not found.train.masks:
        raise ValueError(f"the objects of {name} have boxes and no masks, which segmentation learns from")
    parts = (SemanticSamples(part) for part in found[:3])
    return Images(*parts, (BACKGROUND, *found.classes), annotated.summary(found.problems))


@functools.lru_cache(maxsize=1)
def _scenes(sizes: tuple[int, int, int]) -> Images:
    parts = (SemanticSamples(scenes.Scenes(count, seed)) for seed, count in enumerate(sizes))
    return Images(*parts, (BACKGROUND, *scenes.Scenes.classes), [])


def augmentation(name: str) -> Transform:
    """Changes of training samples by name: none, flip, or color (jitter and flip). Raises ValueError for another."""
    if name not in AUGMENTATIONS:
        raise ValueError(f"unknown augmentation {name!r}: there are {', '.join(AUGMENTATIONS)}")
    return Compose({"none": [], "flip": [Flip()], "color": [ColorJitter(0.3, 0.3, 0.3), Flip()]}[name])


def frequencies(samples: Sequence[Sample], classes: int, most: int = 200) -> Tensor:
    """The share (classes,) of each class among the pixels of those images, of up to `most`, in which it occurs."""
    found, within = torch.zeros(2, classes, dtype=torch.float64)
    for index in range(min(len(samples), most)):
        semantic = samples[index].target.semantic
        counts = torch.bincount(semantic[semantic != IGNORE], minlength=classes).double()
        found += counts
        within += (counts > 0) * counts.sum()
    return found / within.clamp(min=1)


def median_weights(share: Tensor) -> Tensor:
    """Median frequency balancing: weights (classes,) float32, the median share of all by a class's share (classes,).

    Eigen & Fergus 2014, arXiv 1411.4734, section 6.3.2; SegNet has it. 1 for classes that do not occur.
    """
    there = share > 0
    return torch.where(there, share[there].median() / share.clamp(min=1e-12), 1.0).float()


class Batches:
    """Training batches, read ahead of time.

    size: pixels of the shorter side; None: as they are. crop: side of a random square of it; 0: the whole image.
    """

    def __init__(
        self,
        samples: Sequence[Sample],
        size: int | None,
        crop: int,
        batch: int,
        seed: int,
        change: Transform | None = None,
        device: torch.device | str = "cpu",
    ) -> None:
        self.samples, self.device = samples, device
        steps: list[Transform] = [Resize(size)] if size else []
        steps += [RandomCrop(0, (crop, crop))] if crop else []
        self.change = Compose([*steps, *([change] if change else [])])
        self._loader = Loader(len(samples), batch, seed, self._make)
        self.close = self._loader.close

    def training(self, step: int) -> tuple[Tensor, Tensor]:
        """The batch at a step, counted in images: images (B, C, H, W) uint8 and classes (B, H, W) int64."""
        images, semantic = self._loader.at(step)
        return images.to(self.device), semantic.to(self.device)

    def _make(self, rows: list[int], generator: torch.Generator) -> tuple[Tensor, Tensor]:
        return collate([self.change(self.samples[row], generator) for row in rows])


def collate(samples: Sequence[Sample]) -> tuple[Tensor, Tensor]:
    """Images (B, C, H, W) and classes (B, H, W) of samples, padded to the largest: what is added has no class."""
    largest = tuple(max(side) for side in zip(*(sample.image.shape[1:] for sample in samples), strict=True))
    padded = [
        Pad(largest)(dataclasses.replace(each, target=Target(semantic=each.target.semantic))) for each in samples
    ]
    return torch.stack([each.image for each in padded]), torch.stack([each.target.semantic for each in padded])
