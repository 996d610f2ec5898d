"""Images for generation: pixels of a few levels, binarized or quantized, the same in every evaluation.

dynamic     a pixel is 1 with the probability of its gray value, drawn anew each time (Salakhutdinov & Murray 2008)
static      so drawn once, by a seed of its own: not the drawing that Larochelle published
threshold   1 from half of white on

Nats of different binarizations cannot be compared. Evaluations of dynamically binarized images draw by a seed that
is always the same.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Literal

import torch
from torch import Tensor

from vision.data import Labeled

Binarization = Literal["dynamic", "static", "threshold"]
DRAWN = 20_081  # seed of evaluations, and of static binarization


def quantize(
    images: Tensor, levels: int, binarization: Binarization = "dynamic", generator: torch.Generator | None = None
) -> Tensor:
    """Images (B, C, H, W) uint8 as float32 with `levels` values from 0 to 1.

    binarization: of 2 levels. generator: for dynamic binarization; None: the global one.
    """
    if levels == 2:
        if binarization == "threshold":
            return (images >= 128).float()
        return torch.bernoulli(images / 255, generator=generator)
    return (images.long() * levels // 256).float() / (levels - 1)


class Pixels:
    """Images of a part of a data set as a model sees them.

    part: images (N, C, H, W) uint8 and labels (N,). device: where batches are made.
    """

    def __init__(self, part: Labeled, levels: int, binarization: Binarization, device: torch.device | str) -> None:
        self.labels = part.labels.to(device)
        self.levels, self.binarization = levels, binarization
        self.images = part.images.to(device)
        if levels == 2 and binarization == "static":
            drawn = quantize(part.images, 2, "dynamic", torch.Generator().manual_seed(DRAWN))
            self.images = (drawn * 255).byte().to(device)

    def __len__(self) -> int:
        return len(self.labels)

    def rows(self, index: Tensor, generator: torch.Generator | None = None) -> tuple[Tensor, Tensor]:
        """The images (B, C, H, W) float32 and labels (B,) at an index (B,). generator: of the CPU; None: global."""
        images = self.images[index]
        if generator is not None:
            images = images.cpu()  # the same bits on every device
        made = quantize(images, self.levels, self.binarization, generator)
        return made.to(self.images.device), self.labels[index]

    def batches(self, batch: int, count: int = 0) -> Iterator[tuple[Tensor, Tensor]]:
        """Batches of the first `count` images (B, C, H, W), 0: all, with labels (B,), always binarized alike."""
        generator = torch.Generator().manual_seed(DRAWN)
        for index in torch.arange(min(count or len(self), len(self)), device=self.labels.device).split(batch):
            yield self.rows(index, generator)
