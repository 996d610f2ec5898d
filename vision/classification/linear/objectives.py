"""Objectives of linear models: a mean loss of scores, and the elastic net of the weights.

    objective = Objective("one_vs_all_hinge", l2=0.01, margin=1.0)
    objective(weight, bias, inputs, targets(labels, classes))

One-vs-all losses are sums over classes of a binary loss, the class against all others, with signs y of -1 and 1:
K independent problems. Those of softmax and of Weston & Watkins compare the classes with each other.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn import functional as F

from runs import suggestions
from vision.training import losses
from vision.training.losses import positive_part


class Loss(NamedTuple):
    """A mean loss of scores (N, K) for targets (N, K)."""

    function: Callable[..., Tensor]  # (scores, targets, ...) -> ()
    option: str = ""  # "margin" or "delta", if it has one
    smooth: bool = True  # whether it is differentiable; if not, `function` takes `smooth`, the width of a smoothing
    numbers: bool = False  # regression: targets are numbers, not shares of classes


def _binary(cost: Callable[..., Tensor]) -> Callable[..., Tensor]:
    """A loss of y s, summed over classes, of shares (N, K): y = 1 for the class, -1 for the others."""

    def loss(scores: Tensor, shares: Tensor, **options: float) -> Tensor:
        return cost((2 * shares - 1) * scores, **options).sum(1).mean()

    return loss


def _residual(cost: Callable[..., Tensor]) -> Callable[..., Tensor]:
    """A loss of s - t, summed over outputs, of numbers t (N, K)."""

    def loss(scores: Tensor, numbers: Tensor, **options: float) -> Tensor:
        return cost(scores - numbers, **options).sum(1).mean()

    return loss


def _huber(residual: Tensor, delta: float) -> Tensor:
    size = residual.abs()
    return torch.where(size <= delta, size.square() / 2, delta * (size - delta / 2))


def _absolute(residual: Tensor, smooth: float = 0.0) -> Tensor:
    return _huber(residual, smooth) / smooth if smooth else residual.abs()


LOSSES: dict[str, Loss] = {
    # regression: half the square, the absolute value, and Huber's loss (1964), quadratic up to delta and then linear
    "squared": Loss(_residual(lambda r: r.square() / 2), numbers=True),
    "absolute": Loss(_residual(_absolute), smooth=False, numbers=True),
    "huber": Loss(_residual(_huber), "delta", numbers=True),
    # one-vs-all, of z = y s: max(0, -z) of the perceptron, log(1 + e^-z), max(0, margin - z) and its square
    "perceptron": Loss(_binary(lambda z, smooth=0.0: positive_part(-z, smooth)), smooth=False),
    "logistic": Loss(_binary(lambda z: F.softplus(-z))),
    "one_vs_all_hinge": Loss(
        _binary(lambda z, margin=1.0, smooth=0.0: positive_part(margin - z, smooth)), "margin", False
    ),
    "one_vs_all_squared_hinge": Loss(_binary(lambda z, margin=1.0: (margin - z).clamp(min=0).square()), "margin"),
    # multiclass: softmax regression, Weston & Watkins 1999 and its square (L2-SVM)
    "softmax": Loss(losses.cross_entropy),
    "weston_watkins": Loss(losses.hinge, "margin", False),
    "weston_watkins_squared": Loss(losses.squared_hinge, "margin"),
}


@dataclasses.dataclass(frozen=True)
class Objective:
    """Mean loss + l1 sum |w| + l2 / 2 sum w^2, the elastic net of Zou & Hastie 2005; biases are free.

    loss: of LOSSES. margin: of the hinges. delta: of Huber's loss.
    Raises ValueError for an unknown loss, a negative penalty, and a margin or delta that is not above 0.
    """

    loss: str
    l1: float = 0.0
    l2: float = 0.0
    margin: float = 1.0
    delta: float = 1.35  # of residuals of deviation 1: 95% as efficient as least squares on normal ones (Huber 1981)

    def __post_init__(self) -> None:
        if self.loss not in LOSSES:
            raise ValueError(f"unknown loss {self.loss!r}: {suggestions.one_of(self.loss, LOSSES)}")
        if min(self.l1, self.l2) < 0 or min(self.margin, self.delta) <= 0:
            raise ValueError(f"penalties are at least 0, margin and delta above it: {self}")

    def data(self, scores: Tensor, targets: Tensor, smooth: float = 0.0) -> Tensor:
        """The mean loss () of scores (N, K). smooth: the width of a smoothing, see losses.positive_part."""
        loss = LOSSES[self.loss]
        options = {loss.option: getattr(self, loss.option)} if loss.option else {}
        return loss.function(scores, targets, **options, **({} if loss.smooth else {"smooth": smooth}))

    def __call__(self, weight: Tensor, bias: Tensor, inputs: Tensor, targets: Tensor) -> Tensor:
        """() of weight (K, D), bias (K,), inputs (N, D), targets (N, K)."""
        return self.data(inputs @ weight.T + bias, targets) + losses.penalty([weight], self.l1, self.l2)

    def targets(self, labels: Tensor, classes: int, like: Tensor) -> Tensor:
        """Targets (N, classes) of labels (N,) int64: 1 for the class, for the others 0, or -1 in regression."""
        shares = F.one_hot(labels, classes).to(like)
        return 2 * shares - 1 if LOSSES[self.loss].numbers else shares
