"""Autoregressive models: the probability of an image as a product over its pixels, in reading order.

log_prob is exact: log p(x) = sum_i log p(x_i | x_1 .. x_i-1), the colors of a pixel one after the other. Samples are
drawn pixel by pixel, by uniform numbers that are drawn before, so that two ways of computing the same probabilities
give the same samples.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from vision.generation.generator import Generator
from vision.generation.likelihoods import Bernoulli, Categorical


class Sampler(NamedTuple):
    """Parameters of pixels, asked for in reading order, once for each channel of a pixel.

    Both take images (B, C, H, W) that are known before the pixel, `pixel` those of it before a channel, too.
    """

    begin_row: Callable[[Tensor, int], None]  # images, row
    pixel: Callable[[Tensor, int, int], Tensor]  # images, row, column -> (B, outputs * C)


class Autoregressive(Generator):
    """The base of PixelCNN and PixelRNN: they have `parameters_of`, and may have a faster `sampler`.

    Pixels of 2 levels are Bernoulli, others categorical.
    """

    likelihood = "exact"

    def __init__(self, shape: Sequence[int], levels: int = 2, classes: int = 0) -> None:
        super().__init__(shape, levels, classes)
        self.pixels = Bernoulli() if levels == 2 else Categorical(levels)

    def parameters_of(self, images: Tensor, labels: Tensor | None = None) -> Tensor:
        """The parameters (B, outputs * C, H, W) of each pixel of images (B, C, H, W) given those before it."""
        raise NotImplementedError

    def losses(self, images: Tensor, labels: Tensor) -> dict[str, Tensor]:
        return {"loss/nats": -self.log_prob(images, labels).mean()}

    def log_prob(self, images: Tensor, labels: Tensor | None = None) -> Tensor:
        return self.pixels.log_prob(self.parameters_of(images, labels), images).sum((1, 2, 3))

    def sample(self, count: int, labels: Tensor | None = None, cached: bool = True) -> Tensor:
        """New images (count, C, H, W). labels: (count,). cached: as `complete` has it."""
        images = torch.zeros(count, *self.shape, device=self.device)
        known = torch.zeros(self.shape[1:], dtype=torch.bool, device=self.device)
        return self.complete(images, known, self.drawn_labels(count, labels), cached)

    @torch.no_grad()
    def complete(self, images: Tensor, known: Tensor, labels: Tensor | None = None, cached: bool = True) -> Tensor:
        """Images (B, C, H, W) whose pixels outside of the mask `known`, (H, W) or (B, H, W) bool, are drawn given all
        that is before them in reading order; what is known behind them is kept, and not taken into account.

        cached: keep activations, and compute a new pixel's alone; False: the whole network for each pixel.
        """
        count, (channels, tall, wide) = len(images), self.shape
        known = known.expand(count, tall, wide)
        found = images * known[:, None]
        uniform = torch.rand(tall, wide, channels, count, device=images.device)
        sampler = self.sampler(count, labels) if cached else self.naive_sampler(labels)
        for row in range(tall):
            sampler.begin_row(found, row)
            for column in range(wide):
                keep = known[:, row, column]
                for channel in range(channels):
                    parameters = sampler.pixel(found, row, column).view(count, -1, channels)[:, :, channel]
                    drawn = self.pixels.draw(parameters, uniform[row, column, channel])
                    found[:, channel, row, column] = torch.where(keep, images[:, channel, row, column], drawn)
        return found

    def naive_sampler(self, labels: Tensor | None) -> Sampler:
        """The parameters of a pixel by the whole network. labels: (B,), of conditional models."""
        return Sampler(
            lambda images, row: None,
            lambda images, row, column: self.parameters_of(images, labels)[:, :, row, column],
        )

    def sampler(self, count: int, labels: Tensor | None) -> Sampler:
        """The parameters of pixels of `count` images with labels (count,). A model that can compute them faster than
        by the whole network overrides it."""
        return self.naive_sampler(labels)
