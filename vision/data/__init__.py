"""Image sets as tensors: read from their published files, checked, and fetched where they are missing.

    sets = data.load("cifar10")             # its files in $SACCADE_DATA/cifar10, or else in ~/.cache/saccade/cifar10
    sets.train.images                       # (45000, 3, 32, 32) uint8
    sets.train.labels, sets.classes         # (45000,) int64, ("airplane", "automobile", ...)

Choose on `validation`; report `test` once.

shapes                 drawn ones, without a download         drawn.py
mnist, fashion_mnist   28 x 28, gray                          idx.py
cifar10, cifar100      32 x 32                                cifar.py
svhn                   32 x 32                                matlab.py
a folder's path        train/<class>/*.jpg, at any size       folders.py, image_files.py; stream.py if large

Augmentation, normalization and views for test time are in augment.py: batches of tensors, on any device. What sets
are made of is in sets.py; finding, checking and fetching files in files.py.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from rich.console import Console

from runs import suggestions
from runs.printing import printable
from vision.data import cifar, mnist, shapes, svhn
from vision.data.folders import listing, read
from vision.data.sets import Labeled, Sets
from vision.data.stream import Stream, StreamedImages
from vision.training import augmentation
from vision.training.augmentation import Augmentation, Normalization

__all__ = [
    "SETS",
    "Augmentation",
    "Labeled",
    "Normalization",
    "StreamedImages",
    "Sets",
    "Stream",
    "augmentation",
    "listing",
    "load",
]

SETS: dict[str, Callable[[str | Path | None], Sets]] = {
    "shapes": shapes.shapes,
    "mnist": mnist.mnist,
    "fashion_mnist": mnist.fashion_mnist,
    "cifar10": cifar.cifar10,
    "cifar100": cifar.cifar100,
    "svhn": svhn.svhn,
}


def load(name: str | Path, folder: str | Path | None = None, size: int | None = None, stream: bool = False) -> Sets:
    """An image set by its name, one of SETS, or by the path of an ImageNet-style folder.

    folder: where a named set's files lie, and are put if they are missing. None: $SACCADE_DATA/<name>, or without
        that variable ~/.cache/saccade/<name>.
    size: pixels, side of the images read from a folder; None: 224. Named sets have their own.
    stream: leave a folder's images where they are, and give Pictures instead of tensors.
    What is passed over in a folder is said on stderr.
    Raises ValueError for an unknown name, when files are missing, cut short or not the published ones, and when an
    argument has no use.
    """
    if name in SETS:
        if size is not None:
            raise ValueError(f"{name} has images of its own size: size={size} is for folders of images")
        if stream:
            raise ValueError(f"{name} fits into memory: folders of images can be streamed")
        return SETS[name](folder)
    if Path(name).is_dir():
        if folder is not None:
            raise ValueError(f"{name} is a folder itself: leave out {folder}")
        files = listing(name)
        for note in files.notes:
            Console(stderr=True).print(printable(note), highlight=False, markup=False, soft_wrap=True)
        if not stream:
            return read(files, size or 224)
        return Sets(
            *(Labeled(StreamedImages(part.paths, size or 224), part.labels) for part in files[:3]), files.classes
        )
    raise ValueError(f"unknown image set or folder {str(name)!r}: {suggestions.one_of(name, SETS)}")
