"""Training objective of a classifier: its loss, auxiliary heads and penalties, and the flags that choose them."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Literal

from torch import Tensor

from runs.flag_types import NonNegative, Positive, Share
from vision.classification.classifier import Classifier
from vision.training import losses


@dataclasses.dataclass(frozen=True)
class LossFlags:
    """Flags of the training objective: loss, label smoothing, mixup and penalties."""

    loss: Literal["cross_entropy", "hinge", "squared_hinge"] = "cross_entropy"
    margin: Positive = 1.0  # of the hinges
    smoothing: Share = 0.0  # label smoothing: share of each label that is spread over all classes
    mixup: NonNegative = 0.0  # alpha of the Beta distribution by which pairs of images are mixed; 0: none
    l1: NonNegative = 0.0  # times the sum of |w|, in the loss
    l2: NonNegative = 0.0  # times half the sum of w^2, in the loss; with l1 the elastic net


def forward(model: Classifier, images: Tensor) -> list[Tensor]:
    """Logits (B, classes), and those of the auxiliary heads that some papers train with."""
    maps = model.backbone(images)
    auxiliary = getattr(model.head, "auxiliary", None)
    return [model.head(maps), *(auxiliary(maps) if auxiliary else [])]


def objective(
    config: LossFlags, model: Classifier, images: Tensor, shares: Tensor, call: Callable = forward
) -> tuple[Tensor, Tensor]:
    """The objective () to be minimized, and the logits (B, classes): the loss, 0.3 of it for each auxiliary head, and
    the L1 and L2 penalties of weights that learn.

    images: (B, C, H, W); shares: (B, classes), see losses.targets. call: forward, maybe compiled.
    """
    loss = losses.build(config.loss, config.margin)
    logits, *others = (each.to(shares.dtype) for each in call(model, images))  # out of bf16
    total = loss(logits, shares) + 0.3 * sum(loss(other, shares) for other in others)
    if config.l1 or config.l2:
        weights = [weight for weight in model.parameters() if weight.requires_grad and weight.dim() > 1]
        total = total + losses.penalty(weights, config.l1, config.l2)
    return total, logits
