"""A computational graph of an expression in Python's notation, as "1 / (1 + exp(-(w * x + b)))"."""

from __future__ import annotations

import ast
import operator

from runs import suggestions
from vision.computational_graphs import gates
from vision.computational_graphs.graph import Graph, Node

UNARY = {"exp": gates.Exp, "log": gates.Log, "sigmoid": gates.Sigmoid, "tanh": gates.Tanh, "relu": gates.ReLU}
BINARY = {
    ast.Add: operator.add,
    ast.Sub: operator.sub,
    ast.Mult: operator.mul,
    ast.Div: operator.truediv,
    ast.Pow: operator.pow,
}


def parse(text: str) -> Graph:
    """The graph of an expression of names, numbers, + - * / **, and the functions exp, log, sigmoid, tanh, relu, max.

    A name that occurs several times is one input. Raises ValueError for any other syntax.
    """
    try:
        tree = ast.parse(text.strip(), mode="eval").body
    except SyntaxError as error:
        raise ValueError(f"{text!r} is not an expression: {error.msg}") from None
    inputs: dict[str, Node] = {}
    output = _node(tree, inputs)
    if not isinstance(output, Node):
        raise ValueError(f"{text!r} has no inputs: use names, as in w * x")
    return Graph(output)


def _node(tree: ast.expr, inputs: dict[str, Node]) -> Node | float:
    match tree:
        case ast.Constant(value=int() | float() as value):
            return float(value)
        case ast.Name(id=name):
            return inputs.setdefault(name, Node.input(name))
        case ast.UnaryOp(op=ast.USub(), operand=operand):
            return -_node(operand, inputs)
        case ast.BinOp(left=left, op=op, right=right) if type(op) in BINARY:
            one, other = _node(left, inputs), _node(right, inputs)
            if isinstance(op, ast.Pow) and isinstance(other, Node):
                raise ValueError(f"{ast.unparse(tree)!r}: an exponent is a number")
            return BINARY[type(op)](one, other)
        case ast.Call(func=ast.Name(id=name), args=arguments, keywords=[]):
            return _call(name, [_node(each, inputs) for each in arguments], ast.unparse(tree))
    raise ValueError(f"{ast.unparse(tree)!r} cannot be part of an expression: use names, numbers, + - * / **, calls")


def _call(name: str, arguments: list[Node | float], text: str) -> Node:
    known = [*UNARY, "max"]
    if name not in known:
        raise ValueError(f"unknown function {name!r}: {suggestions.one_of(name, known)}")
    needed = 2 if name == "max" else 1
    if len(arguments) != needed or not all(isinstance(each, Node) for each in arguments):
        raise ValueError(f"{text!r}: {name} takes {needed} argument{'s' * (needed > 1)} with a name in each")
    return Node(gates.Max() if name == "max" else UNARY[name](), tuple(arguments))
