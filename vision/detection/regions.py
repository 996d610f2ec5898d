"""Parts of two-stage detectors: region proposal network, box head, and losses of sampled regions."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from vision.data.samples import Target
from vision.detection.detections import Detections
from vision.ops import anchors, boxes, matching, nms, roi

BOX_WEIGHTS = (10.0, 10.0, 5.0, 5.0)  # of a region's offsets: Girshick 2015
SMALLEST = 1e-3, 1e-2  # pixels, side of a proposal and of a detection
BETA = 1 / 9  # where the smooth L1 loss becomes linear
COVERED = 0.5  # of a region that lies in a crowd: then it is no background

Size = tuple[int, int]  # height, width


class ProposalOptions(NamedTuple):
    """Hyperparameters of a region proposal network: Ren et al. 2015, arXiv 1506.01497, section 3.1, and FPN's."""

    high: float = 0.7  # IoU of an anchor that is an object
    low: float = 0.3  # below it, one is background
    count: int = 256  # anchors of an image in the loss
    positives: float = 0.5  # of them, at most
    before: tuple[int, int] = (2000, 1000)  # of a level, before suppression: in training, in testing
    after: tuple[int, int] = (2000, 1000)  # of an image, after it
    threshold: float = 0.7  # of suppression


def present(target: Target) -> tuple[Tensor, Tensor, Tensor]:
    """Boxes (N, 4) and labels (N,) of a target without its crowds, and the boxes (M, 4) of the crowds."""
    if target.crowd is None or not bool(target.crowd.any()):
        return target.boxes, target.labels, target.boxes[:0]
    return target.boxes[~target.crowd], target.labels[~target.crowd], target.boxes[target.crowd]


def aside_crowds(matched: Tensor, candidates: Tensor, crowds: Tensor) -> Tensor:
    """Candidates (N, 4) of which half or more lies in a crowd are no background: what match gave, changed."""
    if not len(crowds):
        return matched
    inside = boxes.intersection(candidates, crowds) / boxes.area(candidates).clamp(min=1e-6)[:, None]
    return torch.where((matched == matching.BACKGROUND) & (inside >= COVERED).any(1), matching.BETWEEN, matched)


class ProposalHead(nn.Module):
    """A 3x3 convolution and two 1x1 ones, shared by all levels: objectness and offsets of each anchor."""

    def __init__(self, channels: int, count: int) -> None:
        super().__init__()
        self.conv = nn.Sequential(nn.Sequential(nn.Conv2d(channels, channels, 3, padding=1), nn.ReLU()))
        self.cls_logits = nn.Conv2d(channels, count, 1)
        self.bbox_pred = nn.Conv2d(channels, 4 * count, 1)
        for layer in self.modules():
            if isinstance(layer, nn.Conv2d):
                nn.init.normal_(layer.weight, std=0.01)
                nn.init.zeros_(layer.bias)

    def forward(self, maps: Sequence[Tensor]) -> tuple[list[Tensor], list[Tensor]]:
        """For each map (B, C, H, W): objectness (B, H W A) and offsets (B, H W A, 4), in the order of anchors."""
        scores, offsets = [], []
        for features in maps:
            hidden = self.conv(features)
            scores.append(self.cls_logits(hidden).permute(0, 2, 3, 1).flatten(1).float())
            offsets.append(self.bbox_pred(hidden).permute(0, 2, 3, 1).reshape(len(hidden), -1, 4).float())
        return scores, offsets


class ProposalNetwork(nn.Module):
    """Region proposal network on the levels of a pyramid.

    strides: of the levels. sides: of the anchors of each, in pixels. clusters: shapes of training boxes that are the
        anchors instead, to be given to set_shapes; each is on the coarsest level whose anchors, a square of its first
        side, are no larger than its shorter side, so that no two objects lie side by side within a stride.
    """

    def __init__(
        self,
        channels: int,
        strides: Sequence[int],
        sides: Sequence[Sequence[float]],
        options: ProposalOptions,
        clusters: int = 0,
    ) -> None:
        super().__init__()
        self.strides, self.sides, self.options = list(strides), list(sides), options
        self.ratios = (0.5, 1.0, 2.0)
        self.clusters = clusters
        if clusters:
            self.register_buffer("shapes", torch.full((clusters, 2), float(sides[0][0])))
            self.register_load_state_dict_post_hook(lambda network, _: network.assign_levels())
            self.assign_levels()
        self.head = ProposalHead(channels, clusters or len(self.ratios) * len(sides[0]))

    def forward(
        self, maps: Sequence[Tensor], sizes: Sequence[Size], targets: Sequence[Target] | None = None
    ) -> tuple[list[Tensor], dict[str, Tensor]]:
        """Proposals (N_i, 4) of each image, best first, and, where there are targets, losses.

        sizes: of the images, which may be padded.
        """
        scores, offsets = self.head(maps)
        shapes = [tuple(features.shape[-2:]) for features in maps]
        if self.clusters:
            own = self.levels
            cells = torch.cat([-self.shapes, self.shapes], 1) / 2
            levels = anchors.at_places(shapes, self.strides, [cells[each] for each in own])
            scores = [
                score.unflatten(1, (-1, self.clusters))[:, :, each].flatten(1)
                for score, each in zip(scores, own, strict=True)
            ]
            offsets = [
                offset.unflatten(1, (-1, self.clusters))[:, :, each].flatten(1, 2)
                for offset, each in zip(offsets, own, strict=True)
            ]
        else:
            levels = anchors.pyramid_anchors(shapes, self.strides, self.sides, self.ratios, maps[0].device)
        with torch.no_grad():
            proposals = self._propose(levels, scores, offsets, sizes)
        if targets is None:
            return proposals, {}
        return proposals, self._losses(torch.cat(levels), torch.cat(scores, 1), torch.cat(offsets, 1), targets)

    def set_shapes(self, shapes: Tensor) -> None:
        """Set the anchors' widths and heights (A, 2), in pixels."""
        self.shapes.copy_(shapes)
        self.assign_levels()

    def assign_levels(self) -> None:
        """Write down the shapes of each level: once, since reading them waits for the device."""
        shorter, first = self.shapes.amin(1).tolist(), [side[0] for side in self.sides]
        level = [max(0, sum(each >= side for side in first) - 1) for each in shorter]
        self.levels = [[shape for shape, own in enumerate(level) if own == number] for number in range(len(first))]

    def _propose(
        self, levels: list[Tensor], scores: list[Tensor], offsets: list[Tensor], sizes: Sequence[Size]
    ) -> list[Tensor]:
        before, after = (pair[0 if self.training else 1] for pair in (self.options.before, self.options.after))
        found, values, numbers = [], [], []
        for number, (places, score, offset) in enumerate(zip(levels, scores, offsets, strict=True)):
            best, rows = score.topk(min(before, score.shape[1]), dim=1)
            found.append(boxes.decode(offset.gather(1, rows[..., None].expand(-1, -1, 4)), places[rows]))
            values.append(best)
            numbers.append(torch.full_like(rows, number))
        found, values, numbers = (torch.cat(each, 1) for each in (found, values, numbers))
        edge = torch.tensor([[size[1], size[0]] * 2 for size in sizes], device=found.device)[:, None]
        found = found.clamp(min=0).minimum(edge)
        valid = (found[..., 2:] - found[..., :2] >= SMALLEST[0]).all(2)
        image = torch.arange(len(found), device=found.device)[:, None].expand_as(numbers)
        found, values, image, numbers = (each[valid] for each in (found, values, image, numbers))
        groups = image * len(levels) + numbers
        kept = nms.batched_nms(found, values, groups, self.options.threshold, len(sizes) * len(levels))
        return [found[own[:after]] for i in range(len(sizes)) for own in [kept[image[kept] == i]]]

    def _losses(
        self, places: Tensor, scores: Tensor, offsets: Tensor, targets: Sequence[Target]
    ) -> dict[str, Tensor]:
        found, wanted, rows, positives = [], [], [], []
        for image, target in enumerate(targets):
            objects, _, crowds = present(target)
            matched = matching.match(boxes.iou(objects, places), self.options.high, self.options.low, best_too=True)
            matched = aside_crowds(matched, places, crowds)
            right, wrong = matching.sample(matched, self.options.count, self.options.positives)
            rows.append(torch.cat([right, wrong]) + image * len(places))
            positives.append(torch.arange(len(right) + len(wrong), device=places.device) < len(right))
            wanted.append(boxes.encode(objects[matched[right]], places[right]))
            found.append(right + image * len(places))
        rows, positives, found, wanted = (torch.cat(each) for each in (rows, positives, found, wanted))
        count = max(1, len(rows))
        box = smooth_l1(offsets.view(-1, 4)[found], wanted) / count
        score = F.binary_cross_entropy_with_logits(scores.view(-1)[rows], positives.float(), reduction="sum") / count
        return {"loss/objectness": score, "loss/proposals": box}


class BoxHead(nn.Module):
    """Two dense layers on pooled regions: (N, C, H, W) -> (N, width) (Lin et al. 2016, section 4.2)."""

    def __init__(self, inputs: int, width: int) -> None:
        super().__init__()
        self.fc6, self.fc7 = nn.Linear(inputs, width), nn.Linear(width, width)

    def forward(self, pooled: Tensor) -> Tensor:
        return F.relu(self.fc7(F.relu(self.fc6(pooled.flatten(1)))))


class BoxPredictor(nn.Module):
    """Scores (N, K + 1) of background and K classes, and the offsets (N, 4 K + 4) of a box for each of them."""

    def __init__(self, inputs: int, classes: int) -> None:
        super().__init__()
        self.cls_score, self.bbox_pred = nn.Linear(inputs, classes + 1), nn.Linear(inputs, 4 * (classes + 1))

    def forward(self, hidden: Tensor) -> tuple[Tensor, Tensor]:
        """(N, K + 1) logits, of background first, and offsets (N, K + 1, 4)."""
        return self.cls_score(hidden).float(), self.bbox_pred(hidden).float().view(-1, self.cls_score.out_features, 4)


class Regions(NamedTuple):
    """Regions of all images that a loss is made from."""

    boxes: Tensor  # (N, 4)
    image: Tensor  # (N,)
    labels: Tensor  # (N,) 0 background, else class + 1
    objects: Tensor  # (N,) row of the object in its image's target without crowds, -1 for background
    wanted: Tensor  # (N, 4) box of that object


def sample_regions(
    proposals: Sequence[Tensor], targets: Sequence[Target], count: int, positives: float, threshold: float = 0.5
) -> Regions:
    """A sample of the proposals (N, 4) of each image and of its objects' own boxes: Girshick 2015, section 2.3."""
    columns: list[list[Tensor]] = [[], [], [], [], []]
    for image, (found, target) in enumerate(zip(proposals, targets, strict=True)):
        objects, labels, crowds = present(target)
        found = torch.cat([found, objects.to(found.dtype)])
        matched = aside_crowds(matching.match(boxes.iou(objects, found), threshold, threshold), found, crowds)
        right, wrong = matching.sample(matched, count, positives)
        rows = torch.cat([right, wrong])
        taken = matched[rows]
        positive = taken >= 0
        whose = taken.clamp(min=0)
        if len(objects):
            label, wanted = torch.where(positive, labels[whose] + 1, 0), objects[whose].to(found.dtype)
        else:
            label, wanted = torch.zeros_like(rows), found[rows]
        for column, value in zip(
            columns, (found[rows], torch.full_like(rows, image), label, taken, wanted), strict=True
        ):
            column.append(value)
    return Regions(*(torch.cat(column) for column in columns))


def smooth_l1(found: Tensor, wanted: Tensor) -> Tensor:
    """Smooth L1 loss of offsets (N, 4), a scalar: the sum, linear beyond BETA."""
    return F.smooth_l1_loss(found, wanted, beta=BETA, reduction="sum")


def region_losses(logits: Tensor, offsets: Tensor, regions: Regions) -> dict[str, Tensor]:
    """Multi-task loss of Fast R-CNN: cross-entropy of all regions, smooth L1 of positives; scalars."""
    rows = (regions.labels > 0).nonzero()[:, 0]
    wanted = boxes.encode(regions.wanted[rows], regions.boxes[rows], BOX_WEIGHTS)
    found = offsets[rows, regions.labels[rows]]
    box = smooth_l1(found, wanted) / max(1, len(regions.labels))
    return {"loss/classes": F.cross_entropy(logits, regions.labels), "loss/boxes": box}


def select(
    logits: Tensor,
    offsets: Tensor,
    regions: Tensor,
    image: Tensor,
    sizes: Sequence[Size],
    least: float,
    threshold: float,
    most: int,
) -> list[Detections]:
    """Detections of each image: the best `most`, of `least` score, after suppression within each class.

    logits: (N, classes + 1); offsets: (N, classes + 1, 4); regions: (N, 4); image: (N,), whose each region is.
    """
    probability = logits.softmax(1)[:, 1:]
    classes = probability.shape[1]
    found = boxes.decode(offsets[:, 1:], regions[:, None], BOX_WEIGHTS)
    edge = torch.tensor([[size[1], size[0]] * 2 for size in sizes], device=found.device)[image]
    found = found.clamp(min=0).minimum(edge[:, None])
    valid = (probability > least) & (found[..., 2:] - found[..., :2] >= SMALLEST[1]).all(2)
    rows, labels = valid.nonzero(as_tuple=True)
    found, scores, owner = found[rows, labels], probability[rows, labels], image[rows]
    kept = nms.batched_nms(found, scores, owner * classes + labels, threshold, len(sizes) * classes)
    chosen = [kept[owner[kept] == number][:most] for number in range(len(sizes))]
    return [Detections(found[own], scores[own], labels[own]) for own in chosen]


def per_image(values: Tensor, found: Sequence[Detections]) -> list[Tensor]:
    """The rows of values (N, ...) that belong to each image's detections."""
    return [values] if len(found) == 1 else list(values.split([len(each) for each in found]))


def of_labels(values: Tensor, labels: Tensor) -> Tensor:
    """Of values (N, K, H, W) those (N, H, W) of each row's label (N,)."""
    rows = labels[:, None, None, None].expand(-1, 1, values.shape[2], values.shape[3])
    return values.gather(1, rows)[:, 0]


def pool(maps: Sequence[Tensor], strides: Sequence[int], found: Sequence[Tensor], side: int) -> tuple[Tensor, Tensor]:
    """Pooled features (N, C, side, side) of each image's regions, and the image of each."""
    image = torch.cat([torch.full_like(each[:, 0], row, dtype=torch.int64) for row, each in enumerate(found)])
    return roi.pyramid_align(maps, strides, torch.cat(list(found)), image, (side, side)), image
