"""Soft attention: its basis and answers by hand, its state, its learning, its films."""

import dataclasses
import json
import math
from types import SimpleNamespace

import numpy as np
import pytest
import torch

import envs
from agents import film, hard_attention, soft_attention, watch
from agents.config import estimate_mean_observation
from agents.networks import actor_critic


def quick(tmp_path, env="Catch", **changes):
    asked = soft_attention.recipe(soft_attention.Config(env=env))
    return dataclasses.replace(asked, folder=tmp_path, wandb="disabled", film_seconds=0.0, **changes)


def evaluations(folder):
    lines = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
    return [line["eval/return"] for line in lines if "eval/return" in line]


def test_spatial_basis_by_hand():
    basis = soft_attention.spatial_basis(3, 5, 2)
    assert basis.shape == (16, 3, 5)
    down = [math.sin, lambda x: math.sin(2 * x), math.cos, lambda x: math.cos(2 * x)]
    for i, first in enumerate(down):
        for j, second in enumerate(down):
            expected = first(math.pi * 0.5) * second(math.pi * 0.75)  # the middle row, the fourth column
            assert basis[4 * i + j, 1, 3].item() == pytest.approx(expected, abs=1e-6)
    flat = basis.flatten(1).T
    assert len(torch.unique(flat, dim=0)) == 15, "every place has a name of its own"


def test_attend_by_hand():
    keys = torch.tensor([[[0.0, math.log(3)]]])  # (1, 1, 2)
    values = torch.tensor([[[1.0, 0.0], [5.0, 8.0]]])  # (1, 2, 2)
    answers, weights = soft_attention.attend(torch.tensor([[[1.0], [0.0]]]), keys, values)
    assert torch.allclose(weights, torch.tensor([[[0.25, 0.75], [0.5, 0.5]]]))
    assert torch.allclose(answers, torch.tensor([[[4.0, 6.0], [3.0, 4.0]]]))


def test_every_weight_is_learned(tmp_path):
    config = quick(tmp_path, "Breakout", steps=96, worlds=4, rollout=8)
    soft_attention.train(config)
    end = torch.load(tmp_path / "Breakout/attention-1/checkpoint/000000000096.pt", weights_only=True)
    end = end["parts"]["network"]
    torch.manual_seed(config.seed)
    begin = soft_attention.build(config, envs.make("Breakout", 1, stack=1)).state_dict()
    still = [key for key in begin if torch.equal(begin[key], end[key])]
    unread = [key for key in still if key.startswith("backbone")]  # maps coarser than the one that is read
    assert set(still) == set(unread) and len(unread) <= 2, f"not learned: {still}"


def test_queries_begin_by_asking_for_something():
    """Somewhere the ball, the paddle or their absence counts for far more than a place does in the mean."""
    world = envs.make("Catch", 8, stack=1)
    torch.manual_seed(0)
    network = soft_attention.build(soft_attention.recipe(soft_attention.Config(env="Catch")), world)
    with torch.inference_mode():
        attention = network.attention_map(world.observation, network.initial_state(8)).flatten(2)  # (8, Q, pixels)
    places = math.prod(network.shape)
    strongest = (attention.amax(2) / attention.sum(2) * network.backbone.strides[-1] ** 2 * places).amax(1)
    assert (strongest > 3).all()
    assert (attention[:, 0] - attention[:, 1]).abs().sum(1).min() > 0.2, "all queries ask the same"


def test_looks_at_the_whole_picture():
    world = envs.make("Breakout", 2, stack=1)
    torch.manual_seed(0)
    network = soft_attention.build(soft_attention.recipe(soft_attention.Config(env="Breakout")), world)
    with torch.no_grad():
        attention = network.attention_map(world.observation, network.initial_state(2))
    assert attention.shape == (2, 4, 84, 84) and torch.allclose(attention.sum((2, 3)), torch.ones(2, 4))
    assert attention[:, :, 6:78, 6:78].sum().item() == pytest.approx(8, abs=1e-4), (
        "nine cells of 8 pixels, in the middle"
    )


def test_gaze_is_told_what_it_did():
    network = hard_attention.build(
        hard_attention.recipe(hard_attention.Config(env="Catch")), envs.make("Catch", 2, stack=1)
    )
    state = network.conditioned_on_action(
        network.initial_state(2), torch.tensor([[2.0, 0.3, -1.7], [0.0, -0.5, 0.5]])
    )
    assert state[:, -5:].tolist() == [[0, 0, 1, pytest.approx(0.3), -1], [1, 0, 0, -0.5, 0.5]]


def test_where_to_look_teaches_no_features():
    world = envs.make("Catch", 2, stack=1)
    network = hard_attention.build(hard_attention.recipe(hard_attention.Config(env="Catch")), world)
    parameters, _, _ = network.step(world.observation, network.initial_state(2))
    parameters[:, -2:].sum().backward(retain_graph=True)
    taught = [name for name, weight in network.named_parameters() if weight.grad is not None and weight.grad.any()]
    assert taught == ["head.place.weight", "head.place.bias"]
    parameters[:, 0].sum().backward()
    assert all(weight.grad.any() for weight in network.backbone.parameters())


def test_what_it_cannot_see_is_refused():
    with pytest.raises(ValueError, match="no picture"):
        soft_attention.recipe(soft_attention.Config(env="CartPole"))


def test_light_is_where_it_looked():
    frame = np.full((20, 40, 3), 200, np.uint8)
    weights = np.zeros((2, 4))
    weights[1, 3] = 1.0
    lit = film.shade_by_attention(frame, weights)
    assert lit.shape == frame.shape and lit[14, 35, 0] >= 198 and lit[2, 2, 0] <= 55


@pytest.mark.slow
def test_gaze_learns_catch(tmp_path):
    config = hard_attention.recipe(hard_attention.Config(env="Catch"))
    hard_attention.train(dataclasses.replace(config, folder=tmp_path, wandb="disabled", film_seconds=0.0))
    assert max(evaluations(tmp_path / "Catch/gaze-1")) >= 0.8


@pytest.mark.slow
def test_learns_catch_and_shows_where_it_looks(tmp_path):
    soft_attention.train(quick(tmp_path))
    folder = tmp_path / "Catch/attention-1"
    assert max(evaluations(folder)) >= 0.9
    watch.main(watch.Config(folder, games=10, device="cpu", film_seconds=3.0))
    assert list((folder / "videos").glob("*.mp4"))


def test_pointing_by_hand():
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
def test_gaze_sees_only_its_windows(size, context):
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


def test_a_film_shows_where_it_looked_not_where_it_will():
    config = hard_attention.recipe(hard_attention.Config(env="Catch"))
    world = envs.make("Catch", 1, stack=1)
    network = hard_attention.build(config, world)
    network.head.place.bias.data.fill_(2.0)  # next to the lower right
    player = actor_critic.StochasticPolicy(config, network, seed=1)
    player(world.observation)
    first = network.attention_map(world.observation, network.initial_state(1)).mean(1)
    assert torch.equal(player.attention(world.observation), first)
    player(world.observation, world.step(torch.tensor([1])))
    assert player.attention(world.observation)[0, 39, 39] == 1


def test_gaze_sees_what_differs_from_the_mean_picture(monkeypatch):
    config = dataclasses.replace(
        hard_attention.recipe(hard_attention.Config(env="Catch")), patch_size=20, scales=2, subtract_mean=True
    )
    world = envs.make("Catch", 1, stack=1)
    network, glimpses = hard_attention.build(config, world), []
    network.backbone.register_forward_pre_hook(lambda _, inputs: glimpses.append(inputs[0]))
    monkeypatch.setattr(config, "SAMPLE_STEPS", 40)
    estimate_mean_observation(config, network, SimpleNamespace(resumes=True))
    assert network.picture.max() == 0  # a checkpoint will bring it
    estimate_mean_observation(config, network, SimpleNamespace(resumes=False))
    assert network.picture.shape == (1, 40, 40) and network.picture.max() > 0
    network.step(network.picture[None], network.initial_state(1))
    network.step(network.picture[None] * 0, network.initial_state(1))
    assert (glimpses[0] == 0).all()  # beyond the edges too
    assert torch.allclose(glimpses[1][:, 0], -network.picture[:, 10:30, 10:30].float() / 255)
    another = hard_attention.build(config, world)
    assert another.picture.max() == 0  # black until it is told
    estimate_mean_observation(dataclasses.replace(config, flicker=0.5), another, SimpleNamespace(resumes=False))
    assert torch.equal(another.picture, network.picture)  # of frames that are lit
