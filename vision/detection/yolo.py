"""YOLO: each cell of one map predicts boxes, their confidence and their class.

Redmon & Farhadi 2016, "YOLO9000: better, faster, stronger", arXiv 1612.08242 (version 2): anchors from k-means on the
training boxes, bounded offsets, and a passthrough of the finer map. anchors=0 is version 1 (Redmon et al. 2015,
arXiv 1506.02640): two boxes a cell without anchors, of which the better one is responsible, and one class a cell; its
dense layers are a convolution here, so that any backbone and size fit. The losses are the papers' sums of squares,
but for the class of version 2, which is by cross-entropy. Deviation: where a backbone ends before the paper's stride
of 32, version 2 also reads coarser maps, summed top-down: else a large object's cell would not see its ends.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple, Self

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from vision.backbones import Backbone
from vision.data.samples import Sample, Target
from vision.detection.clusters import cluster, shape_overlap, shapes_of
from vision.detection.detections import Detections
from vision.detection.detector import RECORDED, SMALL, Detector, Objects, Size, pyramid_maps
from vision.detection.regions import present
from vision.ops import boxes, nms
from vision.ops.pyramid import CoarserMaps, TopDown

BOXES = 2  # a cell, of version 1
# Logit of the first confidence, a prior of 10% (Lin et al. 2017, arXiv 1708.02002, section 3.3): most cells are
# empty, and squared errors learn slowly nearer to 0.
PRIOR = -2.2
DEEP, COARSEST = 32, 128  # pixels: a backbone that ends before the first stride gets maps up to the second


class LossWeights(NamedTuple):
    """Weights of the losses, lambda_coord and lambda_noobj in the paper; that of the classes is 1."""

    coordinates: float  # of squared errors of places and sizes
    object: float  # of those of the confidence where there is an object
    no_object: float  # and where there is none


VERSION_1 = LossWeights(5.0, 1.0, 0.5)  # section 2.2
VERSION_2 = LossWeights(0.5, 2.5, 0.5)  # those of the authors' yolov2.cfg, 1, 5 and 1, of half the squares


class Options(NamedTuple):
    """Hyperparameters of YOLO."""

    size: int = 416  # pixels, side of the images
    width: int = 1024  # channels of the last convolutions
    anchors: int = 5  # shapes of boxes a cell; 0: version 1
    stride: int = 32  # pixels between cells, at most: the backbone's coarser maps are not read
    weights: LossWeights | None = None  # of the losses; None: the version's
    ignored: float = 0.6  # IoU with an object above which a confidence is not pulled to 0
    least: float = 0.01  # score of a detection
    threshold: float = 0.45  # of suppression
    most: int = 100  # detections of an image


class YOLO(Detector):
    """One-stage detector on the backbone's map of a stride and the one before. Images are stretched to size x size.

    classes: without background.
    """

    fixed_size = True
    native = 416
    recipes = {
        "shapes": SMALL | dict(width=0.5, channels=128, size=128, cell=16),
        "recording": RECORDED | dict(channels=64, size=320, stretch=False, cell=8),
        "folder": dict(augment="ssd", size=320, channels=256),
    }

    @classmethod
    def of(cls, config: Any, backbone: Backbone, objects: Objects, size: int) -> Self:
        return cls(backbone, objects.classes, Options(size, config.channels, config.anchors, config.cell))

    def __init__(self, backbone: Backbone, classes: int, options: Options | None = None) -> None:
        super().__init__(backbone)
        self.classes, self.options = classes, options or Options()
        options = self.options
        chosen = pyramid_maps(backbone, finest=2, coarsest=options.stride)
        self.chosen = chosen[-2:] if options.anchors else chosen[-1:]
        inputs = backbone.channels[self.chosen[-1]]
        if len(self.chosen) == 2:
            finer, coarser = (backbone.strides[index] for index in self.chosen)
            self.fold = max(1, round(coarser / finer))
            narrow = max(1, options.width // 16)
            self.passthrough = nn.Conv2d(backbone.channels[self.chosen[0]], narrow, 1)
            inputs += narrow * self.fold**2
        self.top_down: TopDown | None = None
        coarser = pyramid_maps(backbone, finest=2)
        if options.anchors and backbone.strides[coarser[-1]] < DEEP:
            coarser = [index for index in coarser if backbone.strides[index] > options.stride]
            self.around = [self.chosen[-1], *coarser]
            channels = [backbone.channels[index] for index in self.around]
            self.coarser = CoarserMaps(channels[-1], backbone.strides[self.around[-1]], options.width // 2, COARSEST)
            self.top_down = TopDown(channels + self.coarser.channels, options.width // 2)
            inputs += options.width // 2
        self.hidden = nn.Sequential(
            nn.Conv2d(inputs, options.width, 3, padding=1, bias=False),
            nn.BatchNorm2d(options.width),
            nn.LeakyReLU(0.1),
        )
        self.count = options.anchors or BOXES
        outputs = self.count * (5 + classes) if options.anchors else self.count * 5 + classes
        self.last = nn.Conv2d(options.width, outputs, 1)
        nn.init.normal_(self.last.weight, std=0.01)
        nn.init.zeros_(self.last.bias)
        each = 5 + classes if options.anchors else 5
        with torch.no_grad():
            self.last.bias[: self.count * each][4::each] = PRIOR
        shapes = torch.linspace(0.1, 0.7, self.count)[:, None].expand(-1, 2)
        self.register_buffer("shapes", shapes.clone())  # (A, 2) widths and heights, in parts of the image

    def prepare(self, samples: Sequence[Sample]) -> None:
        self.set_anchors(shapes_of(samples).to(self.shapes.device))

    def set_anchors(self, sizes: Tensor) -> None:
        """Set the anchors to k-means clusters of boxes' widths and heights (N, 2), in parts of their images."""
        if self.options.anchors:
            self.shapes.copy_(cluster(sizes, self.count))

    def predict(self, images: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Boxes (B, M, 4) as center and size in parts of the image, confidences (B, M), and classes (B, M, K); all
        logits but for the boxes. M is H W A, anchors of a cell beside each other.
        """
        with self.autocast():
            maps = self.features(images)
            features = maps[self.chosen[-1]]
            if len(self.chosen) == 2:
                finer = self.passthrough(maps[self.chosen[0]])
                tall, wide = (side * self.fold for side in features.shape[-2:])
                finer = F.interpolate(finer, (tall, wide)) if finer.shape[-2:] != (tall, wide) else finer
                features = torch.cat([features, F.pixel_unshuffle(finer, self.fold)], 1)
            if self.top_down is not None:
                around = [maps[index] for index in self.around]
                features = torch.cat([features, self.top_down(around + self.coarser(around[-1]))], 1)
            raw = self.last(self.hidden(features))
        raw = raw.float().permute(0, 2, 3, 1)  # (B, H, W, ...)
        batch, tall, wide, _ = raw.shape
        if self.options.anchors:
            raw = raw.reshape(batch, tall, wide, self.count, 5 + self.classes)
            classes = raw[..., 5:]
        else:
            classes = raw[..., None, self.count * 5 :].expand(-1, -1, -1, self.count, -1)
            raw = raw[..., : self.count * 5].reshape(batch, tall, wide, self.count, 5)
        down, along = torch.meshgrid(*(torch.arange(n, device=raw.device) for n in (tall, wide)), indexing="ij")
        corner = torch.stack([along, down], 2)[:, :, None]
        center = (raw[..., :2].sigmoid() + corner) / raw.new_tensor([wide, tall])
        size = self.shapes * raw[..., 2:4].clamp(max=8).exp()
        found = torch.cat([center, size], -1)
        return found.flatten(1, 3), raw[..., 4].flatten(1), classes.flatten(1, 3)

    def losses(self, images: Tensor, sizes: Sequence[Size], targets: Sequence[Target]) -> dict[str, Tensor]:
        found, confidence, classes = self.predict(images)
        tall, wide = images.shape[-2:]
        parts = [present(target) for target in targets]
        objects, owner = _joined([part[0] for part in parts], found.new_tensor([wide, tall] * 2))
        crowds, crowded = _joined([part[2] for part in parts], found.new_tensor([wide, tall] * 2))
        labels = torch.cat([part[1] for part in parts])
        corners, own = boxes.from_center(found), confidence.sigmoid()
        fixed = corners.detach()
        overlap = boxes.iou(objects[:, None], fixed[owner])[:, 0]  # (G, M) of each object in its image
        inside = boxes.intersection(crowds[:, None], fixed[crowded])[:, 0]
        inside = inside / boxes.area(fixed)[crowded].clamp(min=1e-12)
        quiet = _largest(overlap, owner, own) < self.options.ignored
        quiet &= _largest(inside, crowded, own) < 0.5
        cells = self._cells(found.shape[1] // self.count, tall / wide)
        rows = self._responsible(objects, overlap, cells)
        quiet[owner, rows] = False
        wanted, mine = boxes.to_center(objects), found[owner, rows]
        middle = (mine[:, :2] - wanted[:, :2]) * wanted.new_tensor(cells[::-1])
        if self.options.anchors:
            weight = 2 - wanted[:, 2] * wanted[:, 3]  # of small objects more, as the authors' code has it
            extent = (mine[:, 2:] / wanted[:, 2:]).log()
            label = F.cross_entropy(classes[owner, rows], labels, reduction="sum")
        else:
            weight = torch.ones_like(wanted[:, 0])
            extent = mine[:, 2:].sqrt() - wanted[:, 2:].sqrt()
            label = (classes[owner, rows].softmax(1) - F.one_hot(labels, self.classes)).square().sum()
        box = (weight * (middle.square() + extent.square()).sum(1)).sum()
        hit = overlap.gather(1, rows[:, None])[:, 0]
        weights = self.options.weights or (VERSION_2 if self.options.anchors else VERSION_1)
        score = weights.object * (own[owner, rows] - hit).square().sum()
        score = score + weights.no_object * (own.square() * quiet).sum()
        count = len(targets)
        return {
            "loss/boxes": weights.coordinates * box / count,
            "loss/confidence": score / count,
            "loss/classes": label / count,
        }

    @staticmethod
    def _cells(count: int, shape: float) -> Size:
        """Rows and columns of a map of so many cells, of images of that height to width."""
        return round((count * shape) ** 0.5), round((count / shape) ** 0.5)

    def _responsible(self, objects: Tensor, overlap: Tensor, cells: Size) -> Tensor:
        """The prediction (G,) that is responsible for each object: in the cell of its center, that of the anchor with
        the most similar shape, or in version 1 the one that overlaps it most.
        """
        wanted = boxes.to_center(objects)
        along = (wanted[:, 0] * cells[1]).long().clamp(0, cells[1] - 1)
        down = (wanted[:, 1] * cells[0]).long().clamp(0, cells[0] - 1)
        first = (down * cells[1] + along) * self.count
        if self.options.anchors:
            return first + shape_overlap(wanted[:, 2:], self.shapes).argmax(1)
        rows = first[:, None] + torch.arange(self.count, device=first.device)
        return rows.gather(1, overlap.gather(1, rows).argmax(1, keepdim=True))[:, 0]

    @torch.no_grad()
    def detect(self, images: Tensor, sizes: Sequence[Size]) -> list[Detections]:
        found, confidence, classes = self.predict(images)
        probability = confidence.sigmoid()[..., None] * classes.softmax(2)
        scale = found.new_tensor([images.shape[-1], images.shape[-2]] * 2)
        corners = boxes.from_center(found) * scale
        results = []
        for number, size in enumerate(sizes):
            place, label = (probability[number] > self.options.least).nonzero(as_tuple=True)
            own, scores = boxes.clip(corners[number, place], size), probability[number, place, label]
            kept = nms.batched_nms(own, scores, label, self.options.threshold, self.classes)[: self.options.most]
            results.append(Detections(own[kept], scores[kept], label[kept]))
        return results


def _joined(parts: list[Tensor], scale: Tensor) -> tuple[Tensor, Tensor]:
    """The boxes (G, 4) of all images, in parts of the image, and the image (G,) of each."""
    counts = torch.tensor([len(part) for part in parts], device=scale.device)
    return torch.cat(parts) / scale, torch.arange(len(parts), device=scale.device).repeat_interleave(counts)


def _largest(values: Tensor, owner: Tensor, like: Tensor) -> Tensor:
    """The largest value (B, M) of the objects (G, M) of each image, 0 where it has none."""
    return torch.zeros_like(like).scatter_reduce_(0, owner[:, None].expand_as(values), values, "amax")
