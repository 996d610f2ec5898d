"""Images with captions: drawn scenes or a folder in COCO's format, resized and batched in the seed's order."""

from __future__ import annotations

import functools
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn import functional as F

from vision.captioning import scenes
from vision.captioning.vocabulary import IGNORE, Vocabulary
from vision.data import annotated
from vision.data.loader import Loader
from vision.data.samples import Sample


class Images(NamedTuple):
    """Samples with captions in three parts: train on `train`, select on `validation`, report `test` once."""

    train: Sequence[Sample]
    validation: Sequence[Sample]
    test: Sequence[Sample]
    classes: tuple[str, ...]  # of the objects, which are pointed at
    notes: list[str]  # what is wrong with files and annotations, in sentences

    def captions(self) -> list[str]:
        """All captions of the training images."""
        return [caption for index in range(len(self.train)) for caption in captions_of(self.train, index)]


def load(name: str, overfit: int = 0, count: int = 20_000) -> Images:
    """The scenes ("shapes"), or the images with captions of a folder.

    overfit: instead of the parts, that many images, which are trained on, validated and tested alike: a check that a
    network can learn them. count: of scenes to train on. Raises ValueError where there are no captions.
    """
    if name == annotated.SHAPES:
        found = _scenes((count, max(1, count // 40), max(1, count // 20)))
    elif not Path(name).is_dir():
        raise ValueError(f"unknown data {name!r}: shapes, or a folder of images with captions in COCO's format")
    else:
        sets = annotated.load(name, "coco")
        parts = [_with_captions(part) for part in sets[:3]]
        lost = sum(len(before) - len(after) for before, after in zip(sets[:3], parts, strict=True))
        notes = annotated.summary(sets.problems)
        notes += [f"{lost:,} images without captions are left out"] if lost else []
        if not all(len(part) for part in parts):
            raise ValueError(f"{name} has no captions in every part: is there a captions_*.json beside its images?")
        found = Images(*parts, sets.classes, notes)
    if overfit:
        everything = [*found.train, *found.validation] if len(found.train) < overfit else found.train
        few = [everything[index] for index in range(min(overfit, len(everything)))]
        found = found._replace(train=few, validation=few, test=few)
    return found


@functools.lru_cache(maxsize=1)
def _scenes(sizes: tuple[int, int, int]) -> Images:
    parts = (scenes.DescribedScenes(count, seed) for seed, count in enumerate(sizes))
    return Images(*parts, scenes.CLASSES, [])


def _with_captions(images: annotated.AnnotatedImages) -> annotated.AnnotatedImages:
    kept = [each for each in images.annotations if each.captions]
    return annotated.AnnotatedImages(kept, False, images.points)


def captions_of(samples: Sequence[Sample], index: int) -> tuple[str, ...]:
    """The captions of a sample, whose image is not decoded where that can be avoided."""
    if hasattr(samples, "annotations"):
        return samples.annotations[index].captions
    if hasattr(samples, "sentence"):
        return (samples.sentence(index),)
    return samples[index].target.captions


def resized(image: Tensor, size: int | None) -> Tensor:
    """An image (3, H, W) uint8 stretched to (3, size, size); None: as it is."""
    if size is None or tuple(image.shape[1:]) == (size, size):
        return image
    return F.interpolate(image[None], (size, size), mode="bilinear", antialias=True)[0]


class Batches:
    """Training batches, images and one caption of each, read ahead of time. longest: words of a caption at most."""

    def __init__(
        self,
        samples: Sequence[Sample],
        vocabulary: Vocabulary,
        size: int | None,
        batch: int,
        longest: int,
        seed: int,
        device: torch.device | str = "cpu",
    ) -> None:
        self.samples, self.vocabulary, self.size, self.device = samples, vocabulary, size, device
        self.longest = longest
        self._loader = Loader(len(samples), batch, seed, self._make)
        self.close = self._loader.close

    def training(self, step: int) -> tuple[Tensor, Tensor, Tensor]:
        """The batch at a step, counted in images: images (B, 3, H, W), words read (B, T) and to be written (B, T)."""
        return tuple(each.to(self.device) for each in self._loader.at(step))

    def _make(self, rows: list[int], generator: torch.Generator) -> tuple[Tensor, Tensor, Tensor]:
        images, sentences = [], []
        for row in rows:
            sample = self.samples[row]
            captions = sample.target.captions
            images.append(resized(sample.image, self.size))
            caption = captions[torch.randint(len(captions), (), generator=generator)]
            sentences.append(self.vocabulary.encode(caption, self.longest))
        targets = torch.nn.utils.rnn.pad_sequence(sentences, batch_first=True, padding_value=IGNORE)
        begin = torch.full_like(targets[:, :1], self.vocabulary.start)
        return torch.stack(images), torch.cat([begin, targets[:, :-1].clamp(min=0)], 1), targets
