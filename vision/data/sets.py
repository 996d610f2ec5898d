"""Image data sets: images and labels of a training, a validation and a test part."""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

import torch
from torch import Tensor


class Labeled(NamedTuple):
    """Images and their labels."""

    images: Tensor  # (N, C, H, W) uint8
    labels: Tensor  # (N,) int64, indices of the set's classes


class Sets(NamedTuple):
    """An image data set in three parts: train on `train`, select on `validation`, report `test` once."""

    train: Labeled
    validation: Labeled
    test: Labeled
    classes: tuple[str, ...]  # names, in the order of labels


def order(count: int, seed: int, epoch: int) -> Tensor:
    """The shuffled order of an epoch, 0..count - 1 (count,) int64, which depends only on its number and the seed."""
    return torch.randperm(count, generator=torch.Generator().manual_seed(seed * 1_000_003 + epoch))


def cut(published: Labeled, count: int) -> tuple[Labeled, Labeled]:
    """Split a published training set: all but its last `count` images for training, those for validation.

    Raises ValueError where nothing would be left for training.
    """
    images, labels = published
    if len(images) <= count:
        raise ValueError(f"a training set of {len(images)} images has no {count} to spare for validation")
    return Labeled(images[:-count], labels[:-count]), Labeled(images[-count:], labels[-count:])


def set_name(data: str | Path) -> str:
    """The name of a data set in titles and in the folder of its runs: a named set's, or that of a folder of files."""
    return Path(data).resolve().name
