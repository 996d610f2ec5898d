"""Folders of images with masks of classes: pixels that are class numbers, in gray or palette images of the same name.

    sets = mask_folders.read("camvid")          # sets.train[0]: a Sample whose target has `semantic`

images/ and masks/, each with train/, val/, test/ or without; train/images/ and train/masks/; train/ and trainannot/
(CamVid as SegNet has it: 11 classes, 11 is void); JPEGImages/, SegmentationClass/ and ImageSets/Segmentation/ (Pascal
VOC: 21 classes). Elsewhere classes.txt names the classes, one a line, in the order of their numbers. 255 is void
everywhere.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from vision.data import image_files
from vision.data.annotated.images import PARTS, SEED, TENTH
from vision.data.annotated.problems import Problem
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


class MaskedImages(Sequence):
    """N images with masks as samples, decoded when asked for. classes: how many; void: a number that is no class."""

    def __init__(self, pairs: Sequence[Pair], classes: int, void: int = IGNORE) -> None:
        self.pairs, self.classes, self.void = list(pairs), classes, void

    def __len__(self) -> int:
        return len(self.pairs)

    def __getitem__(self, index: int) -> Sample:
        """Raises ValueError that names a file that cannot be read, or whose mask has a number that is no class."""
        image, mask = self.pairs[index]
        classes = read_mask(mask).long()
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


def read_mask(path: Path) -> Tensor:
    """The class numbers (H, W) uint8 of a mask's pixels. Raises ValueError that names the file for other images."""
    try:
        with Image.open(path, formats=image_files.FORMATS) as image:
            image_files.check_size(image)
            if image.mode not in ("P", "L", "1"):
                raise ValueError(f"its pixels are {image.mode}, not gray or of a palette, which class numbers are")
            return torch.from_numpy(np.array(image).astype(np.uint8))
    except Exception as error:  # Pillow's plugins may raise anything
        raise ValueError(f"{path} cannot be read as a mask: {error}") from error


def fits(folder: Path) -> bool:
    """Whether there are images with masks beside them."""
    return bool(_found(folder))


def read(folder: str | Path) -> MaskedSets:
    """The images with masks of a folder, in three parts.

    Without a test part the validation images are the test, and a tenth of the training images, drawn by a fixed
    seed, is cut for validation; without any parts a tenth each. Images without a mask, and those that are damaged or
    of another size than it, are left out and named in `problems`. Raises ValueError where there is nothing to learn
    from.
    """
    folder = Path(folder)
    found = _found(folder)
    if not found:
        raise ValueError(f"{folder} has no images with masks: images/ and masks/, or train/ and trainannot/")
    problems: list[Problem] = []
    parts = {name: _checked(images, masks, problems) for name, (images, masks) in found.items()}
    if (folder / "SegmentationClass").is_dir():
        parts = _listed(folder, parts[""]) or parts
    if not any(parts.values()):
        raise ValueError(f"{folder} has no image with a mask that can be read")
    camvid = (folder / "trainannot").is_dir()
    classes, void = _classes(folder, [pair for part in parts.values() for pair in part], camvid)
    split = _split(parts)
    for name in ("train", "validation"):
        if not split[name]:
            raise ValueError(f"{folder} has no images left for {name}: there are too few")
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


def _checked(images: Path, masks: Path, problems: list[Problem]) -> list[Pair]:
    pairs = []
    for path in sorted(images.iterdir()):
        if path.suffix.lower() not in image_files.SUFFIXES:
            continue
        names = [f"{path.stem}{end}{suffix}" for end in ENDS for suffix in (".png", ".bmp", ".tif", ".gif")]
        mask = next((masks / name for name in names if (masks / name).is_file()), None)
        if mask is None:
            if (images.parent / "ImageSets").is_dir():
                continue  # most of Pascal VOC's images have none
            problems.append(Problem("missing mask", path.name, f"none in {masks.name}/"))
            continue
        try:
            one, other = image_files.inspect(path), image_files.inspect(mask)
        except ValueError as error:
            problems.append(Problem("unreadable image", path.name, str(error.__cause__ or error)))
            continue
        size = one.size[::-1] if one.turns else one.size
        if size != other.size:
            words = "{1} x {0} pixels".format(*other.size) + ", its image {1} x {0}".format(*size)
            problems.append(Problem("mask of another size than its image", path.name, words))
            continue
        pairs.append((path, mask))
    return pairs


def _listed(folder: Path, pairs: list[Pair]) -> dict[str, list[Pair]]:
    """Pascal VOC's parts, by ImageSets/Segmentation."""
    parts = {}
    for part, names in PARTS.items():
        for name in names:
            path = folder / "ImageSets" / "Segmentation" / f"{name}.txt"
            if path.is_file():
                stems = set(path.read_text().split())
                parts[part] = [pair for pair in pairs if pair[0].stem in stems]
    return parts


def _classes(folder: Path, pairs: list[Pair], camvid: bool) -> tuple[tuple[str, ...], int]:
    """The classes' names, and the number that is void."""
    names = folder / "classes.txt"
    if names.is_file():
        return tuple(line.strip() for line in names.read_text().splitlines() if line.strip()), IGNORE
    if (folder / "SegmentationClass").is_dir():
        return VOC, IGNORE
    if camvid:
        return CAMVID, len(CAMVID)
    highest = 0
    for _, mask in pairs:
        classes = read_mask(mask)
        highest = max(highest, int(classes[classes != IGNORE].amax()) if (classes != IGNORE).any() else 0)
    return tuple(f"class {number}" for number in range(highest + 1)), IGNORE


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
