"""The study of initializers: what the lecture says of each shows in its numbers, and a picture is drawn."""

import pytest
import torch

from vision.backbones.layers.initialization import initialize
from vision.classification import activation_study


def deviations(activation, init):
    config = activation_study.Config(layers=8, width=200, inputs=200)
    return [layer.std().item() for layer in activation_study.activations(activation, init, config)]


def test_what_initializers_do():
    assert not any(deviations("tanh", "zeros"))
    small, xavier = deviations("tanh", "small"), deviations("tanh", "xavier")
    assert small[-1] < 1e-4 < small[0]  # falls to 0
    assert xavier[-1] > 0.2 and xavier[-1] > 0.8 * xavier[-2]  # lives
    he, halved = deviations("relu", "he"), deviations("relu", "xavier")
    assert he[-1] > 0.5 * he[0]
    assert halved[-1] == pytest.approx(halved[0] * 0.5 ** (7 / 2), rel=0.4)  # half of the variance goes at each layer


def test_picture(tmp_path):
    path = tmp_path / "deep" / "activations.png"
    found = activation_study.draw(activation_study.Config(path, layers=2, width=20, inputs=50))
    assert len(found) == 10 and all(len(layers) == 2 for layers in found.values())
    assert path.read_bytes()[:4] == b"\x89PNG"


@pytest.mark.parametrize("init, deviation", [("normal", 1.0), ("small", 0.01), ("xavier", (2 / 500) ** 0.5),
                                             ("xavier_uniform", (2 / 500) ** 0.5), ("he", (2 / 400) ** 0.5),
                                             ("he_uniform", (2 / 400) ** 0.5)])  # fmt: skip
def test_initializers_by_hand(init, deviation):
    """400 inputs and 100 units: sqrt(2 / (fan_in + fan_out)) of Xavier, sqrt(2 / fan_in) of He."""
    torch.manual_seed(0)
    layer = torch.nn.Linear(400, 100)
    initialize(layer, f"{init},bias=0.01")
    assert layer.weight.std().item() == pytest.approx(deviation, rel=0.02)
    assert layer.bias.unique().item() == pytest.approx(0.01)
    if "uniform" in init:
        assert layer.weight.abs().max().item() == pytest.approx(deviation * 3**0.5, rel=1e-3)
    initialize(layer, init)
    assert not layer.bias.any()


def test_initializers_that_are_none():
    layer = torch.nn.Linear(2, 2)
    before = layer.weight.clone()
    initialize(layer, "torch,bias=1")
    assert torch.equal(layer.weight, before) and layer.bias.tolist() == [1, 1]
    for wrong in ("He", "he,scale=1", "he,bias"):
        with pytest.raises(ValueError, match="unknown init.*bias=0.01"):
            initialize(layer, wrong)
    with pytest.raises(ValueError, match="bias=much is no number"):
        initialize(layer, "he,bias=much")
