"""Solvers of linear models: closed form, L-BFGS, accelerated proximal gradient, and random parameters.

    model = solve(Objective("logistic", l2=0.01), inputs, targets)
    model.predict(inputs)

Objectives are minimized to convergence on all data at once, in float64 where inputs are. SGD, for data sets that do
not fit into memory, is in vision.classification.classical.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import NamedTuple

import torch
from torch import Tensor

from vision.classification.linear.objectives import LOSSES, Objective
from vision.training.second_order import LBFGS, minimize

SMOOTH = (0.1, 1e-2, 1e-3, 1e-4, 1e-5)  # widths of smoothed losses; each solution is the start of the next
ITERATIONS = 2_000  # at most, of L-BFGS and of the proximal gradient, for each width
SETTLED = 1e-13  # relative decrease in ten iterations at which a minimization ends


class Linear(NamedTuple):
    """A linear model, scores x W^T + b, and its value of the objective."""

    weight: Tensor  # (K, D)
    bias: Tensor  # (K,)
    objective: float
    iterations: int

    def scores(self, inputs: Tensor) -> Tensor:
        """(N, K) of inputs (N, D)."""
        return inputs @ self.weight.T + self.bias

    def predict(self, inputs: Tensor) -> Tensor:
        """The class of the largest score, (N,) int64."""
        return self.scores(inputs).argmax(1)


def least_squares(inputs: Tensor, targets: Tensor, l2: float = 0.0, bias: bool = True) -> Linear:
    """Ridge regression in closed form: (X^T X / N + l2 I) w = X^T t / N, of centered inputs and targets with a bias.

    inputs: (N, D). targets: (N, K). Where the matrix is singular, the solution of smallest norm.
    """
    weight, offsets = normal_equations([(inputs, targets)], l2, bias)
    return Linear(weight, offsets, Objective("squared", l2=l2)(weight, offsets, inputs, targets).item(), 1)


def normal_equations(
    batches: Iterable[tuple[Tensor, Tensor]], l2: float = 0.0, bias: bool = True
) -> tuple[Tensor, Tensor]:
    """Weight (K, D) and bias (K,) of least_squares, in one pass over batches of inputs and targets."""
    count, total, level, square, cross = 0, 0.0, 0.0, 0.0, 0.0
    for inputs, targets in batches:
        count += len(inputs)
        total, level = total + inputs.sum(0), level + targets.sum(0)
        square, cross = square + inputs.T @ inputs, cross + inputs.T @ targets
    mean, level = total / count * bias, level / count * bias
    matrix = square / count - torch.outer(mean, mean) + l2 * torch.eye(len(mean)).to(square)
    slope = cross / count - torch.outer(mean, level)
    if l2:
        weight = torch.linalg.solve(matrix, slope).T
    else:
        weight = (torch.linalg.pinv(matrix, hermitian=True) @ slope).T
    return weight, level - weight @ mean


def solve(objective: Objective, inputs: Tensor, targets: Tensor, bias: bool = True) -> Linear:
    """The minimum of an objective, by L-BFGS, or with an L1 penalty by the proximal gradient.

    inputs: (N, D). targets: (N, K), see Objective.targets; K numbers, or shares of K classes, of which a one-vs-all
        loss may have a single one. bias: one for each output, or none.
    A loss that is not differentiable is replaced by smooth approximations of decreasing width (Nesterov 2005, "Smooth
    minimization of non-smooth functions"); of their solutions, that of the lowest exact objective is returned.
    """
    outputs, features = targets.shape[1], inputs.shape[1]
    rows = torch.cat([inputs, inputs.new_ones(len(inputs), 1)], 1) if bias else inputs
    penalized = torch.ones(rows.shape[1]).to(inputs)
    penalized[features:] = 0
    x, best, used = inputs.new_zeros(outputs * rows.shape[1]), None, 0
    for smooth in (0.0,) if LOSSES[objective.loss].smooth else SMOOTH:

        def value(x: Tensor, smooth: float = smooth) -> Tensor:
            weight = x.view(outputs, -1)
            return (
                objective.data(rows @ weight.T, targets, smooth)
                + objective.l2 / 2 * (weight.square() * penalized).sum()
            )

        def function(x: Tensor, value=value) -> tuple[float, Tensor]:
            x = x.detach().requires_grad_()
            with torch.enable_grad():
                found = value(x)
            return found.item(), torch.autograd.grad(found, x)[0]

        threshold = objective.l1 * penalized.repeat(outputs)
        x, count = _proximal(function, value, x, threshold) if objective.l1 else _limited_memory(function, x)
        used += count
        weight = x.view(outputs, -1)
        offsets = weight[:, features] if bias else inputs.new_zeros(outputs)
        found = objective(weight[:, :features], offsets, inputs, targets).item()
        if best is None or found < best.objective:
            best = Linear(weight[:, :features], offsets, found, used)
    return best._replace(iterations=used)


def _limited_memory(function, x: Tensor) -> tuple[Tensor, int]:
    values, count = [], 0
    for point in minimize(function, x, LBFGS(memory=30), ITERATIONS, 1e-10):
        x, count = point.x, count + 1
        values.append(point.value)
        if count > 10 and values[-11] - values[-1] <= SETTLED * abs(values[-1]):
            break
    return x, count


def _proximal(function, value_of, x: Tensor, threshold: Tensor) -> tuple[Tensor, int]:
    """FISTA (Beck & Teboulle 2009) with backtracking, restarted where momentum increases the objective (O'Donoghue &
    Candès 2015): a gradient step of the smooth part, then soft thresholding, the proximal step of the L1 norm."""
    ahead, momentum, steepness, values = x, 1.0, 1.0, []
    for count in range(1, ITERATIONS + 1):
        value, gradient = function(ahead)
        steepness *= 0.9
        while True:
            moved = ahead - gradient / steepness
            new = moved.sign() * (moved.abs() - threshold / steepness).clamp(min=0)
            step = new - ahead
            bound = value + (gradient @ step).item() + steepness / 2 * (step @ step).item()
            with torch.no_grad():
                there = value_of(new).item()
            if there <= bound + 1e-12 * abs(bound) or steepness > 1e12:
                break
            steepness *= 2
        if ((ahead - new) @ (new - x)).item() > 0:
            momentum = 1.0
        grown = (1 + (1 + 4 * momentum**2) ** 0.5) / 2
        ahead, x, momentum = new + (momentum - 1) / grown * (new - x), new, grown
        values.append(there + (threshold * new.abs()).sum().item())
        if count > 50 and values[-51] - values[-1] <= SETTLED * abs(values[-1]) and values[-1] <= min(values[-50:]):
            break
    return x, count


def gradient_descent(objective: Objective, inputs: Tensor, targets: Tensor, rate: float, steps: int) -> Linear:
    """Gradient descent from zero, with subgradients where the loss is not differentiable.

    inputs: (N, F); targets: (N, outputs).
    """
    weight = inputs.new_zeros(targets.shape[1], inputs.shape[1]).requires_grad_()
    bias = inputs.new_zeros(targets.shape[1]).requires_grad_()
    for _ in range(steps):
        with torch.enable_grad():
            slopes = torch.autograd.grad(objective(weight, bias, inputs, targets), (weight, bias))
        with torch.no_grad():
            for each, slope in zip((weight, bias), slopes, strict=True):
                each.sub_(rate * slope)
    weight, bias = weight.detach(), bias.detach()
    return Linear(weight, bias, objective(weight, bias, inputs, targets).item(), steps)


def random_parameters(
    objective: Objective, inputs: Tensor, targets: Tensor, tries: int, generator: torch.Generator, local: bool = False
) -> Linear:
    """Random search or random local search: the best of `tries` models (CS231n, "Optimization", strategies 1 and 2).

    local: each is the best one so far plus a small step. Weights are normal of deviation 1 / sqrt(D), steps of a
    twentieth of it. inputs: (N, D); targets: (N, outputs).
    """
    shape, scale = (targets.shape[1], inputs.shape[1]), inputs.shape[1] ** -0.5
    bias, best = inputs.new_zeros(shape[0]), None
    for number in range(1, tries + 1):
        noise = torch.randn(shape, generator=generator, dtype=inputs.dtype).to(inputs.device) * scale
        weight = best.weight + noise / 20 if local and best else noise
        found = objective(weight, bias, inputs, targets).item()
        if best is None or found < best.objective:
            best = Linear(weight, bias, found, number)
    return best
