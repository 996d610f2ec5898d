"""A run's backbone and images to show it, for programs that need features alone: of any run that keeps a backbone.

Images are the run's own test images (of classification, generation, detection, segmentation and captioning), or
--files: image files, folders of them, or observations (N, C, H, W) uint8 as one .npy file, which
`python -m agents.studies.export_observations RUN` writes of an agent's games.
"""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

import runs
from runs import saved
from vision import backbones, data
from vision.backbones.checkpoints import FILENAME
from vision.captioning import data as captioned
from vision.classification import stage_features
from vision.classification.multi_label import data as multi_label
from vision.data.image_files import SUFFIXES, read_image
from vision.data.samples import Sample
from vision.detection import data as detected
from vision.interpretation import subject
from vision.segmentation import data as segmented
from vision.training import sampling

MOST = 2_000  # images of an annotated set that are read, the first ones
EXPORT = "python -m agents.studies.export_observations"

ANNOTATED: dict[str, Callable[..., Any]] = {  # by program: a data set by --data and --format; `test` are samples
    "vision.detection": detected.load,
    "vision.segmentation": segmented.load,
    "vision.captioning": functools.partial(captioned.load, count=MOST),
    "vision.classification.multi_label": multi_label.load,
}


@dataclasses.dataclass(frozen=True)
class ExampleFlags(subject.SubjectFlags):
    """Which backbone, and of which images."""

    files: tuple[Path, ...] = ()  # images, folders of them, or observations as .npy; none: the run's test images


class Examples(NamedTuple):
    """A backbone and images that it takes."""

    backbone: backbones.Backbone  # frozen
    images: Tensor  # (N, C, H, W) uint8, on the CPU
    labels: Tensor | None  # (N,) int64; None where images have no class
    classes: tuple[str, ...]  # their names
    device: torch.device

    def chosen(self, count: int) -> Tensor:
        """Indices (count,) of images of one class after the other, or spread evenly where they have none."""
        if self.labels is not None:
            return sampling.one_of_each(self.labels, count)
        count = min(count, len(self.images))
        return torch.linspace(0, len(self.images) - 1, count).round().long()


def load(config: ExampleFlags) -> Examples:
    """The examples that flags name.

    Raises RunError where there is no such run, and ValueError for a run without a backbone or with one of vectors,
    and where there are no images to show it.
    """
    folder = Path(config.run)
    described = saved.about(folder)
    program = described["program"]
    if program == "vision.classification":
        about = subject.load(config)
        backbone, device = about.model.backbone, about.device
    else:
        device = runs.prepare(config.device, config.seed, config.threads)
        if not (folder / FILENAME).exists():
            raise ValueError(f"{folder}, a run of {program}, keeps no {FILENAME}: name another run")
        backbone = backbones.load(folder, frozen=True).to(device)
    if len(backbone.shape) != 3:
        raise ValueError(f"{backbone.spec['name']} of {folder} takes vectors {backbone.shape}, and not images")
    labels, classes, flags = None, (), described["config"]
    if config.files:
        images = read(config.files, backbone.shape)
    elif program == "vision.classification":
        (images, labels), classes = about.sets.test, about.sets.classes
    elif program == "vision.generation":
        sets = data.load(flags["data"], flags.get("data_folder"), flags.get("size"))
        (images, labels), classes = sets.test, sets.classes
        images = fitted(images, backbone.shape)
    elif program in ANNOTATED:
        options = {"format": flags["format"]} if "format" in flags else {}
        images = of_samples(ANNOTATED[program](flags["data"], **options).test, backbone.shape)
    else:
        raise ValueError(
            f"{folder} is a run of {program}, which has no set of test images: name images with --files. Of an "
            f"agent, `{EXPORT} {folder}` writes what it sees"
        )
    return Examples(backbone, images.cpu(), None if labels is None else labels.cpu(), classes, device)


def read(paths: Sequence[Path], shape: Sequence[int]) -> Tensor:
    """Image files, those of folders, or one .npy file of observations as images (N, *shape) uint8.

    shape: (C, H, W) that a backbone takes. Raises ValueError for what is neither, and for other observations.
    """
    if any(path.suffix == ".npy" for path in paths):
        if len(paths) > 1:
            raise ValueError(f"observations are read from one .npy file alone, not from {len(paths)} files")
        return observations(paths[0], shape)
    files = [file for path in paths for file in (sorted(path.iterdir()) if path.is_dir() else [path])]
    files = [file for file in files if file in paths or file.suffix.lower() in SUFFIXES]
    if not files:
        raise ValueError(f"there are no images in {', '.join(map(str, paths))}")
    side = max(shape[1:])
    return fitted(torch.stack([read_image(file, side) for file in files]), shape)


def observations(path: Path, shape: Sequence[int]) -> Tensor:
    """The observations (N, *shape) uint8 of a .npy file. Raises ValueError where it has none of that shape."""
    try:
        found = np.load(path, allow_pickle=False)
    except (OSError, ValueError) as error:
        raise ValueError(f"{path} cannot be read as observations: {error}") from error
    if found.dtype != np.uint8 or found.shape[1:] != tuple(shape) or not len(found):
        raise ValueError(
            f"{path} holds {found.dtype} of shape {found.shape}, and the backbone takes uint8 of "
            f"(N, {', '.join(map(str, shape))}): `{EXPORT} RUN` writes those of a run's own agent"
        )
    return torch.from_numpy(found)


def of_samples(samples: Sequence[Sample], shape: Sequence[int]) -> Tensor:
    """The images of samples, the first MOST of them, as (N, *shape) uint8: the middle square of each, resized."""
    found = []
    for number in range(min(len(samples), MOST)):
        image = samples[number].image
        side = min(image.shape[1:])
        top, left = ((long - side) // 2 for long in image.shape[1:])
        found.append(fitted(image[None, :, top : top + side, left : left + side], shape))
    return torch.cat(found)


def fitted(images: Tensor, shape: Sequence[int]) -> Tensor:
    """Images (N, 1 or 3, H, W) uint8 as (N, *shape) uint8: resized, and gray where that is not of 3 channels.

    A stack of frames, of as many channels, is one in which nothing moves.
    """
    if tuple(images.shape[2:]) != tuple(shape[1:]):
        floats = F.interpolate(images.float(), list(shape[1:]), mode="bilinear", antialias=True)
        images = floats.round().clamp(0, 255).byte()
    if images.shape[1] == shape[0]:
        return images
    return stage_features.with_channels(images, shape[0] if shape[0] == 3 else 1).expand(-1, shape[0], -1, -1)
