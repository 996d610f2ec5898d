"""What an image set is: images and labels, in three parts."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor


class Labeled(NamedTuple):
    """Images and what they show."""

    images: Tensor  # (N, C, H, W) uint8
    labels: Tensor  # (N,) int64, indices of the set's classes


class Sets(NamedTuple):
    """One image set in its three parts: learn from `train`, choose on `validation`, report `test` once."""

    train: Labeled
    validation: Labeled
    test: Labeled
    classes: tuple[str, ...]  # what a label is called


def order(count: int, seed: int, epoch: int) -> Tensor:
    """0..count - 1 (count,) int64 as shuffled in an epoch: a function of the seed and the epoch's number alone."""
    return torch.randperm(count, generator=torch.Generator().manual_seed(seed * 1_000_003 + epoch))


def cut(published: Labeled, count: int) -> tuple[Labeled, Labeled]:
    """A published training set without its last `count` images, and those, to choose on.

    Raises ValueError where nothing would be left to learn from.
    """
    images, labels = published
    if len(images) <= count:
        raise ValueError(f"a training set of {len(images)} images has no {count} to spare for validation")
    return Labeled(images[:-count], labels[:-count]), Labeled(images[-count:], labels[-count:])
