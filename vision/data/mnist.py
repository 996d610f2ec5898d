"""MNIST and Fashion-MNIST: four files each, in the IDX format; stacked MNIST, made of the first."""

from __future__ import annotations

import gzip
import struct
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from vision.data import files
from vision.data.sets import Labeled, Sets, cut

NAMES = (
    "train-images-idx3-ubyte.gz",
    "train-labels-idx1-ubyte.gz",
    "t10k-images-idx3-ubyte.gz",
    "t10k-labels-idx1-ubyte.gz",
)
MIRRORS = {
    "mnist": "https://ossci-datasets.s3.amazonaws.com/mnist/",
    "fashion_mnist": "http://fashion-mnist.s3-website.eu-central-1.amazonaws.com/",
}
MD5 = {  # as published with the files, in the order of NAMES
    "mnist": (
        "f68b3c2dcbeaaa9fbdd348bbdeb94873",
        "d53e105ee54ea40749a09fcbcd1e9432",
        "9fb629c4189551a2d022fa330f9573f3",
        "ec29112dd5afa0611ce80d1b7f02629c",
    ),
    "fashion_mnist": (
        "8d4fb7e6c68d591d4c3dfef9ec88bf0d",
        "25c81989df183df01b3e8a0aad5dffbe",
        "bef4ecab320f06d8554ea6380940ec79",
        "bb300cfdad3c16e7a12a480ee83cd310",
    ),
}
VALIDATION = 5_000  # the last of the 60,000 training images
STACKED_TEST = 26_000  # stacked images to test: as many samples as Lin et al. 2018, arXiv 1712.04086, count modes in
DIGITS = tuple("0123456789")
CLOTHES = (
    *("T-shirt/top", "Trouser", "Pullover", "Dress", "Coat"),
    *("Sandal", "Shirt", "Sneaker", "Bag", "Ankle boot"),
)


def mnist(folder: str | Path | None = None) -> Sets:
    """MNIST (LeCun et al. 1998), digits (1, 28, 28): 55,000 images for training, 5,000 to validate, 10,000 to test.

    folder: where the four .gz files lie, and where they are put if they are missing; None: see files.place.
    Raises ValueError when a file is missing and cannot be fetched, or is not the published one.
    """
    return _four("mnist", folder, DIGITS)


def fashion_mnist(folder: str | Path | None = None) -> Sets:
    """Fashion-MNIST (Xiao et al. 2017), clothes: files and shapes are MNIST's."""
    return _four("fashion_mnist", folder, CLOTHES)


def stacked_mnist(folder: str | Path | None = None) -> Sets:
    """Stacked MNIST (Metz et al. 2016, arXiv 1611.02163, section 3.3.1): images (3, 28, 28) of a thousand classes.

    Each channel is a digit of MNIST, drawn at random by a fixed seed: the classes, 000 to 999, are about equally
    frequent, and a GAN's modes are counted on them. 55,000 images for training, 5,000 to validate, 26,000 to
    test.
    folder: of MNIST's files. Raises ValueError as `mnist`.
    """
    single = mnist(files.place("mnist") if folder is None else folder)
    parts = zip(single[:3], (len(single.train.labels), len(single.validation.labels), STACKED_TEST), strict=True)
    classes = tuple(f"{number:03}" for number in range(1000))
    return Sets(*(stacked(part, count, seed) for seed, (part, count) in enumerate(parts)), classes)


def stacked(part: Labeled, count: int, seed: int) -> Labeled:
    """Images (count, 3, H, W) uint8 of three gray ones each (N, 1, H, W), drawn at random, and labels from 0 to 999.

    part's labels are digits; the first channel's are the hundreds.
    """
    rows = torch.randint(len(part.labels), (count, 3), generator=torch.Generator().manual_seed(seed))
    return Labeled(part.images[:, 0][rows], part.labels[rows] @ torch.tensor([100, 10, 1]))


def _four(name: str, folder: str | Path | None, classes: tuple[str, ...]) -> Sets:
    folder = Path(folder) if folder else files.place(name)
    bodies = [files.read(folder, file, MIRRORS[name] + file, md5) for file, md5 in zip(NAMES, MD5[name], strict=True)]
    images, labels, test_images, test_labels = (idx(gzip.decompress(body)) for body in bodies)
    train, validation = cut(Labeled(images[:, None], labels.long()), VALIDATION)
    return Sets(train, validation, Labeled(test_images[:, None], test_labels.long()), classes)


def idx(data: bytes) -> Tensor:
    """The tensor in an IDX file of bytes, uint8.

    Raises ValueError for another format, or a length that does not fit the shape.
    """
    if len(data) < 4 or data[:3] != b"\x00\x00\x08":
        raise ValueError(f"not an IDX file of bytes: it begins with {data[:4]!r}")
    rank = data[3]
    shape = struct.unpack(f">{rank}I", data[4 : 4 + 4 * rank])
    values = np.frombuffer(data, np.uint8, offset=4 + 4 * rank)
    if values.size != np.prod(shape):
        raise ValueError(f"an IDX file of shape {shape} holds {values.size} bytes")
    return torch.from_numpy(values.reshape(shape).copy())
