"""The classifier that the programs of this room are about: a run's, with images to show it."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, NamedTuple

import torch
import tyro
from torch import Tensor

import runs
from runs.flag_types import Whole
from vision import classification, data
from vision.classification.classifier import Classifier
from vision.classification.features import gray
from vision.data.image_files import read_image
from vision.training import sampling


@dataclasses.dataclass(frozen=True)
class SubjectFlags:
    """Which classifier, and where it is calculated."""

    run: Annotated[str, tyro.conf.Positional]  # a run's folder of vision.classification
    device: str = "auto"  # auto, cpu, cuda, mps
    threads: Whole = 0  # of torch on the CPU; 0: as many as cores are free at the start
    seed: int = 1  # of random numbers


class Subject(NamedTuple):
    """A trained classifier and its data."""

    model: Classifier  # in evaluation mode; of a run with snapshots the first one
    sets: data.Sets
    device: torch.device

    @property
    def shape(self) -> tuple[int, int, int]:
        """(C, H, W) of its images."""
        return tuple(self.sets.train.images.shape[1:])

    def read(self, paths: Sequence[Path]) -> Tensor:
        """Image files as the classifier takes them, (N, C, H, W) uint8. Raises ValueError where one is no image."""
        channels, height, width = self.shape
        if height != width or channels not in (1, 3):
            raise ValueError(f"files are read as square images in gray or color, and this run's are {self.shape}")
        images = torch.stack([read_image(path, height) for path in paths])
        images = (gray(images) * 255).round().byte() if channels == 1 else images
        return images.to(self.device)

    def examples(self, count: int) -> tuple[Tensor, Tensor]:
        """Test images (count, C, H, W) of one class after the other, and their labels (count,)."""
        labels = self.sets.test.labels
        chosen = sampling.one_of_each(labels, count)
        return self.sets.test.images[chosen].to(self.device), labels[chosen].to(self.device)


def load(config: SubjectFlags) -> Subject:
    """The subject that flags name. Raises RunError where there is no such run, or its data are not found."""
    device = runs.prepare(config.device, config.seed, config.threads)
    trained = classification.load(config.run, device)
    return Subject(trained.models[0].requires_grad_(False), trained.sets, device)
