"""PQN: its return and its rate by hand, its schedule, its learning, its resume, its recipes."""

import dataclasses
import json
import time
from pathlib import Path

import gymnasium
import numpy as np
import pytest
import torch
from torch import nn

import envs
from agents import pqn, watch
from vision import backbones

ROOT = Path(__file__).resolve().parent.parent


def quick(tmp_path, env="Catch", **changes):
    return dataclasses.replace(pqn.recipe(pqn.Config(env=env)), folder=tmp_path, wandb="disabled", **changes)


def evaluations(folder):
    lines = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
    return [line["eval/return"] for line in lines if "eval/return" in line]


def column(*numbers, dtype=torch.float32):
    return torch.tensor(numbers, dtype=dtype)[:, None]


def test_return_by_hand():
    reward, discount, next_value = column(1.0, 0.0, 2.0), column(0.9, 0.9, 0.9), column(4.0, 6.0, 10.0)
    going = column(False, False, False, dtype=torch.bool)
    third = 2 + 0.9 * 10  # after the last step only its value follows
    second = 0 + 0.9 * (0.5 * third + 0.5 * 6)
    first = 1 + 0.9 * (0.5 * second + 0.5 * 4)
    returns = pqn.q_lambda(reward, discount, next_value, going, 0.5)
    torch.testing.assert_close(returns, column(first, second, third))
    one_step = reward + discount * next_value
    torch.testing.assert_close(pqn.q_lambda(reward, discount, next_value, going, 0.0), one_step)
    whole = 1 + 0.9 * (0 + 0.9 * (2 + 0.9 * 10))
    assert pqn.q_lambda(reward, discount, next_value, going, 1.0)[0].item() == pytest.approx(whole)


def test_return_ends_with_its_episode():
    """Four steps of three worlds: one goes on, one ends truly at the second step, one is cut short there."""
    reward = torch.ones(4, 3)
    discount = torch.full((4, 3), 0.5)
    discount[1, 1] = 0
    last = torch.zeros(4, 3, dtype=torch.bool)
    last[1, 1:] = True
    next_value = torch.full((4, 3), 8.0)
    next_value[1, 1] = 1e6  # of no consequence
    returns = pqn.q_lambda(reward, discount, next_value, last, 0.5)
    fourth = 1 + 0.5 * 8  # 5
    third = 1 + 0.5 * (0.5 * fourth + 4)  # 4.25
    second = torch.tensor([1 + 0.5 * (0.5 * third + 4), 1.0, 1 + 0.5 * 8])
    first = 1 + 0.5 * (0.5 * second + 4)
    expected = [first, second, torch.full((3,), third), torch.full((3,), fourth)]
    torch.testing.assert_close(returns, torch.stack(expected))


def test_rate_is_that_of_radam():
    """From the same point and moments, an update of rectified Adam is an update of torch's RAdam."""
    torch.manual_seed(0)
    weights = [nn.Parameter(torch.zeros(5)) for _ in range(2)]
    rectified, radam = torch.optim.Adam(weights[:1]), torch.optim.RAdam(weights[1:])
    for update in range(1, 40):
        gradient = torch.randn(5)
        with torch.no_grad():
            weights[1].copy_(weights[0])
        for weight in weights:
            weight.grad = gradient.clone()
        rectified.param_groups[0]["lr"] = 0.01 * pqn.rectification(update)
        radam.param_groups[0]["lr"] = 0.01
        rectified.step(), radam.step()
        if update > 5:
            torch.testing.assert_close(*weights, rtol=1e-5, atol=1e-7)
    assert pqn.rectification(5) == 0 < pqn.rectification(6) < 0.03
    assert pqn.rectification(10**6) == pytest.approx(1)


def test_epsilon_anneals():
    assert [pqn.epsilon_at(step, 0, 0.1 * 10_000, 0.1) for step in (0, 500, 1000, 9999)] == pytest.approx(
        [1.0, 0.55, 0.1, 0.1]
    )


@pytest.mark.parametrize("env", ["Breakout", "CartPole", "Catch"])
def test_recipe_of_each_family(env):
    config = pqn.recipe(pqn.Config(env=env))
    world = envs.make(env, 2)
    network = pqn.build(config, world)
    assert network(world.observation).shape == (2, world.actions)
    norms = [m for m in network.modules() if isinstance(m, nn.GroupNorm | nn.LayerNorm)]
    relus = [m for m in network.modules() if isinstance(m, nn.ReLU)]
    assert len(norms) == len(relus) > 0, "a norm before every ReLU"
    assert config.worlds * config.rollout % config.minibatches == 0
    bare = pqn.build(dataclasses.replace(config, norm="none"), world)
    assert not any(isinstance(m, nn.GroupNorm | nn.LayerNorm) for m in bare.modules())


def test_recipe_of_pixels():
    pytest.importorskip("pygame")
    config = pqn.recipe(pqn.Config(env="CartPole", pixels=True))
    assert config.backbone == "nature" and not config.clip_reward


def test_continuous_actions_are_refused(tmp_path):
    with pytest.raises(ValueError, match="discrete actions"):
        pqn.train(quick(tmp_path, "Pendulum"))


def test_learning_moves_every_weight(tmp_path):
    config = quick(tmp_path, "Breakout", steps=128, worlds=8, rollout=16, epochs=2)
    pqn.train(config)
    end = torch.load(tmp_path / "Breakout/pqn-1/checkpoint/000000000128.pt", weights_only=True)["parts"]["network"]
    torch.manual_seed(config.seed)
    begin = pqn.build(config, envs.make("Breakout", 1)).state_dict()
    still = [name for name in begin if torch.equal(begin[name], end[name])]
    assert not still, f"not learned: {still}"


@pytest.mark.parametrize("optimizer", ["radam", "muon"])
def test_learns_catch_and_is_watched(optimizer, tmp_path, capsys):
    began = time.process_time()
    pqn.train(quick(tmp_path, optimizer=optimizer))
    folder = tmp_path / "Catch/pqn-1"
    assert evaluations(folder)[-1] >= 0.95
    assert time.process_time() - began < 60
    watch.main(watch.Config(folder, games=10, device="cpu", film=False))
    assert json.loads((folder / "watch.jsonl").read_text())["mean"] >= 0.8


@pytest.mark.slow
@pytest.mark.parametrize("seed", [1, 2, 3])
def test_learns_cartpole(tmp_path, seed):
    pqn.train(quick(tmp_path, "CartPole", seed=seed))
    assert evaluations(tmp_path / f"CartPole-v1/pqn-{seed}")[-1] >= 475


class Forever(gymnasium.Env):
    """Nothing to see, and a reward of 1 for whatever one does."""

    observation_space, action_space = gymnasium.spaces.Box(-1, 1, (2,)), gymnasium.spaces.Discrete(2)

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        return np.ones(2, np.float32), {}

    def step(self, action):
        return np.ones(2, np.float32), 1.0, False, False, {}


@pytest.fixture
def forever():
    gymnasium.register("Forever-v0", Forever, max_episode_steps=3)
    yield "Forever-v0"
    del gymnasium.registry["Forever-v0"]


class Late(Forever):
    """It shows whether a game has begun: the first step costs 10."""

    def reset(self, *, seed=None, options=None):
        self.begun = False
        return 0 * super().reset(seed=seed)[0], {}

    def step(self, action):
        cost, self.begun = 0.0 if self.begun else 11.0, True
        return np.ones(2, np.float32), 1.0 - cost, False, False, {}


def test_a_game_that_was_cut_leads_to_its_own_last_state(tmp_path):
    """A state that goes on is worth 2, the first -10 + 1; were the next game's first what follows, -2.4 and -11.2."""
    gymnasium.register("Late-v0", Late, max_episode_steps=3)
    try:
        asked = dict(steps=8_000, discount=0.5, evaluate_every=0, learning_rate=5e-3, film_seconds=0.0)
        pqn.train(quick(tmp_path, "Late-v0", **asked))
    finally:
        del gymnasium.registry["Late-v0"]
    lines = [json.loads(line) for line in (tmp_path / "Late-v0/pqn-1/metrics.jsonl").read_text().splitlines()]
    assert lines[-1]["value/mean"] == pytest.approx((2 + 2 - 9) / 3, abs=0.6)


def test_no_limit_of_the_gradient(tmp_path):
    pqn.train(quick(tmp_path, steps=512, max_grad_norm=0.0))
    end = torch.load(tmp_path / "Catch/pqn-1/checkpoint/000000000512.pt", weights_only=True)["parts"]["network"]
    pqn.train(quick(tmp_path, steps=512, max_grad_norm=0.0, learning_rate=0.0, name="still"))
    begin = torch.load(tmp_path / "Catch/still/checkpoint/000000000512.pt", weights_only=True)["parts"]["network"]
    assert not any(torch.equal(begin[name], end[name]) for name in begin)


def test_a_time_limit_is_bootstrapped(tmp_path, forever):
    """A reward of 1 a step for ever is worth 1 / (1 - discount), though every game is cut short."""
    pqn.train(quick(tmp_path, forever, steps=8_000, discount=0.5, evaluate_every=10**9, learning_rate=5e-3))
    lines = [json.loads(line) for line in (tmp_path / forever / "pqn-1/metrics.jsonl").read_text().splitlines()]
    assert lines[-1]["value/mean"] == pytest.approx(2, abs=0.1)


@pytest.mark.parametrize("optimizer", ["radam", "muon"])
def test_killed_run_ends_as_if_it_had_not_been(optimizer, tmp_path, kill, same_ends):
    changes = dict(steps=4096, evaluate_every=1024, save_every=0.2, log_every=100, film_seconds=0.0)
    changes["optimizer"] = optimizer
    kill("agents.pqn", env="Catch", **changes)
    for name in ("killed", "whole"):
        pqn.train(quick(tmp_path, name=name, **changes))
    same_ends("network", "optimizer")


def test_transfers_a_backbone_of_another_run(tmp_path):
    """A backbone saved without a norm is built as it was, and keeps its weights when frozen."""
    backbone = backbones.build("small", envs.make("Catch", 1).observation_shape)
    backbones.save(backbone, tmp_path / "backbone.safetensors")
    pqn.train(quick(tmp_path, steps=512, backbone=str(tmp_path), frozen=True))
    end = torch.load(tmp_path / "Catch/pqn-1/checkpoint/000000000512.pt", weights_only=True)["parts"]["network"]
    for key, weight in backbone.state_dict().items():
        assert torch.equal(end[f"backbone.{key}"], weight), f"{key} of a frozen backbone has moved"
    assert "hidden.1.bias" in end, "the head has its norm nevertheless"
