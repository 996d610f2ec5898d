"""R-CNN: regions of selective search, each warped and put through the network by itself, then linear SVMs and boxes.

Girshick et al. 2013, "Rich feature hierarchies for accurate object detection and semantic segmentation", arXiv
1311.2524. Its three stages: the network is fine-tuned to tell the classes and background apart (regions of an IoU of
0.5 are positives, 32 of 128; section 2.3); a linear SVM of each class is fitted to its features, with the objects'
own boxes as positives and regions of an IoU below 0.3 as negatives (appendix B); ridge regression moves the boxes of
regions that overlap an object by more than 0.6 (appendix C, lambda = 1,000). SVMs and regression are fitted to the
features as they are, before each evaluation.

Deviations: an SVM has the squared hinge, which L-BFGS minimizes exactly, and sees all negatives of the chosen images
at once, so that none have to be mined. Scores are sigmoids of margins, which keeps their order.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple, Self

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from vision.backbones import Backbone
from vision.classification.linear import Objective, normal_equations, solve
from vision.data.samples import Sample, Target
from vision.detection import crops, selective_search
from vision.detection.detections import Detections
from vision.detection.detector import SMALL, Detector, Objects, Size
from vision.detection.regions import present
from vision.ops import boxes, nms

CONTEXT = 16 / 227  # of a crop's side, around its region: appendix A
LENGTH = 20.0  # mean length of features, as the authors' code scales them before the SVMs
NEGATIVE, NEAR = 0.3, 0.6  # IoU below which a region is a negative of an SVM, and above which boxes are regressed
COST, RIDGE = 1e-3, 1_000.0  # C of the SVMs, as the authors' code; lambda of the regression


class Options(NamedTuple):
    """Hyperparameters of R-CNN."""

    side: int = 227  # pixels, of the crops
    width: int = 4096  # features
    count: int = 64  # regions of an image in the loss
    positives: float = 0.25  # of them, at most
    proposals: int = 2000  # of an image
    strategies: tuple[selective_search.Strategy, ...] = selective_search.SINGLE
    fitted: int = 200  # training images that SVMs and regression are fitted to
    least: float = 0.2  # score of a detection, the sigmoid of a margin
    threshold: float = 0.3  # IoU of suppression
    most: int = 100  # detections of an image


class RCNN(Detector):
    """Three stages: selective search, a network on each region, and linear models on its features.

    classes: without background.
    """

    keeps_scenes = True
    recipes = {
        "shapes": SMALL | dict(width=0.5, head_width=256, regions=16, proposals=200, crop=48, augment="none"),
        "folder": dict(head_width=512, regions=32, size=320, longest=533, crop=64, augment="none"),
    }

    @classmethod
    def of(cls, config: Any, backbone: Backbone, objects: Objects, size: int) -> Self:
        options = Options(config.crop, config.head_width, config.regions, proposals=config.proposals)
        return cls(backbone, objects.classes, options)

    def __init__(self, backbone: Backbone, classes: int, options: Options | None = None) -> None:
        super().__init__(backbone)
        self.classes, self.options = classes, options or Options()
        self.network = crops.CropNetwork(backbone, self.options.side, self.options.width, CONTEXT)
        self.last = nn.Linear(self.options.width, classes + 1)  # of the fine-tuning alone
        self.fitted = self.options.fitted
        self.search = selective_search.Remembered(self.options.strategies, self.options.proposals)
        self.register_buffer("length", torch.ones(()))  # mean length of features
        self.register_buffer("svm_weight", torch.zeros(classes, self.options.width))
        self.register_buffer("svm_bias", torch.zeros(classes))
        self.register_buffer("box_weight", torch.zeros(classes, 4, self.network.inputs))
        self.register_buffer("box_bias", torch.zeros(classes, 4))

    def losses(self, images: Tensor, sizes: Sequence[Size], targets: Sequence[Target]) -> dict[str, Tensor]:
        found = [self.search(image[:, :tall, :wide]) for image, (tall, wide) in zip(images, sizes, strict=True)]
        limits = self.options.count, self.options.positives, 0.5, 0.5
        own, whose, labels = crops.sample_crops(found, targets, *limits)
        with self.autocast():
            _, features = self.network(self.backbone, self.network.warp(images, own, whose))
        return {"loss/classes": F.cross_entropy(self.last(features.float()), labels)}

    @torch.no_grad()
    def finish(self, samples: Sequence[Sample], resize: Callable[[Sample], Sample]) -> None:
        """Fit the SVMs and the regression to the features of the first training samples."""
        self.eval()
        device = self.length.device
        pooled, features, overlaps, offsets = [], [], [], []
        for index in range(min(len(samples), self.fitted)):
            sample = resize(samples[index])
            objects, labels, _ = (each.to(device) for each in present(sample.target))
            image = sample.image.to(device)
            found = torch.cat([self.search(image), objects.to(torch.float32)])
            own, vectors = self.network.describe(self.backbone, image, found)
            overlap = torch.zeros(len(found), self.classes, device=device)
            wanted = torch.zeros(len(found), self.classes, 4, device=device)
            for label in labels.unique().tolist():
                iou = boxes.iou(found, objects[labels == label])
                overlap[:, label], row = iou.max(1)
                overlap[len(found) - len(objects) :, label][labels == label] = 2.0  # an object itself
                wanted[:, label] = boxes.encode(objects[labels == label][row], found)
            pooled.append(own)
            features.append(vectors)
            overlaps.append(overlap)
            offsets.append(wanted)
        pooled, features, overlaps, offsets = (
            torch.cat(each).cpu().double() for each in (pooled, features, overlaps, offsets)
        )
        self.length.copy_(features.norm(dim=1).mean().clamp(min=1e-6))
        features = features * (LENGTH / self.length.item())
        for label in range(self.classes):
            self._fit_class(label, pooled, features, overlaps[:, label], offsets[:, label])

    def _fit_class(self, label: int, pooled: Tensor, features: Tensor, overlap: Tensor, offsets: Tensor) -> None:
        """One SVM and one regression of rows (N, D) with the overlap (N,) and the offsets (N, 4) of their objects."""
        right, wrong = overlap > 1, overlap < NEGATIVE
        if not right.any():
            return
        rows = right | wrong
        objective = Objective("one_vs_all_squared_hinge", l2=1 / (COST * int(rows.sum())))
        found = solve(objective, features[rows], right[rows, None].double())
        self.svm_weight[label], self.svm_bias[label] = found.weight[0], found.bias[0]
        near = (overlap > NEAR) & ~right
        if near.any():
            pairs = [(pooled[near], offsets[near])]
            weight, bias = normal_equations(pairs, RIDGE / int(near.sum()))
            self.box_weight[label], self.box_bias[label] = weight, bias

    @torch.no_grad()
    def detect(self, images: Tensor, sizes: Sequence[Size]) -> list[Detections]:
        results = []
        for image, size in zip(images, sizes, strict=True):
            image = image[:, : size[0], : size[1]]
            found = self.search(image)
            pooled, features = self.network.describe(self.backbone, image, found)
            scores = (features * (LENGTH / self.length)) @ self.svm_weight.T + self.svm_bias
            row, label = (scores.sigmoid() > self.options.least).nonzero(as_tuple=True)
            moved = torch.einsum("nd,nkd->nk", pooled[row], self.box_weight[label]) + self.box_bias[label]
            own, score = boxes.clip(boxes.decode(moved, found[row]), size), scores[row, label].sigmoid()
            kept = nms.batched_nms(own, score, label, self.options.threshold)[: self.options.most]
            results.append(Detections(own[kept], score[kept], label[kept]))
        return results
