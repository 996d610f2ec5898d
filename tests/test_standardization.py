"""Standardization of inputs: by hand, whitened, saved, loaded and predicted with; statistics of layers."""

import dataclasses
import json

import pytest
import torch
from torch import nn

from vision import backbones, classification, data
from vision.backbones import Standardization
from vision.classification import classical, features
from vision.classification import train as program
from vision.classification.layer_statistics import LayerStatistics
from vision.data import shapes as drawn_shapes


@pytest.fixture(scope="module")
def drawings():
    sizes = (600, 200, 200)
    parts = (drawn_shapes.draw(count, side=12, seed=seed) for seed, count in enumerate(sizes))
    return data.Sets(*parts, tuple(drawn_shapes.SHAPES))


@pytest.fixture(autouse=True)
def shapes(drawings, monkeypatch):
    monkeypatch.setitem(data.SETS, "shapes", lambda folder: drawings)
    return drawings


# ---- statistics ---------------------------------------------------------------------------------------------


def test_means_and_deviations_by_hand():
    """Two images of two channels and two pixels: 0 and 2, 4 and 6 in the one, all 51 in the other."""
    images = torch.tensor([[[[0, 2]], [[51, 51]]], [[[4, 6]], [[51, 51]]]], dtype=torch.uint8)
    one, other = (Standardization((2, 1, 2), center).fit(images) for center in ("channel", "image"))
    assert (255 * one.mean).flatten().tolist() == pytest.approx([3, 51])
    assert (255 * other.mean).flatten().tolist() == pytest.approx([2, 4, 51, 51])
    assert (255 * other(images))[0].flatten().tolist() == pytest.approx([-2, -2, 0, 0], abs=1e-5)
    channel = Standardization((2, 1, 2), "channel", "channel").fit(images)
    deviations = (1 / channel.inverse).flatten()
    assert deviations[0].item() * 255 == pytest.approx(5**0.5) and deviations[1] == 1  # what never changes stays
    every = Standardization((2, 1, 2), "image", "each").fit(images)
    assert every(images)[:, 0].flatten().tolist() == pytest.approx([-1, -1, 1, 1], abs=1e-5)
    whole = Standardization((2, 1, 2), "channel", "all").fit(images)
    assert 255 / whole.inverse.item() == pytest.approx((20 / 8) ** 0.5)
    uncentered = Standardization((2, 1, 2), scale="channel").fit(images)
    assert 255 / uncentered.inverse.flatten()[0].item() == pytest.approx(5**0.5)  # about the mean all the same


@pytest.mark.parametrize("center, scale", [("image", "none"), ("channel", "all"), ("image", "each")])
def test_whitened_inputs_are_uncorrelated(center, scale):
    generator = torch.Generator().manual_seed(0)
    mixed = torch.rand(500, 8, generator=generator) @ torch.rand(8, 8, generator=generator)
    images = (40 * mixed).byte().view(500, 2, 2, 2)
    for whitening in ("pca", "pca_white", "zca"):
        fitted = Standardization((2, 2, 2), center, scale, whitening, eps=0.0).fit(images)
        out = fitted(images).flatten(1).double()
        covariance = (out - out.mean(0)).T @ (out - out.mean(0)) / 500
        if whitening == "pca":
            assert (covariance - covariance.diag().diag()).abs().max() < 1e-5
            assert (covariance.diag().diff() <= 1e-9).all()  # the largest variance first
        else:
            torch.testing.assert_close(covariance, torch.eye(8, dtype=torch.float64), atol=1e-3, rtol=0)
    turned = (fitted.axes.T * fitted.factors) @ fitted.axes
    torch.testing.assert_close(turned, turned.T)  # ZCA's matrix is symmetric


def test_components_are_those_of_the_largest_variance():
    images = torch.randn(400, 6, generator=torch.Generator().manual_seed(0)) * torch.tensor([5.0, 4, 1, 1, 0.1, 0.1])
    two = Standardization((6,), "image", whitening="pca", components=2).fit(images)
    out = two(images)
    assert out.shape == (400, 6) and not out[:, 2:].any()
    assert out[:, 0].std().item() == pytest.approx(5, rel=0.1) and out[:, 1].std().item() == pytest.approx(4, rel=0.1)
    for wrong, match in (
        (dict(whitening="pca"), "choose --center"),
        (dict(center="image", components=3), "--whitening chooses them"),
        (dict(center="image", whitening="zca", components=7), "7 components: inputs have 6"),
    ):
        with pytest.raises(ValueError, match=match):
            Standardization((6,), **wrong)
    with pytest.raises(ValueError, match="at most 8,192"):
        Standardization((3, 224, 224), "image", whitening="zca")


# ---- backbones ----------------------------------------------------------------------------------------------


def test_a_backbone_standardizes_saves_and_moves(tmp_path, shapes):
    images = shapes.train.images
    backbone = backbones.build("small", (3, 12, 12), stem="cifar")
    plain = backbone(images[:4])[-1]
    backbone.standardize(Standardization((3, 12, 12), "image", "channel"))
    backbone.normalize.fit(images)
    expected = (images[:4].float() / 255 - backbone.normalize.mean) * backbone.normalize.inverse
    out = backbone(images[:4])[-1]
    assert not torch.allclose(out, plain) and torch.allclose(backbone(images[:4].float() / 255)[-1], out, atol=1e-5)
    assert expected.mean().abs() < 0.5
    backbones.save(backbone, tmp_path / "one.safetensors")
    again = backbones.load(tmp_path / "one.safetensors")
    assert torch.equal(again(images[:4])[-1], out) and again.spec == backbone.spec
    larger = backbones.load(tmp_path / "one.safetensors", (1, 24, 24))  # the mean image resized, colors averaged
    assert larger.normalize.mean.shape == (1, 24, 24)
    assert larger.normalize.mean.mean().item() == pytest.approx(backbone.normalize.mean.mean().item(), rel=0.02)
    with pytest.raises(ValueError, match="was built for inputs of shape"):
        backbone(torch.zeros(1, 3, 16, 16))
    with pytest.raises(ValueError, match="normalized already"):
        backbone.standardize(Standardization((3, 12, 12), "channel"))
    with pytest.raises(ValueError, match="no places for the convolutions"):
        backbones.build("small", (3, 12, 12), stem="cifar").standardize(
            Standardization((3, 12, 12), "image", whitening="pca")
        )
    with pytest.raises(ValueError, match="have a mean of their own"):
        again.set_mean_observation(torch.zeros(3, 12, 12, dtype=torch.uint8))


# ---- programs -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "flags",
    [
        dict(backbone="small", center="image", scale="all", whitening="zca", whitening_eps=0.1),
        dict(backbone="lenet300_100", center="channel", scale="channel", whitening="pca_white", components=20),
    ],
    ids=["zca", "components"],
)
def test_a_run_keeps_its_statistics_and_predicts_with_them(tmp_path, shapes, flags):
    where = dict(data="shapes", folder=tmp_path, wandb="disabled", threads=1, device="cpu")
    config = program.Config(**where, **flags, steps=600, batch=50, evaluate_every=600, learning_rate=0.02, bf16=False)
    program.train(config)
    run = tmp_path / "shapes" / "classification-1"
    trained = classification.load(run, "cpu")
    found = trained.models[0].backbone.normalize
    expected = config.standardization((3, 12, 12)).fit(shapes.train.images)  # of the training images alone
    for name, buffer in expected.state_dict().items():
        torch.testing.assert_close(found.state_dict()[name], buffer)
    (line,) = [json.loads(each) for each in (run / "metrics.jsonl").read_text().splitlines() if "test/error" in each]
    chosen = trained.probabilities(shapes.test.images).argmax(1)
    assert 100 * (chosen != shapes.test.labels).float().mean().item() == pytest.approx(line["test/error"])
    assert trained.predict(shapes.test.images[:3]) == [shapes.classes[label] for label in chosen[:3]]
    backbone = backbones.load(run)
    assert torch.equal(backbone.normalize.mean, found.mean)
    columns = features.extract(shapes.test.images, str(run), chunk=70)  # for an SVM on them
    assert columns.shape == (200, backbone.channels[-1])
    svm = classical.recipe(classical.Config(method="one-vs-all-svm", features=str(run)))
    assert svm.scale == "each" and classical.Inputs(shapes.test, svm, "cpu").shape == columns.shape[1:]
    program.train(dataclasses.replace(config, backbone=str(run), name="second", train="head", steps=100))
    second = classification.load(tmp_path / "shapes" / "second", "cpu")
    assert torch.equal(second.models[0].backbone.normalize.mean, found.mean)


def test_classical_classifiers_have_the_same_flags(shapes, tmp_path):
    for method, flags in (
        ("softmax", dict(center="image", scale="none", whitening="pca_white", components=30)),
        ("least-squares", dict(center="channel", scale="channel")),
        ("knn", dict(center="image", scale="each")),
    ):
        asked = dataclasses.replace(classical.recipe(classical.Config(method=method)), epochs=2, **flags, threads=1)
        asked = dataclasses.replace(asked, neighbors=(3,))
        how = classical.nearest_neighbor if method == "knn" else classical.learn
        assert how(asked, shapes, torch.device("cpu"), tmp_path)["test"] > 8
    inputs = classical.Inputs(shapes.train, classical.Config(center="channel", scale="channel"), "cpu")
    batch, _ = inputs.batch(torch.arange(len(inputs)))
    torch.testing.assert_close(batch.view(-1, 3, 144).mean((0, 2)), torch.zeros(3), atol=1e-4, rtol=0)
    torch.testing.assert_close(batch.view(-1, 3, 144).std((0, 2)), torch.ones(3), atol=1e-3, rtol=0)


# ---- layers -------------------------------------------------------------------------------------------------


def test_statistics_of_layers_by_hand(tmp_path):
    """One weight layer before a ReLU: half of its outputs are negative, and the update is a thousandth."""
    model = nn.Sequential(nn.Linear(1, 2, bias=False), nn.ReLU(), nn.Linear(2, 1))
    with torch.no_grad():
        model[0].weight.copy_(torch.tensor([[3.0], [-4.0]]))
        model[2].weight.fill_(2.0)
    statistics = LayerStatistics(model)
    with statistics.measure(128):
        model(torch.tensor([[1.0], [2.0]])).sum().backward()
        with torch.no_grad():
            model[0].weight.add_(torch.tensor([[0.003], [0.004]]))
    found = statistics.metrics()
    assert found["layers/update_ratio/0"] == pytest.approx(1e-3, rel=1e-3) and found["layers/update_ratio/2"] == 0
    assert found["layers/zeros/1"] == 0.5  # of 3, 0, 6, 0
    assert found["layers/activation_std/1"] == pytest.approx(torch.tensor([3.0, 0, 6, 0]).std().item())
    assert found["layers/gradient_std/1"] == 0  # all are 2
    (record,) = statistics.records
    assert record["activations"]["1"]["counts"][0] == 0.5 and sum(record["activations"]["1"]["counts"]) == 1
    again = LayerStatistics(model)
    again.load_state_dict(statistics.state_dict())
    again.draw(tmp_path / "layers.png")
    assert (tmp_path / "layers.png").read_bytes()[:4] == b"\x89PNG"
    assert not model[1]._forward_hooks


def test_a_run_measures_its_layers(tmp_path):
    flags = dict(backbone="small", steps=400, batch=50, evaluate_every=400, log_every=100, learning_rate=0.02)
    where = dict(data="shapes", folder=tmp_path, wandb="disabled", threads=1, device="cpu")
    for every in (0, 200):
        program.train(program.Config(**where, **flags, layers_every=every, name=str(every)))
    plain, measured = (tmp_path / "shapes" / name for name in ("0", "200"))
    assert (measured / "layers.png").exists() and not (plain / "layers.png").exists()
    texts = [(run / "metrics.jsonl").read_text() for run in (plain, measured)]
    lines = [[json.loads(line) for line in text.splitlines()] for text in texts]
    assert [line.get("loss/train") for line in lines[0]] == [line.get("loss/train") for line in lines[1]]
    steps = [line["step"] for line in lines[1] if any(key.startswith("layers/update_ratio/") for key in line)]
    assert steps == [100, 200, 400]  # the first update, and every 200 images
