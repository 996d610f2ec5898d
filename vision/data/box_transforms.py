"""SSD's data augmentation: expansion and IoU crops, which change how large objects are in their image.

Liu et al. 2015, arXiv 1512.02325, sections 2.2 and 3.6. In PASCAL VOC the whole of it, with the color jitter of
transforms.py, is worth 19 points of mAP (github.com/amdegroot/ssd.pytorch: 58.1 without and 77.4 with).
"""

from __future__ import annotations

import dataclasses

import torch
from torch.nn import functional as F

from vision.data.samples import INSTANCES, Batch
from vision.data.transforms import Transform
from vision.ops import boxes as box_ops

TRIES = 50  # windows that are tried for each choice of an IoU
CHOICES = (None, 0.1, 0.3, 0.5, 0.7, 0.9, 0.0)  # least IoU with an object; None: the whole image; 0: any window
LEAST = 0.3  # of the image's sides, a window's at least
ASPECT = 2.0  # of a window, at most


class Expand(Transform):
    """Expansion: the image somewhere on a canvas of up to `most` times its sides, of its mean color.

    Of each sample by itself, with a probability. Raises ValueError for batches of more than one image, because sizes
    come to differ.
    """

    def __init__(self, most: float = 4.0, probability: float = 0.5) -> None:
        self.most, self.probability = most, probability

    def apply(self, batch: Batch, generator: torch.Generator | None) -> Batch:
        _single(batch)
        chance, ratio, down, along = torch.rand(4, generator=generator).tolist()
        if chance >= self.probability:
            return batch
        ratio = 1 + (self.most - 1) * ratio
        tall, wide = batch.images.shape[2:]
        height, width = int(tall * ratio), int(wide * ratio)
        top, left = int((height - tall) * down), int((width - wide) * along)
        around = (left, width - wide - left, top, height - tall - top)
        mean = batch.images.float().mean((2, 3), keepdim=True)
        images = mean.to(batch.images.dtype).expand(-1, -1, height, width).clone()
        images[..., top : top + tall, left : left + wide] = batch.images
        moved = {"images": images, "area": None}
        if batch.boxes is not None:
            moved["boxes"] = batch.boxes + batch.boxes.new_tensor([left, top] * 2)
        if batch.masks is not None:
            moved["masks"] = F.pad(batch.masks, around)
        if batch.keypoints is not None:
            labeled = batch.keypoints[..., 2:] > 0
            moved["keypoints"] = batch.keypoints + batch.keypoints.new_tensor([left, top, 0]) * labeled
        if batch.semantic is not None:
            moved["semantic"] = F.pad(batch.semantic, around, value=255)
        return dataclasses.replace(batch, **moved)


class IoUCrop(Transform):
    """IoU crop: a random window that overlaps an object by at least a randomly chosen IoU.

    Objects whose center is outside are dropped, the others cut. It works on single samples: raises
    ValueError for batches of more than one image.
    """

    def apply(self, batch: Batch, generator: torch.Generator | None) -> Batch:
        _single(batch)
        if batch.boxes is None or not len(batch.boxes):
            return batch
        choice = CHOICES[int(torch.randint(len(CHOICES), (1,), generator=generator))]
        if choice is None:
            return batch
        tall, wide = batch.images.shape[2:]
        numbers = torch.rand(TRIES, 4, generator=generator)
        sides = LEAST + (1 - LEAST) * numbers[:, :2]
        height, width = (sides[:, 0] * tall).int().clamp(min=1), (sides[:, 1] * wide).int().clamp(min=1)
        top, left = ((tall - height) * numbers[:, 2]).int(), ((wide - width) * numbers[:, 3]).int()
        windows = torch.stack([left, top, left + width, top + height], 1).to(batch.boxes)
        overlap = box_ops.iou(windows, batch.boxes)
        middle = (batch.boxes[:, :2] + batch.boxes[:, 2:]) / 2
        inside = ((middle > windows[:, None, :2]) & (middle < windows[:, None, 2:])).all(2)  # (TRIES, K)
        shape = width / height
        fits = (shape <= ASPECT) & (shape >= 1 / ASPECT)
        fits &= torch.where(inside, overlap, -1.0).amax(1) >= choice
        if not fits.any():
            return batch
        x1, y1, x2, y2 = windows[fits.nonzero()[0, 0]].int().tolist()
        kept = inside[fits.nonzero()[0, 0]]
        shift = batch.boxes.new_tensor([x1, y1] * 2)
        moved = {"images": batch.images[..., y1:y2, x1:x2], "area": None}
        moved["boxes"] = box_ops.clip(batch.boxes - shift, (y2 - y1, x2 - x1))
        if batch.masks is not None:
            moved["masks"] = batch.masks[:, y1:y2, x1:x2]
        if batch.semantic is not None:
            moved["semantic"] = batch.semantic[:, y1:y2, x1:x2]
        if batch.keypoints is not None:
            points = batch.keypoints - batch.keypoints.new_tensor([x1, y1, 0])
            edge = points.new_tensor([x2 - x1, y2 - y1])
            seen = ((points[..., :2] >= 0) & (points[..., :2] <= edge)).all(2, keepdim=True) & (points[..., 2:] > 0)
            moved["keypoints"] = points * seen
        for name in (*INSTANCES, "image_index"):
            if (value := moved.get(name, getattr(batch, name))) is not None and name != "area":
                moved[name] = value[kept]
        return dataclasses.replace(batch, **moved)


def _single(batch: Batch) -> None:
    if len(batch.images) != 1:
        raise ValueError(f"sizes come to differ: give samples one by one, not a batch of {len(batch.images)}")
