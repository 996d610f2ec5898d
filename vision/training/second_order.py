"""Second-order optimizers: Newton's method, BFGS and L-BFGS, for functions of a vector and for networks.

    for point in minimize(rosenbrock, start, BFGS(), iterations=50):     # a function: vector -> value and gradient
        print(point.value, point.evaluations)
    optimizer = SecondOrder(model.parameters(), 1.0, LBFGS())            # a torch optimizer, with a closure

A direction is -B g for an approximation B of the inverse Hessian; the step along it fulfills the strong Wolfe
conditions (line_search.py). Nocedal & Wright 2006, "Numerical optimization", chapters 3, 6 and 7.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from typing import Any, NamedTuple, Protocol

import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from vision.training.line_search import Trial, wolfe

Function = Callable[[Tensor], tuple[float, Tensor]]  # a point (n,) -> its value and gradient (n,)
MOST = {"bfgs": 5_000, "newton": 2_000}  # weights, of which a matrix with the square of numbers is kept


class Point(NamedTuple):
    """A point of a minimization, with its value and gradient."""

    x: Tensor  # (n,)
    value: float
    gradient: Tensor  # (n,)
    evaluations: int  # of value and gradient so far


class Direction(Protocol):
    """An approximation of the inverse Hessian, which gives a direction of descent."""

    def __call__(self, gradient: Tensor) -> Tensor:
        """The direction (n,) at a point of this gradient (n,)."""

    def update(self, step: Tensor, change: Tensor) -> None:
        """Update the approximation by a step (n,) that changed the gradient by `change` (n,)."""

    def state_dict(self) -> dict[str, Any]: ...

    def load_state_dict(self, state: dict[str, Any]) -> None: ...


class BFGS:
    """Broyden, Fletcher, Goldfarb and Shanno's estimate of the inverse Hessian, (n, n), the identity at first.

    Nocedal & Wright, equation 6.17: H <- (I - r s y^T) H (I - r y s^T) + r s s^T with r = 1 / (y^T s).
    """

    def __init__(self) -> None:
        self.inverse: Tensor | None = None

    def __call__(self, gradient: Tensor) -> Tensor:
        return -gradient if self.inverse is None else -(self.inverse @ gradient)

    def update(self, step: Tensor, change: Tensor) -> None:
        """Update the estimate by a step (n,) that changed the gradient by `change` (n,)."""
        curvature = step @ change
        if not curvature > 0:  # the estimate would no longer be positive definite
            return
        inverse = self.inverse
        if inverse is None:
            inverse = torch.eye(len(step), dtype=step.dtype, device=step.device)
        turned = inverse @ change
        outer = torch.outer(turned, step)
        along = (1 + change @ turned / curvature) / curvature
        self.inverse = inverse + along * torch.outer(step, step) - (outer + outer.T) / curvature

    def state_dict(self) -> dict[str, Any]:
        return {"inverse": self.inverse}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self.inverse = state["inverse"]


class LBFGS:
    """Limited-memory BFGS: the estimate of the last `memory` steps alone, never written out (algorithm 7.4, the
    two-loop recursion; Liu & Nocedal 1989). Its first matrix is the identity times s^T y / y^T y of the last step.
    """

    def __init__(self, memory: int = 10) -> None:
        self.memory, self.pairs = memory, []

    def __call__(self, gradient: Tensor) -> Tensor:
        direction, shares = -gradient, []
        for step, change in reversed(self.pairs):
            share = (step @ direction) / (step @ change)
            direction = direction - share * change
            shares.append(share)
        if self.pairs:
            step, change = self.pairs[-1]
            direction = direction * ((step @ change) / (change @ change))
        for (step, change), share in zip(self.pairs, reversed(shares), strict=True):
            direction = direction + step * (share - (change @ direction) / (step @ change))
        return direction

    def update(self, step: Tensor, change: Tensor) -> None:
        """Keep the last steps (n,) and the changes (n,) of the gradient by them."""
        if step @ change > 0:
            self.pairs = [*self.pairs, (step, change)][-self.memory :]

    def state_dict(self) -> dict[str, Any]:
        return {"pairs": self.pairs}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self.pairs = list(state["pairs"])


class Newton:
    """Newton's direction -H^-1 g of the true Hessian (n, n), which `hessian` is set to before each call.

    saddle_free: takes the absolute eigenvalues of H, which moves away from saddles along directions of negative
        curvature (Dauphin et al. 2014, arXiv 1406.2572); otherwise the plain method, which converges to saddles.
    least: lower bound of an absolute eigenvalue, as a share of the largest one, where H is singular.
    """

    def __init__(self, saddle_free: bool = True, least: float = 1e-10) -> None:
        self.saddle_free, self.least = saddle_free, least
        self.hessian: Tensor | None = None

    def __call__(self, gradient: Tensor) -> Tensor:
        values, vectors = torch.linalg.eigh(self.hessian)
        floor = max(self.least * values.abs().max().item(), torch.finfo(values.dtype).tiny)
        sizes = values.abs().clamp(min=floor)
        if not self.saddle_free:
            sizes = torch.where(values < 0, -sizes, sizes)
        return -(vectors @ ((vectors.T @ gradient) / sizes))

    def update(self, step: Tensor, change: Tensor) -> None:
        """Ignore a step (n,) and its change (n,): the Hessian is computed anew."""

    def state_dict(self) -> dict[str, Any]:
        return {}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Do nothing: there is no state."""


def minimize(
    function: Function,
    start: Tensor,
    direction: Direction,
    iterations: int,
    tolerance: float = 0.0,
    hessian: Callable[[Tensor], Tensor] | None = None,
    rate: float = 1.0,
    search: bool = True,
) -> Iterator[Point]:
    """The points of a minimization, the start first: each a step along the direction from the one before.

    tolerance: of the gradient's largest absolute element, at which it ends; it also ends where no step is lower.
    hessian: of a point, (n, n); for Newton.
    rate: the first trial of a line search, as a share of Newton's step of 1. search: False: the step of `rate` alone.

    The first trial is min(rate, 2.02 (f - f_before) / slope), which expects a decrease like the last one (Nocedal &
    Wright, equation 3.60, as in scipy); before the first step a decrease of half the gradient's norm. With the true
    Hessian it is `rate`.
    """
    value, gradient = function(start)
    point = Point(start, value, gradient, 1)
    before = value + gradient.norm().item() / 2
    yield point
    for _ in range(iterations):
        if point.gradient.abs().max().item() <= tolerance:
            return
        if hessian is not None:
            direction.hessian = hessian(point.x)
        toward = direction(point.gradient)
        if not search:
            x = point.x + rate * toward
            value, gradient = function(x)
            point = Point(x, value, gradient, point.evaluations + 1)
            yield point
            continue
        slope = (point.gradient @ toward).item()
        if not slope < 0 or not rate > 0:
            return
        trial = rate if hessian else min(rate, 2.02 * (point.value - before) / slope)
        found = _along(function, point, toward, slope, trial if trial > 0 else rate)
        if found is None:
            return
        before = point.value
        direction.update(found.x - point.x, found.gradient - point.gradient)
        point = found
        yield point


def _along(function: Function, point: Point, toward: Tensor, slope: float, trial: float) -> Point | None:
    """The point of a line search, or None where it finds no lower one."""
    tried: dict[float, Point] = {}

    def line(step: float) -> tuple[float, float]:
        x = point.x + step * toward
        value, gradient = function(x)
        tried[step] = Point(x, value, gradient, point.evaluations + len(tried) + 1)
        return value, (gradient @ toward).item()

    found = wolfe(line, Trial(0.0, point.value, slope), trial)
    total = point.evaluations + len(tried)
    if found is not None:
        return tried[found.step]._replace(evaluations=total)
    lowest = min(tried.values(), key=lambda each: each.value if each.value == each.value else float("inf"))
    return lowest._replace(evaluations=total) if lowest.value < point.value else None


class SecondOrder(Optimizer):
    """A torch optimizer of all weights together: some iterations of `minimize` on every batch.

        def closure():
            optimizer.zero_grad()
            loss = ...
            optimizer.backward(loss)          # with Newton; loss.backward() will do for the others
            return loss
        optimizer.step(closure)

    rate: of the line search's first trial; see minimize. iterations: on a batch; evaluations of closures are one or
    two each, and one more. The approximation is kept from batch to batch and is part of the state.
    Raises ValueError for more weights than a matrix of them has room for, and for several parameter groups.
    """

    def __init__(
        self, parameters: Iterable[nn.Parameter], rate: float, direction: Direction, iterations: int = 10
    ) -> None:
        super().__init__(parameters, {"lr": rate})
        if len(self.param_groups) > 1:
            raise ValueError("a second-order optimizer has one rate for all weights: leave out --layer-decay")
        self.weights = self.param_groups[0]["params"]
        self.direction, self.iterations = direction, iterations
        count, name = sum(weight.numel() for weight in self.weights), type(direction).__name__.lower()
        if count > MOST.get(name, count):
            raise ValueError(
                f"{name} keeps a matrix of the square of all {count:,} weights, and takes at most {MOST[name]:,}: "
                "choose lbfgs, a smaller network or --train last"
            )

    def backward(self, loss: Tensor) -> None:
        """Set the gradients of a scalar loss, with the graph that their derivatives need for Newton's direction."""
        if not isinstance(self.direction, Newton):
            loss.backward()
            return
        gradients = torch.autograd.grad(loss, self.weights, create_graph=True, materialize_grads=True)
        for weight, gradient in zip(self.weights, gradients, strict=True):
            weight.grad = gradient

    def step(self, closure: Callable[[], Tensor]) -> Tensor:
        """Minimize on a batch. closure: gives the scalar loss. Returns it as it was at the start."""
        rate, first = self.param_groups[0]["lr"], []

        def evaluate(x: Tensor) -> tuple[float, Tensor]:
            self._set(x)
            with torch.enable_grad():
                loss = closure()
            first.append(loss.detach())
            return loss.item(), self._gradient().detach()

        def hessian(x: Tensor) -> Tensor:
            evaluate(x)
            return self._hessian()

        newton = isinstance(self.direction, Newton)
        x = torch.cat([weight.detach().flatten() for weight in self.weights])
        for point in minimize(evaluate, x, self.direction, self.iterations, 1e-9, hessian if newton else None, rate):
            x = point.x
        self._set(x)
        for weight in self.weights:
            weight.grad = None  # Newton's hold a graph
        return first[0]

    def state_dict(self) -> dict[str, Any]:
        return super().state_dict() | {"direction": self.direction.state_dict()}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self.direction.load_state_dict(_moved(state["direction"], self.weights[0].device))
        super().load_state_dict({key: value for key, value in state.items() if key != "direction"})

    @torch.no_grad()
    def _set(self, x: Tensor) -> None:
        for weight, part in zip(self.weights, x.split([weight.numel() for weight in self.weights]), strict=True):
            weight.copy_(part.view_as(weight))

    def _gradient(self) -> Tensor:
        grads = [torch.zeros_like(weight) if weight.grad is None else weight.grad for weight in self.weights]
        return torch.cat([gradient.flatten() for gradient in grads])

    def _hessian(self) -> Tensor:
        """The Hessian (n, n) where the last closure was evaluated, from the graph of its gradients."""
        rows = []
        for number in self._gradient():
            if not number.requires_grad:  # the loss is linear in this weight
                rows.append(torch.zeros(sum(weight.numel() for weight in self.weights)).to(number))
                continue
            parts = torch.autograd.grad(number, self.weights, retain_graph=True, materialize_grads=True)
            rows.append(torch.cat([part.flatten() for part in parts]))
        hessian = torch.stack(rows)
        return (hessian + hessian.T) / 2


def _moved(state: Any, device: torch.device) -> Any:
    """A direction's state with its tensors on a device."""
    if isinstance(state, Tensor):
        return state.to(device)
    if isinstance(state, dict):
        return {key: _moved(value, device) for key, value in state.items()}
    return [_moved(each, device) for each in state] if isinstance(state, list | tuple) else state
