"""A world is described once and built once: what envs.describe says, and what it leaves for envs.make."""

import dataclasses
import sys

import gymnasium
import numpy as np
import pytest
import torch

import envs
import runs
from agents import dqn, ppo
from envs import gymnasium_world

BUILT: list[int] = []


class Counted(gymnasium.Env):
    """Three steps of random numbers; BUILT has an entry for every environment that was made."""

    observation_space = gymnasium.spaces.Box(-9, 9, (4,))
    metadata = {"render_modes": []}

    def __init__(self, continuous: bool = False, kept: bool = False) -> None:
        self.action_space = gymnasium.spaces.Box(-1, 1, (2,)) if continuous else gymnasium.spaces.Discrete(2)
        self.kept, self.games = kept, 0
        BUILT.append(1)

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        self.time, self.games = 0, self.games + 1
        return self.observe(), {}

    def step(self, action):
        self.time += 1
        return self.observe(), 1.0, self.time == 3, False, {}

    def observe(self):
        offset = self.games if self.kept else 0
        return (self.np_random.uniform(-1, 1, 4) + offset % 5).astype(np.float32)


@pytest.fixture(autouse=True)
def registered():
    gymnasium.register("test/Counted-v0", Counted)
    yield
    gymnasium.registry.pop("test/Counted-v0")
    gymnasium_world.keep_spare("", [])
    gymnasium_world.VERDICTS.clear()
    envs._DESCRIBED.clear()
    BUILT.clear()


@pytest.mark.parametrize("program, worlds", [(dqn, 4), (ppo, 8), (ppo, 1)])
@pytest.mark.parametrize("continuous", [False, True])
def test_a_world_is_built_once(program, worlds, continuous, tmp_path, monkeypatch):
    """From the command to the first step: one environment for each game, of which the seed probe takes two first."""
    if continuous and program is dqn:
        pytest.skip("Q-learning takes choices only")
    counts = []

    def train(config):
        config = dataclasses.replace(config, rollout=4, minibatches=1) if program is ppo else config
        program.train(dataclasses.replace(config, worlds=worlds, steps=1, evaluate_every=0))
        counts.append(len(BUILT))

    flags = f"--env test/Counted-v0 --wandb disabled --device cpu --folder {tmp_path}".split()
    flags += ["--env-kwargs", "continuous=True"] if continuous else []
    monkeypatch.setattr(sys, "argv", ["program", *flags])
    runs.launch(train, program.Config, program.recipe, program.__name__, None)
    assert counts == [max(worlds, 2)]


def test_what_is_left_over_is_the_next_worlds():
    world = envs.make("test/Counted-v0")
    assert len(BUILT) == 2  # the probe's
    evaluated = envs.make("test/Counted-v0", 3)
    assert len(BUILT) == 4
    assert not set(map(id, world._games.envs)) & set(map(id, evaluated._games.envs))
    world.close(), evaluated.close()
    envs.make("CartPole")
    assert not gymnasium_world.SPARE.get(world._key)


def test_worlds_that_remember_the_games_before_begin_in_new_environments():
    described = envs.describe("test/Counted-v0", kept=True)
    built = len(BUILT)
    world = envs.make("test/Counted-v0", 3, kept=True)
    assert described.family == "control" and len(BUILT) == built + 3 and world._games.rebuild
    assert not any(gymnasium_world.SPARE.values())


def test_a_described_world_plays_as_one_that_was_not():
    def play() -> torch.Tensor:
        world = envs.make("CartPole", 2, seed=5)
        return torch.stack([world.step(torch.tensor([t % 2, 1])).next_observation for t in range(30)])

    alone = play()
    envs.describe("CartPole")
    assert torch.equal(play(), alone)


@pytest.mark.parametrize(
    "name, options, expected",
    [
        ("pong", {}, ("Pong", None, "atari", "classic", (4, 84, 84), torch.uint8, True)),
        ("ALE/Pong-v5", dict(stack=1, color=True), ("Pong", None, "atari", "sticky", (3, 84, 84), torch.uint8, True)),
        ("Catch", {}, ("Catch", "saccade/Catch-v0", "catch", None, None, torch.uint8, True)),
        ("cartpole", {}, ("CartPole-v1", "CartPole-v1", "control", None, (4,), torch.float32, True)),
        ("Pendulum", {}, ("Pendulum-v1", "Pendulum-v1", "control", None, (3,), torch.float32, False)),
        ("CartPole", dict(pixels=True), ("CartPole-v1",) * 2 + ("pixels", None, (4, 84, 84), torch.uint8, True)),
    ],
)
def test_description(name, options, expected):
    described = envs.describe(name, **options)
    world = envs.make(name, **options)
    found = dataclasses.astuple(described)[:7]
    assert found == (expected[0], *expected[1:4], world.observation_shape, *expected[5:])
    assert expected[4] in (None, world.observation_shape)
    assert (world.actions is not None, world.observation.dtype) == (described.discrete, described.observation_dtype)
    assert described.action_shape == world.action_shape and world.protocol == described.protocol
    assert envs.describe(name, **options) is described


def test_unknown_worlds_and_options():
    with pytest.raises(ValueError, match="unknown world 'Ponk'.*'Pong'"):
        envs.describe("Ponk")
    with pytest.raises(ValueError, match="Pong has no option 'pixels'"):
        envs.describe("Pong", pixels=True)
