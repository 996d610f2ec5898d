"""Folders of images with masks of classes: pixels that are class numbers, in gray or palette images of the same name.

    sets = mask_folders.read("camvid")          # sets.train[0]: a Sample whose target has `semantic`

images/ and masks/, each with train/, val/, test/ or without; train/images/ and train/masks/; train/ and trainannot/
(CamVid as SegNet has it: 11 classes, 11 is void); JPEGImages/, SegmentationClass/ and ImageSets/Segmentation/ (Pascal
VOC: 21 classes). Elsewhere classes.txt names the classes, one a line, in the order of their numbers. 255 is void
everywhere. Every mask is decoded before training, so that those with other numbers are named and left out.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch

from vision.data import image_files
from vision.data.annotated.images import DECODED, PARTS, SEED, TENTH
from vision.data.annotated.problems import Problem, summary
from vision.data.samples import IGNORE, Sample, Target

MASKS = ("masks", "semantic", "mask", "labels", "annotations", "annot", "SegmentationClass")  # folders' names
ENDS = ("", "_mask", "_label", "_L")  # of a mask's name, before its suffix
VOC = (
    *("background", "aeroplane", "bicycle", "bird", "boat", "bottle", "bus", "car", "cat", "chair", "cow"),
    *("diningtable", "dog", "horse", "motorbike", "person", "pottedplant", "sheep", "sofa", "train", "tvmonitor"),
)
CAMVID = (
    *("sky", "building", "pole", "road", "pavement", "tree", "sign", "fence", "car", "pedestrian", "bicyclist"),
)
Pair = tuple[Path, Path]  # an image and its mask
Numbers = frozenset[int]  # of classes that a mask has


class MaskedImages(Sequence):
    """N images with masks as samples, decoded when asked for. classes: how many; void: a number that is no class."""

    def __init__(self, pairs: Sequence[Pair], classes: int, void: int = IGNORE) -> None:
        self.pairs, self.classes, self.void = list(pairs), classes, void

    def __len__(self) -> int:
        return len(self.pairs)

    def __getitem__(self, index: int) -> Sample:
        """Raises ValueError that names a file that cannot be read, or whose mask has a number that is no class."""
        image, mask = self.pairs[index]
        classes = image_files.read_mask(mask).long()
        classes[classes == self.void] = IGNORE
        wrong = classes[(classes >= self.classes) & (classes != IGNORE)]
        if len(wrong):
            raise ValueError(f"{mask} has pixels of class {int(wrong[0])}, and there are {self.classes} classes")
        return Sample(image_files.read_whole(image), Target(semantic=classes))

    def __iter__(self) -> Iterator[Sample]:
        return (self[index] for index in range(len(self)))


class MaskedSets(NamedTuple):
    """Images with masks in three parts: train on `train`, select on `validation`, report `test` once."""

    train: MaskedImages
    validation: MaskedImages
    test: MaskedImages
    classes: tuple[str, ...]  # names, in the order of their numbers
    problems: list[Problem]


def fits(folder: Path) -> bool:
    """Whether there are images with masks beside them."""
    return bool(_found(folder))


def read(folder: str | Path, whole: bool | None = None) -> MaskedSets:
    """The images with masks of a folder, in three parts.

    Without a test part the validation images are the test, and a tenth of the training images, drawn by a fixed
    seed, is cut for validation; without any parts a tenth each. Images without a mask and masks without an image,
    those that are damaged or of another size than each other, and masks that are in color or have a number that is no
    class are left out and named in `problems`.
    whole: whether every image is decoded before, which finds damage in its middle; None: where there are at most
    5,000. Of more, such an image ends the training with an error that names it. Masks are always decoded.
    Raises ValueError where there is nothing to learn from.
    """
    folder = Path(folder)
    found = _found(folder)
    if not found:
        raise ValueError(f"{folder} has no images with masks: images/ and masks/, or train/ and trainannot/")
    problems: list[Problem] = []
    parts = {name: _pairs(images, masks, problems) for name, (images, masks) in found.items()}
    if (folder / "SegmentationClass").is_dir():
        parts = _listed(folder, parts[""]) or parts
    every = dict.fromkeys(pair for part in parts.values() for pair in part)
    whole = len(every) <= DECODED if whole is None else whole
    with ThreadPoolExecutor(min(8, os.cpu_count() or 1)) as pool:
        checked = dict(zip(every, pool.map(lambda pair: _checked(*pair, whole), every), strict=True))
    problems += [each for each in checked.values() if isinstance(each, Problem)]
    numbers = {pair: each for pair, each in checked.items() if not isinstance(each, Problem)}
    classes, void = _classes(folder, set().union(*numbers.values()), camvid=(folder / "trainannot").is_dir())
    for pair, own in list(numbers.items()):
        if wrong := sorted(number for number in own if number >= len(classes) and number not in (void, IGNORE)):
            words = f"{', '.join(map(str, wrong[:3]))}, and there are {len(classes)} classes"
            problems.append(Problem("mask with pixels of an unknown class", pair[1].name, words, pair[0]))
            del numbers[pair]
    parts = {name: [pair for pair in part if pair in numbers] for name, part in parts.items()}
    named = "; ".join(summary(problems))
    if not numbers:
        raise ValueError(f"{folder} has no image with a mask that can be read{named and f': {named}'}")
    split = _split(parts)
    for name in ("train", "validation"):
        if not split[name]:
            left = named and f" ({named})"
            raise ValueError(f"{folder} has no images left for {name}: there are too few{left}")
    return MaskedSets(*(MaskedImages(split[name], len(classes), void) for name in PARTS), classes, problems)


def _found(folder: Path) -> dict[str, tuple[Path, Path]]:
    """The folders of images and masks of each part, or of all as ""."""
    found = {}
    for part, names in PARTS.items():
        for name in names:
            places = [(folder / name, folder / f"{name}annot")]
            places += [(folder / "images" / name, folder / masks / name) for masks in MASKS]
            places += [(folder / name / "images", folder / name / masks) for masks in MASKS]
            for images, masks in places:
                if part not in found and _has_images(images) and _has_images(masks):
                    found[part] = (images, masks)
    if not found:
        for images in ("images", "JPEGImages"):
            for masks in MASKS:
                if "" not in found and _has_images(folder / images) and _has_images(folder / masks):
                    found[""] = (folder / images, folder / masks)
    return found


def _has_images(folder: Path) -> bool:
    return folder.is_dir() and any(path.suffix.lower() in image_files.SUFFIXES for path in folder.iterdir())


def _pairs(images: Path, masks: Path, problems: list[Problem]) -> list[Pair]:
    """The images of a folder with their masks."""
    pairs = []
    for path in _images(images):
        names = [f"{path.stem}{end}{suffix}" for end in ENDS for suffix in (".png", ".bmp", ".tif", ".gif")]
        mask = next((masks / name for name in names if (masks / name).is_file()), None)
        if mask is not None:
            pairs.append((path, mask))
        elif not (images.parent / "ImageSets").is_dir():  # most of Pascal VOC's images have none
            problems.append(Problem("missing mask", path.name, f"none in {masks.name}/"))
    used = {mask for _, mask in pairs}
    for path in _images(masks):
        if path not in used:
            problems.append(Problem("missing image", path.name, f"of a mask in {masks.name}/"))
    return pairs


def _images(folder: Path) -> list[Path]:
    return [path for path in sorted(folder.iterdir()) if path.suffix.lower() in image_files.SUFFIXES]


def _checked(image: Path, mask: Path, whole: bool) -> Numbers | Problem:
    """The class numbers of a mask, or what is wrong with it or its image."""
    try:
        one = image_files.inspect(image, whole)
    except ValueError as error:
        return Problem("unreadable image", image.name, str(error.__cause__ or error))
    try:
        classes = image_files.read_mask(mask)
    except ValueError as error:
        return Problem("unreadable mask", mask.name, str(error.__cause__ or error), image)
    size, other = one.size[::-1] if one.turns else one.size, tuple(classes.shape)
    if size != other:
        words = "{1} x {0} pixels".format(*other) + ", its image {1} x {0}".format(*size)
        return Problem("mask of another size than its image", mask.name, words, image)
    return frozenset(np.flatnonzero(np.bincount(classes.numpy().ravel(), minlength=256)).tolist())


def _listed(folder: Path, pairs: list[Pair]) -> dict[str, list[Pair]]:
    """Pascal VOC's parts, by ImageSets/Segmentation."""
    parts = {}
    for part, names in PARTS.items():
        for name in names:
            path = folder / "ImageSets" / "Segmentation" / f"{name}.txt"
            if path.is_file():
                stems = set(path.read_text(errors="replace").split())
                parts[part] = [pair for pair in pairs if pair[0].stem in stems]
    return parts


def _classes(folder: Path, numbers: set[int], camvid: bool) -> tuple[tuple[str, ...], int]:
    """The classes' names, and the number that is void. numbers: all that masks have."""
    names = folder / "classes.txt"
    if names.is_file():
        return tuple(line.strip() for line in names.read_text(errors="replace").splitlines() if line.strip()), IGNORE
    if (folder / "SegmentationClass").is_dir():
        return VOC, IGNORE
    if camvid:
        return CAMVID, len(CAMVID)
    return tuple(f"class {number}" for number in range(max(numbers - {IGNORE}, default=0) + 1)), IGNORE


def _split(parts: dict[str, list[Pair]]) -> dict[str, list[Pair]]:
    found = {name: list(parts.get(name, ())) for name in PARTS}
    found["train"] += parts.get("", ())
    if not found["test"] and found["validation"]:
        found["test"], found["validation"] = found["validation"], []
    for name in ("test", "validation"):
        if not found[name] and len(found["train"]) > 1:
            count = max(1, len(found["train"]) // TENTH)
            order = torch.randperm(len(found["train"]), generator=torch.Generator().manual_seed(SEED)).tolist()
            away = set(order[:count])
            found[name] = [pair for row, pair in enumerate(found["train"]) if row in away]
            found["train"] = [pair for row, pair in enumerate(found["train"]) if row not in away]
    return found
