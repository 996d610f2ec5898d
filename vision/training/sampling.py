"""Sampling of training images: shuffled batches, few-shot subsets, cross-validation folds.

The order of an epoch depends only on the seed and the epoch's number, so that a resumed run continues with the batch
at which it was stopped.
"""

from __future__ import annotations

import functools

import torch
from torch import Tensor

from vision.data import Labeled, Sets
from vision.data.sets import order as shuffled


def subset(sets: Sets, shots: int = 0, fold: int = 0, folds: int = 0, seed: int = 1) -> Sets:
    """A subset of a data set: a number of images a class (few-shot), or a fold of cross-validation.

    shots: labeled training images a class, drawn by the seed; 0 for all.
    fold, folds: instead of the set's own split, part `fold` of `folds` equal parts of training and validation images
        is for validation, and the others for training (Stone 1974); the parts are the same for every seed.
    Raises ValueError for a fold that does not exist, more shots than images, and either of them with streamed images.
    """
    train, validation = sets.train, sets.validation
    if (folds or shots) and not isinstance(train.images, Tensor):
        raise ValueError("--shots and --folds are for images that are read whole: leave out --stream")
    if folds:
        if not 0 <= fold < folds or folds < 2:
            raise ValueError(f"there is no fold {fold} of {folds}: folds are counted from 0, and at least 2")
        images, labels = (torch.cat(both) for both in zip(train, validation, strict=True))
        shuffled = torch.randperm(len(labels), generator=torch.Generator().manual_seed(0))
        chosen = torch.zeros(len(labels), dtype=torch.bool)
        chosen[shuffled[fold::folds]] = True
        train = Labeled(images[~chosen], labels[~chosen])
        validation = Labeled(images[chosen], labels[chosen])
    if shots:
        shuffled = torch.randperm(len(train.labels), generator=torch.Generator().manual_seed(seed))
        rows = []
        for label, name in enumerate(sets.classes):
            own = shuffled[train.labels[shuffled] == label]
            if len(own) < shots:
                raise ValueError(f"there are {len(own)} training images of {name!r}, fewer than --shots {shots}")
            rows.append(own[:shots])
        train = Labeled(*(field[torch.cat(rows)] for field in train))
    return Sets(train, validation, sets.test, sets.classes)


def sample(part: Labeled, count: int, seed: int) -> Labeled:
    """`count` images with their labels, drawn at random; all of them, in their order, for 0 or where there are fewer.

    The first ones of a folder are all of one class: its images are in the order of their classes.
    """
    if not 0 < count < len(part.labels):
        return part
    rows = torch.randperm(len(part.labels), generator=torch.Generator().manual_seed(seed))[:count]
    return Labeled(*(field[rows] for field in part))


def one_of_each(labels: Tensor, count: int) -> Tensor:
    """Indices (count,) of labels (N,), of one class after the other, and of each class the first ones."""
    rank = torch.zeros_like(labels)
    for label in labels.unique():
        own = labels == label
        rank[own] = torch.arange(int(own.sum()), device=labels.device)
    return (rank * (int(labels.max()) + 1) + labels).argsort()[:count]


def batch_indices(count: int, step: int, batch: int, seed: int, device: torch.device) -> Tensor:
    """Indices (batch,) of the batch at a step, counted in images, of `count`; incomplete batches are left out."""
    epoch, number = divmod(step // batch, count // batch)
    return order(count, seed, epoch, device)[number * batch : (number + 1) * batch]


@functools.lru_cache(maxsize=1)
def order(count: int, seed: int, epoch: int, device: torch.device) -> Tensor:
    """0..count - 1 (count,) int64, as shuffled in an epoch."""
    return shuffled(count, seed, epoch).to(device)
