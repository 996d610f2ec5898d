"""Evaluation of captions: metrics of sentences, exact matches, and whether attention lies on what is named."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from vision.captioning.captioner import Captioner
from vision.captioning.data import resized
from vision.captioning.metrics import caption_scores, tokenize
from vision.captioning.vocabulary import Vocabulary
from vision.data.samples import Sample


class Caption(NamedTuple):
    """What is written about an image."""

    text: str
    weights: Tensor | None  # (T, h, w), where each word was looked for; None without attention


@torch.no_grad()
def write(
    model: Captioner, vocabulary: Vocabulary, images: Sequence[Tensor], size: int | None, width: int, longest: int
) -> list[Caption]:
    """Captions of images (3, H, W) uint8 of any sizes, on the CPU."""
    device = next(model.parameters()).device
    batch = torch.stack([resized(image, size) for image in images]).to(device)
    model.eval()
    sentences, weights = model.write(batch, width, longest)
    maps = [None] * len(images) if weights is None else weights.float().cpu()
    texts = [vocabulary.decode(sentence) for sentence in sentences]
    return [
        Caption(text, None if each is None else each[: len(text.split())])
        for text, each in zip(texts, maps, strict=True)
    ]


def pointed(caption: Caption, sample: Sample, classes: Sequence[str]) -> list[bool]:
    """For each name of a class in a caption, whether attention was largest within a box of an object of that class.

    The pointing game (Zhang et al. 2016, arXiv 1608.00507) for words: a name counts where its last word is written;
    of several words the longest name. The place is the middle of the likeliest cell. False where no such object is
    there.
    """
    known = {tuple(name.lower().split()): label for label, name in enumerate(classes)}
    longest = max((len(name) for name in known), default=0)
    words, found, tall, wide = caption.text.split(), [], *sample.image.shape[1:]
    boxes, labels = sample.target.boxes, sample.target.labels
    for end in range(1, len(words) + 1):
        names = (tuple(words[end - size : end]) for size in range(min(longest, end), 0, -1))
        label = next((known[name] for name in names if name in known), None)
        if label is None:
            continue
        weights = caption.weights[end - 1]
        row, column = divmod(int(weights.argmax()), weights.shape[1])
        x, y = (column + 0.5) / weights.shape[1] * wide, (row + 0.5) / weights.shape[0] * tall
        own = boxes[labels == label]
        found.append(bool(((own[:, 0] <= x) & (x <= own[:, 2]) & (own[:, 1] <= y) & (y <= own[:, 3])).any()))
    return found


def evaluate(
    model: Captioner,
    vocabulary: Vocabulary,
    samples: Sequence[Sample],
    classes: Sequence[str],
    count: int,
    options: tuple[int | None, int, int, int],
    shown: int = 0,
) -> tuple[dict[str, float], list[tuple[Sample, Caption]]]:
    """Scores of the first `count` samples, and the first `shown` with their captions.

    options: size of images, width of the beam, longest sentence, images at once. exact is the percentage of captions
    that equal one of their image's, word by word; pointing that of named objects on which attention lies.
    """
    size, width, longest, batch = options
    texts, references, exact, points, kept = [], [], 0, [], []
    for begin in range(0, count, batch):
        part = [samples[index] for index in range(begin, min(begin + batch, count))]
        captions = write(model, vocabulary, [sample.image for sample in part], size, width, longest)
        for sample, caption in zip(part, captions, strict=True):
            texts.append(caption.text)
            references.append(sample.target.captions)
            exact += caption.text.split() in [tokenize(each) for each in sample.target.captions]
            if caption.weights is not None and len(sample.target.boxes):
                points += pointed(caption, sample, classes)
            if len(kept) < shown:
                kept.append((sample, caption))
    found = caption_scores(texts, references) | {"exact": 100 * exact / count}
    return found | ({"pointing": 100 * sum(points) / len(points)} if points else {}), kept
