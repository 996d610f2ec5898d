"""Explanations of agents: maps for the chosen action of every kind of policy, and the film that shows them."""

import dataclasses
import json

import imageio.v3 as imageio
import numpy as np
import pytest
import torch

import agents
import envs
from agents import a2c, dqn, explanations, ppo, r2d2, soft_attention, watch
from agents.networks import actor_critic, q_network, recurrent_q
from agents.q_learning import make_policy
from vision.interpretation import class_activation

WORLDS = 2


def policy_of(kind):
    """A policy with random weights on Catch, and its world, after a step."""
    torch.manual_seed(0)
    world = envs.make("Catch", WORLDS, seed=1, device=torch.device("cpu"))
    small = dict(env="Catch", backbone="small", width=0.5, hidden=16)
    if kind == "values":
        config = dataclasses.replace(dqn.recipe(dqn.Config(env="Catch")), **small)
        policy = make_policy(config, q_network.build(config, world), 1)
    elif kind == "recurrent values":
        config = dataclasses.replace(r2d2.recipe(r2d2.Config(env="Catch")), **small, lstm_units=16)
        policy = recurrent_q.make_policy(config, recurrent_q.build(config, world), 1)
    elif kind == "soft attention":
        config = dataclasses.replace(
            soft_attention.recipe(soft_attention.Config(env="Catch")), **small, lstm_units=16
        )
        policy = actor_critic.StochasticPolicy(config, soft_attention.build(config, world), 1)
    else:
        recurrent = {"lstm_units": 16} if kind == "recurrent policy" else {}
        program = ppo if recurrent else a2c
        config = dataclasses.replace(program.recipe(program.Config(env="Catch")), **small, **recurrent)
        policy = actor_critic.StochasticPolicy(config, actor_critic.build(config, world), 1)
    policy(world.observation, None)
    transition = world.step(torch.zeros(WORLDS, dtype=torch.int64))
    policy(world.observation, transition)
    return policy, world


KINDS = ("values", "recurrent values", "policy", "recurrent policy")


@pytest.mark.parametrize("kind", KINDS)
def test_every_policy_is_explained_by_every_method(kind):
    policy, world = policy_of(kind)
    size = world.observation.shape[2:]
    for method in explanations.EXPLANATIONS.keys() - {"attention"}:
        with torch.inference_mode():
            found, scores = explanations.explain(method, policy, world.observation[:1])
        assert found.shape == (1, *size) and found.isfinite().all() and (found >= 0).all(), method
        assert scores.shape == (1, world.actions) and found.max() > 0 or method in explanations.OF_A_MAP
    assert all(weight.grad is None for weight in policy.network.parameters())
    world.close()


def test_class_activation_maps_are_of_the_stage_asked_for():
    policy, world = policy_of("values")
    model, observation, action = explanations.ActionScores(policy), world.observation[:1], torch.tensor([0])
    for method, function in (("gradcam", class_activation.grad_cam), ("hirescam", class_activation.hires_cam)):
        fine = explanations.attribute(method, model, observation, action, 0)
        torch.testing.assert_close(fine, function(model, observation, action, 0))
        best, scores = explanations.explain(method, policy, observation, 0)
        torch.testing.assert_close(best, function(model, observation, scores.argmax(1), 0))
        assert not torch.equal(fine, explanations.attribute(method, model, observation, action))
    world.close()


def test_soft_attention_is_explained_by_itself():
    policy, world = policy_of("soft attention")
    found, scores = explanations.explain("attention", policy, world.observation)
    assert found.shape == (WORLDS, *world.observation.shape[2:]) and scores.shape == (WORLDS, world.actions)
    torch.testing.assert_close(found, policy.attention(world.observation))
    torch.testing.assert_close(found.sum((1, 2)), torch.ones(WORLDS), rtol=1e-2, atol=1e-2)
    assert explanations.explain("perturbation", policy, world.observation[:1])[0].max() > 0
    world.close()


def test_scores_are_those_that_the_policy_acts_by():
    policy, world = policy_of("values")
    assert torch.equal(policy.scores(world.observation), policy.network(world.observation))
    policy, _ = policy_of("recurrent policy")
    stepped = policy.network.step(world.observation[:1], policy._before[:1].clone())[0]
    torch.testing.assert_close(policy.scores(world.observation[:1]), stepped)
    assert policy._before.any()  # of a state that the first step has left
    policy, _ = policy_of("recurrent values")
    twice = policy.scores(world.observation[:1].repeat(2, 1, 1, 1))
    torch.testing.assert_close(twice[0], twice[1])


def test_the_map_finds_what_the_score_depends_on():
    """A network that sees the upper left pixel of a picture alone."""

    class Corner(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.backbone = torch.nn.Identity()

    def scores(x):
        x = x.float()
        return torch.stack([x[:, 0, 2, 2], -x[:, 0, 2, 2]], 1)

    def policy(observation, transition=None):
        return torch.zeros(len(observation), dtype=torch.int64)

    policy.network, policy.scores, policy.score_kind = Corner(), scores, "values"
    observation = torch.zeros(1, 1, 20, 20, dtype=torch.uint8)
    observation[0, 0, 2, 2] = 200
    for method in ("saliency", "occlusion", "perturbation"):
        found, _ = explanations.explain(method, policy, observation)
        row, column = divmod(int(found[0].argmax()), 20)
        assert abs(row - 2) <= 1 and abs(column - 2) <= 1, method


def test_what_cannot_be_explained_is_named():
    policy, world = policy_of("values")
    with pytest.raises(ValueError, match="see pictures"):
        explanations.explain("saliency", policy, torch.zeros(1, 4))
    with pytest.raises(ValueError, match="discrete actions"):
        explanations.ActionScores(lambda observation, transition: observation)
    for kind in ("values", "policy"):
        policy, other = policy_of(kind)
        with pytest.raises(ValueError, match="attention is for agents that attend"):
            explanations.explain("attention", policy, other.observation)
        other.close()
    world.close()


def test_watch_films_the_explanation(tmp_path):
    config = dqn.recipe(dqn.Config(env="Catch"))
    small = dict(backbone="small", width=0.5, hidden=16, folder=tmp_path, wandb="disabled", device="cpu")
    dqn.train(dataclasses.replace(config, **small, steps=64, learn_start=32, evaluate_every=0))
    run = tmp_path / "Catch" / "dqn-1"
    shown = watch.Config(run, games=1, device="cpu", film_seconds=0.5, explain="gradcam")
    watch.main(shown)
    (film,) = (run / "videos").glob("watch-last-gradcam-*.mp4")
    frames = imageio.imread(film)
    panel = frames[:-1, :, -60:]
    assert frames.shape[2] > frames.shape[1] // 2 and np.ptp(panel.astype(int)) > 100  # bars and numbers
    assert json.loads((run / "watch.jsonl").read_text())["games"] == 1
    with pytest.raises(ValueError, match="leave --no-film"):
        watch.main(dataclasses.replace(shown, film=False))
    assert agents.load(run).policy.score_kind == "values"
