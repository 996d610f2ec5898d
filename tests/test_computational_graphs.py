"""Computational graphs: the lecture's numbers, every gate against torch's derivatives, and training beside torch."""

import importlib
import os
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn import functional as F

from vision import data
from vision.computational_graphs import Graph, Node, gates, layers, networks, parse, plots
from vision.computational_graphs.gates import Gate
from vision.data import mnist
from vision.data import shapes as drawn_shapes

program = importlib.import_module("vision.computational_graphs.__main__")

# ---- by hand ------------------------------------------------------------------------------------------------


def test_the_sigmoid_of_the_lecture():
    """CS231n, lecture 4: w0 = 2, x0 = -1, w1 = -3, x1 = -2, w2 = -3; the slide's numbers, at every edge."""
    graph = program.evaluate(program.Config())
    along = [node for node in graph.order if node.gate is not None]
    assert [str(node) for node in along] == ["*", "*", "+", "+", "*-1", "exp", "+1", "1/x"]
    assert [round(float(node.value), 2) for node in along] == [-2, 6, 4, 1, -1, 0.37, 1.37, 0.73]
    assert [round(float(node.gradient), 2) for node in along] == [0.2, 0.2, 0.2, 0.2, -0.2, -0.53, -0.53, 1]
    slope = np.exp(-1) / (1 + np.exp(-1)) ** 2  # 0.1966; the slide rounds it to 0.2 before it multiplies
    expected = {"w0": -slope, "x0": 2 * slope, "w1": -2 * slope, "x1": -3 * slope, "w2": slope}
    assert {name: float(node.gradient) for name, node in graph.inputs.items()} == pytest.approx(expected)
    forward = {name: float(graph.tangent({name: 1.0})) for name in expected}
    assert forward == pytest.approx(expected)
    whole = parse("sigmoid(w0 * x0 + w1 * x1 + w2)")  # as one gate
    assert float(whole.forward({"w0": 2, "x0": -1, "w1": -3, "x1": -2, "w2": -3})) == pytest.approx(0.7310586)
    assert {name: float(gradient) for name, gradient in whole.backward().items()} == pytest.approx(expected)


@pytest.mark.parametrize(
    "text, values, output, gradients",
    [
        ("(x + y) * z", dict(x=-2, y=5, z=-4), -12, dict(x=-4, y=-4, z=3)),
        ("(x * y + max(z, w)) * 2", dict(x=3, y=-4, z=2, w=-1), -20, dict(x=-8, y=6, z=2, w=0)),
        ("max(x, y)", dict(x=1, y=1), 1, dict(x=0.5, y=0.5)),
        ("x * x + x", dict(x=3), 12, dict(x=7)),  # gradients add up where a value is used several times
        ("3 / x - x ** 2 / 2", dict(x=2), -0.5, dict(x=-2.75)),
        ("log(x) - relu(y)", dict(x=1, y=-1), 0, dict(x=1, y=0)),
    ],
)
def test_expressions_by_hand(text, values, output, gradients):
    graph = parse(text)
    assert float(graph.forward(values)) == pytest.approx(output)
    assert {name: float(found) for name, found in graph.backward().items()} == pytest.approx(gradients)
    assert {name: float(graph.tangent({name: 1.0})) for name in values} == pytest.approx(gradients)


def test_the_order_is_topological():
    """A node that is used near the output and far from it, written in an order that misleads a walk by depth."""
    x, y = Node.input("x"), Node.input("y")
    product = x * y
    graph = Graph(product + (product + x) * (y + product))
    places = {id(node): number for number, node in enumerate(graph.order)}
    assert len(places) == 7 == len(graph.order)
    assert all(places[id(each)] < places[id(node)] for node in graph.order for each in node.inputs)
    graph.forward({"x": 2.0, "y": 3.0})  # 6 + 8 * 9
    gradients = graph.backward()
    assert float(graph.output.value) == 78 and float(gradients["x"]) == 3 + 4 * 9 + 8 * 3
    assert float(gradients["y"]) == 2 + 2 * 9 + 8 * 3
    for _ in range(50):  # the number of paths doubles at each: visiting all of them would not end
        product = product + product
    assert len(Graph(product).order) == 53


def test_errors():
    x = Node.input("x")
    node = x + Node.input("y")
    node.inputs = (x, node * 2.0)
    with pytest.raises(ValueError, match="has a cycle"):
        Graph(node)
    with pytest.raises(ValueError, match="several inputs have one name"):
        Graph(Node.input("x") * Node.input("x"))
    with pytest.raises(ValueError, match="no value for y"):
        parse("x + y").forward({"x": 1.0})
    for text, match in {
        "sigmod(x)": "did you mean 'sigmoid'",
        "x +": "is not an expression",
        "1 + 2": "has no inputs",
        "x ** y": "an exponent is a number",
        "max(x)": "max takes 2 arguments",
        "x if y else z": "cannot be part of an expression",
    }.items():
        with pytest.raises(ValueError, match=match):
            parse(text)
    with pytest.raises(ValueError, match="--at v=3: give a value of x"):
        program.evaluate(program.Config("exp(x)", at=("v=3",)))
    with pytest.raises(ValueError, match="no window of 5 fits"):
        layers.MaxPool(5).forward(np.zeros((1, 1, 4, 4)))
    with pytest.raises(ValueError, match="no gate for Dropout"):
        networks.graph_of(nn.Sequential(nn.Dropout()))


# ---- against torch ------------------------------------------------------------------------------------------


def batch_norm(x, scale, shift):
    return F.batch_norm(x, None, None, scale, shift, training=True)


IMAGE, FILTERS = (2, 3, 7, 6), (4, 3, 3, 3)
GATES = [  # a gate, torch's function, and the shapes of its inputs
    (gates.Add(), torch.add, [(3, 4), (4,)]),
    (gates.Multiply(), torch.mul, [(3, 4), (3, 1)]),
    (gates.Max(), torch.maximum, [(3, 4), (4,)]),
    (gates.Scale(-2.5), lambda x: -2.5 * x, [(3, 4)]),
    (gates.Shift(1.5), lambda x: x + 1.5, [(3, 4)]),
    (gates.Power(3), lambda x: x**3, [(3, 4)]),
    (gates.Exp(), torch.exp, [(3, 4)]),
    (gates.Log(), lambda x: torch.log(x), [(3, 4)]),
    (gates.Sigmoid(), torch.sigmoid, [(3, 4)]),
    (gates.Tanh(), torch.tanh, [(3, 4)]),
    (gates.ReLU(), torch.relu, [(3, 4)]),
    (layers.Affine(), F.linear, [(5, 4), (3, 4), (3,)]),
    (layers.Flatten(), lambda x: x.flatten(1), [IMAGE]),
    (layers.Convolution(3), F.conv2d, [IMAGE, FILTERS, (4,)]),
    (layers.Convolution(3, 2, 1), lambda *x: F.conv2d(*x, stride=2, padding=1), [IMAGE, FILTERS, (4,)]),
    (layers.MaxPool(2), lambda x: F.max_pool2d(x, 2), [IMAGE]),
    (layers.MaxPool(3, 2, 1), lambda x: F.max_pool2d(x, 3, 2, 1), [IMAGE]),
    (layers.AveragePool(2), lambda x: F.avg_pool2d(x, 2), [IMAGE]),
    (layers.AveragePool(3, 2, 1), lambda x: F.avg_pool2d(x, 3, 2, 1), [IMAGE]),
    (layers.BatchNorm(), batch_norm, [(6, 4), (4,), (4,)]),
    (layers.BatchNorm(), batch_norm, [IMAGE, (3,), (3,)]),
    (layers.SoftmaxLoss(), lambda x: F.cross_entropy(x, torch.arange(5) % 4), [(5, 4)]),
]


def test_every_gate_is_listed():
    def below(kind):
        return {kind}.union(*(below(each) for each in kind.__subclasses__()))

    assert below(Gate) - {type(gate) for gate, *_ in GATES} == {Gate, gates.Unary, layers.Window}


@pytest.mark.parametrize("gate, function, shapes", GATES, ids=lambda value: getattr(value, "symbol", ""))
def test_gates_have_the_derivatives_of_torch(gate, function, shapes):
    generator = torch.Generator().manual_seed(0)
    draw = [[torch.randn(shape, generator=generator, dtype=torch.float64) for shape in shapes] for _ in range(2)]
    inputs, changes = draw
    if isinstance(gate, gates.Log):
        inputs = [each.abs() + 0.1 for each in inputs]
    expected, tangent = torch.func.jvp(function, tuple(inputs), tuple(changes))
    output, pull = torch.func.vjp(function, *inputs)
    gradient = torch.randn(output.shape, generator=generator, dtype=torch.float64)
    labels = [np.arange(5) % 4] if isinstance(gate, layers.SoftmaxLoss) else []
    found = gate.forward(*(each.numpy() for each in inputs), *labels)
    np.testing.assert_allclose(found, expected.numpy(), rtol=0, atol=1e-8)
    pairs = zip(gate.backward(gradient.numpy()), (*pull(gradient), *[None] * len(labels)), strict=True)
    for mine, theirs in pairs:
        if theirs is None:
            assert mine is None
        else:
            np.testing.assert_allclose(mine, theirs.numpy(), rtol=0, atol=1e-8)
    there = gate.tangent(*(each.numpy() for each in changes), *[np.zeros(5)] * len(labels))
    np.testing.assert_allclose(there, tangent.numpy(), rtol=0, atol=1e-8)


def test_sigmoids_of_large_numbers():
    gate = gates.Sigmoid()
    with np.errstate(all="raise", under="ignore"):
        assert gate.forward(np.array([-1000.0, 1000.0])).tolist() == [0, 1]


def test_batch_norm_averages_as_torch_does():
    inputs = torch.randn(3, 5, 4, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    theirs, mine = nn.BatchNorm1d(4, dtype=torch.float64), layers.BatchNorm()
    ones = np.ones(4), np.zeros(4)
    for each in inputs:
        np.testing.assert_allclose(mine.forward(each.numpy(), *ones), theirs(each).detach().numpy(), atol=1e-12)
    theirs.eval()
    mine.training = False
    x = inputs[0].clone().requires_grad_()
    np.testing.assert_allclose(mine.forward(x.detach().numpy(), *ones), theirs(x).detach().numpy(), atol=1e-12)
    theirs(x).square().sum().backward()
    np.testing.assert_allclose(mine.backward(2 * theirs(x).detach().numpy())[0], x.grad.numpy(), atol=1e-12)


def double(network, count=3, shape=(1, 16, 16)):
    """The graph of a network in float64 and values of all its inputs, images and labels included."""
    graph, weights = networks.graph_of(network.double())
    images = torch.rand(count, *shape, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    return graph, weights | {"images": images.numpy(), "labels": np.arange(count)}


def convolutional():
    torch.manual_seed(0)
    body = nn.Conv2d(1, 4, 3, 2, 1), nn.BatchNorm2d(4), nn.ReLU(), nn.MaxPool2d(2)
    return nn.Sequential(*body, nn.Flatten(), nn.Linear(64, 10))


@pytest.mark.parametrize("kind", ["two-layer", "lenet", "convolutional"])
def test_networks_have_the_gradients_of_autograd(kind):
    torch.manual_seed(0)
    network = convolutional() if kind == "convolutional" else networks.NETWORKS[kind]((1, 16, 16), 10)
    graph, values = double(network)
    loss = F.cross_entropy(network(torch.from_numpy(values["images"])), torch.arange(3))
    loss.backward()
    assert float(graph.forward(values)) == pytest.approx(loss.item(), abs=1e-12)
    found = [gradient for name, gradient in graph.backward().items() if name.startswith(("weight", "bias"))]
    named = [graph.backward()[name] for name in values if name.startswith(("weight", "bias"))]
    assert len(found) == len(named) == len(list(network.parameters()))
    for mine, weight in zip(named, network.parameters(), strict=True):
        np.testing.assert_allclose(mine, weight.grad.numpy(), rtol=0, atol=1e-8)
    assert graph.check(probes=4) < 1e-4  # numbers that differences of 1e-6 get right


def test_a_wrong_derivative_is_found():
    graph = parse("sigmoid(w * x)")
    graph.forward({"w": 1.0, "x": 2.0})
    assert graph.check() < 1e-7
    graph.order[-1].gate.backward = lambda gradient: (gradient * 0.2,)
    assert graph.check() > 0.1


@pytest.mark.parametrize("kind", networks.NETWORKS)
def test_training_is_torchs(kind):
    """The same weights after 40 updates, but for rounding in float32."""
    train = drawn_shapes.draw(640, side=16, seed=1)
    torch.manual_seed(1)
    network = networks.NETWORKS[kind]((3, 16, 16), 10)
    graph, weights = networks.graph_of(network)
    hyperparameters = networks.Hyperparameters(steps=1_280, batch=32)
    weights = networks.fit(graph, weights, train, hyperparameters)
    networks.fit_torch(network, train, hyperparameters)
    for mine, theirs in zip(weights.values(), network.parameters(), strict=True):
        np.testing.assert_allclose(mine, theirs.detach().numpy(), atol=1e-4)
    assert networks.error(graph, weights, train) == networks.error_torch(network, train)


ROOTS = [Path(os.environ.get("SACCADE_DATA", "/nowhere")), Path(__file__).parents[2] / "shared" / "data"]
MNIST = next((root / "mnist" for root in ROOTS if (root / "mnist").is_dir()), None)


@pytest.mark.slow
@pytest.mark.skipif(MNIST is None, reason="no mnist: name the folder above mnist/ in $SACCADE_DATA")
@pytest.mark.parametrize("kind", networks.NETWORKS)
def test_mnist_ends_as_with_torch(kind, tmp_path, monkeypatch):
    """55,000 digits, each once: within 0.1 points of torch's test error, from the same weights and batches."""
    monkeypatch.setitem(data.SETS, "mnist", mnist.mnist)
    config = program.Config(network=kind, data="mnist", data_folder=MNIST, steps=55_000, threads=1, out=tmp_path)
    _, errors = program.compare(config)
    assert errors["graph"] == pytest.approx(errors["torch"], abs=0.1)
    assert errors["torch"] < {"two-layer": 6, "lenet": 4}[kind]


# ---- pictures -----------------------------------------------------------------------------------------------


def test_a_picture_leaves_nodes_apart(tmp_path):
    graph = program.evaluate(program.Config())
    places = plots.layout(graph)
    assert len(set(places.values())) == len(graph.order) == 13
    for node in graph.order:
        assert all(places[id(each)][0] < places[id(node)][0] for each in node.inputs)
    plots.draw(graph, tmp_path / "deep" / "graph.png")
    assert (tmp_path / "deep" / "graph.png").read_bytes()[:4] == b"\x89PNG"


def test_the_program(tmp_path, capsys, monkeypatch):
    program.main(program.Config("max(x, y) * (x + y)", ("x=3", "y=-4"), out=tmp_path / "small.png"))
    said = capsys.readouterr().out
    assert "-3.0000" in said and "written to" in said
    few = [drawn_shapes.draw(count, side=16, seed=part) for part, count in enumerate((256, 64, 64))]
    monkeypatch.setitem(data.SETS, "shapes", lambda folder: data.Sets(*few, tuple(drawn_shapes.SHAPES)))
    program.main(program.Config(network="lenet", steps=512, out=tmp_path / "lenet.png", threads=1))
    said = capsys.readouterr().out
    assert "lenet by graph: test error" in said and "lenet by torch" in said
    assert (tmp_path / "lenet.png").exists()
