"""Captioner: a backbone, whose map is cut into places, and a decoder that writes about them."""

from __future__ import annotations

import contextlib
import math
from collections.abc import Callable

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from vision.backbones import Backbone
from vision.captioning import attention, beam
from vision.captioning.decoders import Decoder, DecoderState
from vision.captioning.vocabulary import IGNORE


class Captioner(nn.Module):
    """A network that writes sentences about images (B, C, H, W): losses(images, words) and write(images).

    stride: pixels; the map whose stride is nearest is read. pool: places along and down that are merged into one, by
    the largest of each feature. The places' features, with where they are in the image, become vectors of `features`
    numbers, which deviates from Xu et al.: their networks see the whole image from everywhere.
    `autocast` is the context in which maps are calculated; words are float32.
    """

    def __init__(self, backbone: Backbone, decoder: Decoder, stride: int, start: int, pool: int = 1) -> None:
        super().__init__()
        self.backbone, self.decoder, self.start, self.pool = backbone, decoder, start, pool
        self.map = nearest_map(backbone, stride)
        self.project = nn.Linear(backbone.channels[self.map] + 2, decoder.features)
        self.autocast: Callable[[], contextlib.AbstractContextManager] = contextlib.nullcontext

    def features(self, images: Tensor) -> tuple[Tensor, tuple[int, int]]:
        """Features (B, L, D) of L places, row by row, and how many of them are down and along."""
        with self.autocast():
            found = self.backbone(images)[self.map].float()
        found = F.max_pool2d(found, self.pool) if self.pool > 1 else found
        size = tuple(found.shape[-2:])
        found = torch.cat([found, places(size, found.device).expand(len(found), -1, -1, -1)], 1)
        return self.project(found.flatten(2).transpose(1, 2)).relu(), size

    def losses(
        self, images: Tensor, words: Tensor, targets: Tensor, baseline: attention.Baseline, options: attention.Options
    ) -> dict[str, Tensor]:
        """Losses by their names, of which those under loss/ are added up and minimized.

        words: (B, T), read; targets: (B, T), to be written, IGNORE behind the end. baseline: of hard attention, which
        is updated.
        """
        logits, weights, drawn = self.decoder(self.features(images)[0], words)
        there = targets != IGNORE
        share = len(images) / there.sum()  # of a word in a sentence: losses are a word's, the papers' a sentence's
        nats = attention.word_losses(logits, targets, IGNORE)
        found = {"loss/words": share * nats.sum(1).mean()}
        if weights is not None and options.doubly_stochastic:
            penalty = attention.doubly_stochastic(weights, there)
            found["loss/places"] = share * options.doubly_stochastic * penalty
        if drawn is not None:
            chosen = weights.gather(2, drawn.clamp(min=0)[..., None]).squeeze(2)
            rewards, entropies = attention.rewards_to_go(-nats.detach()), attention.entropy(weights)
            found["train/entropy"] = ((entropies * there).sum() / there.sum()).detach()
            there = there & (drawn >= 0)
            scored = attention.reinforce(chosen, rewards, baseline.of(rewards), entropies, there, options.exploration)
            found["loss/reinforce"] = share * options.reinforce * scored
            baseline.update(rewards, there)
        return found

    @torch.no_grad()
    def write(self, images: Tensor, width: int, longest: int) -> tuple[list[list[int]], Tensor | None]:
        """Sentences by beam search, and the weights of places as maps (B, longest, h, w) where there is attention.

        width: sentences kept at each word; 1: the likeliest word each time. longest: words of a sentence.
        """
        features, size = self.features(images)
        state = self.decoder.begin(features)

        def step(words: Tensor, state: DecoderState) -> tuple[Tensor, DecoderState]:
            logits, state, _ = self.decoder.step(words, state)
            return logits.float().log_softmax(1), state

        found, _ = beam.beam_search(step, state, self.start, 0, width, longest)
        if not self.decoder.attends:
            return found, None
        rows = [[self.start, *row][:longest] for row in found]
        read = torch.tensor([row + [0] * (longest - len(row)) for row in rows], device=images.device)
        weights = self.decoder(features, read)[1]
        return found, weights.view(*weights.shape[:2], *size)


def nearest_map(backbone: Backbone, stride: int) -> int:
    """The index of the backbone's map whose stride is nearest to one in pixels, the last of equals.

    Raises ValueError for a backbone without maps of images.
    """
    maps = backbone.imagine(backbone.shape)
    usable = [number for number, each in enumerate(maps) if each.dim() == 4 and max(each.shape[2:]) > 1]
    if not usable:
        raise ValueError(f"{backbone.spec['name']} gives no maps of images: choose a convolutional backbone")
    return min(usable, key=lambda number: (abs(math.log2(backbone.strides[number] / stride)), -number))


def places(size: tuple[int, int], device: torch.device) -> Tensor:
    """Coordinates (2, h, w) of a map's places, down and along, from -1 to 1."""
    down, along = ((2 * torch.arange(side, device=device) + 1) / side - 1 for side in size)
    return torch.stack(torch.meshgrid(down, along, indexing="ij"))
