"""The study of initializers: what the lecture says of each shows in its numbers, and a picture is drawn."""

import pytest

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
    assert len(found) == 8 and all(len(layers) == 2 for layers in found.values())
    assert path.read_bytes()[:4] == b"\x89PNG"
