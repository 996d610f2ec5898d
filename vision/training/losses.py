"""Losses of logits (cross-entropy, hinge) with soft targets, L1 and L2 penalties on weights, sums of losses.

    loss = losses.LOSSES["cross_entropy"](logits, losses.targets(labels, classes, smoothing=0.1))

Every loss takes soft targets (B, classes), the share of each class in an image, as mixup and label smoothing need;
for one-hot targets they are the textbook's.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterable, Mapping, Sequence

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
    """Cross-entropy: mean over images of -sum_c shares_c log softmax(logits)_c, in nats. Both are (B, classes)."""
    assert logits.shape == shares.shape
    return -(shares * logits.log_softmax(1)).sum(1).mean()


def hinge(logits: Tensor, shares: Tensor, margin: float = 1.0, smooth: float = 0.0) -> Tensor:
    """Mean of the sum over other classes of max(0, s_j - s_y + margin): Weston & Watkins 1999, CS231n.

    Mixed labels give the same mix of their losses. smooth: see positive_part.
    """
    return _weston_watkins(logits, shares, margin, lambda violation: positive_part(violation, smooth))


def squared_hinge(logits: Tensor, shares: Tensor, margin: float = 1.0) -> Tensor:
    """The hinge loss with squared violations of the margin, of logits and shares (B, classes)."""
    return _weston_watkins(logits, shares, margin, lambda violation: violation.clamp(min=0).square())


def positive_part(x: Tensor, smooth: float = 0.0) -> Tensor:
    """max(0, x), or with `smooth` a smooth function at most smooth / 2 below it, a parabola in [0, smooth]."""
    if not smooth:
        return x.clamp(min=0)
    inside = x.clamp(0, smooth)
    return inside.square() / (2 * smooth) + (x - inside).clamp(min=0)


def _weston_watkins(logits: Tensor, shares: Tensor, margin: float, cost: Callable[[Tensor], Tensor]) -> Tensor:
    assert logits.shape == shares.shape
    costs = cost(logits[:, None, :] - logits[:, :, None] + margin)  # (B, the true one, the other)
    own = cost(logits.new_tensor(margin))  # of a class's margin to itself
    return (shares * (costs.sum(2) - own)).sum(1).mean()


LOSSES: dict[str, Callable[[Tensor, Tensor], Tensor]] = {
    "cross_entropy": cross_entropy,
    "hinge": hinge,
    "squared_hinge": squared_hinge,
}


def build(name: str, margin: float = 1.0) -> Callable[[Tensor, Tensor], Tensor]:
    """A loss of LOSSES, with a margin where it has one."""
    return functools.partial(LOSSES[name], margin=margin) if "hinge" in name else LOSSES[name]


def at_chance(name: str, classes: int, margin: float = 1.0) -> float:
    """The loss at chance, where all logits are equal, as they nearly are before training; name: of LOSSES."""
    equal = torch.zeros(1, classes)
    return build(name, margin)(equal, F.one_hot(torch.zeros(1, dtype=torch.int64), classes).float()).item()


def total_loss(found: Mapping[str, Tensor]) -> Tensor:
    """The sum of the scalars called loss/..., which is minimized; a model logs others beside them."""
    return sum(value for name, value in found.items() if name.startswith("loss/"))


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
