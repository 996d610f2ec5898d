"""Average precision of multi-label classification, class by class, as Pascal VOC's classification challenge has it.

Everingham et al. 2010, "The Pascal visual object classes challenge", sections 4.1 and 4.2; the area under the whole
curve, as from 2010 on.
"""

from __future__ import annotations

import torch
from torch import Tensor


def average_precision(scores: Tensor, present: Tensor) -> float:
    """The average precision of one class: the area under its interpolated precision-recall curve.

    scores: (N,), of images. present: (N,) floats, 1 and 0; images with NaN are left out. Images with equal scores are
    retrieved together, so that their order decides nothing. NaN where no image has the class, or none lacks it.
    """
    known = ~present.isnan()
    scores, right = scores[known].double(), present[known].double()
    if not 0 < right.sum() < len(right):
        return float("nan")
    order = scores.argsort(descending=True)
    scores, hits = scores[order], right[order].cumsum(0)
    ends = torch.cat([(scores[1:] != scores[:-1]).nonzero()[:, 0], torch.tensor([len(scores) - 1])])
    hits = hits[ends]
    recall, precision = hits / hits[-1], hits / (ends + 1)
    precision = precision.flip(0).cummax(0).values.flip(0)  # the highest at this recall or more
    return float((recall.diff(prepend=recall.new_zeros(1)) * precision).sum())


def by_class(scores: Tensor, present: Tensor) -> list[float]:
    """The average precision of each class. scores, present: (N, K), on the CPU."""
    return [average_precision(*each) for each in zip(scores.T, present.T, strict=True)]
