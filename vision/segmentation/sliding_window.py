"""Sliding-window segmentation: a classifier of the pixel in the middle of a patch, applied patch by patch.

Farabet et al. 2013, "Learning hierarchical features for scene labeling", doi 10.1109/TPAMI.2012.231; Pinheiro &
Collobert 2014, arXiv 1306.2795: the first idea of CS231n's lecture 11, which shares nothing between overlapping
patches. Training classifies some random pixels of each image.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F

from vision.backbones import Backbone
from vision.data.samples import IGNORE
from vision.segmentation.segmenter import Segmenter, pixel_loss

AT_ONCE = 4_096  # patches through the network at a time


class SlidingWindow(Segmenter):
    """A backbone and its own head on patches: (B, C, H, W) -> (B, classes, H, W).

    patch: pixels, side. stride: pixels between patches in evaluation, whose scores the pixels between them share.
    samples: patches of an image in training.
    """

    def __init__(self, backbone: Backbone, classes: int, patch: int = 32, stride: int = 4, samples: int = 64) -> None:
        super().__init__(backbone)
        if patch < backbone.smallest:
            raise ValueError(f"patches of {patch} pixels are too small for {backbone.spec['name']}")
        self.patch, self.stride, self.samples = patch, stride, samples
        self.head = backbone.head(classes)

    def classify(self, patches: Tensor) -> Tensor:
        """Logits (N, classes) of patches (N, C, patch, patch)."""
        with self.autocast():
            return self.head(self.backbone(patches)).float()

    def forward(self, images: Tensor) -> Tensor:
        tall, wide = images.shape[-2:]
        padded = self._padded(images)
        rows, columns = (torch.arange(self.stride // 2, side, self.stride) for side in (tall, wide))
        places = torch.cartesian_prod(rows, columns).view(-1, 2)
        found = []
        for part in places.split(max(1, AT_ONCE // len(images))):
            patches = torch.stack([padded[..., y : y + self.patch, x : x + self.patch] for y, x in part.tolist()], 1)
            found.append(self.classify(patches.flatten(0, 1)).unflatten(0, patches.shape[:2]))
        logits = torch.cat(found, 1).mT.unflatten(2, (len(rows), len(columns)))
        whole = F.interpolate(logits, scale_factor=self.stride, mode="nearest")
        return F.pad(whole, (0, max(0, wide - whole.shape[3]), 0, max(0, tall - whole.shape[2])), mode="replicate")[
            ..., :tall, :wide
        ]

    def losses(self, images: Tensor, semantic: Tensor, weights: Tensor | None = None) -> dict[str, Tensor]:
        """The loss of random pixels that have a class, from torch's generator; shapes as the base class has them."""
        padded = self._padded(images)
        patches, labels = [], []
        for image, classes in zip(padded, semantic, strict=True):
            known = (classes != IGNORE).nonzero()
            if not len(known):
                continue
            chosen = known[torch.randint(len(known), (self.samples,), device=known.device)]
            labels.append(classes[chosen[:, 0], chosen[:, 1]])
            patches += [image[:, y : y + self.patch, x : x + self.patch] for y, x in chosen.tolist()]
        if not patches:
            return {"loss/pixels": sum(weight.sum() for weight in self.parameters()) * 0.0}
        logits = self.classify(torch.stack(patches))
        return {"loss/pixels": pixel_loss(logits[..., None, None], torch.cat(labels)[:, None, None], weights)}

    def _padded(self, images: Tensor) -> Tensor:
        """Images (B, C, H, W) with zeros around them, so that every pixel is in the middle of a patch."""
        before, after = self.patch // 2, self.patch - 1 - self.patch // 2
        return F.pad(images, (before, after, before, after))
