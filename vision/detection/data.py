"""Images of detection: drawn scenes or an annotated folder, resized, augmented, and batched in the seed's order."""

from __future__ import annotations

import functools
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import torch
from torch import Tensor

from vision.data import annotated, scenes
from vision.data.box_transforms import Expand, IoUCrop
from vision.data.loader import Loader
from vision.data.samples import Sample, Target
from vision.data.transforms import ColorJitter, Compose, Flip, Pad, Resize, Transform
from vision.detection.detector import Objects

MULTIPLE = 32  # pixels that a batch's sides are padded to a multiple of
AUGMENTATIONS = ("none", "flip", "ssd")
PAIRS: dict[int, tuple[tuple[int, int], ...]] = {  # keypoints that a mirror exchanges, by how many there are
    0: (),
    17: tuple((place, place + 1) for place in range(1, 17, 2)),  # COCO's: left and right ones follow each other
    len(scenes.KEYPOINTS): ((0, 2),),
}


class Images(NamedTuple):
    """Samples in three parts: train on `train`, select on `validation`, report `test` once."""

    train: Sequence[Sample]
    validation: Sequence[Sample]
    test: Sequence[Sample]
    classes: tuple[str, ...]
    notes: list[str]  # what is wrong with files and boxes, in sentences
    masks: bool = False  # whether objects have masks
    keypoints: int = 0  # of an object
    format: str = ""  # of a folder's annotations: coco, voc, yolo

    @property
    def objects(self) -> Objects:
        """What objects there are."""
        return Objects(len(self.classes), self.keypoints, self.masks)


class Batch(NamedTuple):
    """Images of one size, padded, and what is known of each."""

    images: Tensor  # (B, C, H, W) uint8
    sizes: list[tuple[int, int]]  # (height, width) before padding
    targets: list[Target]
    scales: list[tuple[float, float]]  # pixels of the resized image to one of the original, along and down


def load(name: str, format: str = "auto") -> Images:
    """The scenes ("shapes"), or the annotated images of a folder. Raises ValueError where there is neither."""
    if name == annotated.SHAPES:
        return _scenes(scenes.SIZES)
    if not Path(name).is_dir():
        raise ValueError(f"unknown data {name!r}: shapes, or a folder of annotated images (COCO, VOC or YOLO)")
    format = annotated.format_of(name, format)
    sets = annotated.load(name, format)
    notes = annotated.summary(sets.problems)
    return Images(*sets[:3], sets.classes, notes, sets.train.masks, sets.train.points, format)


@functools.lru_cache(maxsize=1)
def _scenes(sizes: tuple[int, int, int]) -> Images:
    parts = (scenes.Scenes(count, seed) for seed, count in enumerate(sizes))
    return Images(*parts, scenes.Scenes.classes, [], True, len(scenes.KEYPOINTS))


def augmentation(name: str, keypoints: int = 0) -> Transform:
    """Changes of training samples by name: none, flip, or ssd (color, expansion, IoU crop, flip).

    keypoints: of an object. A flip makes left ones right ones: where it is not known which (neither COCO's 17 nor
        those of drawn scenes), images are not flipped.
    Raises ValueError for another name.
    """
    if name not in AUGMENTATIONS:
        raise ValueError(f"unknown augmentation {name!r}: there are {', '.join(AUGMENTATIONS)}")
    flip = [Flip(pairs=PAIRS[keypoints])] if keypoints in PAIRS else []
    steps = {"none": [], "flip": flip, "ssd": [ColorJitter(0.3, 0.5, 0.5, 0.05), Expand(), IoUCrop(), *flip]}
    return Compose(steps[name])


class Batches:
    """Training batches, read ahead of time.

    size: pixels of the shorter side, or of both where images are `stretched`; None: as they are. longest: pixels of
    the longer side, at most.
    """

    def __init__(
        self,
        samples: Sequence[Sample],
        size: int | None,
        longest: int | None,
        stretched: bool,
        batch: int,
        seed: int,
        change: Transform | None = None,
        device: torch.device | str = "cpu",
    ) -> None:
        self.samples, self.change, self.device = samples, change or Compose([]), device
        self.resize = resizing(size, longest, stretched)
        self._loader = Loader(len(samples), batch, seed, self._make)
        self.close = self._loader.close

    def training(self, step: int) -> tuple[Tensor, list[tuple[int, int]], list[Target]]:
        """The batch at a step, counted in images: images (B, C, H, W), their sizes and targets."""
        made = self._loader.at(step)
        return made.images.to(self.device), made.sizes, [_moved(each, self.device) for each in made.targets]

    def _make(self, rows: list[int], generator: torch.Generator) -> Batch:
        return collate([self.resize(self.change(self.samples[row], generator)) for row in rows])


def resizing(size: int | None, longest: int | None, stretched: bool) -> Transform:
    """How images are resized: both sides to `size` where they are stretched, else the shorter one."""
    if size is None:
        return Compose([])
    return Resize((size, size)) if stretched else Resize(size, longest)


def collate(samples: Sequence[Sample], originals: Sequence[tuple[int, int]] | None = None) -> Batch:
    """One batch of samples, padded to the largest, and to a multiple of 32 where they are of several sizes.

    originals: sizes before resizing.
    """
    sizes = [tuple(sample.image.shape[1:]) for sample in samples]
    if len(set(sizes)) > 1 or sizes[0][0] % MULTIPLE or sizes[0][1] % MULTIPLE:
        largest = tuple(max(side) for side in zip(*sizes, strict=True))
        padding = Pad(largest, MULTIPLE)
        images = torch.stack([padding(sample.image[None])[0] for sample in samples])
    else:
        images = torch.stack([sample.image for sample in samples])
    pairs = zip(sizes, originals or sizes, strict=True)
    scales = [(new[1] / old[1], new[0] / old[0]) for new, old in pairs]
    return Batch(images, sizes, [sample.target for sample in samples], scales)


def _moved(target: Target, device: torch.device | str) -> Target:
    fields = vars(target).items()
    return Target(**{name: value.to(device) if isinstance(value, Tensor) else value for name, value in fields})
