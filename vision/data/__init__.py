"""Image data sets as tensors: found, fetched where they are missing, verified, and read.

    sets = data.load("cifar10")             # its files in $SACCADE_DATA/cifar10, or else in ~/.cache/saccade/cifar10
    sets.train.images                       # (45000, 3, 32, 32) uint8
    sets.train.labels, sets.classes         # (45000,) int64, ("airplane", "automobile", ...)

Choose on `validation`; report `test` once.

shapes                 drawn, without a download              shapes.py
mnist, fashion_mnist   28 x 28, gray                          mnist.py
stacked_mnist          three digits each, of 1,000 classes    mnist.py
cifar10, cifar100      32 x 32                                cifar.py
svhn                   32 x 32                                svhn.py
a folder's path        train/<class>/*.jpg, at any size       folders.py, image_files.py; stream.py if large

sets.py        what an image set is; files.py: finding, fetching and verifying its files
samples.py     Sample and Batch: images with boxes, masks, keypoints, semantic masks, captions
loader.py      training batches made by a thread ahead of time
annotated/     readers of boxes, masks, keypoints and captions: COCO, VOC, YOLO; what is wrong with them
boxes_picture.py  pictures of images with boxes
transforms.py  transforms that move those along with the image, on image_ops.py; warps.py has more of them
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from rich.console import Console

from runs import suggestions
from runs.printing import printable
from vision.data import cifar, mnist, shapes, svhn
from vision.data.folders import listing, read
from vision.data.samples import Batch, Sample, Target
from vision.data.sets import Labeled, Sets
from vision.data.stream import Stream, StreamedImages

__all__ = ["SETS", "Batch", "Labeled", "Sample", "Sets", "Stream", "StreamedImages", "Target", "listing", "load"]

SETS: dict[str, Callable[[str | Path | None], Sets]] = {
    "shapes": shapes.shapes,
    "mnist": mnist.mnist,
    "fashion_mnist": mnist.fashion_mnist,
    "stacked_mnist": mnist.stacked_mnist,
    "cifar10": cifar.cifar10,
    "cifar100": cifar.cifar100,
    "svhn": svhn.svhn,
}


def load(name: str | Path, folder: str | Path | None = None, size: int | None = None, stream: bool = False) -> Sets:
    """An image set by its name, one of SETS, or by the path of an ImageNet-style folder.

    folder: where a named set's files lie, and are put if they are missing. None: $SACCADE_DATA/<name>, or without
        that variable ~/.cache/saccade/<name>.
    size: pixels, side of the images read from a folder; None: 224. Named sets have their own.
    stream: leave a folder's images where they are, and give StreamedImages instead of tensors.
    Files of a folder that are not read are listed on stderr.
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
