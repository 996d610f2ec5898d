"""What an image set is: images and labels, in three parts."""

from __future__ import annotations

from typing import NamedTuple

from torch import Tensor


class Labelled(NamedTuple):
    """Images and what they show."""

    images: Tensor  # (N, C, H, W) uint8
    labels: Tensor  # (N,) int64, indices of the set's classes


class Sets(NamedTuple):
    """One image set in its three parts: learn from `train`, choose on `validation`, report `test` once."""

    train: Labelled
    validation: Labelled
    test: Labelled
    classes: tuple[str, ...]  # what a label is called


def cut(published: Labelled, count: int) -> tuple[Labelled, Labelled]:
    """A published training set without its last `count` images, and those, to choose on.

    Raises ValueError where nothing would be left to learn from.
    """
    images, labels = published
    if len(images) <= count:
        raise ValueError(f"a training set of {len(images)} images has no {count} to spare for validation")
    return Labelled(images[:-count], labels[:-count]), Labelled(images[-count:], labels[-count:])
