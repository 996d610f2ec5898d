"""Agents and classifiers as torch.export programs: what a file's program says is what the network says."""

import importlib
import json
from pathlib import Path

import pytest
import torch

import agents
import runs
from agents import export as export_agent
from runs import torch_export
from runs.command import parsed
from tests.faults.programs import PROGRAMS, draw
from vision.classification import export as export_classifier
from vision.classification import train as classification

LOOPS = {"agents.rainbow": "agents.rainbow.loop", "vision.classification": "vision.classification.train"}
FIXED = ("iqn", "r2d2", "soft_attention")  # games, of networks that are exported for one
OTHERS = ("c51", "iqn", "noisy", "r2d2", "pqn", "reinforce", "ppo, continuous", "soft_attention")


def trained(name: str, folder: Path, pictures: Path) -> Path:
    """The folder of a run of some steps."""
    described = PROGRAMS[name]
    program = importlib.import_module(LOOPS.get(described.module, described.module))
    words = described.arguments(folder, pictures)
    program.train(parsed(program.Config, program.recipe, described.module, None, words))
    return next(folder.glob("*/run"))


@pytest.mark.parametrize("name", ["dqn", "ppo", *(pytest.param(each, marks=pytest.mark.slow) for each in OTHERS)])
def test_an_exported_agent_acts_as_the_agent_does(name, tmp_path):
    agent = agents.load(trained(name, tmp_path, tmp_path / "none"), device="cpu", greedy=True)
    outputs = export_agent.export(agent, tmp_path / "agent.pt2")
    about = {torch_export.ABOUT: ""}
    program = torch.export.load(str(tmp_path / "agent.pt2"), extra_files=about).module()
    kept = json.loads(about[torch_export.ABOUT])
    assert kept["env"] == agent.env and kept["outputs"] == list(outputs) and outputs[0] == "action"
    games = 1 if name in FIXED else 3
    world, network, transition = agent.world(games), agent.policy.network, None
    state = network.initial_state(games) if "state" in kept["inputs"] else None
    with torch.inference_mode():
        for _ in range(10):
            expected = agent(world.observation, transition)
            given = (world.observation.clone(),) if state is None else (world.observation.clone(), state)
            found = dict(zip(outputs, program(*given), strict=True))
            torch.testing.assert_close(found["action"], expected, atol=1e-4, rtol=1e-4, check_dtype=False)
            transition = world.step(expected)
            if "hidden" in found:
                state = network.next_state(found["hidden"], found["cell"], transition)
            elif state is not None:
                state = found["next_state"] * (~transition.last).unsqueeze(1)
    world.close()


def test_an_exported_classifier_says_the_same(tmp_path):
    draw(tmp_path / "pictures")
    found = classification.load(trained("classification", tmp_path / "runs", tmp_path / "pictures"), "cpu")
    export_classifier.export(found, tmp_path / "classifier.pt2")
    about = {torch_export.ABOUT: ""}
    program = torch.export.load(str(tmp_path / "classifier.pt2"), extra_files=about).module()
    images = found.sets.validation.images[:7]
    probability, label = program(images)
    torch.testing.assert_close(probability, found.probabilities(images).float(), atol=1e-4, rtol=1e-3)
    assert label.tolist() == found.probabilities(images).argmax(1).tolist()
    assert json.loads(about[torch_export.ABOUT])["classes"] == list(found.sets.classes)


class Doubled(torch.nn.Module):
    """x (B, 2) -> 2 x, or with `looks` only for the number of rows that it has looked at."""

    def __init__(self, looks: bool) -> None:
        super().__init__()
        self.looks = looks

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x + sum(x[row : row + 1].mean() * 0 for row in range(int(x.shape[0]))) + x if self.looks else 2 * x


def test_where_only_one_number_of_rows_can_be_exported_it_says_so(tmp_path):
    for looks in (False, True):
        graph, x = Doubled(looks).eval(), torch.arange(4.0).view(2, 2)
        free = torch_export.write(tmp_path / "a.pt2", graph, {"x": x}, ["y"], {"x": "rows"}, {})
        assert free is not looks
        assert torch.equal(torch.export.load(str(tmp_path / "a.pt2")).module()(x), 2 * x)


def test_a_program_that_says_something_else_is_refused():
    with pytest.raises(runs.RunError, match="differs from the network in output 0"):
        torch_export.check(lambda x: 3 * x, lambda x: 2 * x, (torch.ones(1, 2),))
