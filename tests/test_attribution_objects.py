"""Attribution scores on Atari: boxes in the agent's picture, scores by hand, states in play, the sanity check."""

import dataclasses
import json

import pytest
import torch
from torch import nn

import agents
import envs
from agents import dqn, ppo
from agents.studies import attribution_objects
from envs import objects
from envs.objects.scene import Object

WHOLE = (0, 0, objects.WIDTH, objects.HEIGHT)


def trained(module, folder, env="Pong", **changes):
    small = dict(
        backbone="small", width=0.25, hidden=16, wandb="disabled", device="cpu", film_seconds=0.0, steps=32,
        evaluate_every=32, evaluate_games=1, evaluate_steps=16, threads=1,
    )  # fmt: skip
    config = dataclasses.replace(module.recipe(module.Config(env=env)), **small, folder=folder, **changes)
    module.train(config)
    return next((folder / env).iterdir())


def found(name, box):
    return Object(name, box, ((1, 2, 3),), WHOLE, 0)


def test_masks_are_boxes_in_pixels_of_the_agents_picture():
    there = [found("ball", (0, 0, 20, 50)), found("ball", (80, 105, 120, 210)), found("player", (158, 208, 160, 210))]
    masks = attribution_objects.masks_of(there, (21, 16), 0.0)  # a tenth of the screen's sides
    # a pixel whose middle lies on a box's upper edge belongs to it: row 10 of the second ball
    assert masks["ball"].sum() == 2 * 5 + 4 * 11 and masks["ball"][:5, :2].all() and masks["ball"][10:, 8:12].all()
    assert "player" not in masks  # a fifth of a pixel holds no middle of one
    wider = attribution_objects.masks_of(there, (21, 16), 1.0)
    assert wider["player"].nonzero().tolist() == [[20, 15]] or wider["player"].sum() == 1
    assert torch.equal(wider[attribution_objects.ANY], wider["ball"] | wider["player"])


def test_scores_by_hand():
    heat = torch.zeros(4, 4)
    heat[0, 0], heat[3, 3] = 3.0, 1.0
    first, other = torch.zeros(4, 4, dtype=torch.bool), torch.zeros(4, 4, dtype=torch.bool)
    first[0, :2], other[3, 3] = True, True
    scores = attribution_objects.score(heat, {"first": first, "other": other})
    assert scores["first"] == {"pointing": 1.0, "mass": 0.75, "rank": 0.5, "chance": 0.125}
    assert scores["other"] == {"pointing": 0.0, "mass": 0.25, "rank": 0.0, "chance": 0.0625}
    nothing = attribution_objects.score(torch.zeros(4, 4), {"first": first})["first"]
    assert nothing == {"pointing": 0.0, "mass": 0.0, "rank": 0.0, "chance": 0.125}


@pytest.mark.parametrize("module, changes", [(dqn, dict(learn_start=16, worlds=2)), (ppo, dict(worlds=2, rollout=8))])
def test_a_run_is_scored(module, changes, tmp_path):
    run = trained(module, tmp_path, **changes)
    out = tmp_path / "scores.json"
    asked = attribution_objects.Config(
        run, methods=("saliency", "hirescam"), states=3, every=12, sanity_states=2, threads=1, stage=0, out=out
    )
    with pytest.raises(ValueError, match="at least two are needed"):
        dataclasses.replace(asked, sanity_draws=1).validate()
    scores = attribution_objects.main(asked)
    assert set(scores) == {"saliency", "hirescam"}
    for classes in scores.values():
        assert classes["player"]["states"] > 0 and set(classes) <= {*objects.GAMES["Pong"].classes, "any object"}
        whole = classes["any object"]
        assert 0 < whole["chance"] < 0.2 and 0 <= whole["pointing"] <= 1 and -1 <= whole["output layer"].mean <= 1
        assert whole["mass"] >= classes["player"]["mass"] * classes["player"]["states"] / whole["states"] - 1e-6
    record = json.loads(out.read_text(encoding="utf-8"))
    assert len(record["trials"]) == sum(len(classes) for classes in scores.values())
    whole = next(trial for trial in record["trials"] if trial["objects"] == "any object")
    assert whole["output layer"].keys() == {"mean", "low", "high", "passes", "empty"}
    assert whole["passes"] in (True, False)
    assert "| saliency | any object |" in out.with_suffix(".md").read_text(encoding="utf-8")


def test_random_weights_are_put_back(tmp_path):
    agent = agents.load(trained(dqn, tmp_path, learn_start=16, worlds=2), device="cpu")
    world = agent.world(1)
    observation = world.observation
    world.close()
    before = {name: value.clone() for name, value in agent.policy.network.state_dict().items()}
    model = attribution_objects.ScoresOf(agent.policy)
    torch.testing.assert_close(model(observation), agent.policy.scores(observation))
    checked = attribution_objects.sanity("saliency", agent.policy, [observation, observation], 2, 1)
    assert set(checked) == {"output layer", "all layers"} and checked["all layers"].mean < 0.99
    for name, value in agent.policy.network.state_dict().items():
        assert torch.equal(value, before[name]), name


def test_the_output_layer_of_an_actor_critic_is_not_its_critic(tmp_path):
    agent = agents.load(trained(ppo, tmp_path, worlds=2, rollout=8), device="cpu")
    layers = dict(attribution_objects.ScoresOf(agent.policy).named_modules())
    assert isinstance(layers["network.value"], nn.Linear)  # the name by which it is skipped


def test_other_games_and_methods_are_refused(tmp_path):
    with pytest.raises(ValueError, match="unknown --methods salience"):
        attribution_objects.main(attribution_objects.Config(tmp_path, methods=("salience",)))
    run = trained(dqn, tmp_path, env="Catch", learn_start=16, worlds=2)
    with pytest.raises(ValueError, match="objects are known in Pong"):
        attribution_objects.main(attribution_objects.Config(run))


def test_an_agents_world_takes_further_options(tmp_path):
    agent = agents.load(trained(dqn, tmp_path, learn_start=16, worlds=2), device="cpu")
    world = agent.world(1, ram=True)
    assert world.ram.shape == (1, 128) and isinstance(world, envs.World)
    world.close()
