"""--recipe paper: the numbers of each program's paper, each looked up in the source that its comment names."""

import dataclasses
import importlib

import pytest

import envs
from agents.config import FAMILIES

PAPERS = {
    ("dqn", "Pong"): dict(  # Mnih 2015, extended data table 1
        steps=50_000_000,  # 200 million frames of 4 a step
        worlds=1,
        capacity=1_000_000,
        learn_start=50_000,
        learn_every=4,
        batch=32,
        learning_rate=2.5e-4,
        anneal_lr=False,
        discount=0.99,
        target_update_every=40_000,
        clip_reward=True,
        huber=True,
        epsilon=0.1,
        epsilon_steps=1_000_000,
        double=False,
        evaluate_epsilon=0.05,
        stack=0,  # the world's 4
        hidden=512,
        width=1.0,
    ),
    ("rainbow", "Pong"): dict(  # Hessel 2018, table 1
        steps=50_000_000,
        worlds=1,
        capacity=1_000_000,
        learn_start=20_000,  # 80,000 frames
        learn_every=4,
        batch=32,
        learning_rate=6.25e-5,
        anneal_lr=False,
        adam_epsilon=1.5e-4,
        discount=0.99,
        target_update_every=8_000,  # 32,000 frames
        priority_exponent=0.5,
        importance_exponent=0.4,
        n_step=3,
        sigma=0.5,
        distribution="c51",
        atoms=51,
        v_min=-10.0,
        v_max=10.0,
        double=True,
        dueling=True,
        noisy=True,
        norm="none",
        subtract_mean=False,
        evaluate_epsilon=0.0,
    ),
    ("pqn", "Pong"): dict(  # purejaxql, config/alg/pqn_atari.yaml
        steps=50_000_000,
        worlds=128,
        rollout=32,
        epochs=2,
        minibatches=32,
        norm="layer",
        width=1.0,
        learning_rate=2.5e-4,
        anneal_lr=False,
        discount=0.99,
        td_lambda=0.65,
        max_grad_norm=10.0,
        clip_reward=True,
        epsilon=0.001,
        epsilon_fraction=0.1,
        evaluate_epsilon=0.0,
    ),
    ("r2d2", "Pong"): dict(  # Kapturowski 2019, section 2.3 and the table of hyperparameters
        worlds=256,
        capacity=4_000_000,
        learn_start=50_000,  # Horgan et al. 2018, on which R2D2 builds
        batch=64,
        burn_in=40,
        length=80,
        n_step=5,
        learn_every=3_328,  # 256 players x 260 frames a second / 4 frames a step / 5 updates a second
        target_update_every=2_500 * 3_328,
        learning_rate=1e-4,
        adam_epsilon=1e-3,
        discount=0.997,
        priority_exponent=0.9,
        importance_exponent=0.6,
        eta=0.9,
        clip_reward=False,
        double=True,
        lstm_units=512,
        norm="none",
        subtract_mean=False,
    ),
    ("apex", "Pong"): dict(  # Horgan 2018, sections 4.1 and C
        steps=5_700_000_000,  # 22.8 billion frames
        actors=360,
        worlds=1,
        rollout=50,
        capacity=2_000_000,
        learn_start=50_000,
        learn_every=658,  # 12,500 transitions and 19 batches a second
        publish_every=1,
        batch=512,
        learning_rate=6.25e-5,
        anneal_lr=False,
        adam_epsilon=1.5e-7,
        max_grad_norm=40.0,
        discount=0.99,
        n_step=3,
        target_update_every=2_500,
        priority_exponent=0.6,
        importance_exponent=0.4,
        anneal_importance=False,
        epsilon=0.4,
        epsilon_exponent=7.0,
        clip_reward=True,
        hidden=512,
    ),
    ("a2c", "Pong"): dict(  # Mnih 2016, section 8
        worlds=16,
        rollout=5,
        hidden=256,
        gae_lambda=1.0,
        anneal_lr=True,
        discount=0.99,
        entropy=0.01,
        decay=0.99,
        max_grad_norm=0.0,
    ),
    ("ppo", "Pong"): dict(  # Schulman 2017, table 5
        steps=10_000_000,
        worlds=8,
        rollout=128,
        epochs=3,
        minibatches=4,  # of 32 x 8
        learning_rate=2.5e-4,
        anneal_lr=True,
        discount=0.99,
        gae_lambda=0.95,
        clip=0.1,
        clip_value=False,
        value_weight=2.0,  # c1 = 1
        entropy=0.01,
        width=1.0,
        norm="none",
    ),
    ("ppo", "HalfCheetah"): dict(  # Schulman 2017, table 3
        steps=1_000_000,
        worlds=1,
        rollout=2_048,
        epochs=10,
        minibatches=32,  # of 64
        learning_rate=3e-4,
        anneal_lr=False,
        discount=0.99,
        gae_lambda=0.95,
        clip=0.2,
        clip_value=False,
        entropy=0.0,
    ),
    ("reinforce", "CartPole"): dict(  # Williams 1992 gives the algorithm and no other numbers
        credit="return",
        baseline="moving",
        normalize_advantages=False,
        max_grad_norm=0.0,
        entropy=0.0,
        anneal_lr=False,
    ),
    ("soft_attention", "Pong"): dict(  # Mott 2019: the network
        width=1.0,
        norm="none",
        stack=1,
        lstm_units=256,
        queries=4,
        keys=8,
        values=120,
        basis=4,
    ),
}
OURS = {"log_every", "evaluate_every", "evaluate_games", "evaluate_first", "stack"}  # of no paper
SOFT = {"steps", "worlds", "rollout", "minibatches", "learning_rate", "level"}  # of PPO, where the paper has IMPALA
CONTINUOUS = {"normalize_observations", "scale_rewards", "hidden", "separate_critic", "evaluate_greedy"}
CONTROL = {"steps", "worlds", "hidden", "separate_critic", "value_updates", "learning_rate"}
KEPT = {
    ("r2d2", "Pong"): {"epsilon_steps"},  # the paper's players have a constant exploration each
    ("soft_attention", "Pong"): SOFT,
    ("ppo", "HalfCheetah"): CONTINUOUS,
    ("reinforce", "CartPole"): CONTROL,
}


def recipe(name, env, which):
    if env == "HalfCheetah":
        pytest.importorskip("mujoco")
    program = importlib.import_module(f"agents.{name}")
    config = program.recipe(program.Config(env=env, recipe=which))
    config.validate()
    return config


@pytest.mark.parametrize("name, env", PAPERS)
def test_numbers_of_the_paper(name, env):
    config = recipe(name, env, "paper")
    assert {key: getattr(config, key) for key in PAPERS[name, env]} == PAPERS[name, env]
    assert config.recipe == "paper" and config != dataclasses.replace(recipe(name, env, "default"), recipe="paper")


@pytest.mark.parametrize("name, env", PAPERS)
def test_nothing_of_the_default_recipe_is_left(name, env):
    """What the default recipe changes is either the paper's, or of a kind that the paper does not have."""
    default, paper = recipe(name, env, "default"), recipe(name, env, "paper")
    usual, family = type(default)(env=env), FAMILIES[envs.describe(env).family]
    left = {
        field.name
        for field in dataclasses.fields(default)
        if getattr(default, field.name) != getattr(usual, field.name)
        and getattr(paper, field.name) == getattr(default, field.name)
    }
    known = PAPERS[name, env].keys() | OURS | KEPT.get((name, env), set()) | family.keys() | {"env"}
    assert left <= known, f"{left - known}: of the default recipe, and neither the paper's nor known to be no matter"


def test_without_a_recipe_of_the_paper():
    with pytest.raises(ValueError, match="--recipe paper: its numbers are for atari, and CartPole is"):
        recipe("dqn", "CartPole", "paper")
    with pytest.raises(ValueError, match="--recipe paper: there are none"):
        recipe("hard_attention", "Pong", "paper")
