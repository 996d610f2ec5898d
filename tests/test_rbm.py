"""Restricted Boltzmann machines: energies enumerated, contrastive divergence by hand, pre-training."""

import itertools
import json

import pytest
import torch
from PIL import Image

from vision.data import Labeled, Sets, shapes
from vision.generation import rbm_pretraining
from vision.generation.rbm import RBM, WEIGHT_COST, DeepAutoencoder


def every(count):
    """All binary vectors (2^count, count)."""
    return torch.tensor(list(itertools.product((0.0, 1.0), repeat=count)))


def machine(visible, hidden, **kind):
    """An RBM with weights that matter."""
    torch.manual_seed(0)
    made = RBM(visible, hidden, **kind)
    for weight in made.parameters():
        weight.copy_(torch.randn_like(weight))
    return made


def test_free_energy_and_conditionals_by_enumeration():
    rbm, v, h = machine(4, 3), every(4), every(3)
    energy = -(v @ rbm.visible)[:, None] - (h @ rbm.hidden)[None] - v @ rbm.weight @ h.T  # (16, 8)
    torch.testing.assert_close(rbm.free_energy(v), -torch.logsumexp(-energy, 1))
    joint = torch.softmax(-energy.flatten(), 0).view_as(energy)
    torch.testing.assert_close(rbm.hidden_mean(v), joint @ h / joint.sum(1, keepdim=True))
    torch.testing.assert_close(rbm.visible_mean(h), joint.T @ v / joint.sum(0)[:, None])


def test_linear_hidden_units_by_integration():
    """E(v, h) = -b v + (h - c)^2 / 2 - v W h: the free energy up to a constant, and the mean of h."""
    rbm, v = machine(3, 1, linear=True), every(3)
    h = torch.linspace(-20, 20, 8001)
    energy = -(v @ rbm.visible)[:, None] + 0.5 * (h - rbm.hidden).square()[None] - (v @ rbm.weight) * h[None]
    found = -torch.logsumexp(-energy.double(), 1).float()
    torch.testing.assert_close(found - found[0], rbm.free_energy(v) - rbm.free_energy(v)[0], atol=1e-3, rtol=1e-4)
    mean = (torch.softmax(-energy, 1) * h).sum(1, keepdim=True)
    torch.testing.assert_close(rbm.hidden_mean(v), mean, atol=1e-3, rtol=1e-3)


def test_contrastive_divergence_by_hand():
    """A machine of one visible and one hidden unit that is surely on: h = 1, the reconstruction is sigmoid(w + b)."""
    rbm = RBM(1, 1)
    rbm.weight.fill_(1.0), rbm.visible.fill_(-1.0), rbm.hidden.fill_(1000.0)
    (weight, visible, hidden), error = rbm.divergence(torch.ones(1, 1))
    assert weight.item() == visible.item() == 0.5 and hidden.item() == 0.0 and error.item() == 0.25
    rbm.update(torch.ones(1, 1), rate=0.1, momentum=0.9)
    first = 0.1 * (0.5 - WEIGHT_COST)
    assert rbm.weight.item() == pytest.approx(1 + first) and rbm.visible.item() == pytest.approx(-0.95)
    before, velocity = rbm.weight.item(), rbm.velocity[0].item()
    (weight, _, _), _ = rbm.divergence(torch.ones(1, 1))
    rbm.update(torch.ones(1, 1), rate=0.1, momentum=0.9)
    moved = 0.9 * velocity + 0.1 * (weight.item() - WEIGHT_COST * before)
    assert rbm.weight.item() == pytest.approx(before + moved, abs=1e-6)


def test_learning_raises_the_exact_likelihood():
    """Of 3 x 3 pixels whose rows are all on or all off, enumerated; CD-1 stays below the best, -log 8."""
    torch.manual_seed(0)
    images, rbm = every(3).repeat_interleave(3, 1), RBM(9, 6)

    def likelihood():
        return (-rbm.free_energy(images) - torch.logsumexp(-rbm.free_energy(every(9)), 0)).mean().item()

    before = likelihood()
    for _ in range(2_000):
        rbm.update(images, 0.1, 0.5)
    assert before + 1.5 < likelihood() < -2.08


def test_a_stack_is_unrolled():
    """The first layer and the last are those of the first machine; a code is that of the machines in turn."""
    stack = [machine(6, 4), machine(4, 2, linear=True)]
    network = DeepAutoencoder([6, 4, 2])
    network.unroll(stack)
    x = torch.rand(5, 6)
    torch.testing.assert_close(network.encode(x), stack[1].hidden_mean(stack[0].hidden_mean(x)))
    again = stack[0].visible_mean(stack[1].visible_mean(network.encode(x)))
    torch.testing.assert_close(network(x).sigmoid(), again)


def test_pre_training_is_compared_with_none(tmp_path, monkeypatch):
    parts = [
        Labeled(shapes.draw(count, 8, seed).images[:, :1], torch.zeros(count)) for seed, count in ((0, 200), (1, 50))
    ]
    monkeypatch.setattr(rbm_pretraining.data, "load", lambda *_: Sets(parts[0], parts[1], parts[1], ("one",)))
    config = rbm_pretraining.Config(
        layers=(32, 16),
        code=4,
        pretraining=2_000,
        steps=2_000,
        batch=20,
        points=4,
        device="cpu",
        out=tmp_path / "a.png",
    )
    curves = rbm_pretraining.main(config)
    pretrained, none = curves.values()
    assert list(pretrained)[0] == 3 * 2_000 and list(none)[0] == 0 and len(none) == 5
    assert list(pretrained.values())[0] < list(none.values())[0]  # it begins with less of an error
    assert all(list(curve.values())[-1] < list(none.values())[0] for curve in curves.values())
    assert Image.open(tmp_path / "a.png").size[0] > 800
    trials = json.loads((tmp_path / "a.json").read_text())["trials"]
    assert [trial["last_error"] for trial in trials] == [list(curve.values())[-1] for curve in curves.values()]
