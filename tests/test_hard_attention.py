"""Hard attention: its action and location head by hand, its patches, its gradients, its learning, its films."""

import dataclasses
import json
import math
from types import SimpleNamespace

import pytest
import torch

import agents.config
import envs
from agents import hard_attention
from agents.config import estimate_mean_observation
from agents.networks import actor_critic


def evaluations(folder):
    lines = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
    return [line["eval/return"] for line in lines if "eval/return" in line]


def test_state_holds_the_previous_action_and_location():
    network = hard_attention.build(
        hard_attention.recipe(hard_attention.Config(env="Catch")), envs.make("Catch", 2, stack=1)
    )
    state = network.conditioned_on_action(
        network.initial_state(2), torch.tensor([[2.0, 0.3, -1.7], [0.0, -0.5, 0.5]])
    )
    assert state[:, -5:].tolist() == [[0, 0, 1, pytest.approx(0.3), -1], [1, 0, 0, -0.5, 0.5]]


def test_no_location_gradient_into_the_backbone():
    world = envs.make("Catch", 2, stack=1)
    network = hard_attention.build(hard_attention.recipe(hard_attention.Config(env="Catch")), world)
    parameters, _, _ = network.step(world.observation, network.initial_state(2))
    parameters[:, -2:].sum().backward(retain_graph=True)
    taught = [name for name, weight in network.named_parameters() if weight.grad is not None and weight.grad.any()]
    assert taught == ["head.location.weight", "head.location.bias"]
    parameters[:, 0].sum().backward()
    assert all(weight.grad.any() for weight in network.backbone.parameters())


@pytest.mark.slow
def test_learns_catch(tmp_path):
    config = hard_attention.recipe(hard_attention.Config(env="Catch"))
    hard_attention.train(dataclasses.replace(config, folder=tmp_path, wandb="disabled", film_seconds=0.0))
    assert max(evaluations(tmp_path / "Catch/hard_attention-1")) >= 0.8


def test_action_location_head_by_hand():
    world = envs.make("Catch", 2, stack=1)
    torch.manual_seed(0)
    head = hard_attention.ActionLocationHead(4, world, 0.5)
    parameters = torch.tensor([[0.0, math.log(2), 0.0, 0.2, -0.4]])
    action = torch.tensor([[1.0, 0.7, -0.4]])
    density = 2 / math.pi  # of both places at their means, a deviation of 0.5 each: (1 / (0.5 sqrt(2 pi)))^2
    expected = math.log(0.5) + math.log(density) - 0.5 * ((0.7 - 0.2) / 0.5) ** 2
    assert head.log_prob(parameters, action).item() == pytest.approx(expected, abs=1e-5)
    assert head.mode(parameters).tolist() == [[1.0, pytest.approx(0.2), pytest.approx(-0.4)]]
    assert head.environment_action(action).tolist() == [1]
    drawn = head.sample(parameters.expand(4000, -1), torch.Generator().manual_seed(1))
    assert drawn[:, 1].std().item() == pytest.approx(0.5, abs=0.03)
    assert (drawn[:, 0] == 1).float().mean().item() == pytest.approx(0.5, abs=0.03)


@pytest.mark.parametrize(("size", "context"), [(8, False), (7, False), (8, True)])
def test_depends_only_on_its_patches(size, context):
    config = dataclasses.replace(
        hard_attention.recipe(hard_attention.Config(env="Catch")), patch_size=size, scales=2, context=context
    )
    world = envs.make("Catch", 1, stack=1)
    network = hard_attention.build(config, world)
    state = network.initial_state(1)
    state[0, -2:] = torch.tensor([-0.5, 0.5])  # x, y: the middle of the lower left quarter
    seen = network.attention_map(world.observation, state)[0, 0]
    if context:  # the wide window is in the middle, where the fine one covers 2 x 2 pixels of it
        assert (seen == 1).sum() == size**2 and (seen == 0.5).sum() == 4 * size**2 - 2 * 2
        assert (seen[12:28, 12:28] > 0).all()
    else:
        assert (seen == 1).sum() == size**2 and (seen == 0.5).sum() == 3 * size**2
    rows, columns = torch.nonzero(seen == 1).unbind(1)
    odd = size % 2 / 2  # the middle pixel of an odd window is the one after the corner
    assert (rows.float().mean().item(), columns.float().mean().item()) == (29.5 + odd, 9.5 + odd)
    picture = world.observation.clone()
    with torch.no_grad():
        before = network.step(picture, state)[0]
        picture[0, 0][seen == 0] = 255
        assert torch.equal(network.step(picture, state)[0], before)
        for edge in (rows.min(), rows.max()):
            picture = world.observation.clone()
            picture[0, 0, edge, columns.min() : columns.max() + 1] = 255
            assert not torch.equal(network.step(picture, state)[0], before)


def test_a_film_shows_the_location_of_the_same_step():
    config = hard_attention.recipe(hard_attention.Config(env="Catch"))
    world = envs.make("Catch", 1, stack=1)
    network = hard_attention.build(config, world)
    network.head.location.bias.data.fill_(2.0)  # next to the lower right
    player = actor_critic.StochasticPolicy(config, network, seed=1)
    player(world.observation)
    first = network.attention_map(world.observation, network.initial_state(1)).mean(1)
    assert torch.equal(player.attention(world.observation), first)
    player(world.observation, world.step(torch.tensor([1])))
    assert player.attention(world.observation)[0, 39, 39] == 1


def test_subtracts_the_mean_observation(monkeypatch):
    config = dataclasses.replace(
        hard_attention.recipe(hard_attention.Config(env="Catch")), patch_size=20, scales=2, subtract_mean=True
    )
    world = envs.make("Catch", 1, stack=1)
    network, glimpses = hard_attention.build(config, world), []
    network.backbone.register_forward_pre_hook(lambda _, inputs: glimpses.append(inputs[0]))
    monkeypatch.setattr(agents.config, "SAMPLE_STEPS", 40)
    estimate_mean_observation(config, network, SimpleNamespace(resumes=True))
    assert network.mean_observation.max() == 0  # a checkpoint will bring it
    estimate_mean_observation(config, network, SimpleNamespace(resumes=False))
    assert network.mean_observation.shape == (1, 40, 40) and network.mean_observation.max() > 0
    network.step(network.mean_observation[None], network.initial_state(1))
    network.step(network.mean_observation[None] * 0, network.initial_state(1))
    assert (glimpses[0] == 0).all()  # beyond the edges too
    assert torch.allclose(glimpses[1][:, 0], -network.mean_observation[:, 10:30, 10:30].float() / 255)
    another = hard_attention.build(config, world)
    assert another.mean_observation.max() == 0  # black before its estimate
    estimate_mean_observation(dataclasses.replace(config, flicker=0.5), another, SimpleNamespace(resumes=False))
    assert torch.equal(another.mean_observation, network.mean_observation)  # of frames that are lit
