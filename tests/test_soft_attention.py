"""Soft attention: its spatial basis and attention by hand, its queries, its learning, its films."""

import dataclasses
import json
import math

import numpy as np
import pytest
import torch

import envs
from agents import film, soft_attention, watch


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
    config = quick(tmp_path, "Breakout", steps=96, worlds=4, rollout=8, minibatches=4)
    soft_attention.train(config)
    end = torch.load(tmp_path / "Breakout/soft_attention-1/checkpoint/000000000096.pt", weights_only=True)
    end = end["parts"]["network"]
    torch.manual_seed(config.seed)
    begin = soft_attention.build(config, envs.make("Breakout", 1, stack=1)).state_dict()
    still = [key for key in begin if torch.equal(begin[key], end[key])]
    assert all(key.startswith("backbone.stages.2") for key in still), f"not learned: {still}"  # behind --level 1


def test_initial_queries_are_selective_and_distinct():
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


def test_attention_map_covers_the_whole_image():
    world = envs.make("Breakout", 2, stack=1)
    torch.manual_seed(0)
    network = soft_attention.build(soft_attention.recipe(soft_attention.Config(env="Breakout")), world)
    with torch.no_grad():
        attention = network.attention_map(world.observation, network.initial_state(2))
    assert attention.shape == (2, 4, 84, 84) and torch.allclose(attention.sum((2, 3)), torch.ones(2, 4))
    assert attention[:, :, 6:78, 6:78].sum().item() == pytest.approx(8, abs=1e-4), (
        "nine cells of 8 pixels, in the middle"
    )


def test_worlds_without_images_are_refused():
    with pytest.raises(ValueError, match="no recipe for CartPole"):
        soft_attention.recipe(soft_attention.Config(env="CartPole"))


def test_frames_are_shaded_by_attention():
    frame = np.full((20, 40, 3), 200, np.uint8)
    weights = np.zeros((2, 4))
    weights[1, 3] = 1.0
    lit = film.shade_by_attention(frame, weights)
    assert lit.shape == frame.shape and lit[14, 35, 0] >= 198 and lit[2, 2, 0] <= 55


@pytest.mark.slow
def test_learns_catch_and_films_its_attention(tmp_path):
    soft_attention.train(quick(tmp_path))
    folder = tmp_path / "Catch/soft_attention-1"
    assert max(evaluations(folder)) >= 0.9
    watch.main(watch.Config(folder, games=10, device="cpu", film_seconds=3.0))
    assert list((folder / "videos").glob("*.mp4"))
