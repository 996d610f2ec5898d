"""Image sets as tensors: read from their published files, checked, and fetched where they are missing.

    sets = data.mnist()                     # the folder --data names, or $SACCADE_DATA/mnist, or a cache
    sets.train.images                       # (55000, 28, 28) uint8

Choose on `validation`; report `test` once.
"""

import gzip
import hashlib
import os
import struct
import urllib.request
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

MNIST_MIRROR = "https://ossci-datasets.s3.amazonaws.com/mnist/"
MNIST_FILES = {  # MD5, as published with the files
    "train-images-idx3-ubyte.gz": "f68b3c2dcbeaaa9fbdd348bbdeb94873",
    "train-labels-idx1-ubyte.gz": "d53e105ee54ea40749a09fcbcd1e9432",
    "t10k-images-idx3-ubyte.gz": "9fb629c4189551a2d022fa330f9573f3",
    "t10k-labels-idx1-ubyte.gz": "ec29112dd5afa0611ce80d1b7f02629c",
}
MNIST_VALIDATION = 5_000  # the last of the 60,000 training images


class Labelled(NamedTuple):
    """Images and what they show."""

    images: Tensor  # (N, H, W) uint8
    labels: Tensor  # (N,) int64


class Sets(NamedTuple):
    """One image set in its three parts."""

    train: Labelled
    validation: Labelled
    test: Labelled


def mnist(folder: str | Path | None = None) -> Sets:
    """MNIST (LeCun et al. 1998): 55,000 images to learn from, 5,000 to choose on, 10,000 to report once.

    folder: where the four .gz files lie, and where they are put if they are missing and the network allows.
        None: $SACCADE_DATA/mnist, or without that variable ~/.cache/saccade/mnist.
    Raises ValueError when a file is missing and cannot be fetched, or is not the published one.
    """
    if folder is None:
        root = os.environ.get("SACCADE_DATA")
        folder = (Path(root) if root else Path.home() / ".cache" / "saccade") / "mnist"
    bodies = [_mnist_file(Path(folder), name, digest) for name, digest in MNIST_FILES.items()]
    images, labels, test_images, test_labels = (idx(body) for body in bodies)
    split = len(images) - MNIST_VALIDATION
    return Sets(
        Labelled(images[:split], labels[:split].long()),
        Labelled(images[split:], labels[split:].long()),
        Labelled(test_images, test_labels.long()),
    )


def idx(data: bytes) -> Tensor:
    """The tensor in an IDX file of bytes (the format of MNIST), uint8.

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


def _mnist_file(folder: Path, name: str, digest: str) -> bytes:
    path = folder / name
    if not path.exists():
        _fetch(MNIST_MIRROR + name, path, digest)
    packed = path.read_bytes()
    found = hashlib.md5(packed).hexdigest()
    if found != digest:
        raise ValueError(f"{path} is damaged: its MD5 is {found} and should be {digest}. Delete it to fetch it anew.")
    return gzip.decompress(packed)


def _fetch(address: str, path: Path, digest: str) -> None:
    """Download a file, whole and checked or not at all."""
    try:
        with urllib.request.urlopen(address, timeout=60) as answer:
            body = answer.read()
        if hashlib.md5(body).hexdigest() != digest:
            raise ValueError(f"{address} sent something else than the published file")
        path.parent.mkdir(parents=True, exist_ok=True)
        part = path.with_name(f"{path.name}.{os.getpid()}.part")
        part.write_bytes(body)
        os.replace(part, path)
    except OSError as error:
        raise ValueError(
            f"{path.name} is not in {path.parent} and could not be fetched from {address} ({error}): "
            "put the four files of MNIST into a folder and name it with --data"
        ) from error
