"""Flags that the classifiers share: the images, their preprocessing, and the backbone."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from pathlib import Path
from typing import ClassVar

from runs.flag_types import Count, NonNegative, Positive, Share, Whole
from vision.backbones.standardization import Center, Scale, Standardization, Whitening


@dataclasses.dataclass(frozen=True)
class DataFlags:
    """The images."""

    GROUP: ClassVar[str] = "data"

    data: str = "shapes"  # or mnist, fashion_mnist, cifar10, cifar100, svhn, or a folder with one of images a class
    data_folder: Path | None = None  # where a set's files lie; None: $SACCADE_DATA/<data> or ~/.cache/saccade/<data>
    size: Count | None = None  # pixels, side of the images read from a folder; None: 224
    stream: bool = False  # read a folder's images as they are needed, by threads, and not into memory before
    shots: Whole = 0  # labeled training images a class, drawn by the seed; 0: all
    folds: Whole = 0  # of cross-validation, instead of the set's own validation images; 0: those
    fold: Whole = 0  # the one for validation, from 0


@dataclasses.dataclass(frozen=True)
class PreprocessingFlags:
    """What is done to every image before it is learned from, by statistics of the training images alone."""

    GROUP: ClassVar[str] = "data"

    center: Center = "none"  # subtract the mean of each channel, or the mean image
    scale: Scale = "none"  # divide by the deviation of all pixels, of each channel, or of each pixel
    whitening: Whitening = "none"  # principal axes of images: coordinates, whitened ones, or turned back (zca)
    components: Whole = 0  # principal axes to keep; 0: all
    whitening_eps: NonNegative = 1e-5  # added to variances, of pixels in [0, 1] or as scaled, before their roots

    def standardization(self, shape: Sequence[int]) -> Standardization | None:
        """The standardization of inputs of a shape, before its statistics are measured; None where none is asked."""
        if (self.center, self.scale, self.whitening) == ("none",) * 3:
            return None
        return Standardization(shape, self.center, self.scale, self.whitening, self.components, self.whitening_eps)


@dataclasses.dataclass(frozen=True)
class BackboneFlags:
    """The network."""

    GROUP: ClassVar[str] = "backbone"

    backbone: str | None = None  # a name, name:weights, or a run's folder; None: the recipe's for the data
    stem: str | None = None  # of a new backbone; None: cifar for images up to 64 pixels
    width: Positive | None = None  # times its channels; None: as published
    norm: str | None = None  # none, batch, layer, group or instance; None: the family's
    activation: str | None = None  # relu, tanh, ...; None: the family's
    init: str | None = None  # of backbone and head: he, xavier, small, ..., or "he,bias=0.1"; None: the families'
    dropout: Share | None = None  # probability, in the head; None: the paper's
    body_dropout: Share | None = None  # in the backbone; None: the family's
    pool: str = "own"  # instead of the family's pools: stochastic, fractional, ...: backbones/layers/pooling.py
    dropconnect: Share = 0.0  # probability, of the head's weights
    whiten: bool = False  # the first convolution whitens the images' patches, with frozen weights (airbench)
    reuse_classes: bool = False  # of a run as the backbone, the classifier's weights of classes of the same name too
    train: str = "all"  # trainable weights: all, last-N (head and last N stages), head, last (layer)
