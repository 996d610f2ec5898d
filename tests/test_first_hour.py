"""A first hour: short runs learn or say that they do not; the time left once it is known; an early evaluation."""

import dataclasses
from types import SimpleNamespace

import pytest

from agents import dqn, ppo, pqn, r2d2
from agents.rainbow import loop as rainbow
from runs import Run, progress
from tests.test_runs import Config, walk


@pytest.mark.parametrize(
    ("recipe", "flags", "start", "falling"),
    [
        (dqn.recipe, dict(env="Catch"), 1_000, 5_000),
        (dqn.recipe, dict(env="Catch", steps=1_000), 100, 500),
        (dqn.recipe, dict(env="Catch", steps=6_000), 1_000, 5_000),  # as long as exploration: nothing to change
        (dqn.recipe, dict(env="Breakout", steps=3_200), 320, 1_600),  # a tenth, in whole steps of 32 worlds
        (dqn.recipe, dict(env="Breakout", steps=1_000, worlds=64), 128, 500),
        (rainbow.recipe, dict(env="Catch", steps=1_000), 100, 500),
        (r2d2.recipe, dict(env="Catch", steps=200), 48, 100),  # the 12 steps in a row of 4 worlds, which it draws
    ],
)
def test_exploration_ends_before_a_short_run_does(recipe, flags, start, falling):
    program = {rainbow.recipe: rainbow, r2d2.recipe: r2d2}.get(recipe, dqn)
    config = recipe(program.Config(**flags))
    assert (config.learn_start, config.epsilon_steps) == (start, falling)
    dataclasses.replace(config, **flags).validate()


def test_a_memory_smaller_than_a_batch_is_refused():
    config = dqn.recipe(dqn.Config(env="Catch"))
    dataclasses.replace(config, capacity=32).validate()
    for program in (dqn, rainbow, r2d2):
        with pytest.raises(ValueError, match="--capacity 10: an update draws --batch 32 transitions, so 32 or more"):
            program.Config(env="Catch", capacity=10, batch=32, learn_start=1_000).validate()
    with pytest.raises(ValueError, match="--batch 32 times --updates 4 transitions, so 128 or more"):
        dataclasses.replace(config, capacity=100, updates=4).validate()


@pytest.mark.slow
def test_a_run_without_an_update_says_so(tmp_path, capsys):
    config = dataclasses.replace(dqn.recipe(dqn.Config(env="Catch")), folder=tmp_path, wandb="disabled", steps=80)
    dqn.train(dataclasses.replace(config, learn_start=100))
    said = capsys.readouterr().err
    assert "nothing will be learned: --steps 80 end before --learn-start 100" in said
    assert "nothing was learned: the run ended before its first update" in said
    dqn.train(dataclasses.replace(config, learn_start=40, name="learns"))
    said = capsys.readouterr().err
    assert "random actions up to step 40, exploration falls to 0.05 by step 5,040" in said
    assert "nothing was learned" not in said


def test_a_rollout_longer_than_the_run_is_said(tmp_path, capsys):
    config = pqn.recipe(pqn.Config(env="Catch"))
    pqn.train(dataclasses.replace(config, folder=tmp_path, wandb="disabled", steps=40, evaluate_every=0))
    assert "40 steps are fewer than the 256 of one iteration, which is done whole" in capsys.readouterr().err


def test_an_early_first_evaluation_is_one_more(tmp_path):
    run = Run(Config(folder=tmp_path), "tests.walk", "Nowhere")
    run.stride = 16

    def evaluated(every, first):
        found = []
        for run.step in range(0, 320, 16):
            found += [run.step + 16] * len(run.due(every, first))
        return found

    assert evaluated(100, 0) == [112, 208, 304]
    assert evaluated(100, 20) == [32, 112, 208, 304]
    assert evaluated(100, 100) == evaluated(100, 105) == [112, 208, 304]  # not sooner: none of its own
    assert evaluated(0, 20) == []


@pytest.mark.parametrize("program", [dqn, rainbow, r2d2, pqn, ppo])
def test_early_first_evaluation_on_pixels(program):
    config = program.Config(env="Breakout")
    assert 0 < config.evaluate_first <= config.evaluate_every / 4
    assert config.evaluate_first > getattr(config, "learn_start", 0)


def test_the_time_left_is_estimated_once_it_learns(monkeypatch, capsys):
    now = [0.0]
    monkeypatch.setattr(progress, "time", SimpleNamespace(monotonic=lambda: now[0]))
    bar = progress.Bar(10_000, 0, settled=False)
    for step in range(0, 2_000, 20):  # random play: 1,000 steps a second would promise ten seconds
        now[0] += 0.02
        bar.update(step, "")
    assert bar.left() is None and bar.estimate() is None
    bar.restart_clock()
    for step in range(2_000, 2_800, 20):  # 10 steps a second
        now[0] += 2.0
        bar.update(step, "")
    assert bar.left() == pytest.approx((10_000 - 2_780) / 10, rel=0.05)
    assert "the remaining 7,220 steps take about 12 min" in bar.estimate() and bar.estimate() is None
    said = capsys.readouterr().err.splitlines()
    assert "not learning yet" not in said[-1] and "min left" in said[-1]


def test_a_run_s_first_loss_begins_the_estimate(tmp_path):
    begun = []

    def shown(run, step):
        begun.append(run.bar.settled)

    walk(Config(folder=tmp_path), act=shown)
    assert begun[:2] == [False, True]
