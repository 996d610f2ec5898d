"""OverFeat's sliding window: dense layers applied as convolutions classify every window at once, at several scales.

Sermanet et al. 2013, "OverFeat: integrated recognition, localization and detection using convolutional networks",
arXiv 1312.6229. A window of a fixed number of pixels slides over the image at each of several sizes; what a
classifier and a regression of boxes would calculate of each window is two convolutions of the whole image's map
(section 3.5). On any backbone, of which it takes the last map of stride 16 or less.

Deviations: training sees the same windows, dense and at all scales, with background as a class (section 5 mines
negatives on the fly likewise); windows are a stride apart at each scale, without the shifted poolings of section 3.3;
and boxes are merged by suppression and the mean, by score, of what was suppressed, where section 4.3 merges pairs
until none is near: both let windows that agree add up.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple, Self

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from vision.backbones import Backbone
from vision.data.samples import Target
from vision.detection.detections import Detections
from vision.detection.detector import SMALL, Detector, Objects, Size, pyramid_maps
from vision.detection.regions import BOX_WEIGHTS, aside_crowds, present, smooth_l1
from vision.ops import anchors, boxes, matching, nms

COARSEST = 16  # stride of the map that windows slide over, at most


class Options(NamedTuple):
    """Hyperparameters of OverFeat's detector."""

    width: int = 1024  # channels of the dense layers
    places: int = 4  # side of a window, in places of the map
    scales: tuple[float, ...] = (1.0, 1.5, 2.25)  # of the image: smaller objects fill a window of a larger one
    high: float = 0.5  # IoU of a window that shows an object
    low: float = 0.4  # below it, one shows background
    count: int = 128  # windows of an image in the loss
    positives: float = 0.5  # of them, at most
    least: float = 0.05  # score of a detection
    threshold: float = 0.3  # IoU of suppression
    merged: float = 0.5  # IoU of boxes whose mean is taken
    most: int = 100  # detections of an image


class OverFeatDetector(Detector):
    """A convolutional sliding window at several scales. Images are stretched to one size.

    classes: without background.
    """

    fixed_size = True
    native = 224
    recipes = {
        "shapes": SMALL | dict(width=0.5, channels=128, size=128, regions=64),
        "folder": dict(channels=256, size=320),
    }

    @classmethod
    def of(cls, config: Any, backbone: Backbone, objects: Objects, size: int) -> Self:
        return cls(backbone, objects.classes, Options(config.channels, count=config.regions))

    def __init__(self, backbone: Backbone, classes: int, options: Options | None = None) -> None:
        super().__init__(backbone)
        self.classes, self.options = classes, options or Options()
        chosen = pyramid_maps(backbone, coarsest=COARSEST)
        self.chosen, self.stride = chosen[-1], backbone.strides[chosen[-1]]
        width = self.options.width
        self.dense = nn.Sequential(  # the dense layers of a window of places x places
            nn.Conv2d(backbone.channels[self.chosen], width, self.options.places),
            nn.ReLU(),
            nn.Conv2d(width, width, 1),
            nn.ReLU(),
        )
        self.classifier = nn.Conv2d(width, classes + 1, 1)
        self.regression = nn.Conv2d(width, 4 * (classes + 1), 1)
        for layer in (self.classifier, self.regression):
            nn.init.normal_(layer.weight, std=0.01)
            nn.init.zeros_(layer.bias)

    def predict(self, images: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """The windows (M, 4) of all scales, in pixels of the images (B, 3, H, W); their logits (B, M, K + 1), of
        background first; and offsets (B, M, K + 1, 4) of the boxes of each class.
        """
        pixels = images.float() / 255 if images.dtype == torch.uint8 else images
        windows, logits, offsets = [], [], []
        for scale in self.options.scales:
            size = [max(round(int(side) * scale), self.options.places * self.stride) for side in images.shape[-2:]]
            resized = F.interpolate(pixels, size, mode="bilinear", antialias=scale < 1, align_corners=False)
            with self.autocast():
                features = self.backbone(resized)[self.chosen]
                features = F.pad(features, [0, max(0, self.options.places - features.shape[-1])] * 2)
                hidden = self.dense(features)
                raw, moved = self.classifier(hidden), self.regression(hidden)
            tall, wide = raw.shape[-2:]
            ratio = raw.new_tensor([images.shape[-1] / size[1], images.shape[-2] / size[0]], dtype=torch.float32)
            corner = anchors.grid((tall, wide), (self.stride, self.stride), images.device)
            windows.append(torch.cat([corner, corner + self.options.places * self.stride], 1) * ratio.repeat(2))
            logits.append(raw.float().permute(0, 2, 3, 1).flatten(1, 2))
            offsets.append(moved.float().permute(0, 2, 3, 1).flatten(1, 2))
        offsets = torch.cat(offsets, 1)
        return torch.cat(windows), torch.cat(logits, 1), offsets.view(*offsets.shape[:2], -1, 4)

    def losses(self, images: Tensor, sizes: Sequence[Size], targets: Sequence[Target]) -> dict[str, Tensor]:
        windows, logits, offsets = self.predict(images)
        limits = self.options.count, self.options.positives
        image, rows, labels, wanted = [], [], [], []
        for number, target in enumerate(targets):
            objects, classes, crowds = present(target)
            overlap = boxes.iou(objects, windows)
            matched = matching.match(overlap, self.options.high, self.options.low, best_too=True)
            right, wrong = matching.sample(aside_crowds(matched, windows, crowds), *limits)
            rows.append(torch.cat([right, wrong]))
            image.append(torch.full_like(rows[-1], number))
            labels.append(torch.cat([classes[matched[right]] + 1, torch.zeros_like(wrong)]))
            wanted.append(boxes.encode(objects[matched[right]], windows[right], BOX_WEIGHTS))
        image, rows, labels, wanted = (torch.cat(each) for each in (image, rows, labels, wanted))
        positive = labels > 0
        found = offsets[image[positive], rows[positive], labels[positive]]
        box = smooth_l1(found, wanted) / max(1, len(labels))
        return {"loss/classes": F.cross_entropy(logits[image, rows], labels), "loss/boxes": box}

    @torch.no_grad()
    def detect(self, images: Tensor, sizes: Sequence[Size]) -> list[Detections]:
        windows, logits, offsets = self.predict(images)
        probability = logits.softmax(2)[..., 1:]
        results = []
        for number, size in enumerate(sizes):
            row, label = (probability[number] > self.options.least).nonzero(as_tuple=True)
            found = boxes.decode(offsets[number, row, label + 1], windows[row], BOX_WEIGHTS)
            found, score = boxes.clip(found, size), probability[number, row, label]
            results.append(self._merged(Detections(found, score, label)))
        return results

    def _merged(self, found: Detections) -> Detections:
        """One detection for each group of boxes of a class that overlap: their mean by score, and 1 less the product
        of what each score leaves.
        """
        kept = nms.batched_nms(found.boxes, found.scores, found.labels, self.options.threshold, self.classes)[
            : self.options.most
        ]
        same = found.labels[kept, None] == found.labels
        near = same & (boxes.iou(found.boxes[kept], found.boxes) > self.options.merged)
        weight = torch.where(near, found.scores, 0.0)
        own = (weight @ found.boxes) / weight.sum(1, keepdim=True).clamp(min=1e-12)
        score = 1 - (1 - weight.clamp(max=1 - 1e-6)).log().sum(1).exp()
        order = score.sort(descending=True).indices
        return Detections(own[order], score[order], found.labels[kept][order])
