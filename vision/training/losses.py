"""Losses of logits (cross-entropy, hinge) with soft targets, and L1 and L2 penalties on weights.

    loss = losses.LOSSES["cross_entropy"](logits, losses.targets(labels, classes, smoothing=0.1))

Every loss takes soft targets (B, classes), the share of each class in an image, as mixup and label smoothing need;
for one-hot targets they are the textbook's.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence

import torch
from torch import Tensor
from torch.nn import functional as F


def targets(labels: Tensor, classes: int, smoothing: float = 0.0, mix: Sequence[Tensor] | None = None) -> Tensor:
    """Soft targets (B, classes), each row with the sum 1, of labels (B,) int64.

    smoothing: label smoothing, the share that is spread over all classes (Szegedy et al. 2015, arXiv 1512.00567,
        section 7).
    mix: mixup, other labels (B,) and the weight of the first ones, (B,) in [0, 1] (Zhang et al. 2017, arXiv
        1710.09412, equation 1).
    """
    shares = F.one_hot(labels, classes).float()
    if mix is not None:
        others, kept = mix
        shares = torch.lerp(F.one_hot(others, classes).float(), shares, kept[:, None])
    return (1 - smoothing) * shares + smoothing / classes


def cross_entropy(logits: Tensor, shares: Tensor) -> Tensor:
    """Mean over images of -sum_c shares_c log softmax(logits)_c, in nats."""
    assert logits.shape == shares.shape
    return -(shares * logits.log_softmax(1)).sum(1).mean()


def hinge(logits: Tensor, shares: Tensor) -> Tensor:
    """Mean over images of sum over other classes of max(0, s_j - s_y + 1): Weston & Watkins 1999, as in CS231n.

    Mixed labels give the same mix of their losses.
    """
    return _hinge(logits, shares, 1)


def squared_hinge(logits: Tensor, shares: Tensor) -> Tensor:
    """The hinge loss with every margin's violation squared: a large one costs more than two small ones."""
    return _hinge(logits, shares, 2)


def _hinge(logits: Tensor, shares: Tensor, power: int) -> Tensor:
    assert logits.shape == shares.shape
    violation = (logits[:, None, :] - logits[:, :, None] + 1).clamp(min=0) ** power  # (B, the true one, the other)
    return (shares * (violation.sum(2) - 1)).sum(1).mean()  # a class's margin to itself is violated by 1


LOSSES: dict[str, Callable[[Tensor, Tensor], Tensor]] = {
    "cross_entropy": cross_entropy,
    "hinge": hinge,
    "squared_hinge": squared_hinge,
}


def at_chance(name: str, classes: int) -> float:
    """The loss at chance, where all logits are equal, as they nearly are before training; name: of LOSSES."""
    equal = torch.zeros(1, classes)
    return LOSSES[name](equal, F.one_hot(torch.zeros(1, dtype=torch.int64), classes).float()).item()


def penalty(weights: Iterable[Tensor], l1: float = 0.0, l2: float = 0.0) -> Tensor:
    """l1 sum |w| + l2 / 2 sum w^2, a scalar: lasso, ridge, and with both the elastic net (Zou & Hastie 2005).

    The half makes the gradient l2 w: with plain gradient descent an l2 of x is a weight decay of x.
    """
    weights = list(weights)
    assert weights, "a penalty on no weights"
    total = weights[0].new_zeros(())
    if l1:
        total = total + l1 * torch.stack([weight.abs().sum() for weight in weights]).sum()
    if l2:
        total = total + l2 / 2 * torch.stack([weight.square().sum() for weight in weights]).sum()
    return total
