"""Computational graphs: backpropagation by hand, drawn for an expression, and trained against torch on images.

    python -m vision.computational_graphs                                   # the lecture's sigmoid, graph.png
    python -m vision.computational_graphs --expression "max(x, y) * (x + y)" --at x=3 y=-4
    python -m vision.computational_graphs --network lenet --data mnist      # trained, and torch's beside it

CS231n, lecture 4: each gate has its local derivatives, and the graph applies the chain rule in reverse topological
order (Rumelhart, Hinton & Williams 1986, "Learning representations by back-propagating errors"). The example is the
lecture's, 1 / (1 + exp(-(w0 x0 + w1 x1 + w2))). Written in numpy; torch's autograd is not used.

With --network the graph and the same network in torch are trained from the same initial weights on the same batches.
Gradients are checked numerically before, both test errors are printed, and the trained graph is drawn with the values
and gradients of one batch.
"""

from __future__ import annotations

import dataclasses
import time
from pathlib import Path
from typing import Literal

import numpy as np
import torch
from rich.console import Console
from rich.table import Table

import runs
from runs.flag_types import Count, NonNegative, Share, Whole
from vision import data
from vision.computational_graphs import expression, networks, plots
from vision.computational_graphs.graph import Graph

LECTURE = "1 / (1 + exp(-(w0 * x0 + w1 * x1 + w2)))"
CHECKED = 3  # images of the numerical check


@dataclasses.dataclass(frozen=True)
class Config:
    expression: str = LECTURE  # of names, numbers, + - * / **, exp, log, sigmoid, tanh, relu, max
    at: tuple[str, ...] = ("w0=2", "x0=-1", "w1=-3", "x1=-2", "w2=-3")  # values of its inputs
    network: Literal["none", "two-layer", "lenet"] = "none"  # train a network instead
    data: str = "shapes"  # to train on: shapes, mnist, fashion_mnist, cifar10, cifar100, svhn, or an image folder
    data_folder: Path | None = None  # where its files lie; None: $SACCADE_DATA/<data> or ~/.cache/saccade/<data>
    steps: Count = 110_000  # images shown
    batch: Count = 64  # images an update
    learning_rate: NonNegative = 0.05
    momentum: Share = 0.9
    seed: int = 1  # of weights and batches
    threads: Whole = 0  # of torch; 0: as many as cores are free at the start
    out: Path = Path("graph.png")  # the picture


def evaluate(config: Config) -> Graph:
    """The graph of the expression, evaluated and differentiated. Raises ValueError for a malformed --at."""
    graph = expression.parse(config.expression)
    values = {}
    for word in config.at:
        name, equals, value = word.partition("=")
        if not equals or name not in graph.inputs:
            raise ValueError(
                f"--at {word}: give a value of {', '.join(graph.inputs)}, as {next(iter(graph.inputs))}=2"
            )
        values[name] = float(value)
    graph.forward(values)
    graph.backward()
    return graph


def report(graph: Graph) -> None:
    """Print the value and the reverse-mode gradient of each node, and of inputs the forward-mode derivative too."""
    table = Table("node", "value", "gradient", "forward mode")
    for node in graph.order:
        forward = f"{float(graph.tangent({node.name: 1.0})):.4f}" if node.gate is None else ""
        table.add_row(str(node), f"{float(node.value):.4f}", f"{float(node.gradient):.4f}", forward)
    Console().print(table)


def compare(config: Config) -> tuple[Graph, dict[str, float]]:
    """Train the graph and torch's network alike. Returns the graph and both test errors in percent."""
    runs.prepare("cpu", config.seed, config.threads)
    sets = data.load(config.data, config.data_folder)
    torch.manual_seed(config.seed)
    network = networks.NETWORKS[config.network](sets.train.images.shape[1:], len(sets.classes))
    graph, weights = networks.graph_of(network)
    few = {"images": sets.train.images[:CHECKED].numpy() / 255.0, "labels": sets.train.labels[:CHECKED].numpy()}
    graph.forward({name: array.astype(np.float64) for name, array in weights.items()} | few)
    print(f"gradients of {config.network}: largest relative error {graph.check():.1e} against central differences")
    hyperparameters = networks.Hyperparameters(
        config.steps, config.batch, config.learning_rate, config.momentum, config.seed
    )
    began = time.perf_counter()
    weights = networks.fit(graph, weights, sets.train, hyperparameters)
    middle = time.perf_counter()
    networks.fit_torch(network, sets.train, hyperparameters)
    seconds = {"graph": middle - began, "torch": time.perf_counter() - middle}
    errors = {"graph": networks.error(graph, weights, sets.test), "torch": networks.error_torch(network, sets.test)}
    for name, found in errors.items():
        print(f"{config.network} by {name}: test error {found:.2f}%, trained in {seconds[name]:.0f} s")
    batch = {"images": networks.pixels(sets.test.images[: config.batch]).numpy()}
    graph.forward(weights | batch | {"labels": sets.test.labels[: config.batch].numpy()})
    graph.backward()
    return graph, errors


def main(config: Config) -> None:
    if config.network == "none":
        graph = evaluate(config)
        report(graph)
    else:
        graph, _ = compare(config)
    plots.draw(graph, config.out)
    print(f"written to {config.out}")


if __name__ == "__main__":
    runs.launch(main, Config, None, "vision.computational_graphs", __doc__)
