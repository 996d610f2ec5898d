"""A computational graph: nodes in topological order, reverse and forward mode, and the numerical gradient check.

    x, y = Node.input("x"), Node.input("y")
    graph = Graph(x * y + x)
    graph.forward({"x": 3.0, "y": -4.0})          # -9.0
    graph.backward()                              # {"x": -3.0, "y": 3.0}: all gradients in one backward pass
    graph.tangent({"x": 1.0})                     # -3.0: the derivative along one direction in a forward pass
    graph.check()                                 # largest relative error against central differences

Reverse mode gives the gradient of one output at all inputs, forward mode that of all outputs along one direction of
the inputs: Baydin et al. 2015, "Automatic differentiation in machine learning: a survey", arXiv 1502.05767.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Self

import numpy as np

from vision.computational_graphs import gates
from vision.computational_graphs.gates import Array, Gate

STRIDE = 1e-6  # of the central differences, for numbers near 1 in float64


class Node:
    """An input of a graph, or the output of a gate. +, -, *, / and ** make new nodes.

    name: of an input. gate, inputs: of another node.
    value, gradient: of the last forward pass and the last backward pass.
    """

    def __init__(self, gate: Gate | None = None, inputs: tuple[Node, ...] = (), name: str = "") -> None:
        self.gate, self.inputs, self.name = gate, inputs, name
        self.value: Array | None = None
        self.gradient: Array | None = None
        self.change: Array | None = None

    @classmethod
    def input(cls, name: str) -> Self:
        """An input, whose value is given by its name."""
        return cls(name=name)

    def __str__(self) -> str:
        return self.name or str(self.gate)

    def __add__(self, other: Node | float) -> Node:
        if isinstance(other, Node):
            return Node(gates.Add(), (self, other))
        return Node(gates.Shift(other), (self,))

    def __mul__(self, other: Node | float) -> Node:
        if isinstance(other, Node):
            return Node(gates.Multiply(), (self, other))
        return Node(gates.Scale(other), (self,))

    def __neg__(self) -> Node:
        return self * -1.0

    def __sub__(self, other: Node | float) -> Node:
        return self + (-other)

    def __rsub__(self, other: float) -> Node:
        return -self + other

    def __pow__(self, exponent: float) -> Node:
        return Node(gates.Power(exponent), (self,))

    def __truediv__(self, other: Node | float) -> Node:
        return self * (other**-1.0)

    def __rtruediv__(self, other: float) -> Node:
        inverse = self**-1.0
        return inverse if other == 1 else inverse * other

    __radd__, __rmul__ = __add__, __mul__


def topological_order(output: Node) -> list[Node]:
    """The nodes that an output depends on, each after its inputs and itself last (Kahn 1962).

    Raises ValueError where there is a cycle.
    """
    found, left = [output], {}
    for node in found:  # grows: all nodes that the output depends on
        if id(node) not in left:
            left[id(node)] = len({id(each) for each in node.inputs})
            found.extend(reversed(node.inputs))  # so that the order is that of the expression
    reached = {id(node): node for node in reversed(found)}
    users: dict[int, list[Node]] = {key: [] for key in reached}
    for node in reached.values():
        for key in {id(each) for each in node.inputs}:
            users[key].append(node)
    ready, order = [node for key, node in reached.items() if not left[key]], []
    for node in ready:  # grows
        order.append(node)
        for user in users[id(node)]:
            left[id(user)] -= 1
            if not left[id(user)]:
                ready.append(user)
    if len(order) < len(reached):
        raise ValueError("the graph has a cycle: a node depends on itself")
    return order


class Graph:
    """A function from named inputs to one output, with its derivatives.

    Raises ValueError for two inputs of one name.
    """

    def __init__(self, output: Node) -> None:
        self.output, self.order = output, topological_order(output)
        named = [node for node in self.order if node.gate is None]
        self.inputs = {node.name: node for node in named}
        if len(self.inputs) < len(named):
            raise ValueError(f"several inputs have one name: {', '.join(node.name for node in named)}")

    def forward(self, values: Mapping[str, Any]) -> Array:
        """Evaluate the graph: sets `value` of every node and returns the output.

        values: of each input, by its name; integer arrays are labels.
        Raises ValueError for an input without a value.
        """
        if missing := self.inputs.keys() - values.keys():
            raise ValueError(f"no value for {', '.join(sorted(missing))}")
        for node in self.order:
            if node.gate is None:
                node.value = np.asarray(values[node.name])
                if isinstance(values[node.name], int):
                    node.value = node.value.astype(float)
            else:
                node.value = np.asarray(node.gate.forward(*(each.value for each in node.inputs)))
        return self.output.value

    def backward(self, gradient: Array | float = 1.0) -> dict[str, Array | None]:
        """Reverse mode: sets `gradient` of every node and returns those of the inputs, by name.

        gradient: upstream, at the output; 1: the output itself is differentiated.
        A node that several gates read gets the sum of their gradients (the multivariable chain rule).
        """
        for node in self.order:
            node.gradient = None
        self.output.gradient = np.broadcast_to(gradient, self.output.value.shape).astype(self.output.value.dtype)
        for node in reversed(self.order):
            if node.gate is None or node.gradient is None:
                continue
            for each, part in zip(node.inputs, node.gate.backward(node.gradient), strict=True):
                if part is not None:
                    each.gradient = part if each.gradient is None else each.gradient + part
        return {name: node.gradient for name, node in self.inputs.items()}

    def tangent(self, changes: Mapping[str, Any]) -> Array:
        """Forward mode: the change of the output, to first order, for changes of some inputs, by name.

        Raises ValueError for a name that is not an input's.
        """
        if strange := changes.keys() - self.inputs.keys():
            raise ValueError(f"no input {', '.join(sorted(strange))}: there are {', '.join(self.inputs)}")
        for node in self.order:
            if node.gate is None:
                given = changes.get(node.name, 0.0)
                node.change = np.broadcast_to(np.asarray(given, node.value.dtype), node.value.shape)
            else:
                node.change = np.asarray(node.gate.tangent(*(each.change for each in node.inputs)))
        return self.output.change

    def check(self, probes: int = 20, seed: int = 0) -> float:
        """Numerical gradient check: the largest relative error of `backward` and of `tangent` against central
        differences, at the values of the last forward pass, which should be float64.

        probes: elements of each input that are perturbed, drawn by the seed. An error is relative to the larger of
            the two gradients, or to 1e-3 of the largest gradient of all inputs where both are smaller, below which
            central differences are not accurate.
        """
        values = {name: node.value for name, node in self.inputs.items()}
        generator, worst = np.random.default_rng(seed), 0.0
        direction = generator.standard_normal(self.output.value.shape)  # of an output that is not a scalar
        gradients = self.backward(direction)
        floor = 1e-3 * max(float(np.abs(each).max()) for each in gradients.values() if each is not None)
        for name, value in values.items():
            gradient = gradients[name]
            if gradient is None:
                continue
            for flat in generator.permutation(value.size)[:probes]:
                place = np.unravel_index(flat, value.shape)
                ends = []
                for sign in (1, -1):
                    moved = value.copy()
                    moved[place] += sign * STRIDE
                    ends.append(float((self.forward(values | {name: moved}) * direction).sum()))
                numerical = (ends[0] - ends[1]) / (2 * STRIDE)
                self.forward(values)
                one = np.zeros_like(value)
                one[place] = 1
                forward = float((self.tangent({name: one}) * direction).sum())
                for found in (float(gradient[place]), forward):
                    error = abs(found - numerical) / max(abs(found), abs(numerical), floor, 1e-12)
                    worst = max(worst, error)
        return worst
