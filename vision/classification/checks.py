"""Sanity checks of a classifier before training: initial loss, regularization, overfit one batch, gradient check.

    python -m vision.classification --data cifar10 --backbone resnet18 --check

Those of CS231n (Stanford), "Neural Networks Part 3: Learning and Evaluation":
1. With small weights in the head, the loss is that at chance: log C for cross-entropy, C - 1 for hinges.
2. It rises with regularization.
3. One small batch can be overfit, to zero loss.
4. Backpropagation agrees with numerical gradients, in float64.
"""

from __future__ import annotations

import copy
import dataclasses
import math
from typing import NamedTuple

import torch
from rich.console import Console
from rich.table import Table
from torch import Tensor, nn

from vision import data
from vision.classification.classifier import Classifier
from vision.classification.objective import LossFlags, objective
from vision.training import losses

SMALL = 0.01  # times the head's last weights: logits near 0, as in the course
FEW = 20  # images of the batch to overfit
UPDATES = 400  # at most, to overfit it
ZERO = 0.01  # loss that counts as zero: cross-entropy only approaches it, hinges reach it
RATES = (1e-2, 1e-3)  # of Adam: scaled logits need the first, deep networks the second
STRENGTH = 1e-2  # of the penalty whose effect is checked
PROBED = 24  # weight tensors whose gradients are compared, spread over the network
STRIDE = 1e-6  # of the central differences: exact to about nine digits in float64, except at kinks of ReLUs


class Finding(NamedTuple):
    """The result of one sanity check."""

    check: str
    found: str
    expected: str
    passed: bool


def run_checks(config: LossFlags, model: Classifier, train: data.Labeled) -> list[Finding]:
    """All four checks, on copies of the model.

    train: images (N, C, H, W) uint8 and labels (N,), on any device.
    """
    device = next(model.parameters()).device
    images, labels = (field[:FEW].to(device) for field in train)
    classes = model(images[:2]).shape[1]
    shares = losses.targets(labels, classes)
    plain = dataclasses.replace(config, l1=0.0, l2=0.0)
    model = copy.deepcopy(model)
    return [
        initial_loss(plain, model, images, shares),
        regularization(plain, model, images, shares),
        overfit_one_batch(plain, model, images, shares),
        gradient_check(plain, copy.deepcopy(model), images[:4], shares[:4]),
    ]


def initial_loss(config: LossFlags, model: Classifier, images: Tensor, shares: Tensor) -> Finding:
    """Initial loss: with small logits it is the loss at chance.

    images: (B, C, H, W). shares: (B, classes), the target distribution."""
    model = copy.deepcopy(model)
    last = [layer for layer in model.head.modules() if isinstance(layer, nn.Linear | nn.Conv2d)][-1]
    unscaled = _loss(config, model, images, shares).item()
    with torch.no_grad():
        for weight in last.parameters():
            weight.mul_(SMALL)
    found = _loss(config, model, images, shares).item()
    chance = losses.at_chance(config.loss, shares.shape[1], config.margin)
    words = f"{found:.4f} (as initialized {unscaled:.4f})"
    return Finding("loss at the start", words, f"{chance:.4f} +- 5%", abs(found - chance) < 0.05 * chance)


def regularization(config: LossFlags, model: Classifier, images: Tensor, shares: Tensor) -> Finding:
    """Regularization: the loss rises with each penalty. images: (B, C, H, W). shares: (B, classes)."""
    kinds = ({}, {"l2": STRENGTH}, {"l1": STRENGTH}, {"l1": STRENGTH, "l2": STRENGTH})
    found = [_loss(dataclasses.replace(config, **kind), model, images, shares).item() for kind in kinds]
    none, l2, l1, both = found
    words = ", ".join(f"{name} {value:.4g}" for name, value in zip(("none", "L2", "L1", "both"), found, strict=True))
    return Finding("loss with penalties", words, "none < L2, L1 < both", none < min(l2, l1) and max(l2, l1) < both)


def overfit_one_batch(config: LossFlags, model: Classifier, images: Tensor, shares: Tensor) -> Finding:
    """Overfit one batch to zero loss, with Adam, without dropout and penalties, at one of two rates.

    images: (B, C, H, W). shares: (B, classes)."""
    words, passed = "", False
    for rate in RATES:
        learner = copy.deepcopy(model).requires_grad_(True)
        for module in learner.modules():
            if isinstance(module, nn.Dropout):
                module.p = 0.0
        optimizer, updates = torch.optim.Adam(learner.parameters(), rate), 0
        while True:
            learner.train()
            loss, logits = objective(config, learner, images, shares)
            right = (logits.argmax(1) == shares.argmax(1)).float().mean().item()
            passed = right == 1 and loss.item() < ZERO
            if passed or updates == UPDATES:
                break
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            updates += 1
        words = f"loss {loss.item():.4f}, {right:.0%} right after {updates} updates at {rate:g}"
        if passed:
            break
    return Finding(f"overfit one batch of {len(images)}", words, f"< {ZERO:g}, 100% in {UPDATES}", passed)


def gradient_check(config: LossFlags, model: Classifier, images: Tensor, shares: Tensor) -> Finding:
    """Gradient check: backpropagation against central differences, along a random direction of each probed tensor.

    images: (B, C, H, W). shares: (B, classes). On the CPU, in float64, which not every device has.
    """
    model = (
        model.cpu().double().eval().requires_grad_(True)
    )  # evaluation: no dropout, and batch norms keep their means
    images, shares = images.cpu().double() / 255, shares.cpu().double()
    generator = torch.Generator().manual_seed(0)
    loss, _ = objective(config, model, images, shares)
    weights = dict(model.named_parameters())
    found = torch.autograd.grad(loss, list(weights.values()), allow_unused=True)
    pairs = [(name, gradient) for name, gradient in zip(weights, found, strict=True) if gradient is not None]
    errors = {}
    for name, gradient in pairs[:: math.ceil(len(pairs) / PROBED)]:
        weight = weights[name]
        direction = torch.randn(weight.shape, generator=generator, dtype=weight.dtype).to(weight.device)
        direction /= direction.norm()
        analytic, ends = (gradient * direction).sum().item(), []
        for sign in (1, -1):
            with torch.no_grad():
                weight.add_(direction, alpha=sign * STRIDE)
                ends.append(objective(config, model, images, shares)[0].item())
                weight.add_(direction, alpha=-sign * STRIDE)
        numerical = (ends[0] - ends[1]) / (2 * STRIDE)
        errors[name] = abs(numerical - analytic) / max(abs(numerical), abs(analytic), 1e-5)
    worst = max(errors, key=errors.get)
    middle = sorted(errors.values())[len(errors) // 2]
    words = f"median {middle:.1e}, largest {errors[worst]:.1e} ({worst})"
    passed = middle < 1e-5 and errors[worst] < 1e-2
    return Finding("gradients, relative error", words, "median < 1e-5, largest < 1e-2", passed)


def report(config: LossFlags, model: Classifier, train: data.Labeled) -> int:
    """Print what was found. Returns the exit status: 0 if all is well, else 1."""
    table = Table("check", "found", "expected", "verdict")
    findings = run_checks(config, model, train)
    for finding in findings:
        table.add_row(*finding[:3], "passed" if finding.passed else "[bold red]FAILED[/]")
    Console().print(table)
    return 0 if all(finding.passed for finding in findings) else 1


def _loss(config: LossFlags, model: Classifier, images: Tensor, shares: Tensor) -> Tensor:
    with torch.no_grad():
        model.train()  # norms as in training: an untrained network's running means are meaningless
        return objective(config, model, images, shares)[0]
