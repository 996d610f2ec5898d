"""SSD: class scores and offsets of default boxes at every place of several maps, in one pass.

Liu et al. 2015, "SSD: single shot multibox detector", arXiv 1512.02325. On any backbone: its maps from stride 8 on,
and further ones by 3x3 convolutions of stride 2 until a map has one place. With vgg16 and 300 pixels it is the
paper's network, layer for layer, and torchvision's published weights load (torchvision_weights.py).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple, Self

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from vision.backbones import Backbone
from vision.data.samples import Sample, Target
from vision.detection.clusters import cluster, shapes_of
from vision.detection.detections import Detections
from vision.detection.detector import RECORDED, SMALL, Detector, Objects, Size, pyramid_maps
from vision.detection.regions import BOX_WEIGHTS, aside_crowds, present
from vision.ops import anchors, boxes, matching, nms
from vision.ops.pyramid import TopDown

SSD300_SCALES = (0.07, 0.15, 0.33, 0.51, 0.69, 0.87, 1.05)  # as torchvision's weights have them
SSD300_STRIDES = (8, 16, 32, 64, 100, 300)
LARGEST = 0.9  # scale of the last map: section 2.2
COARSE = 4  # places, side of the coarsest of a backbone's maps that is used: further ones are made of it


class Options(NamedTuple):
    """Hyperparameters of SSD."""

    size: int = 300  # pixels, side of the images
    width: int = 256  # channels of the further maps
    finest: float = 0.1  # scale of the finest map, half the second; 0.07 for small objects (section 3.4)
    clusters: int = 0  # shapes of training boxes that the finest map's places have besides (Fu et al. 2017, table 2)
    top_down: bool = False  # the finest map also gets what coarser ones see
    high: float = 0.5  # IoU of a default box that is an object
    negatives: int = 3  # for each positive, those with the largest loss
    least: float = 0.01  # score of a detection
    before: int = 400  # of a class, before suppression
    threshold: float = 0.45  # of suppression
    most: int = 200  # detections of an image


class PaperMaps(nn.Module):
    """The maps of SSD300: VGG-16 with its dense layers as dilated convolutions, and four further stages.

    Images (B, 3, 300, 300) give maps (B, C, H, W) of 38, 19, 10, 5, 3 and 1 places a side. Its names are those of
    published files. conv4_3 is normalized along channels and scaled (section 3.1).
    """

    def __init__(self, backbone: Backbone) -> None:
        super().__init__()
        layers = list(backbone.features)
        pools = [place for place, layer in enumerate(layers) if isinstance(layer, nn.MaxPool2d)]
        layers[pools[2]].ceil_mode = True  # 75 -> 38
        self.split = pools[3]
        self.scale_weight = nn.Parameter(torch.full((backbone.channels[3],), 20.0))
        self.features = nn.Sequential(*layers[: self.split])
        fc6 = nn.Conv2d(512, 1024, 3, padding=6, dilation=6)
        dense = nn.Sequential(nn.MaxPool2d(3, 1, 1), fc6, nn.ReLU(), nn.Conv2d(1024, 1024, 1), nn.ReLU())
        self.extra = nn.ModuleList(
            [
                nn.Sequential(*layers[self.split : pools[4]], dense),
                _stage(1024, 256, 512, stride=2),
                _stage(512, 128, 256, stride=2),
                _stage(256, 128, 256),
                _stage(256, 128, 256),
            ]
        )
        for layer in [*dense, *(inner for stage in self.extra[1:] for inner in stage)]:
            if isinstance(layer, nn.Conv2d):
                nn.init.xavier_uniform_(layer.weight)
                nn.init.zeros_(layer.bias)
        self.channels = [512, 1024, 512, 256, 256, 256]

    def forward(self, x: Tensor) -> list[Tensor]:
        x = self.features(x)
        found = [self.scale_weight.view(1, -1, 1, 1) * F.normalize(x)]
        for stage in self.extra:
            x = stage(x)
            found.append(x)
        return found


class FurtherMaps(nn.Module):
    """The maps (B, C, H, W) of a backbone from stride 8 on, then further ones, each half as large, down to one.

    top_down: the finest is the sum of all, behind a ReLU: where a backbone is shallow, its own sees little of what is
    around.
    """

    def __init__(self, backbone: Backbone, size: int, width: int, top_down: bool = False) -> None:
        super().__init__()
        maps = backbone.imagine((backbone.shape[0], size, size))
        sides = [max(each.shape[-1], size // stride) for each, stride in zip(maps, backbone.strides, strict=True)]
        chosen = pyramid_maps(backbone, finest=8)
        self.chosen = [index for index in chosen if sides[index] >= COARSE] or chosen[:1]
        self.channels = [backbone.channels[index] for index in self.chosen]
        side, inputs, stages = sides[self.chosen[-1]], self.channels[-1], []
        while side > 1:
            stages.append(_stage(inputs, max(1, width // 2), width, stride=2))
            inputs, side = width, -(-side // 2)
            self.channels.append(width)
        self.extra = nn.ModuleList(stages)
        self.top_down = TopDown(self.channels, width) if top_down else None
        if top_down:
            self.channels[0] = width

    def forward(self, maps: Sequence[Tensor]) -> list[Tensor]:
        found = [maps[index] for index in self.chosen]
        for stage in self.extra:
            found.append(stage(found[-1]))
        if self.top_down is not None:
            found[0] = F.relu(self.top_down(found))
        return found


class DenseHead(nn.Module):
    """A 3x3 convolution for each map, `columns` numbers for each of its default boxes."""

    def __init__(self, channels: Sequence[int], counts: Sequence[int], columns: int) -> None:
        super().__init__()
        self.columns = columns
        self.module_list = nn.ModuleList(
            nn.Conv2d(inputs, count * columns, 3, padding=1) for inputs, count in zip(channels, counts, strict=True)
        )
        for layer in self.module_list:
            nn.init.xavier_uniform_(layer.weight)
            nn.init.zeros_(layer.bias)

    def forward(self, maps: Sequence[Tensor]) -> Tensor:
        """(B, boxes, columns), in the order of anchors.default_boxes."""
        found = [layer(features) for layer, features in zip(self.module_list, maps, strict=True)]
        return torch.cat([each.permute(0, 2, 3, 1).reshape(len(each), -1, self.columns) for each in found], 1).float()


class SSD(Detector):
    """Single-shot detector. Images are stretched to options.size x options.size.

    classes: without background.
    """

    fixed_size = True
    native = 300
    recipes = {
        "shapes": SMALL | dict(width=0.5, channels=64, size=128),
        "recording": RECORDED
        | dict(channels=64, size=320, stretch=False, finest=0.02, clusters=4, top_down=True, batch=2),
        "folder": dict(augment="ssd", size=300),
    }

    @classmethod
    def of(cls, config: Any, backbone: Backbone, objects: Objects, size: int) -> Self:
        return cls(
            backbone, objects.classes, Options(size, config.channels, config.finest, config.clusters, config.top_down)
        )

    def __init__(self, backbone: Backbone, classes: int, options: Options | None = None) -> None:
        super().__init__(backbone)
        self.classes, self.options = classes, options or Options()
        options = self.options
        self.as_paper = backbone.spec["name"] == "vgg16" and options.size == 300 and backbone.spec["width"] == 1
        self.as_paper &= backbone.spec["stem"] == "imagenet" and backbone.spec["norm"] == "none"
        if self.as_paper:
            self.further = PaperMaps(backbone)
            self.scales = SSD300_SCALES
        else:
            self.further = FurtherMaps(backbone, options.size, options.width, options.top_down)
            levels = len(self.further.channels)
            second = 2 * options.finest
            step = (LARGEST - second) / max(1, levels - 2)
            self.scales = (options.finest, *(second + step * level for level in range(levels - 1)), LARGEST + step)
            self.scales = self.scales[: levels + 1]
        levels = len(self.further.channels)
        self.ratios = [(2,) if level == 0 or level >= levels - 2 else (2, 3) for level in range(levels)]
        counts = [2 + 2 * len(ratios) for ratios in self.ratios]
        if options.clusters:
            counts[0] += options.clusters
            shapes = torch.linspace(0.1, 0.7, options.clusters)[:, None].expand(-1, 2)
            self.register_buffer("shapes", shapes.clone())  # (A, 2) widths and heights, in parts of the image
        self.head = nn.ModuleDict(
            {
                "classification_head": DenseHead(self.further.channels, counts, classes + 1),
                "regression_head": DenseHead(self.further.channels, counts, 4),
            }
        )

    def prepare(self, samples: Sequence[Sample]) -> None:
        if self.options.clusters:
            self.set_shapes(shapes_of(samples).to(self.shapes.device))

    def set_shapes(self, sizes: Tensor) -> None:
        """Set the further default boxes to clusters of widths and heights (N, 2) of boxes, in parts of images."""
        self.shapes.copy_(cluster(sizes, self.options.clusters))

    def predict(self, images: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Default boxes (M, 4), their logits (B, M, K + 1), of background first, and offsets (B, M, 4)."""
        size = tuple(images.shape[-2:])
        with self.autocast():
            if self.as_paper:
                maps = self.further(self.backbone.normalize(images))
            else:
                maps = self.further(self.features(images))
            logits, offsets = self.head["classification_head"](maps), self.head["regression_head"](maps)
        shapes = [tuple(features.shape[-2:]) for features in maps]
        strides = [(size[0] / shape[0], size[1] / shape[1]) for shape in shapes]
        strides = SSD300_STRIDES if self.as_paper else strides
        more = self.shapes if self.options.clusters else None
        places = anchors.default_boxes(shapes, strides, size, self.scales, self.ratios, images.device, more)
        return places, logits, offsets

    def losses(self, images: Tensor, sizes: Sequence[Size], targets: Sequence[Target]) -> dict[str, Tensor]:
        places, logits, offsets = self.predict(images)
        labels, wanted = [], []
        for target in targets:
            objects, classes, crowds = present(target)
            matched = matching.best_of_each(boxes.iou(objects, places), self.options.high)
            matched = aside_crowds(matched, places, crowds)
            whose = matched.clamp(min=0)
            if len(objects):
                label = torch.where(matched >= 0, classes[whose] + 1, matched.clamp(max=0).where(matched < -1, 0))
                wanted.append(boxes.encode(objects[whose], places, BOX_WEIGHTS))
            else:
                label = torch.where(matched < -1, matched, 0)
                wanted.append(torch.zeros_like(places))
            labels.append(label)
        labels, wanted = torch.stack(labels), torch.stack(wanted)
        positive = labels > 0
        count = positive.sum().clamp(min=1)
        box = F.smooth_l1_loss(offsets[positive], wanted[positive], reduction="sum") / count
        loss = F.cross_entropy(logits.flatten(0, 1), labels.clamp(min=0).flatten(), reduction="none").view(
            labels.shape
        )
        # Hard negatives of each image, section 2.2: most default boxes are easy background
        hard = torch.where(labels == 0, loss.detach(), -torch.inf)
        rank = hard.argsort(1, descending=True).argsort(1)
        chosen = (rank < self.options.negatives * positive.sum(1, keepdim=True)) & (labels == 0)
        return {"loss/classes": loss[positive | chosen].sum() / count, "loss/boxes": box}

    @torch.no_grad()
    def detect(self, images: Tensor, sizes: Sequence[Size]) -> list[Detections]:
        places, logits, offsets = self.predict(images)
        probability = logits.softmax(2)[..., 1:]  # (B, M, K)
        found = boxes.decode(offsets, places, BOX_WEIGHTS)
        edge = torch.tensor([[size[1], size[0]] * 2 for size in sizes], device=found.device)[:, None]
        found = found.clamp(min=0).minimum(edge)
        score, rows = probability.transpose(1, 2).topk(min(self.options.before, len(places)), dim=2)  # (B, K, n)
        results = []
        for number in range(len(images)):
            label, place = (score[number] > self.options.least).nonzero(as_tuple=True)
            scores, own = score[number, label, place], found[number, rows[number, label, place]]
            kept = nms.batched_nms(own, scores, label, self.options.threshold, self.classes)[: self.options.most]
            results.append(Detections(own[kept], scores[kept], label[kept]))
        return results


def _stage(inputs: int, narrow: int, outputs: int, stride: int = 1) -> nn.Sequential:
    """A 1x1 and a 3x3 convolution; without a stride the border is not padded, so that 5 -> 3 -> 1."""
    last = nn.Conv2d(narrow, outputs, 3, stride, padding=1 if stride > 1 else 0)
    return nn.Sequential(nn.Conv2d(inputs, narrow, 1), nn.ReLU(), last, nn.ReLU())
