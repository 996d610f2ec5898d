"""Gates of a computational graph: elementwise functions with forward, backward and tangent, in numpy.

Each gate belongs to one node of a graph. `forward` caches what the derivatives need:

    gate = Multiply()
    gate.forward(x, y)          # the output
    gate.backward(gradient)     # reverse mode: gradient of the loss at the output -> at each input
    gate.tangent(dx, dy)        # forward mode: change of each input -> of the output

Inputs of different shapes are broadcast as in numpy, and their gradients are summed over the broadcast axes.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar

import numpy as np

Array = np.ndarray


class Gate:
    """A function with its derivatives. `symbol` is what a picture shows."""

    symbol: ClassVar[str] = "?"

    def forward(self, *inputs: Array) -> Array:
        """The output for the inputs. Caches what backward and tangent need."""
        raise NotImplementedError

    def backward(self, gradient: Array) -> Sequence[Array | None]:
        """Vector-Jacobian product: the gradient of the loss at each input; None for labels.

        gradient: of the loss at the output, in its shape.
        """
        raise NotImplementedError

    def tangent(self, *changes: Array) -> Array:
        """Jacobian-vector product: the change of the output, to first order, by a change of each input."""
        raise NotImplementedError

    def __str__(self) -> str:
        return self.symbol


def unbroadcast(gradient: Array, shape: tuple[int, ...]) -> Array:
    """The gradient at an input of this shape, summed over the axes along which it was broadcast."""
    extra = gradient.ndim - len(shape)
    gradient = gradient.sum(axis=tuple(range(extra)))
    repeated = tuple(axis for axis, size in enumerate(shape) if size == 1 and gradient.shape[axis] != 1)
    return gradient.sum(axis=repeated, keepdims=True)


class Add(Gate):
    """x + y. Both inputs get the gradient of the output (CS231n: gradient distributor)."""

    symbol = "+"

    def forward(self, x: Array, y: Array) -> Array:
        self.shapes = x.shape, y.shape
        return x + y

    def backward(self, gradient: Array) -> Sequence[Array]:
        return [unbroadcast(gradient, shape) for shape in self.shapes]

    def tangent(self, dx: Array, dy: Array) -> Array:
        return dx + dy


class Multiply(Gate):
    """x * y. Each input gets the gradient times the other input (CS231n: gradient switcher)."""

    symbol = "*"

    def forward(self, x: Array, y: Array) -> Array:
        self.x, self.y = x, y
        return x * y

    def backward(self, gradient: Array) -> Sequence[Array]:
        return unbroadcast(gradient * self.y, self.x.shape), unbroadcast(gradient * self.x, self.y.shape)

    def tangent(self, dx: Array, dy: Array) -> Array:
        return dx * self.y + self.x * dy


class Max(Gate):
    """max(x, y). The larger input gets the gradient (CS231n: gradient router), equal ones half each, as in torch."""

    symbol = "max"

    def forward(self, x: Array, y: Array) -> Array:
        self.shapes = x.shape, y.shape
        self.share = np.where(x > y, 1.0, np.where(x == y, 0.5, 0.0)).astype(np.result_type(x, y))
        return np.maximum(x, y)

    def backward(self, gradient: Array) -> Sequence[Array]:
        parts = gradient * self.share, gradient * (1 - self.share)
        return [unbroadcast(part, shape) for part, shape in zip(parts, self.shapes, strict=True)]

    def tangent(self, dx: Array, dy: Array) -> Array:
        return self.share * dx + (1 - self.share) * dy


class Unary(Gate):
    """An elementwise function of one input. `slope` is its derivative, which `forward` caches."""

    slope: Array | float

    def backward(self, gradient: Array) -> Sequence[Array]:
        return (gradient * self.slope,)

    def tangent(self, dx: Array) -> Array:
        return self.slope * dx


class Scale(Unary):
    """x times a constant."""

    def __init__(self, factor: float) -> None:
        self.slope = factor

    def forward(self, x: Array) -> Array:
        return x * self.slope

    def __str__(self) -> str:
        return f"*{self.slope:g}"


class Shift(Unary):
    """x plus a constant."""

    slope = 1.0

    def __init__(self, constant: float) -> None:
        self.constant = constant

    def forward(self, x: Array) -> Array:
        return x + self.constant

    def __str__(self) -> str:
        return f"{self.constant:+g}"


class Power(Unary):
    """x to a constant power."""

    def __init__(self, exponent: float) -> None:
        self.exponent = exponent

    def forward(self, x: Array) -> Array:
        self.slope = self.exponent * x ** (self.exponent - 1)
        return x**self.exponent

    def __str__(self) -> str:
        return "1/x" if self.exponent == -1 else f"^{self.exponent:g}"


class Exp(Unary):
    """e to the x."""

    symbol = "exp"

    def forward(self, x: Array) -> Array:
        self.slope = np.exp(x)
        return self.slope


class Log(Unary):
    """The natural logarithm."""

    symbol = "log"

    def forward(self, x: Array) -> Array:
        self.slope = 1 / x
        return np.log(x)


class Sigmoid(Unary):
    """1 / (1 + e^-x), with the derivative s (1 - s)."""

    symbol = "σ"

    def forward(self, x: Array) -> Array:
        small = np.exp(-np.abs(x))  # never above 1: e^-x overflows for x below -709
        sigmoid = np.where(x >= 0, 1, small) / (1 + small)
        self.slope = sigmoid * (1 - sigmoid)
        return sigmoid


class Tanh(Unary):
    """The hyperbolic tangent, with the derivative 1 - t^2."""

    symbol = "tanh"

    def forward(self, x: Array) -> Array:
        value = np.tanh(x)
        self.slope = 1 - value**2
        return value


class ReLU(Unary):
    """max(0, x), with the derivative 0 at 0, as in torch."""

    symbol = "ReLU"

    def forward(self, x: Array) -> Array:
        self.slope = (x > 0).astype(x.dtype)
        return x * self.slope
