"""An agent, and a classifier, loaded from a run's folder in one call."""

import dataclasses
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from PIL import Image

import agents
import runs
from agents import dqn, ppo, r2d2, watch
from vision.classification import train as classification

ROOT = Path(__file__).resolve().parents[1]
SHORT = dict(wandb="disabled", film_seconds=0, device="cpu", evaluate_games=2, bf16=False)


def train(program, folder: Path, **flags) -> Path:
    known = {field for field in program.Config.__dataclass_fields__}
    asked = {key: value for key, value in (SHORT | flags).items() if key in known} | {"folder": folder, "name": "run"}
    program.train(program.Config(**asked))
    return next(folder.glob("*/run"))


@pytest.fixture(scope="module")
def cartpole(tmp_path_factory) -> Path:
    flags = dict(
        env="CartPole", backbone="mlp", steps=200, worlds=2, evaluate_every=100, capacity=500, learn_start=64
    )
    return train(dqn, tmp_path_factory.mktemp("dqn"), **flags)


def test_an_agent_is_loaded_and_played_in_a_line(cartpole):
    agent = agents.load(cartpole, device="cpu")
    assert agent.env == "CartPole" and agent.which == "best" and agent.step > 0 and agent.config.steps == 200
    world = agent.world(count=3)
    action = agent(world.observation)
    assert action.shape == (3,) and set(action.tolist()) <= {0, 1}
    assert agent(world.observation.numpy(), world.step(action)).shape == (3,)
    world.close()
    one, two = (agents.play(cartpole, games=3) for _ in range(2))
    assert one == two and len(one["return"]) == len(one["length"]) == 3 and min(one["return"]) > 0


def test_it_plays_the_games_that_watch_plays(cartpole, capsys):
    played = agents.play(cartpole, games=3, seed=4)["return"]
    watch.main(watch.Config(cartpole, games=3, seed=4, film=False, device="cpu"))
    assert f"return {sum(played) / 3:.2f}" in capsys.readouterr().out


def test_a_game_is_as_long_as_in_evaluations(cartpole):
    agent = agents.load(cartpole, device="cpu")
    short = dataclasses.replace(agent, config=dataclasses.replace(agent.config, evaluate_steps=5))
    assert agents.play(short, games=3)["length"] == [5, 5, 5]


def test_greedy_takes_no_chances(cartpole):
    agent = agents.load(cartpole, device="cpu", greedy=True)
    world = agent.world(count=8)
    assert agent.config.evaluate_epsilon == 0
    assert torch.equal(agent(world.observation), agent(world.observation))
    world.close()


def test_what_remembers_and_what_draws_are_loaded_too(tmp_path):
    flags = dict(env="Catch", backbone="small", steps=128, worlds=2, evaluate_every=64, capacity=2_000)
    for program in (ppo, r2d2):
        more = dict(horizon=32, batch=32) if program is ppo else dict(learn_start=10_000)
        folder = train(program, tmp_path / program.__name__, **flags, **more)
        assert len(agents.play(folder, games=2)["return"]) == 2


def test_what_is_no_run_is_said(tmp_path):
    with pytest.raises(runs.RunError, match="is not a run's folder"):
        agents.load(tmp_path)
    with pytest.raises(AttributeError, match="has no attribute 'lode'"):
        _ = agents.lode


def test_importing_agents_is_light():
    code = "import sys, agents; print('torch' in sys.modules, 'agents.watch' in sys.modules)"
    found = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True)
    assert found.stdout.split() == ["False", "False"], found.stderr


def test_a_classifier_predicts_in_a_line(tmp_path):
    for label, name in enumerate(("dark", "light")):
        (tmp_path / "pets" / name).mkdir(parents=True)
        for number in range(12):
            color = (250 * label, 200 * label, number)
            Image.new("RGB", (16, 16), color).save(tmp_path / "pets" / name / f"{number}.png")
    flags = dict(data=str(tmp_path / "pets"), size=16, backbone="resnet20", width=0.25, batch=8, steps=320)
    folder = train(classification, tmp_path / "results", **flags, evaluate_every=160, learning_rate=0.02)
    model = classification.load(folder, "cpu")
    files = [tmp_path / "pets" / name / "3.png" for name in ("light", "dark", "light")]
    assert model.predict(files) == ["light", "dark", "light"]
    assert model.predict(model.sets.train.images[:2]) == ["dark", "dark"]
    found = model.probabilities(files)
    assert found.shape == (3, 2) and torch.allclose(found.sum(1), torch.ones(3))
    with pytest.raises(ValueError, match=r"\(2, 3, 8, 8\) of torch.uint8: the run has learned from \(N, 3, 16, 16\)"):
        model.predict(torch.zeros(2, 3, 8, 8, dtype=torch.uint8))
    config, sets, models = model
    assert sets.classes == ("dark", "light") and len(models) == 1 and config.size == 16
