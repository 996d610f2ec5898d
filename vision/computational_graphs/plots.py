"""Picture of a computational graph: values above its edges and gradients below, as in CS231n's lecture 4."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from runs import output
from vision.computational_graphs.gates import Array
from vision.computational_graphs.graph import Graph, Node

GAP = 1.0  # between nodes of a column


def layout(graph: Graph) -> dict[int, tuple[float, float]]:
    """Places (x, y) of nodes by id: a gate right of all its inputs, an input left of its first user, y downwards."""
    depth: dict[int, int] = {}
    for node in graph.order:
        depth[id(node)] = 1 + max((depth[id(each)] for each in node.inputs), default=-1)
    for node in reversed(graph.order):
        for each in node.inputs:
            if each.gate is None and len(each.inputs) == 0:
                users = [depth[id(user)] for user in graph.order if any(one is each for one in user.inputs)]
                depth[id(each)] = min(users) - 1
    rows: dict[int, float] = {}
    _leaves(graph.output, rows, set())
    for node in graph.order:
        if node.gate is not None:
            rows[id(node)] = float(np.mean([rows[id(each)] for each in node.inputs]))
    for column in set(depth.values()):  # nodes of a column do not cover each other
        own = sorted((node for node in graph.order if depth[id(node)] == column), key=lambda node: rows[id(node)])
        for above, below in zip(own, own[1:], strict=False):
            rows[id(below)] = max(rows[id(below)], rows[id(above)] + GAP)
    return {id(node): (float(depth[id(node)]), rows[id(node)]) for node in graph.order}


def _leaves(node: Node, rows: dict[int, float], seen: set[int]) -> None:
    """Rows of the inputs, in the order in which an expression names them."""
    stack = [node]
    while stack:
        each = stack.pop()
        if id(each) in seen:
            continue
        seen.add(id(each))
        if each.gate is None:
            rows[id(each)] = len(rows) * GAP
        stack.extend(reversed(each.inputs))


def number(value: Array | None) -> str:
    """A number as the lecture writes it, two digits; of an array the root of its mean square."""
    if value is None:
        return ""
    if value.ndim == 0:
        return f"{float(value):.2f}"
    if value.dtype.kind in "iu":
        return ""
    return f"rms {np.sqrt(np.square(value, dtype=np.float64).mean()):.2g}"


def draw(graph: Graph, path: Path, flag: str = "--out") -> None:
    """Write the picture of a graph after a forward and a backward pass: an edge carries its source's value (green)
    and gradient (red); edges of arrays carry shapes, and root mean squares."""
    from matplotlib.figure import Figure

    places = layout(graph)
    across = max(x for x, _ in places.values()) + 1
    low, high = (pick(y for _, y in places.values()) for pick in (min, max))
    arrays = any(node.value.ndim for node in graph.order)
    wide = 1.75 if arrays else 1.3
    figure = Figure(figsize=(wide * across + 1.2, 1.0 * (high - low) + 1.8), layout="constrained")
    axis = figure.subplots()
    axis.set_xlim(-0.5, across + 0.1)
    axis.set_ylim(high + 0.7, low - 0.7)
    axis.axis("off")
    arrow = dict(arrowstyle="-|>", color="0.4", shrinkA=0, shrinkB=13, linewidth=0.9)
    ends = [(node, user) for user in graph.order for node in user.inputs]
    for node, user in ends:
        axis.annotate("", places[id(user)], places[id(node)], arrowprops=arrow, zorder=1)
    x, y = places[id(graph.output)]
    axis.annotate("", (x + 0.95, y), (x, y), arrowprops=arrow | {"shrinkB": 0}, zorder=1)
    for node in graph.order:
        x, y = places[id(node)]
        users = [places[id(user)] for source, user in ends if source is node] or [(x + 0.95, y)]
        to = users[0]
        paper = dict(boxstyle="square,pad=0.1", facecolor="white", edgecolor="none", alpha=0.8)
        along = 0.36 if node.gate is None else 0.42
        middle = (x + along * min(1.0, to[0] - x), y + along * (to[1] - y) / max(1.0, to[0] - x))
        shape = "x".join(map(str, node.value.shape))
        above = "\n".join(filter(None, (shape, number(node.value))))
        axis.annotate(above, middle, (0, 3), textcoords="offset points", ha="center", va="bottom", color="tab:green",
                      fontsize=8, zorder=4, bbox=paper)  # fmt: skip
        axis.annotate(number(node.gradient), middle, (0, -3), textcoords="offset points", ha="center", va="top",
                      color="tab:red", fontsize=8, zorder=4, bbox=paper)  # fmt: skip
        if node.gate is None:
            axis.annotate(str(node), (x, y), ha="center", va="center", fontsize=9, zorder=3,
                          bbox=dict(boxstyle="square,pad=0.2", facecolor="white", edgecolor="none"))  # fmt: skip
        else:
            label = str(node).replace(" ", "\n")
            axis.scatter([x], [y], s=620, color="white", edgecolors="tab:blue", zorder=2)
            size = 10 if len(label) <= 3 else 6
            axis.annotate(label, (x, y), ha="center", va="center", fontsize=size, zorder=3)
    figure.suptitle("values in green, gradients of the output in red", fontsize=9)
    output.draw(path, figure, flag, dpi=130)
