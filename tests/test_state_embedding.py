"""Maps of an agent's states: what is collected, how states are chosen, and the picture of a run."""

import dataclasses

import pytest
import torch
from torch import nn

import agents
import envs
from agents import dqn, ppo
from agents.studies import state_embedding


def trained(module, folder, **changes):
    small = dict(backbone="small", width=0.5, hidden=16, wandb="disabled", device="cpu", film_seconds=0.0, steps=64)
    config = dataclasses.replace(module.recipe(module.Config(env="Catch")), **small, folder=folder, **changes)
    module.train(dataclasses.replace(config, evaluate_every=64, evaluate_games=1))
    return next((folder / "Catch").iterdir())


@pytest.mark.parametrize("module, changes", [(dqn, dict(learn_start=32)), (ppo, dict(worlds=4, rollout=8))])
def test_a_run_is_drawn(module, changes, tmp_path):
    run = trained(module, tmp_path, **changes)
    asked = state_embedding.Config(run, states=40, every=2, method="pca", frames=5, out=tmp_path / "states.png")
    found = state_embedding.main(asked)
    assert found["states"] == 40 and found["neighbor_difference"] >= 0
    assert (tmp_path / "states.png").read_bytes().startswith(b"\x89PNG")


def test_states_are_what_enters_the_values(tmp_path):
    agent = agents.load(trained(dqn, tmp_path, learn_start=32), device="cpu")
    world = agent.world(1)
    states = state_embedding.collect_states(agent.policy, world, 6, 2)
    values = agent.policy.network.values
    assert states.features.shape == (6, values.in_features) and states.frames.shape[0] == 6
    torch.testing.assert_close(values(states.features).amax(1), states.values)
    with pytest.raises(ValueError, match="does not score"):
        state_embedding.collect_states(lambda observation, transition: None, world, 2, 1)
    world.close()
    rows = envs.make("CartPole", 1)
    with pytest.raises(ValueError, match="no pictures|of pictures"):
        state_embedding.collect_states(agent.policy, rows, 2, 1)
    rows.close()


def test_states_of_an_actor_critic_have_the_critics_values(tmp_path):
    agent = agents.load(trained(ppo, tmp_path, worlds=4, rollout=8), device="cpu")
    world = agent.world(1)
    states = state_embedding.collect_states(agent.policy, world, 5, 1)
    world.close()
    network = agent.policy.network
    torch.testing.assert_close(network.value(states.features).squeeze(1), states.values)
    assert states.features.shape[1] == network.value.in_features


def test_the_last_layer_is_the_one_called_last():
    network = nn.Sequential(nn.Linear(3, 4), nn.ReLU(), nn.Linear(4, 2))
    layer = state_embedding.LastLayer(network)
    given = torch.randn(5, 3)
    network(given)
    torch.testing.assert_close(layer.features, network[1](network[0](given)))
    layer.close()
    layer.features = None
    network(given)
    assert layer.features is None


def test_chosen_states_are_far_apart():
    points = torch.tensor([[0.0, 0], [0.1, 0], [10, 0], [0, 9], [10, 0.1]])
    first, second, third = state_embedding.farthest_points(points, 3)
    assert first == 3 and second in (2, 4) and third in (0, 1)
    assert len(state_embedding.farthest_points(points, 50)) == 5


def test_values_of_neighbors_differ_less_where_they_lie_by_value():
    points = torch.arange(50.0)[:, None].repeat(1, 2)
    assert state_embedding.neighbor_difference(points, torch.arange(50.0)) < 0.1
    shuffled = torch.arange(50.0)[torch.randperm(50, generator=torch.Generator().manual_seed(1))]
    assert state_embedding.neighbor_difference(points, shuffled) > 0.6
