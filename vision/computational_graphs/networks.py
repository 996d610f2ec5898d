"""Networks as computational graphs, trained by SGD with momentum, and the same networks trained by torch.

layers = two_layer((1, 28, 28), 10)                     # an nn.Sequential, which gives sizes and initial weights
graph, weights = graph_of(layers)                       # the same function, in numpy
weights = fit(graph, weights, train, hyperparameters)   # by the graph's own backward pass
error(graph, weights, test)
fit_torch(layers, train, hyperparameters)               # by autograd and torch.optim.SGD
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import torch
from rich.console import Console
from rich.progress import track
from torch import Tensor, nn

from vision.computational_graphs import gates, layers
from vision.computational_graphs.gates import Array, Gate
from vision.computational_graphs.graph import Graph, Node
from vision.data import Labeled
from vision.training import sampling

Weights = dict[str, Array]


class Hyperparameters(NamedTuple):
    """Hyperparameters of training by SGD with momentum."""

    steps: int = 110_000  # images shown
    batch: int = 64  # images an update
    learning_rate: float = 0.05
    momentum: float = 0.9  # v <- momentum v + g; w <- w - rate v
    seed: int = 1  # of the batches


def two_layer(shape: Sequence[int], classes: int, hidden: int = 100) -> nn.Sequential:
    """A network of two layers for images (C, H, W): affine, ReLU, affine."""
    inputs = int(np.prod(shape))
    return nn.Sequential(nn.Flatten(), nn.Linear(inputs, hidden), nn.ReLU(), nn.Linear(hidden, classes))


def lenet(shape: Sequence[int], classes: int) -> nn.Sequential:
    """LeNet-5 (LeCun et al. 1998) at the paper's sizes, as the backbone lenet5_1998: 6 and 16 maps of 5 x 5 filters
    with mean pools, 120 and 84 units, tanh; for images (C, H, W) of any size from 16 on."""
    places = [((side - 4) // 2 - 4) // 2 for side in shape[1:]]
    body = [nn.Conv2d(shape[0], 6, 5), nn.Tanh(), nn.AvgPool2d(2), nn.Conv2d(6, 16, 5), nn.Tanh(), nn.AvgPool2d(2)]
    head = [nn.Linear(16 * places[0] * places[1], 120), nn.Tanh(), nn.Linear(120, 84), nn.Tanh()]
    return nn.Sequential(*body, nn.Flatten(), *head, nn.Linear(84, classes))


NETWORKS = {"two-layer": two_layer, "lenet": lenet}


def graph_of(network: nn.Sequential) -> tuple[Graph, Weights]:
    """The graph of a sequential network followed by the softmax loss, and a copy of its weights.

    Inputs of the graph: "images", "labels", and "weight1", "bias1", ... of each layer that has weights, in order.
    Raises ValueError for a kind of layer that no gate implements.
    """
    node, weights, number = Node.input("images"), {}, 0
    for layer in network:
        parameters = list(layer.parameters())
        names = ()
        if parameters:
            number += 1
            names = (f"weight{number}", f"bias{number}")
            arrays = (parameter.detach().cpu().numpy().copy() for parameter in parameters)
            weights |= dict(zip(names, arrays, strict=True))
        node = Node(_gate(layer), (node, *(Node.input(name) for name in names)))
    return Graph(Node(layers.SoftmaxLoss(), (node, Node.input("labels")))), weights


def _gate(layer: nn.Module) -> Gate:
    match layer:
        case nn.Linear():
            return layers.Affine()
        case nn.Conv2d(kernel_size=(size, _), stride=(stride, _), padding=(padding, _)):
            return layers.Convolution(size, stride, padding)
        case nn.MaxPool2d(kernel_size=size, stride=stride, padding=padding):
            return layers.MaxPool(size, stride, padding)
        case nn.AvgPool2d(kernel_size=size, stride=stride, padding=padding):
            return layers.AveragePool(size, stride, padding)
        case nn.BatchNorm1d() | nn.BatchNorm2d():
            return layers.BatchNorm(layer.eps, layer.momentum)
    plain = {nn.Flatten: layers.Flatten, nn.ReLU: gates.ReLU, nn.Tanh: gates.Tanh, nn.Sigmoid: gates.Sigmoid}
    if type(layer) not in plain:
        raise ValueError(f"there is no gate for {type(layer).__name__}")
    return plain[type(layer)]()


def logits(graph: Graph) -> Array:
    """The logits (B, classes) of the last forward pass."""
    return graph.output.inputs[0].value


def training(graph: Graph, on: bool) -> None:
    """Switch batch norms between the statistics of the batch (on) and their running averages."""
    for node in graph.order:
        if isinstance(node.gate, layers.BatchNorm):
            node.gate.training = on


def fit(graph: Graph, weights: Weights, train: Labeled, hyperparameters: Hyperparameters) -> Weights:
    """Train by SGD with momentum, gradients by the graph's backward pass. Returns the new weights."""
    weights = {name: array.copy() for name, array in weights.items()}
    velocities = {name: np.zeros_like(array) for name, array in weights.items()}
    training(graph, True)
    for images, labels in _batches(train, hyperparameters):
        graph.forward(weights | {"images": images.numpy(), "labels": labels.numpy()})
        gradients = graph.backward()
        for name, velocity in velocities.items():
            velocity *= hyperparameters.momentum
            velocity += gradients[name]
            weights[name] -= hyperparameters.learning_rate * velocity
    return weights


def fit_torch(network: nn.Sequential, train: Labeled, hyperparameters: Hyperparameters) -> None:
    """Train the torch network in place by the same hyperparameters, with autograd and torch.optim.SGD."""
    optimizer = torch.optim.SGD(network.parameters(), hyperparameters.learning_rate, hyperparameters.momentum)
    network.train()
    for images, labels in _batches(train, hyperparameters):
        optimizer.zero_grad()
        nn.functional.cross_entropy(network(images), labels).backward()
        optimizer.step()


def _batches(train: Labeled, hyperparameters: Hyperparameters):
    device = torch.device("cpu")
    steps = range(0, hyperparameters.steps, hyperparameters.batch)
    for step in track(steps, "training", transient=True, disable=not Console().is_terminal):
        rows = sampling.batch_indices(len(train.labels), step, hyperparameters.batch, hyperparameters.seed, device)
        yield pixels(train.images[rows]), train.labels[rows]


def pixels(images: Tensor) -> Tensor:
    """Images (B, C, H, W) uint8 as float32 in [0, 1]."""
    return images.float() / 255


def error(graph: Graph, weights: Weights, unseen: Labeled, batch: int = 500) -> float:
    """Error in percent on images and their labels."""
    training(graph, False)
    wrong = 0
    for images, labels in zip(unseen.images.split(batch), unseen.labels.split(batch), strict=True):
        graph.forward(weights | {"images": pixels(images).numpy(), "labels": labels.numpy()})
        wrong += int((logits(graph).argmax(1) != labels.numpy()).sum())
    return 100 * wrong / len(unseen.labels)


@torch.inference_mode()
def error_torch(network: nn.Sequential, unseen: Labeled, batch: int = 500) -> float:
    """Error in percent of the torch network."""
    network.eval()
    parts = zip(unseen.images.split(batch), unseen.labels.split(batch), strict=True)
    wrong = sum((network(pixels(images)).argmax(1) != labels).sum().item() for images, labels in parts)
    return 100 * wrong / len(unseen.labels)
