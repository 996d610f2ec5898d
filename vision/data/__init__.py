"""Image sets as tensors: read from their published files, checked, and fetched where they are missing.

    sets = data.load("cifar10")             # its files in $SACCADE_DATA/cifar10, or else in ~/.cache/saccade/cifar10
    sets.train.images                       # (45000, 3, 32, 32) uint8
    sets.train.labels, sets.classes         # (45000,) int64, ("airplane", "automobile", ...)

Choose on `validation`; report `test` once.

shapes                 drawn ones, without a download         drawn.py
mnist, fashion_mnist   28 x 28, grey                          idx.py
cifar10, cifar100      32 x 32                                cifar.py

What they are made of is in sets.py; finding, checking and fetching files in files.py.
"""

from __future__ import annotations

import difflib
from collections.abc import Callable
from pathlib import Path

from vision.data.cifar import cifar10, cifar100
from vision.data.drawn import shapes
from vision.data.idx import fashion_mnist, mnist
from vision.data.sets import Labelled, Sets

__all__ = ["SETS", "Labelled", "Sets", "load"]

SETS: dict[str, Callable[[str | Path | None], Sets]] = {
    "shapes": shapes,
    "mnist": mnist,
    "fashion_mnist": fashion_mnist,
    "cifar10": cifar10,
    "cifar100": cifar100,
}


def load(name: str, folder: str | Path | None = None) -> Sets:
    """An image set by its name, one of SETS.

    folder: where its files lie, and are put if they are missing. None: $SACCADE_DATA/<name>, or without that
        variable ~/.cache/saccade/<name>.
    Raises ValueError for an unknown name, and when files are missing, cut short or not the published ones.
    """
    if name not in SETS:
        near = difflib.get_close_matches(name.lower(), SETS, n=2)
        hint = f"did you mean {' or '.join(map(repr, near))}?" if near else f"there are {', '.join(SETS)}"
        raise ValueError(f"unknown image set {name!r}: {hint}")
    return SETS[name](folder)
