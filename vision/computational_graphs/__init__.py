"""Computational graphs and backpropagation by hand, in numpy: `python -m vision.computational_graphs`.

gates.py       add, multiply, max, exp, sigmoid, ...: forward, backward and tangent of each
layers.py      affine, convolution, pooling, batch norm, softmax loss
graph.py       nodes in topological order; reverse mode, forward mode, numerical gradient check
expression.py  a graph of an expression, as "sigmoid(w * x + b)"
networks.py    two-layer network and LeNet as graphs, trained by SGD with momentum
plots.py       the picture of a graph, with values and gradients on its edges

CS231n, lecture 4. Nothing here uses torch's autograd, which the tests compare these gradients with.
"""

from vision.computational_graphs.expression import parse
from vision.computational_graphs.graph import Graph, Node

__all__ = ["Graph", "Node", "parse"]
