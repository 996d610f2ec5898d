"""float16 with dynamic loss scaling (--fp16): by hand, in every agent and in vision's programs, and on resume."""

import dataclasses
import json
import math
import runpy
import sys
from pathlib import Path

import pytest
import torch
from torch import nn

from agents import dqn
from runs import loss_scaling, machine
from runs.loss_scaling import GROWTH, SCALE, LossScaler
from tests.faults.programs import TRAINED, draw
from vision import classification
from vision.classification import short_fit
from vision.classification import train as classifier

CPU = torch.device("cpu")
ROOT = Path(__file__).resolve().parents[1]
IN_FLOAT32 = ("tabular", "tabular, planned", "sequences", "sequences, text", "mixtures", "world_model")  # no --fp16
DAILY = ("dqn", "reinforce", "a2c", "recurrent_attention", "classification", "segmentation", "gan", "captioning")


def one_weight(fp16=True):
    """A weight of 1, SGD with a rate of 0.5, and a scaler."""
    weight = nn.Parameter(torch.tensor(1.0))
    return weight, torch.optim.SGD([weight], 0.5), LossScaler(fp16, CPU)


def descend(weight, optimizer, scaler, slope):
    """An update by the loss slope * weight. Returns the gradient that a limit of its norm would see."""
    optimizer.zero_grad()
    scaler.scale(slope * weight).backward()
    scaler.unscale_(optimizer)
    seen = weight.grad.item()
    scaler.step(optimizer)
    return seen


def test_an_overflow_leaves_an_update_out_and_halves_the_scale():
    weight, optimizer, scaler = one_weight()
    assert descend(weight, optimizer, scaler, 0.25) == 0.25 and weight.item() == 1 - 0.5 * 0.25
    assert scaler.metrics["train/loss_scaling"].item() == SCALE == 65_536
    descend(weight, optimizer, scaler, 2.0**120)  # times 2^16 it is beyond float32
    assert weight.item() == 0.875 and scaler.get_scale() == 32_768
    descend(weight, optimizer, scaler, float("nan"))
    assert weight.item() == 0.875 and scaler.get_scale() == 16_384
    assert descend(weight, optimizer, scaler, 0.25) == 0.25 and weight.item() == 0.75


def test_the_scale_grows_after_many_updates_without_an_overflow_and_resumes():
    found = []
    for stopped in (False, True):
        weight, optimizer, scaler = one_weight()
        descend(weight, optimizer, scaler, float("inf"))
        for _ in range(GROWTH - 1):
            descend(weight, optimizer, scaler, 0.0)
        assert scaler.get_scale() == 32_768
        if stopped:
            state, (_, _, scaler) = scaler.parts["loss_scaler"].state_dict(), one_weight()
            scaler.load_state_dict(state)
        descend(weight, optimizer, scaler, 0.0)
        found.append(scaler.get_scale())
    assert found == [65_536, 65_536]


def test_without_fp16_nothing_is_scaled_tracked_or_logged():
    weight, optimizer, scaler = one_weight(fp16=False)
    assert descend(weight, optimizer, scaler, 2.0**120) == 2.0**120 and weight.item() == 1 - 2.0**119
    assert scaler.parts == {} == scaler.metrics

    def closure():
        optimizer.zero_grad()
        loss = 3 * weight
        scaler.scale(loss).backward()
        return loss

    assert scaler.step(optimizer, closure) == -3 * 2.0**119


def test_gradients_are_clipped_after_the_scale_is_divided_out():
    weight, optimizer, scaler = one_weight()
    scaler.scale(4 * weight).backward()
    scaler.unscale_(optimizer)
    assert nn.utils.clip_grad_norm_([weight], 1.0) == 4
    scaler.step(optimizer)
    assert weight.item() == pytest.approx(0.5, abs=1e-6)


@pytest.mark.parametrize("flag", ["compile", "capture"])
def test_updates_that_are_launched_whole_are_refused(flag):
    with pytest.raises(ValueError, match=f"--fp16 leaves out updates that overflow, and with --{flag}"):
        dqn.Config(fp16=True, **{flag: True}).validate()


def test_what_a_classifier_cannot_do_in_fp16_is_refused():
    with pytest.raises(ValueError, match="with --capture"):
        classification.Config(fp16=True, capture=True).validate()
    with pytest.raises(ValueError, match="--fp16: lbfgs searches along lines"):
        classification.Config(fp16=True, optimizer="lbfgs").validate()
    classification.Config(fp16=True, compile=True).validate()  # of the network alone


@pytest.fixture(scope="module")
def pictures(tmp_path_factory):
    """A folder of images, and beside it the other files that the programs of tests/faults/programs.py read."""
    folder = tmp_path_factory.mktemp("read") / "pictures"
    draw(folder)
    return folder


NAMES = [each for each in TRAINED if each not in IN_FLOAT32]


@pytest.mark.parametrize(
    "name", [each if each in DAILY else pytest.param(each, marks=pytest.mark.slow) for each in NAMES]
)
def test_every_program_learns_in_fp16(name, pictures, tmp_path, monkeypatch):
    """Its networks compute in nothing else, its losses are finite, and its scale is logged and kept."""
    found, plain = set(), machine.low_precision

    def noted(*args):
        found.add(plain(*args))
        return plain(*args)

    monkeypatch.setattr(machine, "low_precision", noted)
    program = TRAINED[name]
    monkeypatch.setattr(sys, "argv", [program.module, *program.arguments(tmp_path, pictures), "--fp16"])
    try:
        runpy.run_module(program.module, run_name="__main__", alter_sys=True)
    except SystemExit as ended:
        assert not ended.code
    assert found == {torch.float16} or name == "r3gan"  # whose gradients are differentiated again, in float32
    (folder,) = tmp_path.glob("*/run")
    lines = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
    losses = [value for line in lines for key, value in line.items() if key.startswith("loss/")]
    assert losses and all(math.isfinite(value) for value in losses)
    kept = torch.load(max((folder / "checkpoint").glob("0*.pt")), weights_only=True)["parts"]["loss_scaler"]
    assert kept["scale"] == 2.0 ** round(math.log2(kept["scale"])) <= SCALE
    assert any(line.get("train/loss_scaling", SCALE + 1) <= SCALE for line in lines)


def quick_dqn(folder, **changes):
    config = dqn.recipe(dqn.Config(env="Catch"))
    few = dict(threads=1, device="cpu", wandb="disabled", folder=folder, film_seconds=0.0, fp16=True)
    return dataclasses.replace(config, **few | changes)


def quick_classifier(folder, **changes):
    few = dict(width=0.125, batch=64, steps=1_280, evaluate_every=640, log_every=128, test=False)
    few |= dict(threads=1, device="cpu", wandb="disabled", folder=folder, fp16=True)
    return dataclasses.replace(classification.recipe(classification.Config(data="shapes")), **few | changes)


@pytest.mark.parametrize("which", ["dqn", "classification"])
def test_a_stopped_run_ends_as_if_it_had_not_been(which, pictures, tmp_path, monkeypatch, stop_at, same_ends):
    """With a scale so large that it is halved again and again, before the stop and after it."""
    monkeypatch.setattr(loss_scaling, "SCALE", 2.0**127)
    if which == "dqn":
        few = dict(steps=320, learn_start=64, evaluate_every=160, evaluate_games=2, log_every=32, capacity=1_000)
        few |= dict(hidden=16, width=0.25, batch=8)
        make, train, step, part = (lambda **k: quick_dqn(tmp_path, **few | k)), dqn.train, 240, "online"
    else:
        few = dict(data=str(pictures), size=16, backbone="lenet5", width=None, batch=4, steps=240, evaluate_every=120)
        few |= dict(log_every=24, augment="flip", learning_rate=0.01, whiten=False)
        make, train, step, part = (lambda **k: quick_classifier(tmp_path, **few | k)), classifier.train, 180, "model"
    stop_at(step, train, make(name="killed"))
    for name in ("killed", "whole"):
        train(make(name=name))
    same_ends(part, "loss_scaler", "optimizer")
    lines = [json.loads(line) for line in next(tmp_path.glob("*/whole/metrics.jsonl")).read_text().splitlines()]
    scales = [line["train/loss_scaling"] for line in lines if "train/loss_scaling" in line]
    assert scales[0] > scales[len(scales) // 2] >= scales[-1], "it was halved on both sides of the stop"


def test_a_study_scales_its_losses_too(pictures, monkeypatch):
    few = dict(data=str(pictures), size=16, backbone="lenet5", width=None, batch=4, steps=80, whiten=False)
    config = quick_classifier(None, **few, learning_rate=0.01, augment="none")
    scaled = []
    plain = LossScaler.scale
    monkeypatch.setattr(
        LossScaler, "scale", lambda self, loss: scaled.append(plain(self, loss) / loss) or plain(self, loss)
    )
    _, curve = short_fit.fit(config, classifier.images_of(config), CPU)
    assert scaled[0] == SCALE and curve[-5:].mean() < curve[:5].mean()


@pytest.mark.slow
def test_an_agent_and_a_classifier_learn_in_fp16(tmp_path):
    dqn.train(quick_dqn(tmp_path, evaluate_every=8_000))
    found = json.loads((tmp_path / "Catch/dqn-1/finished.json").read_text())
    assert found["best"] >= 0.9
    classifier.train(quick_classifier(tmp_path, steps=12_800, evaluate_every=12_800))
    found = json.loads((tmp_path / "shapes/classification-1/finished.json").read_text())
    assert found["best"] < 20


CLIPPING = [
    path.relative_to(ROOT).as_posix()
    for room in ("agents", "vision")
    for path in sorted((ROOT / room).rglob("*.py"))
    if "caler.scale(" in (text := path.read_text(encoding="utf-8")) and "clip_grad_norm_(" in text
]


@pytest.mark.parametrize("path", CLIPPING)
def test_gradients_are_divided_by_the_scale_before_they_are_clipped(path):
    """A norm of scaled gradients is thousands of times that of --clip: every update would be clipped."""
    text = (ROOT / path).read_text(encoding="utf-8")
    for part in text.split("caler.scale(")[1:]:
        divided, clipped = part.find(".unscale_("), part.find("clip_grad_norm_(")
        assert clipped < 0 or 0 <= divided < clipped
