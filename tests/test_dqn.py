"""DQN: its equations by hand, its schedule, its learning, its resume."""

import dataclasses
import importlib
import json
import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch

import envs
from agents import dqn, q_learning, watch
from agents.config import build_backbone
from agents.evaluation import play
from agents.networks.q_network import QNetwork
from vision import backbones
from vision.backbones.layers.pixel_conv import PixelConv2d

ROOT = Path(__file__).resolve().parent.parent


def quick(tmp_path, env="Catch", recipe=None, **changes):
    config = (recipe or dqn.recipe)(dqn.Config(env=env))
    return dataclasses.replace(config, folder=tmp_path, wandb="disabled", **changes)


def evaluations(folder):
    lines = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
    return [line["eval/return"] for line in lines if "eval/return" in line]


def test_target_by_hand():
    reward, discount = torch.tensor([1.0, -1.0, 0.5]), torch.tensor([0.9, 0.9, 0.0])
    next_values = torch.tensor([[1.0, 3.0], [2.0, -2.0], [10.0, 20.0]])
    assert torch.allclose(dqn.td_target(reward, discount, next_values), torch.tensor([3.7, 0.8, 0.5]))
    online_next_values = torch.tensor([[5.0, 0.0], [0.0, 5.0], [0.0, 0.0]])  # chooses 0, 1, 0
    expected = torch.tensor([1.0 + 0.9 * 1.0, -1.0 + 0.9 * -2.0, 0.5])
    assert torch.allclose(dqn.td_target(reward, discount, next_values, online_next_values), expected)


def test_loss_by_hand():
    values = torch.tensor([[1.0, 9.0], [9.0, 2.0]], requires_grad=True)
    loss = dqn.td_loss(values, torch.tensor([0, 1]), torch.tensor([1.5, 5.0]))
    assert loss.item() == pytest.approx((0.5 * 0.5**2 + (3.0 - 0.5)) / 2)  # quadratic, then linear beyond 1
    loss.backward()
    assert torch.allclose(values.grad, torch.tensor([[-0.25, 0.0], [0.0, -0.5]]))


def test_epsilon_anneals():
    config = dataclasses.replace(dqn.Config(), learn_start=100, epsilon_steps=1000, epsilon=0.1)
    schedule = config.learn_start, config.epsilon_steps, config.epsilon
    at = [q_learning.epsilon_at(step, *schedule) for step in (0, 100, 600, 1100, 10**6)]
    assert at == pytest.approx([1.0, 1.0, 0.55, 0.1, 0.1])


@pytest.mark.parametrize("name", ["resnet18", "vgg11", "lenet300_100"])
def test_an_agent_with_any_backbone_of_the_zoo(tmp_path, name):
    config = quick(tmp_path, backbone=name, width=0.25)
    world = envs.make("Catch", 2, seed=1, device="cpu")
    network = dqn.build(config, world)
    network(world.observation).square().sum().backward()
    spec = network.backbone.spec
    assert spec.get("stem", "atari") == "atari" and spec["width"] == 0.25 and spec["norm"] == "none"
    assert all(weight.grad is not None for weight in network.parameters())
    assert not any(isinstance(module, torch.nn.BatchNorm2d) for module in network.modules())
    with pytest.raises(ValueError, match=f"{name}.* has no option 'spectral'"):
        build_backbone(dataclasses.replace(config, spectral=True), world)


def test_updates_drawn_together_are_the_same_updates(tmp_path):
    ends = []
    for updates in (1, 2):
        short = dict(steps=1_200, learn_every=2, evaluate_every=10_000, updates=updates, name=str(updates))
        dqn.train(quick(tmp_path, **short))  # 4 worlds: two updates fall due at every step
        file = max((tmp_path / "Catch" / str(updates) / "checkpoint").glob("0*.pt"))
        ends.append(torch.load(file, weights_only=True)["parts"]["online"])
    torch.testing.assert_close(ends[0], ends[1], rtol=0, atol=0)


@pytest.mark.parametrize("backbone", ["impala", "mlp", "nature", "small"])
def test_every_backbone_fits_a_q_network(backbone):
    shape = (6,) if backbone == "mlp" else (4, 84, 84)
    network = QNetwork(backbones.build(backbone, shape), shape, actions=3, hidden=16)
    observation = torch.randn(2, 6) if backbone == "mlp" else torch.randint(256, (2, *shape), dtype=torch.uint8)
    assert network(observation).shape == (2, 3)


def test_overfits_one_batch():
    torch.manual_seed(0)
    network = QNetwork(backbones.build("nature", (4, 84, 84)), (4, 84, 84), actions=4, hidden=64)
    observation = torch.randint(256, (16, 4, 84, 84), dtype=torch.uint8)
    action, target = torch.randint(4, (16,)), torch.randn(16)
    optimizer = torch.optim.Adam(network.parameters(), lr=1e-3)
    for _ in range(60):
        loss = dqn.td_loss(network(observation), action, target)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    assert loss.item() < 1e-3


@pytest.mark.parametrize("double", [False, True])
def test_learning_moves_every_weight(tmp_path, double):
    config = quick(tmp_path, "Breakout", steps=480, learn_start=320, capacity=2000, worlds=8, batch=16, double=double)
    dqn.train(config)
    end = torch.load(tmp_path / "Breakout/dqn-1/checkpoint/000000000480.pt", weights_only=True)["parts"]["online"]
    torch.manual_seed(config.seed)
    begin = dqn.build(config, envs.make("Breakout", 1)).state_dict()
    still = [name for name in begin if torch.equal(begin[name], end[name])]
    assert not still, f"not learned: {still}"


def test_continuous_actions_are_refused(tmp_path):
    with pytest.raises(ValueError, match="discrete actions"):
        dqn.train(quick(tmp_path, "Pendulum"))


def test_learns_catch(tmp_path):
    began = time.process_time()  # of one thread; what else the machine does is not DQN's fault
    dqn.train(quick(tmp_path))
    assert evaluations(tmp_path / "Catch/dqn-1")[-1] >= 0.95
    assert time.process_time() - began < 60


def test_learns_cartpole(tmp_path):
    dqn.train(quick(tmp_path, "CartPole"))
    assert max(evaluations(tmp_path / "CartPole-v1/dqn-1")) >= 475


def test_same_seed_same_run(tmp_path):
    for name in ("a", "b"):
        dqn.train(quick(tmp_path, "Breakout", name=name, steps=1200, learn_start=400, capacity=2000, log_every=100))
    logs = [(tmp_path / "Breakout" / name / "metrics.jsonl").read_bytes() for name in ("a", "b")]
    assert logs[0] == logs[1] and b"loss/td" in logs[0]


def command(folder, name, env, *flags):
    return [sys.executable, "-m", "agents.dqn", "--env", env, "--folder", str(folder), "--name", name] + [
        "--wandb", "disabled", *flags
    ]  # fmt: skip


def killed_and_whole(tmp_path, env, kills, pause, *flags):
    """Run once through, and once killed (SIGKILL) at random moments and started again each time."""
    chance = random.Random(0)
    subprocess.run(command(tmp_path, "whole", env, *flags), cwd=ROOT, check=True, capture_output=True)
    for _ in range(kills):
        program = subprocess.Popen(
            command(tmp_path, "killed", env, *flags),
            cwd=ROOT,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        time.sleep(chance.uniform(*pause))
        program.send_signal(signal.SIGKILL)
        program.wait()
    last = subprocess.run(command(tmp_path, "killed", env, *flags), cwd=ROOT, capture_output=True, text=True)
    folders = [next(tmp_path.glob(f"*/{name}")) for name in ("whole", "killed")]
    if last.returncode:  # the last kill came after the end: the run says that it is finished
        assert "is finished" in last.stderr, last.stderr
    metrics = [(folder / "metrics.jsonl").read_bytes() for folder in folders]
    assert metrics[0] == metrics[1]
    ends = [sorted((folder / "checkpoint").glob("0*.pt"))[-1] for folder in folders]
    parts = [torch.load(path, weights_only=True)["parts"]["online"] for path in ends]
    assert ends[0].name == ends[1].name and parts[0].keys() == parts[1].keys()
    assert all(torch.equal(parts[0][key], parts[1][key]) for key in parts[0])


def test_killed_run_ends_as_if_it_had_not_been(tmp_path):
    flags = "--steps 3000 --learn-start 500 --evaluate-every 1000 --save-every 0.2 --log-every 100".split()
    killed_and_whole(tmp_path, "Catch", 2, (4.0, 8.0), *flags)


@pytest.mark.slow
def test_killed_ten_times_on_breakout(tmp_path):
    flags = "--steps 12000 --learn-start 2000 --capacity 4000 --evaluate-every 5000 --evaluate-games 2".split()
    killed_and_whole(tmp_path, "Breakout", 10, (5.0, 25.0), *flags, "--save-every", "3", "--log-every", "500")


def test_transfers_a_backbone_into_another_run(tmp_path):
    dqn.train(quick(tmp_path, steps=1200, evaluate_every=600))
    backbone = tmp_path / "Catch/dqn-1"
    saved = backbones.load(backbone / "backbone.safetensors").state_dict()
    dqn.train(quick(tmp_path, steps=1200, name="transferred", backbone=str(backbone), frozen=True))
    best = torch.load(tmp_path / "Catch/transferred/checkpoint/000000001200.pt", weights_only=True)["parts"]["online"]
    for key, weight in saved.items():
        assert torch.equal(best[f"backbone.{key}"], weight), f"{key} of a frozen backbone has moved"


@pytest.mark.parametrize("program", ["dqn", "rainbow", "r2d2", "pqn", "ppo", "a2c", "reinforce", "soft_attention"])
def test_every_agent_subtracts_the_mean_observation(tmp_path, capsys, program):
    module = importlib.import_module(f"agents.{program}")
    short = dict(steps=1_600, evaluate_every=800, evaluate_games=2)
    asked = module.recipe(module.Config(env="Catch"))
    asked = dataclasses.replace(asked, folder=tmp_path, wandb="disabled", subtract_mean=True, **short)
    module.train(asked)
    (folder,) = (tmp_path / "Catch").iterdir()
    backbone = backbones.load(folder)
    (picture,) = (m.mean_observation for m in backbone.modules() if isinstance(m, PixelConv2d))
    shown = picture[-1, ::4, ::4].float()  # 10 x 10 cells; the ball is anywhere, the paddle in the last row
    assert backbone.spec["subtracts_mean"] and (shown[:-1] > 0).all() and shown[-1].sum() > 128 * 0.9
    watch.main(watch.Config(folder, games=2, film=False))
    assert "best weights, of step" in capsys.readouterr().out
    module.train(dataclasses.replace(asked, backbone=str(folder), name="transferred", steps=800, subtract_mean=False))
    (again,) = (
        m.mean_observation
        for m in backbones.load(tmp_path / "Catch/transferred").modules()
        if isinstance(m, PixelConv2d)
    )
    assert torch.equal(picture, again)


def test_watch_says_whose_weights_play_and_one_game_has_no_interval(tmp_path, capsys):
    dqn.train(quick(tmp_path, "Catch", dqn.recipe, steps=800, learn_start=400, evaluate_every=0))
    folder = tmp_path / "Catch/dqn-1"
    watch.main(watch.Config(folder, games=1, film=False))
    line = json.loads((folder / "watch.jsonl").read_text())
    assert (line["checkpoint"], line["low"], line["high"]) == ("last", None, None)
    message = capsys.readouterr().out
    assert "last weights, of step 800, 1 games of Catch" in message and "interval" not in message


@pytest.mark.parametrize("flag", [dict(protocol="sticky"), dict(frame_skip=2), dict(color=True)])
def test_ataris_flags_are_refused_elsewhere(tmp_path, flag):
    with pytest.raises(ValueError, match="it is for Atari games, and Catch is none"):
        dqn.train(quick(tmp_path, "Catch", dqn.recipe, **flag))


def test_play_gives_each_world_its_share():
    world = envs.make("Catch", 3, seed=5, device="cpu")
    scores = play(lambda observation, transition: torch.ones(3, dtype=torch.int64), world, games=7)
    assert len(scores["return"]) == len(scores["length"]) == 7
    assert set(scores["return"]) <= {-1.0, 1.0}


@pytest.mark.parametrize(
    "arguments, expected",
    [
        (["--env", "Brakeout"], "did you mean 'Breakout'"),
        (["--env", "CartPole", "--backbone", "natur"], "nature"),
        (["--env", "CartPole", "--device", "cuda:7"], "--device"),
        (["--env", "CartPole", "--learn-every", "0"], "--learn-every 0: it takes 1 or more"),
        (["--env", "CartPole", "--learn-start", "0"], "4 or more"),
    ],
)
def test_typos_are_answered_in_a_sentence(tmp_path, arguments, expected):
    done = subprocess.run(
        [sys.executable, "-m", "agents.dqn", "--folder", str(tmp_path), "--wandb", "disabled", *arguments],
        cwd=ROOT,
        capture_output=True,
        text=True,
        env=os.environ | {"COLUMNS": "200"},
    )
    assert done.returncode == 2 and expected in done.stderr and "Traceback" not in done.stderr, done.stderr
