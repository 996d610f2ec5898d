"""Beyond the Rainbow: the numbers of its paper's table, its equations by hand, learning, ablations and resume."""

import dataclasses

import pytest
import torch
from torch import nn

import envs
from agents.rainbow import btr
from agents.rainbow import loop as rainbow
from agents.rainbow.noisy import NoisyLinear
from agents.rainbow.prioritized import absolute_error
from tests.test_rainbow import evaluations
from vision import backbones


def recipe(env, **asked):
    return rainbow.recipe(rainbow.Config(env=env, recipe="btr", **asked))


def quick(tmp_path, **changes):
    small = dict(steps=640, learn_start=128, learn_every=32, batch=16, hidden=16, width=0.125, capacity=1_000)
    small |= dict(log_every=64, evaluate_every=320, evaluate_games=2, film_seconds=0.0, folder=tmp_path)
    return dataclasses.replace(recipe("Catch"), wandb="disabled", **small | changes)


def test_the_numbers_of_the_paper():
    """Clark et al. 2024, tables D4 and D6; the importance exponent and priorities as in the authors' code."""
    found = recipe("Pong")
    found.validate()
    paper = dict(
        learning_rate=1e-4, discount=0.997, n_step=3, fractions=8, max_grad_norm=10, worlds=64, learn_every=64,
        target_update_every=32_000, batch=256, backbone="impala", width=2, spectral=True, max_pool=6, hidden=512,
        sigma=0.5, epsilon=0.01, epsilon_steps=2_000_000, capacity=1_048_576, learn_start=200_000, steps=50_000_000,
        priority_exponent=0.2, importance_exponent=0.2, anneal_importance=False, priority_of="error",
        temperature=0.03, munchausen_alpha=0.9, bonus_low=-1.0, evaluate_epsilon=0.01, evaluate_games=100,
        evaluate_every=250_000, protocol="sticky", stack=0, frame_skip=4, noisy=True, noisy_epsilon=0.5, dueling=True,
        double=False, distribution="iqn", action_fractions=0, munchausen=True, online_bonus=True, norm="none",
        subtract_mean=False, anneal_lr=False, updates=1, name="btr-1",
    )  # fmt: skip
    assert {key: getattr(found, key) for key in paper} == paper
    assert found.adam_epsilon == pytest.approx(1.95e-5, rel=2e-3)
    assert found.noisy_epsilon * found.steps * 4 == 100e6, "frames until which epsilon explores"
    assert found.steps / found.learn_every == pytest.approx(781_000, rel=1e-3), "updates in 200 million frames"


def test_parameters_are_those_of_the_paper():
    """Figure E7: 2.91 million, 2.52 million of them in linear layers, of 18 actions and without the noise's."""
    config = dataclasses.replace(recipe("Pong"), width=2.0)
    shape = (4, 84, 84)
    with torch.device("meta"):
        backbone = backbones.build("impala", shape, width=2.0, spectral=True)
        network = rainbow.RainbowNetwork(backbone, shape, 18, config)
    weights = {name: weight.numel() for name, weight in network.named_parameters() if "_sigma" not in name}
    convolutions = sum(count for name, count in weights.items() if name.startswith("backbone"))
    section = lambda inputs, outputs: (9 * inputs + 1) * outputs + 4 * (9 * outputs + 1) * outputs  # noqa: E731
    assert convolutions == section(4, 32) + section(32, 64) + section(64, 64) == 389_024
    streams = 2 * (64 * 6 * 6 * 512 + 512) + 512 * 1 + 1 + 512 * 18 + 18
    assert sum(weights.values()) - convolutions == streams + 64 * 2_304 + 2_304 == 2_519_827
    assert sum(weights.values()) == 2_908_851
    assert len([m for m in network.modules() if isinstance(m, NoisyLinear)]) == 4


def test_absolute_error_by_hand():
    quantiles, target = torch.tensor([[0.0, 1.0]]), torch.tensor([[0.5, -2.0, 1.0]])
    assert absolute_error(quantiles, target).item() == pytest.approx((0.5 + 2 + 1 + 0.5 + 3 + 0) / 6)


def test_the_same_fractions_predict_and_choose():
    world = envs.make("Catch", 2)
    config = quick(None)
    network = rainbow.build(config, world)
    assert isinstance(network.pool, nn.AdaptiveMaxPool2d) and network.pool.output_size == 3
    predicted, chooser = rainbow.next_prediction(config, None, network, world.observation)
    assert predicted.atoms.shape == (2, 3, 8) and torch.equal(chooser, predicted.atoms.mean(2))
    assert network.action_fractions == 8
    assert rainbow.build(dataclasses.replace(config, action_fractions=32), world).action_fractions == 32


def test_every_world_has_it_but_not_a_component_alone():
    for env in ("CartPole", "Acrobot", "Catch"):
        config, plain = recipe(env), rainbow.recipe(rainbow.Config(env=env))
        assert all(getattr(config, key) == value for key, value in btr.COMPONENTS.items())
        if env != "Catch":
            assert (config.steps, config.learning_rate) == (plain.steps, plain.learning_rate)
    with pytest.raises(ValueError, match="--recipe btr: it is for all components together"):
        recipe("Catch", only="c51")


@pytest.mark.parametrize(
    "without",
    [dict(munchausen=False), dict(munchausen=False, distribution="c51", v_min=-1.0, v_max=1.0), dict(max_pool=0)]
    + [dict(backbone="nature", spectral=False), dict(noisy=False), dict(dueling=False), dict(priority_exponent=0.0)]
    + [dict(n_step=1), dict(worlds=1), dict(distribution="mean"), dict(norm="layer")],
    ids=lambda without: "-".join(without),
)
def test_without_a_component(tmp_path, without):
    config = quick(tmp_path, steps=256, evaluate_every=0, **without)
    config.validate()
    rainbow.train(config)
    assert b"loss/td" in (tmp_path / "Catch/btr-1/metrics.jsonl").read_bytes()


def test_killed_run_ends_as_if_it_had_not_been(tmp_path, monkeypatch, same_ends):
    evaluate = rainbow.evaluate_and_save

    def kill(*_, **__):
        raise MemoryError("killed")

    monkeypatch.setattr(rainbow, "evaluate_and_save", kill)
    with pytest.raises(MemoryError, match="killed"):
        rainbow.train(quick(tmp_path, name="killed", save_every=0.0))
    monkeypatch.setattr(rainbow, "evaluate_and_save", evaluate)
    for name in ("killed", "whole"):
        rainbow.train(quick(tmp_path, name=name, save_every=0.0))
    same_ends("online")


@pytest.mark.slow
def test_learns_catch(tmp_path):
    rainbow.train(dataclasses.replace(recipe("Catch"), folder=tmp_path, wandb="disabled", film_seconds=0.0))
    assert evaluations(tmp_path / "Catch/btr-1")[-1] >= 0.95
