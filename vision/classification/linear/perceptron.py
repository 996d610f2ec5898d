"""The perceptron's rule, Adaline's rule, and the convergence bound of the perceptron.

Both process one example at a time, x (D,) with y of -1 or 1. The perceptron (Rosenblatt 1958) adds rate y x
where y (w x + b) <= 0; Adaline, the delta rule of Widrow & Hoff 1960, adds rate (y - w x - b) x for every example.
They are stochastic gradient descent on max(0, -y s) and on half the square of y - s.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor


class Trained(NamedTuple):
    """A linear model and its training curve."""

    weight: Tensor  # (D,)
    bias: float
    history: list[float]  # of each epoch: mistakes of the perceptron, mean squared error of Adaline


def perceptron(inputs: Tensor, signs: Tensor, epochs: int = 100, rate: float = 1.0) -> Trained:
    """Train a perceptron on inputs (N, D) and signs (N,), in their order, until an epoch has no mistake."""
    weight, bias, history = torch.zeros_like(inputs[0]), 0.0, []
    for _ in range(epochs):
        mistakes = 0
        for x, y in zip(inputs, signs.tolist(), strict=True):
            if y * ((weight @ x).item() + bias) <= 0:
                weight, bias, mistakes = weight + rate * y * x, bias + rate * y, mistakes + 1
        history.append(mistakes)
        if not mistakes:
            break
    return Trained(weight, bias, history)


def adaline(inputs: Tensor, signs: Tensor, epochs: int = 100, rate: float = 0.01) -> Trained:
    """Train Adaline on inputs (N, D) and signs (N,), in their order."""
    weight, bias, history = torch.zeros_like(inputs[0]), 0.0, []
    for _ in range(epochs):
        lost = 0.0
        for x, y in zip(inputs, signs.tolist(), strict=True):
            error = y - (weight @ x).item() - bias
            weight, bias, lost = weight + rate * error * x, bias + rate * error, lost + error * error
        history.append(lost / len(inputs))
    return Trained(weight, bias, history)


def convergence_bound(inputs: Tensor, signs: Tensor, weight: Tensor, bias: float) -> float:
    """Perceptron convergence theorem: at most (R / gamma)^2 mistakes, in all epochs together (Novikoff 1962).

    R is the largest norm of an example, extended by a 1 for the bias, and gamma the margin: the smallest distance of
    an extended example to the plane of (weight, bias). The separating plane of the largest margin gives the tightest
    bound; infinite where the plane does not separate the classes.
    """
    longest = (inputs.square().sum(1) + 1).max()
    length = weight.square().sum() + bias**2
    gamma = (signs * (inputs @ weight + bias)).min()
    return (longest * length / gamma.square()).item() if gamma > 0 else float("inf")
