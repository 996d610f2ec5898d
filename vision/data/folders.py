"""Images in folders, as ImageNet is laid out: root/train/<class>/*.jpg, and root/val and root/test like it.

    sets = data.load("imagenette2", size=128)        # all of it as bytes, if it fits
    files = data.listing("imagenette2")              # where the images are, for data.Stream

One that has only val besides train is tested on val, as is custom with ImageNet, and one that has root/<class>/*.jpg
alone is all taken to be for training. What is missing is cut from the training images, a tenth of every class, always
the same ones.
"""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from runs import hints
from vision.data.sets import Labelled, Sets

SUFFIXES = frozenset((".jpg", ".jpeg", ".png", ".webp", ".bmp", ".gif", ".ppm", ".tif", ".tiff"))
PARTS = {"train": ("train", "training"), "validation": ("val", "valid", "validation"), "test": ("test", "testing")}
TENTH = 10  # one image of so many is cut
SEED = 0  # of what is cut
LARGEST = 8 << 30  # bytes of images that are read whole


class Files(NamedTuple):
    """Images that are not read yet."""

    paths: list[Path]  # N
    labels: Tensor  # (N,) int64


class Listing(NamedTuple):
    """An image set's files in three parts, and what its classes are called: its folders, in alphabetical order."""

    train: Files
    validation: Files
    test: Files
    classes: tuple[str, ...]


def listing(root: str | Path) -> Listing:
    """The images of an ImageNet-style folder.

    Raises ValueError when there are none, when a class is only in val or test, or has too few images to cut from.
    """
    root = Path(root)
    if not root.is_dir():
        raise ValueError(f"there is no folder {root}")
    found = {
        part: next((root / name for name in names if (root / name).is_dir()), None) for part, names in PARTS.items()
    }
    if found["train"] is None and (strange := found["validation"] or found["test"]):
        raise ValueError(f"{root} has {strange.name}/ but no train/")
    classes = tuple(sorted(path.name for path in (found["train"] or root).iterdir() if _is_class(path)))
    if not classes:
        raise ValueError(f"{found['train'] or root} has no folders of images, one for each class")
    parts = {part: _images(folder, classes) if folder else None for part, folder in found.items()}
    if found["train"] is None:
        parts["train"] = _images(root, classes)
    if parts["test"] is None and parts["validation"] is not None:
        parts["test"], parts["validation"] = parts["validation"], None
    for part in ("test", "validation"):
        if parts[part] is None:
            parts["train"], parts[part] = _cut(parts["train"], classes)
    return Listing(parts["train"], parts["validation"], parts["test"], classes)


def read(root: str | Path, size: int = 224) -> Sets:
    """A whole ImageNet-style folder, its images (3, size, size) as `picture` reads them.

    Raises ValueError as `listing` does, for files that are no images, and when all would take more than 8 GiB.
    """
    files = listing(root)
    count = sum(len(part.paths) for part in files[:3])
    if (space := count * 3 * size * size) > LARGEST:
        raise ValueError(
            f"the {count:,} images of {root} take {space / 2**30:.0f} GiB at {size} x {size}: "
            "choose a smaller size, or stream them (--stream, or stream=True)"
        )
    with ThreadPoolExecutor() as pool:
        whole = [
            Labelled(_stack(list(pool.map(lambda path: picture(path, size), part.paths)), size), part.labels)
            for part in files[:3]
        ]
    return Sets(*whole, files.classes)


def picture(path: Path, size: int) -> Tensor:
    """An image file as (3, size, size) uint8: scaled until its shorter side is `size`, and cut to its middle.

    Raises ValueError that names the file when it is no image, or a part of one.
    """
    try:
        with Image.open(path) as image:
            image.draft("RGB", (2 * size, 2 * size))  # a JPEG is decoded no larger than it has to be
            image = image.convert("RGB")
        width, height = image.size
        side = min(width, height)
        box = ((width - side) / 2, (height - side) / 2, (width + side) / 2, (height + side) / 2)
        pixels = np.asarray(image.resize((size, size), Image.Resampling.BILINEAR, box))
    except Exception as error:  # Pillow's plugins raise what they like
        raise ValueError(f"{path} cannot be read as an image: {error}") from error
    return torch.from_numpy(pixels.transpose(2, 0, 1).copy())


def _is_class(path: Path) -> bool:
    return path.is_dir() and any(file.suffix.lower() in SUFFIXES for file in path.iterdir())


def _images(folder: Path, classes: tuple[str, ...]) -> Files:
    """All images below a folder, class by class and in alphabetical order."""
    for path in folder.iterdir():
        if path.name not in classes and _is_class(path):
            hint = hints.near(path.name, classes)
            raise ValueError(f"{path} is of a class that no training image has{hint and f': {hint}'}")
    paths, labels = [], []
    for label, name in enumerate(classes):
        if (folder / name).is_dir():
            own = sorted(file for file in (folder / name).iterdir() if file.suffix.lower() in SUFFIXES)
            paths += own
            labels += [label] * len(own)
    if not paths:
        raise ValueError(f"{folder} has no images in folders that are called as the classes of the training set")
    return Files(paths, torch.tensor(labels))


def _cut(part: Files, classes: tuple[str, ...]) -> tuple[Files, Files]:
    """All but a tenth of each class, and that tenth, which is one image at least."""
    generator = torch.Generator().manual_seed(SEED)
    away = torch.zeros(len(part.paths), dtype=torch.bool)
    for label, name in enumerate(classes):
        rows = (part.labels == label).nonzero().squeeze(1)
        if len(rows) < 2:
            raise ValueError(
                f"class {name!r} has {len(rows)} image to train on: too few to cut one for validation or test"
            )
        away[rows[torch.randperm(len(rows), generator=generator)[: max(1, len(rows) // TENTH)]]] = True
    return tuple(
        Files([part.paths[row] for row in chosen.nonzero().squeeze(1).tolist()], part.labels[chosen])
        for chosen in (~away, away)
    )


def _stack(pictures: list[Tensor], size: int) -> Tensor:
    return torch.stack(pictures) if pictures else torch.empty(0, 3, size, size, dtype=torch.uint8)
