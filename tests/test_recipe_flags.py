"""What programs' recipes keep of the flags asked for, and flags that are refused where they would do nothing."""

import dataclasses

import pytest

import envs
from agents import dqn, ppo, q_learning
from agents.networks import actor_critic
from agents.rainbow import loop as rainbow
from agents.tabular import q_learning as tabular


@pytest.mark.parametrize("program", [dqn, ppo, rainbow])
def test_a_recipe_keeps_the_seed(program):
    assert program.recipe(program.Config(env="CartPole", seed=5)).seed == 5


def test_runs_of_a_sweep_have_folders_of_their_own(monkeypatch):
    """With equal seeds, also where a recipe names the folder."""
    monkeypatch.setenv("WANDB_SWEEP_ID", "sweep")
    names = []
    for run in ("first", "second"):
        monkeypatch.setenv("WANDB_RUN_ID", run)
        names += [
            rainbow.recipe(rainbow.Config(env="Catch", only="c51", seed=3)).name,
            tabular.recipe(tabular.Config(env="FrozenLake", seed=3)).name,
        ]
    assert names == ["c51-3-first", "tabular-q_learning-3-first", "c51-3-second", "tabular-q_learning-3-second"]


def test_flags_that_would_do_nothing_are_refused():
    with pytest.raises(ValueError, match="leave --only c51 out"):
        rainbow.recipe(rainbow.Config(env="Catch", only="c51", recipe="btr"))
    with pytest.raises(ValueError, match="--bonus-low"):
        rainbow.Config(bonus_low=0.5).validate()
    for flags in (dict(slip=0.3), dict(map="maze"), dict(step_reward=-1.0)):
        with pytest.raises(ValueError, match="it is for Gridworld"):
            tabular.world_options(tabular.Config(env="FrozenLake", **flags))
    with pytest.raises(ValueError, match="discrete"):
        config = ppo.recipe(ppo.Config(env="CartPole"))
        actor_critic.build(dataclasses.replace(config, squash=True), envs.make("CartPole", 1))


def test_a_run_says_whether_it_will_be_evaluated():
    config = dqn.recipe(dqn.Config(env="Catch"))
    assert "first evaluation at step 4,000" in q_learning.phases(config)
    short = dataclasses.replace(config, steps=2_000)
    assert "no evaluation: the first would be at step 4,000" in q_learning.phases(short)
