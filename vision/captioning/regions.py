"""Regions with sentences: objects of drawn scenes and pairs of them, the network that describes them, its score."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from vision.backbones import Backbone
from vision.captioning import attention, beam
from vision.captioning.decoders import DecoderState, PlainDecoder
from vision.captioning.scenes import DescribedScenes, describe
from vision.captioning.vocabulary import IGNORE, Vocabulary
from vision.data.samples import Sample, Target
from vision.detection import regions
from vision.detection.detections import Detections
from vision.detection.faster_rcnn import POOLED, FasterRCNN, Options
from vision.ops import boxes

OVERLAPS = (0.3, 0.4, 0.5, 0.6, 0.7)  # IoU from which a region is found: section 4.1
DESCRIBED = 16  # regions of an image that the loss of words is made from, at most


class RegionScenes(Sequence):
    """N drawn scenes whose objects are regions: each object, "a red disc", and each two that follow each other in the
    scene's sentence, "a red disc above a blue star". All are of one class; captions are in the order of boxes.
    """

    def __init__(self, count: int, seed: int, side: int) -> None:
        self.scenes = DescribedScenes(count, seed, side)

    def __len__(self) -> int:
        return len(self.scenes)

    def __getitem__(self, index: int) -> Sample:
        """Raises IndexError beyond the last."""
        own = self.scenes.target(index)
        labels, cells = own.labels.tolist(), self.scenes.cells[index].tolist()
        found, captions = [], []
        for size in (1, 2):
            for first in range(len(labels) - size + 1):
                part = own.boxes[first : first + size]
                found.append(torch.cat([part[:, :2].amin(0), part[:, 2:].amax(0)]))
                captions.append(describe(labels[first : first + size], cells[first : first + size]))
        where = torch.stack(found)
        target = Target(boxes=where, labels=torch.zeros(len(where)).long(), captions=tuple(captions))
        return Sample(self.scenes.images[index], target)

    def captions(self) -> list[str]:
        """Those of all regions."""
        return [caption for index in range(len(self)) for caption in self[index].target.captions]


class Described(NamedTuple):
    """Regions that were found in an image, and a sentence about each."""

    found: Detections
    captions: list[str]


class DenseCaptioner(FasterRCNN):
    """Faster R-CNN of one class, region or background, and an LSTM that writes about the code of each region.

    The code is that of the box head, from which score and box are calculated too (section 3.3); the LSTM reads it
    before the first word (section 3.4). hidden: units of the LSTM. longest: words of a sentence.
    """

    def __init__(
        self, backbone: Backbone, vocabulary: Vocabulary, hidden: int, longest: int, options: Options | None = None
    ) -> None:
        super().__init__(backbone, 1, options)
        self.vocabulary, self.longest = vocabulary, longest
        self.decoder = PlainDecoder(len(vocabulary), self.options.head_width, hidden)

    def codes(self, maps: Sequence[Tensor], places: Sequence[Tensor]) -> Tensor:
        """Codes (N, 1, head_width) of boxes (N_i, 4) of each image, from the maps (B, C, H, W)."""
        pooled, _ = regions.pool(maps[:-1], self.strides, places, POOLED)
        return self.roi_heads.box_head(pooled)[:, None]

    def extra_losses(
        self, maps: list[Tensor], sampled: regions.Regions, targets: Sequence[Target]
    ) -> dict[str, Tensor]:
        """Cross-entropy of the words about positive regions, a scalar in nats a word, from the maps (B, C, H, W)."""
        places, wanted = [], []
        for number, target in enumerate(targets):
            rows = ((sampled.image == number) & (sampled.labels > 0)).nonzero()[:DESCRIBED, 0]
            places.append(sampled.boxes[rows])
            captions = [target.captions[row] for row in sampled.objects[rows].tolist()]
            wanted += [self.vocabulary.encode(caption, self.longest) for caption in captions]
        codes = self.codes(maps, places)
        if not wanted:
            return {"loss/words": codes.sum() * 0}
        targets_of_words = torch.nn.utils.rnn.pad_sequence(wanted, True, IGNORE).to(codes.device)
        read = targets_of_words.clamp(min=0).roll(1, 1)
        read[:, 0] = self.vocabulary.start
        nats = attention.word_losses(self.decoder(codes, read)[0], targets_of_words, IGNORE)
        return {"loss/words": nats.sum() / (targets_of_words != IGNORE).sum()}

    @torch.no_grad()
    def describe(self, images: Tensor, width: int = 1) -> list[Described]:
        """The regions of images (B, 3, H, W), best first, with sentences. width: of the beam."""
        self.eval()
        found = self.detect(images, [tuple(images.shape[-2:])] * len(images))
        if not sum(len(each) for each in found):
            return [Described(each, []) for each in found]
        state = self.decoder.begin(self.codes(self.maps(images), [each.boxes for each in found]))

        def step(words: Tensor, state: DecoderState) -> tuple[Tensor, DecoderState]:
            logits, state, _ = self.decoder.step(words, state)
            return logits.float().log_softmax(1), state

        rows, _ = beam.beam_search(step, state, self.vocabulary.start, 0, width, self.longest)
        texts = iter(self.vocabulary.decode(row) for row in rows)
        return [Described(each.to("cpu"), [next(texts) for _ in range(len(each))]) for each in found]


class Matches(NamedTuple):
    """What was found in an image beside what there is."""

    scores: np.ndarray  # (K,)
    overlap: np.ndarray  # (K, G) IoU
    right: np.ndarray  # (K, G) bool: the sentence is that region's


def compare(described: Described, target: Target) -> Matches:
    """Found regions against annotated ones."""
    overlap = boxes.iou(described.found.boxes.float(), target.boxes).numpy()
    right = [[said == caption for caption in target.captions] for said in described.captions]
    shape = len(described.captions), len(target.captions)
    return Matches(described.found.scores.numpy(), overlap, np.array(right, dtype=bool).reshape(shape))


def average_precision(images: Sequence[Matches], least: float, words: bool) -> float:
    """Area under precision by recall of all images' regions, the best score first.

    A region is right where it has an IoU of `least` with an annotated one that no better one has taken, and, if
    `words` count, that one's sentence.
    """
    ranked = sorted(
        ((score, number, row) for number, each in enumerate(images) for row, score in enumerate(each.scores)),
        key=lambda each: -each[0],
    )
    free = [np.ones(each.overlap.shape[1], dtype=bool) for each in images]
    hits = np.zeros(len(ranked))
    for place, (_, number, row) in enumerate(ranked):
        fits = free[number] & (images[number].overlap[row] >= least)
        if words:
            fits &= images[number].right[row]
        if fits.any():
            taken = np.where(fits, images[number].overlap[row], -1.0).argmax()
            free[number][taken], hits[place] = False, 1.0
    wanted = sum(each.overlap.shape[1] for each in images)
    recall, precision = hits.cumsum() / max(1, wanted), hits.cumsum() / np.arange(1, len(hits) + 1)
    precision = np.maximum.accumulate(precision[::-1])[::-1]
    return float((np.diff(recall, prepend=0.0) * precision).sum())


def scores(images: Sequence[Matches]) -> dict[str, float]:
    """map: mean average precision over OVERLAPS, a region counting as found where its sentence is right too;
    place_map: of places alone; exact: percentage of right sentences among regions with an IoU of 0.5 or more.
    """
    found = {
        name: float(np.mean([average_precision(images, least, words) for least in OVERLAPS]))
        for name, words in (("map", True), ("place_map", False))
    }
    said = [
        bool(each.right[row, each.overlap[row].argmax()])
        for each in images
        for row in range(len(each.scores))
        if each.overlap[row].max(initial=0.0) >= 0.5
    ]
    return found | {"exact": 100 * float(np.mean(said)) if said else 0.0}
