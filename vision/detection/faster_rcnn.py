"""Faster R-CNN with a feature pyramid, on any backbone.

Ren et al. 2015, "Faster R-CNN: towards real-time object detection with region proposal networks", arXiv 1506.01497;
Lin et al. 2016, "Feature pyramid networks for object detection", arXiv 1612.03144. Numbers are torchvision's, whose
published weights load (torchvision_weights.py): they differ from the papers' in that anchors beyond the image's edge
are not left out of the loss, and in what is sampled (256 anchors, 512 regions). A backbone that ends before stride 32
gets further maps, by convolutions.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple, Self

import torch
from torch import Tensor, nn

from vision.backbones import Backbone
from vision.data.samples import Sample, Target
from vision.data.transforms import Resize
from vision.detection import detector, regions
from vision.detection.clusters import cluster, shapes_of
from vision.detection.detections import Detections
from vision.detection.detector import RECORDED, SMALL, Detector, Objects, Size
from vision.ops.pyramid import CoarserMaps, FeaturePyramid

COARSEST = 32  # pixels, stride of the pyramid's last map, a ResNet's
POOLED = 7  # places, side of a pooled region


class Options(NamedTuple):
    """Hyperparameters of Faster R-CNN."""

    width: int = 256  # channels of the pyramid
    head_width: int = 1024  # units of the box head
    anchor_scale: float = 8.0  # sides of anchors, in strides of their level
    count: int = 512  # regions of an image in the loss
    positives: float = 0.25  # of them, at most
    least: float = 0.05  # score of a detection
    threshold: float = 0.5  # IoU of suppression
    most: int = 100  # detections of an image
    proposals: regions.ProposalOptions = regions.ProposalOptions()
    clusters: int = 0  # shapes of training boxes that are the anchors instead
    size: int | None = None  # pixels of images' shorter side; None: as they are
    longest: int | None = None  # and of the longer one, at most

    @classmethod
    def of(cls, config: Any) -> Self:
        """The hyperparameters that a Config of train.py has."""
        limits = (config.proposals,) * 2
        proposals = regions.ProposalOptions(before=limits, after=limits)
        return cls(
            config.channels, config.head_width, config.anchor_scale, config.regions,
            proposals=proposals, clusters=config.clusters, size=config.size, longest=config.longest,
        )  # fmt: skip


class RegionHeads(nn.Module):
    """What is calculated of each region; its names are those of published files."""

    def __init__(self, channels: int, width: int, classes: int) -> None:
        super().__init__()
        self.box_head = regions.BoxHead(channels * POOLED**2, width)
        self.box_predictor = regions.BoxPredictor(width, classes)


class FasterRCNN(Detector):
    """Two stages: proposals from every place of a pyramid, then class and box of each proposal.

    classes: without background.
    """

    keeps_scenes = True
    recipes = {
        "shapes": SMALL | dict(width=0.5, channels=64, head_width=256, regions=64, proposals=200, anchor_scale=6.0),
        "recording": RECORDED
        | dict(
            channels=32, head_width=128, regions=64, proposals=200, anchor_scale=1.5, clusters=5, size=320, batch=2
        ),
        "folder": dict(channels=128, head_width=512, regions=256, size=320, longest=533),
    }

    @classmethod
    def of(cls, config: Any, backbone: Backbone, objects: Objects, size: int) -> Self:
        return cls(backbone, objects.classes, Options.of(config))

    def __init__(self, backbone: Backbone, classes: int, options: Options | None = None) -> None:
        super().__init__(backbone)
        self.classes, self.options = classes, options or Options()
        options = self.options
        self.chosen = detector.pyramid_maps(backbone)
        strides, channels = ([all[index] for index in self.chosen] for all in (backbone.strides, backbone.channels))
        self.coarser = CoarserMaps(channels[-1], strides[-1], options.width, COARSEST)
        self.strides = strides + self.coarser.strides
        self.fpn = FeaturePyramid(channels + self.coarser.channels, options.width)
        levels = [*self.strides, 2 * self.strides[-1]]
        sides = [(options.anchor_scale * stride,) for stride in levels]
        self.rpn = regions.ProposalNetwork(options.width, levels, sides, options.proposals, options.clusters)
        self.roi_heads = RegionHeads(options.width, options.head_width, classes)

    def prepare(self, samples: Sequence[Sample]) -> None:
        options = self.options
        if options.clusters:
            resized = Resize(options.size, options.longest).new_size if options.size else lambda size: size
            self.rpn.set_shapes(cluster(shapes_of(samples, resized).to(self.rpn.shapes.device), options.clusters))

    def maps(self, images: Tensor) -> list[Tensor]:
        """The pyramid's maps (B, C, H, W), fine to coarse: one more than those that regions are pooled from."""
        with self.autocast():
            maps = self.features(images)
            maps = [maps[index] for index in self.chosen]
            found = self.fpn(maps + self.coarser(maps[-1]))
        return [features.float() for features in found]

    def losses(self, images: Tensor, sizes: Sequence[Size], targets: Sequence[Target]) -> dict[str, Tensor]:
        maps = self.maps(images)
        proposals, losses = self.rpn(maps, sizes, targets)
        sampled = regions.sample_regions(proposals, targets, self.options.count, self.options.positives)
        per_image = [sampled.boxes[sampled.image == number] for number in range(len(targets))]
        pooled, _ = regions.pool(maps[:-1], self.strides, per_image, POOLED)
        logits, offsets = self.roi_heads.box_predictor(self.roi_heads.box_head(pooled))
        return losses | regions.region_losses(logits, offsets, sampled) | self.extra_losses(maps, sampled, targets)

    @torch.no_grad()
    def detect(self, images: Tensor, sizes: Sequence[Size]) -> list[Detections]:
        maps = self.maps(images)
        proposals, _ = self.rpn(maps, sizes)
        pooled, image = regions.pool(maps[:-1], self.strides, proposals, POOLED)
        logits, offsets = self.roi_heads.box_predictor(self.roi_heads.box_head(pooled))
        limits = self.options.least, self.options.threshold, self.options.most
        found = regions.select(logits, offsets, torch.cat(proposals), image, sizes, *limits)
        return self.extra_results(maps, found)

    def extra_losses(
        self, maps: list[Tensor], sampled: regions.Regions, targets: Sequence[Target]
    ) -> dict[str, Tensor]:
        """Losses of further heads from the maps (B, C, H, W), each a scalar: none here."""
        return {}

    def extra_results(self, maps: list[Tensor], found: list[Detections]) -> list[Detections]:
        """Detections of each image with what further heads find in them, from the maps (B, C, H, W)."""
        return found
