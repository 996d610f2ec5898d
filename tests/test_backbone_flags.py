"""The Q-learning programs' backbone flags: width, norm and spectral norm, in training, resume and transfer."""

import dataclasses
import json

import pytest
import torch
from torch import nn

import envs
from agents import a2c, dqn, ppo, pqn, r2d2
from agents.networks import actor_critic
from agents.networks.q_network import QNetwork
from agents.rainbow import loop as rainbow
from vision import backbones

OPTIONS = dict(backbone="impala", width=0.25, norm="layer", spectral=True)


def quick(tmp_path, module=dqn, env="Catch", **changes):
    config = module.Config(env=env)
    config = module.recipe(config)
    return dataclasses.replace(
        config, folder=tmp_path, wandb="disabled", film_seconds=0.0, evaluate_games=2, **changes
    )


@pytest.mark.parametrize("module", [dqn, rainbow, pqn])
def test_flags_reach_the_network(tmp_path, module):
    world = envs.make("Catch", 2)
    network = module.build(quick(tmp_path, module, **OPTIONS), world)
    assert network.backbone.channels == [4, 8, 8] and network.backbone.spec["spectral"]
    dense = [m for m in network.modules() if isinstance(m, nn.LayerNorm)]
    assert len(dense) == (2 if module is rainbow else 1), "a norm in each of the head's streams"
    assert network(world.observation).shape == (2, world.actions)
    bare = module.build(quick(tmp_path, module, **OPTIONS | dict(norm="none")), world)
    assert not any(isinstance(m, nn.GroupNorm | nn.LayerNorm) for m in bare.modules())
    with pytest.raises(ValueError, match="'small' has no option 'spectral'"):
        module.build(quick(tmp_path, module, **OPTIONS | dict(backbone="small")), world)
    wide = module.build(quick(tmp_path, module, backbone="small", width=1.5, norm="layer"), world)
    assert wide.backbone.channels == [24, 48]


@pytest.mark.parametrize("module", [dqn, rainbow, pqn, r2d2, a2c, ppo])
def test_hadamax_in_every_agent(tmp_path, module):
    """With --norm layer, as the paper has it, or as PQN's own default; without it there is none."""
    world = envs.make("Catch", 2)
    build = actor_critic.build if module in (a2c, ppo) else module.build
    config = module.recipe(module.Config(env="Catch"))
    for norm in ("layer", "none"):
        network = build(dataclasses.replace(config, backbone="hadamax", norm=norm), world)
        assert network.backbone.channels == [32, 64, 64]
        assert sum(isinstance(m, nn.GELU) for m in network.modules()) == 3
        assert sum(isinstance(m, nn.GroupNorm) for m in network.modules()) == (3 if norm == "layer" else 0)


def test_overfits_one_batch():
    torch.manual_seed(0)
    backbone = backbones.build("impala", (4, 36, 36), norm="layer", spectral=True)
    network = QNetwork(backbone, (4, 36, 36), actions=4, hidden=64)
    observation = torch.randint(256, (16, 4, 36, 36), dtype=torch.uint8)
    action, target = torch.randint(4, (16,)), torch.randn(16)
    optimizer = torch.optim.Adam(network.parameters(), lr=1e-3)
    for _ in range(80):
        loss = dqn.td_loss(network(observation), action, target)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    assert loss.item() < 1e-3


@pytest.mark.parametrize("module", [dqn, rainbow, pqn])
def test_killed_run_ends_as_if_it_had_not_been(tmp_path, module, monkeypatch, same_ends):
    """In bfloat16, with acting, evaluating and target copies between the updates."""
    train = rainbow.train if module is rainbow else module.train
    changes = OPTIONS | dict(steps=512, log_every=64, evaluate_every=256, save_every=0.0, bf16=True)
    changes |= dict(rollout=4) if module is pqn else dict(learn_start=128, target_update_every=64, learn_every=16)
    evaluate = module.evaluate_and_save

    def kill(*_, **__):
        raise MemoryError("killed")

    monkeypatch.setattr(module, "evaluate_and_save", kill)
    with pytest.raises(MemoryError, match="killed"):
        train(quick(tmp_path, module, name="killed", **changes))
    monkeypatch.setattr(module, "evaluate_and_save", evaluate)
    for name in ("killed", "whole"):
        train(quick(tmp_path, module, name=name, **changes))
    same_ends("network" if module is pqn else "online")


def test_pretrained_backbones_keep_their_options(tmp_path):
    changes = dict(steps=512, learn_start=128, learn_every=32, evaluate_every=256)
    dqn.train(quick(tmp_path, **OPTIONS, **changes))
    backbone = tmp_path / "Catch/dqn-1"
    saved = backbones.load(backbone)
    assert {key: saved.spec[key] for key in OPTIONS if key != "backbone"} | {"backbone": "impala"} == OPTIONS
    dqn.train(quick(tmp_path, name="frozen", backbone=str(backbone), frozen=True, **changes))
    end = torch.load(tmp_path / "Catch/frozen/checkpoint/000000000512.pt", weights_only=True)["parts"]["online"]
    for key, value in saved.state_dict().items():
        assert torch.equal(end[f"backbone.{key}"], value), f"{key} of a frozen backbone has moved"
    dqn.train(quick(tmp_path, name="fine-tuned", backbone=str(backbone), **changes))
    line = json.loads((tmp_path / "Catch/fine-tuned/config.json").read_text())
    assert line["config"]["norm"] == "none" and backbones.load(tmp_path / "Catch/fine-tuned").spec["norm"] == "layer"
