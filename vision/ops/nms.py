"""Greedy non-maximum suppression, exact and without a loop over boxes.

Boxes are taken in the order of their scores, in blocks. A box of a block is suppressed by boxes kept of earlier
blocks, all at once; within a block `kept = no kept box before it overlaps` is repeated until nothing changes, as
often as the longest chain of boxes that suppress one another, two to five times in detectors. The fixed point is
unique, because a box depends on those before it alone, so that what remains is what the loop of Felzenszwalb et al.
2010 leaves: a box is dropped where its IoU with a kept box of a higher score is more than the threshold.
"""

from __future__ import annotations

import torch
from torch import Tensor

from vision.ops import onnx_ops
from vision.ops.boxes import iou

BLOCK = 256  # boxes whose mutual overlaps are calculated together
LARGEST = 1 << 22  # overlaps that are held at a time, over all groups


def nms(boxes: Tensor, scores: Tensor, threshold: float) -> Tensor:
    """Indices (K,) int64 of the boxes (N, 4) that are kept, highest score (N,) first; of equals the earlier first."""
    order = scores.argsort(descending=True, stable=True)
    kept = _greedy(boxes[order][None], torch.ones(1, len(order), dtype=torch.bool, device=boxes.device), threshold)
    return order[kept[0]]


def batched_nms(boxes: Tensor, scores: Tensor, groups: Tensor, threshold: float, count: int | None = None) -> Tensor:
    """Indices (K,) of the boxes (N, 4) kept where only boxes of one group (N,) suppress each other, best first.

    groups: any integers: classes, levels of a pyramid, images, or a number for each combination. count: they are from
    0 to count - 1; needed for the export to ONNX alone.
    """
    if count is not None and torch.onnx.is_in_onnx_export():
        return onnx_ops.Suppression.apply(boxes, scores, groups, int(count), threshold, batched_nms)
    if not len(boxes):
        return scores.new_zeros(0, dtype=torch.int64)
    order = scores.argsort(descending=True, stable=True)
    order = order[groups[order].argsort(stable=True)]  # group by group, each by its scores
    _, counts = groups[order].unique_consecutive(return_counts=True)
    kept = torch.zeros(len(order), dtype=torch.bool, device=boxes.device)
    begins = counts.cumsum(0) - counts
    sizes, which = counts.cpu().sort()  # groups of like sizes are padded to one and done together
    at, sizes = 0, sizes.tolist()
    while at < len(sizes):
        end = at + 1
        while end < len(sizes) and (end + 1 - at) * sizes[end] * min(sizes[end], BLOCK) <= LARGEST:
            end += 1
        chosen = which[at:end].to(boxes.device)
        place = torch.arange(sizes[end - 1], device=boxes.device)
        valid = place < counts[chosen, None]
        rows = torch.where(valid, begins[chosen, None] + place, 0)
        kept[rows[valid]] = _greedy(boxes[order[rows]], valid, threshold)[valid]
        at = end
    order = order[kept]
    return order[scores[order].argsort(descending=True, stable=True)]


def _greedy(boxes: Tensor, valid: Tensor, threshold: float) -> Tensor:
    """Which of G lists of boxes (G, N, 4), each in the order of its scores, are kept, (G, N) bool.

    valid: (G, N), False where a list is padded.
    """
    kept = valid.clone()
    for begin in range(0, boxes.shape[1], BLOCK):
        block = slice(begin, begin + BLOCK)
        own = boxes[:, block]
        if begin and len(boxes) == 1:  # most boxes are not kept: the others need no comparison
            before = boxes[:, kept[0, :begin].nonzero()[:, 0]]
            for part in before.split(max(BLOCK, LARGEST // BLOCK), 1):
                kept[:, block] &= ~(iou(own, part) > threshold).any(2)
        elif begin:  # batched_nms sees to it that this fits into memory
            kept[:, block] &= ~((iou(own, boxes[:, :begin]) > threshold) & kept[:, None, :begin]).any(2)
        over = (iou(own, own) > threshold).tril(-1)
        possible = kept[:, block].clone()
        current = possible
        while True:
            better = possible & ~(over & current[:, None]).any(2)
            if torch.equal(better, current):
                break
            current = better
        kept[:, block] = current
    return kept
