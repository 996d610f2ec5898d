"""Crops of regions, each warped to one size and classified by itself: what R-CNN and sliding windows share."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from vision.backbones import Backbone
from vision.data.samples import Target
from vision.detection.regions import aside_crowds, present
from vision.ops import boxes, matching, roi

PLACES = 2  # side of the last map, pooled, that features are made of
CHUNK = 256  # crops that go through the network together, where nothing is learned


class CropNetwork(nn.Module):
    """A backbone on crops (N, 3, side, side) of images, and a dense layer on its last map: features (N, width).

    context: part of a crop's side that shows what is around its region, on each side.
    """

    def __init__(self, backbone: Backbone, side: int, width: int, context: float = 0.0) -> None:
        super().__init__()
        self.side, self.context = max(side, backbone.smallest), context
        self.inputs = backbone.channels[-1] * PLACES**2
        self.fc = nn.Linear(self.inputs, width)

    def warp(self, images: Tensor, found: Tensor, image: Tensor) -> Tensor:
        """Crops (N, 3, side, side) in [0, 1] of regions (N, 4) of images (B, 3, H, W); image: (N,), whose."""
        pixels = images.float() / 255 if images.dtype == torch.uint8 else images
        region = boxes.to_center(found)
        wider = torch.cat([region[:, :2], region[:, 2:].clamp(min=1) / (1 - 2 * self.context)], 1)
        return roi.roi_align(pixels, boxes.from_center(wider), image, (self.side, self.side), aligned=True)

    def forward(self, backbone: Backbone, crops: Tensor) -> tuple[Tensor, Tensor]:
        """The last map, pooled and flattened (N, inputs), and the features (N, width)."""
        pooled = roi.average_pool(backbone(crops)[-1].float(), PLACES).flatten(1)
        return pooled, F.relu(self.fc(pooled))

    @torch.no_grad()
    def describe(self, backbone: Backbone, image: Tensor, found: Tensor) -> tuple[Tensor, Tensor]:
        """As forward, of regions (N, 4) of one image (3, H, W), part by part."""
        parts = []
        for own in found.split(CHUNK):
            whose = torch.zeros_like(own[:, 0], dtype=torch.int64)
            parts.append(self(backbone, self.warp(image[None], own, whose)))
        if not parts:
            return found.new_zeros(0, self.inputs), found.new_zeros(0, self.fc.out_features)
        return torch.cat([part[0] for part in parts]), torch.cat([part[1] for part in parts])


def sample_crops(
    found: Sequence[Tensor], targets: Sequence[Target], count: int, positives: float, high: float, low: float
) -> tuple[Tensor, Tensor, Tensor]:
    """A sample of the regions (N_i, 4) of each image and of its objects' boxes: regions (N, 4), the image of each
    (N,), and its label (N,): class + 1 where the IoU with an object is at least `high`, 0 where all are below `low`.
    """
    columns: list[list[Tensor]] = [[], [], []]
    for number, (regions, target) in enumerate(zip(found, targets, strict=True)):
        objects, labels, crowds = present(target)
        regions = torch.cat([regions, objects.to(regions.dtype)])
        matched = aside_crowds(matching.match(boxes.iou(objects, regions), high, low), regions, crowds)
        right, wrong = matching.sample(matched, count, positives)
        label = torch.cat([labels[matched[right]] + 1, torch.zeros_like(wrong)])
        rows = torch.cat([right, wrong])
        for column, value in zip(columns, (regions[rows], torch.full_like(rows, number), label), strict=True):
            column.append(value)
    return torch.cat(columns[0]), torch.cat(columns[1]), torch.cat(columns[2])
