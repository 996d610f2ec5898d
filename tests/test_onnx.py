"""Agents and classifiers as ONNX files: ONNX Runtime chooses and classifies as torch does, step by step."""

import importlib
import json
from pathlib import Path

import pytest
import torch

import agents
import runs
from agents import export as export_agent
from runs.command import parsed
from tests.faults.programs import PROGRAMS
from vision.classification import export as export_classifier
from vision.classification import train as classification

onnx = pytest.importorskip("onnx")
runtime = pytest.importorskip("onnxruntime")
LOOPS = {"agents.rainbow": "agents.rainbow.loop"}
NAMES = ("c51", "iqn", "noisy", "r2d2", "pqn", "ppo", "ppo, continuous", "soft_attention")


FIXED = ("iqn", "r2d2", "soft_attention")  # games, of networks that are traced for a fixed number


def trained(name: str, folder: Path) -> Path:
    """The folder of a run of some steps."""
    described = PROGRAMS[name]
    program = importlib.import_module(LOOPS.get(described.module, described.module))
    program.train(
        parsed(program.Config, program.recipe, described.module, None, described.arguments(folder, folder / "none"))
    )
    return next(folder.glob("*/run"))


def session(path: Path) -> runtime.InferenceSession:
    return runtime.InferenceSession(str(path), providers=["CPUExecutionProvider"])


def check_agent(name: str, tmp_path: Path) -> None:
    """An exported agent plays some games side by side as the agent itself, for 20 steps."""
    agent = agents.load(trained(name, tmp_path), device="cpu", greedy=True)
    outputs = export_agent.export(agent, tmp_path / "agent.onnx")
    graph = session(tmp_path / "agent.onnx")
    assert [each.name for each in graph.get_outputs()] == list(outputs) and outputs[0] == "action"
    games = graph.get_inputs()[0].shape[0]
    assert games == "games" or name in FIXED
    games = 3 if games == "games" else games
    network, world, transition = agent.policy.network, agent.world(games), None
    recurrent = "state" in [each.name for each in graph.get_inputs()]
    state = network.initial_state(games) if recurrent else None
    with torch.inference_mode():
        for _ in range(20):
            expected = agent(world.observation, transition)
            given = {"observation": world.observation.numpy()} | ({"state": state.numpy()} if recurrent else {})
            found = {key: torch.from_numpy(value) for key, value in zip(outputs, graph.run(None, given), strict=True)}
            if expected.is_floating_point():
                torch.testing.assert_close(found["action"], expected, atol=1e-4, rtol=1e-4)
            else:
                torch.testing.assert_close(found["action"], expected)
            transition = world.step(expected)
            if "hidden" in found:
                state = network.next_state(found["hidden"], found["cell"], transition)
            elif recurrent:
                state = found["next_state"] * (~transition.last).unsqueeze(1)
    world.close()
    about = {entry.key: json.loads(entry.value) for entry in onnx.load(str(tmp_path / "agent.onnx")).metadata_props}
    assert about["env"] == agent.env and about["step"] == agent.step and about["program"].startswith("agents.")


def test_an_exported_agent_plays_the_same(tmp_path):
    check_agent("dqn", tmp_path)


@pytest.mark.slow
@pytest.mark.parametrize("name", NAMES)
def test_every_kind_of_agent_plays_the_same(name, tmp_path):
    check_agent(name, tmp_path)


@pytest.mark.slow
def test_an_agent_that_samples_where_to_look_is_not_exported(tmp_path):
    agent = agents.load(trained("hard_attention", tmp_path), device="cpu")
    with pytest.raises(runs.RunError, match="places that it samples"):
        export_agent.export(agent, tmp_path / "agent.onnx")


@pytest.mark.parametrize("backbone", ["lenet5", pytest.param("resnet20", marks=pytest.mark.slow)])
def test_an_exported_classifier_says_the_same(backbone, tmp_path, monkeypatch):
    monkeypatch.setattr(importlib.import_module("vision.data.shapes"), "SIZES", (256, 64, 64))
    config = classification.recipe(classification.Config(data="shapes", backbone=backbone))
    words = [f"--backbone={backbone}", "--data=shapes", "--steps=128", "--batch=32", "--evaluate-every=128"]
    words += [
        "--no-test",
        "--wandb=disabled",
        "--device=cpu",
        f"--folder={tmp_path}",
        "--name=run",
        "--threads=1",
        "--no-bf16",
    ]
    classification.train(parsed(type(config), classification.recipe, "vision.classification", None, words))
    found = classification.load(next(tmp_path.glob("*/run")), "cpu")
    export_classifier.export(found, tmp_path / "classifier.onnx")
    graph, images = session(tmp_path / "classifier.onnx"), found.sets.validation.images[:7]
    probability, label = graph.run(None, {"images": images.numpy()})
    expected = found.probabilities(images)
    torch.testing.assert_close(torch.from_numpy(probability), expected.float(), atol=1e-4, rtol=1e-3)
    assert label.tolist() == expected.argmax(1).tolist()
    about = onnx.load(str(tmp_path / "classifier.onnx")).metadata_props
    assert json.loads(about[0].value) == list(found.sets.classes)
