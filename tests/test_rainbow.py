"""The Q-learning family: each component's equation by hand, each program's learning, switches and resume."""

import dataclasses
import importlib
import json
import math

import pytest
import torch

import envs
from agents.rainbow import c51, munchausen, qr_dqn
from agents.rainbow import loop as rainbow
from agents.rainbow.dueling import combine
from agents.rainbow.iqn import FractionEmbedding
from agents.rainbow.n_step import n_step_return
from agents.rainbow.noisy import NoisyLinear
from agents.rainbow.prioritized import concatenate, importance_exponent_at, split_batches
from agents.rainbow.recipes import COMPONENTS
from vision import backbones


def quick(tmp_path, program, env="Catch", **changes):
    asked = rainbow.recipe(rainbow.Config(only=program, env=env))
    return dataclasses.replace(asked, folder=tmp_path, wandb="disabled", **changes)


def evaluations(folder):
    lines = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
    return [line["eval/return"] for line in lines if "eval/return" in line]


def test_dueling_by_hand():
    value, advantage = torch.tensor([[[10.0]]]), torch.tensor([[[1.0], [2.0], [6.0]]])
    assert combine(value, advantage).flatten().tolist() == [8.0, 9.0, 13.0]  # the mean advantage is 3


def test_n_step_return_by_hand():
    reward = torch.tensor([[1.0, 2.0, 4.0], [1.0, 2.0, 0.0], [1.0, 2.0, 0.0], [5.0, 0.0, 0.0]])
    discount = torch.tensor([[1.0, 1.0, 1.0], [1.0, 0.0, 1.0], [1.0, 1.0, 1.0], [0.0, 1.0, 1.0]])
    last = torch.tensor([[0, 0, 0], [0, 1, 1], [0, 1, 1], [1, 1, 1]], dtype=torch.bool)
    total, follows = n_step_return(reward, discount, last, 0.5)
    assert total.tolist() == [1 + 1 + 1, 1 + 1, 1 + 1, 5]
    assert follows.tolist() == [0.125, 0.0, 0.25, 0.0]  # goes on; ended; cut short by a limit; ended at once


def test_n_step_return_is_plain_for_one_step():
    reward, discount = torch.randn(7, 1), torch.tensor([[1.0], [0], [1], [1], [0], [1], [1]])
    total, follows = n_step_return(reward, discount, discount == 0, 0.99)
    assert torch.equal(total, reward[:, 0]) and torch.equal(follows, 0.99 * discount[:, 0])


def test_c51_projection_by_hand():
    z = c51.support(-1.0, 1.0, 5, torch.device("cpu"))  # -1, -0.5, 0, 0.5, 1
    probability = torch.tensor([[0.0, 0.0, 1.0, 0.0, 0.0]] * 4)
    reward, discount = torch.tensor([0.25, 0.5, 7.0, -0.125]), torch.full((4,), 0.9)
    expected = [[0, 0, 0.5, 0.5, 0], [0, 0, 0, 1, 0], [0, 0, 0, 0, 1], [0, 0.25, 0.75, 0, 0]]
    assert torch.allclose(c51.project(probability, reward, discount, z), torch.tensor(expected))


def test_c51_projection_keeps_the_mean_and_the_mass():
    torch.manual_seed(0)
    z = torch.linspace(-10.0, 10.0, 51, dtype=torch.float64)
    probability = torch.randn(64, 51).double().softmax(1)
    reward, discount = torch.rand(64).double() - 0.5, torch.full((64,), 0.9).double()
    projected = c51.project(probability, reward, discount, z)
    assert torch.allclose(projected.sum(1), torch.ones(64).double())
    assert torch.allclose(projected @ z, reward + discount * (probability @ z))  # nothing was clamped
    ended = c51.project(probability, reward, torch.zeros(64).double(), z)
    assert torch.allclose(ended @ z, reward) and (ended > 0).sum(1).max() <= 2


def test_quantile_huber_by_hand():
    quantiles, fractions = torch.tensor([[0.0, 1.0]]), torch.tensor([[0.25, 0.75]])
    loss = qr_dqn.quantile_huber(quantiles, fractions, torch.tensor([[0.5, -2.0]]))
    first = (0.25 * 0.125 + 0.75 * 1.5) / 2  # errors 0.5 and -2: huber 0.125 and 1.5
    second = (0.25 * 0.125 + 0.25 * 2.5) / 2  # errors -0.5 and -3
    assert loss.item() == pytest.approx(first + second)


def test_quantile_huber_finds_quantiles():
    torch.manual_seed(0)
    sample = torch.randn(1, 1000)
    fractions = qr_dqn.midpoints(5, torch.device("cpu"))
    quantiles = torch.zeros(1, 5, requires_grad=True)
    optimizer = torch.optim.Adam([quantiles], lr=0.05)
    for _ in range(300):
        optimizer.zero_grad()
        qr_dqn.quantile_huber(quantiles, fractions, sample, kappa=0.01).backward()
        optimizer.step()
    assert torch.allclose(quantiles[0], sample[0].quantile(fractions[0]), atol=0.06)


def test_munchausen_by_hand():
    values, action = torch.tensor([[0.0, 0.03 * math.log(3)]]), torch.tensor([0])  # pi = 1/4, 3/4 at tau 0.03
    assert munchausen.bonus(values, action, 0.03, -1.0).item() == pytest.approx(0.03 * math.log(0.25))
    assert munchausen.bonus(100 * values, action, 0.03, -1.0).item() == -1.0
    soft = munchausen.soft_target(values[:, :, None], values, 0.03)
    assert soft.item() == pytest.approx(0.03 * math.log(1 + 3), abs=1e-6)  # tau logsumexp(values / tau)


def test_iqn_embedding_by_hand():
    fractions = FractionEmbedding(3, cosines=2)
    with torch.no_grad():
        fractions.dense.weight.copy_(torch.tensor([[1.0, 0.0], [0.0, 1.0], [0.0, -1.0]]))
        fractions.dense.bias.zero_()
    half = math.sqrt(0.5)
    embedded = fractions(torch.tensor([[0.25, 0.75]]))  # cos 0 = 1, cos(pi / 4), cos(3 pi / 4)
    assert torch.allclose(embedded, torch.tensor([[[1.0, half, 0.0], [1.0, 0.0, half]]]), atol=1e-6)


def test_iqn_chooses_by_fractions_of_their_own():
    class Lottery:  # action 0 is worth -1 to 1, action 1 surely 0
        def predict(self, observation, fractions):
            drawn = torch.rand(len(observation), fractions)
            return rainbow.Prediction(torch.stack([2 * drawn - 1, torch.zeros_like(drawn)], 1), drawn)

        def values(self, atoms):
            return atoms.mean(2)

    torch.manual_seed(0)
    config = dataclasses.replace(rainbow.recipe(rainbow.Config(only="iqn", env="Catch")), fractions=8)
    next_value, next_values = rainbow.next_prediction(config, None, Lottery(), torch.zeros(20_000, 1))
    assert next_value.atoms.shape == (20_000, 2, 8) and next_value.fractions.shape == (20_000, 8)
    worth = rainbow.td_target(config, None, next_value, next_values, torch.zeros(20_000), torch.ones(20_000)).mean()
    assert worth.abs() < 0.01  # chosen by the same eight it would be 0.08
    munchausen = dataclasses.replace(config, munchausen=True)
    worth = rainbow.td_target(
        munchausen, None, next_value, next_values, torch.zeros(20_000), torch.ones(20_000)
    ).mean()
    assert worth.abs() < 0.02


def test_updates_of_one_draw_see_the_whole_memory():
    rows, weights = torch.arange(12), torch.arange(12).float() + 1
    parts = list(split_batches([rows, 10 * rows], weights, 3))
    assert [fields[0].tolist() for fields, _ in parts] == [[0, 3, 6, 9], [1, 4, 7, 10], [2, 5, 8, 11]]
    for fields, weight in parts:
        assert torch.equal(fields[1], 10 * fields[0])
        assert torch.allclose(weight, (fields[0] + 1) / (fields[0].max() + 1))
    assert torch.equal(concatenate([fields[0] for fields, _ in parts]), rows)  # as surprise goes back to the memory
    assert [weight for _, weight in split_batches([rows], None, 2)] == [None, None]


def test_noise_is_for_training_and_has_the_size_of_sigma():
    torch.manual_seed(0)
    layer = NoisyLinear(100, 200, sigma=0.5)
    x = torch.ones(1, 100)
    layer.eval()
    assert torch.equal(layer(x), layer(x))
    assert torch.allclose(layer(x), x @ layer.weight.T + layer.bias)
    mean = layer(x)
    layer.train()
    noise = torch.stack([layer(x) - mean for _ in range(400)])
    # f(e) has variance E|e| = sqrt(2 / pi), so sigma / 10 * f(e_i) f(e_j) summed over 100 inputs, plus the bias's
    expected = 0.05 * math.sqrt(100 * (2 / math.pi) + math.sqrt(2 / math.pi))
    assert noise.std().item() == pytest.approx(expected, rel=0.1)


def test_importance_exponent_rises_to_one():
    assert [importance_exponent_at(step, 100, 0.4) for step in (0, 50, 100, 200)] == pytest.approx(
        [0.4, 0.7, 1.0, 1.0]
    )


@pytest.mark.parametrize("program", COMPONENTS)
def test_every_component_predicts_and_learns_one_batch(program):
    torch.manual_seed(0)
    config = dataclasses.replace(rainbow.Config(**COMPONENTS[program]), hidden=32, quantiles=16)
    shape = (4, 36, 36)
    network = rainbow.RainbowNetwork(backbones.build("nature", shape), shape, 3, config)
    observation = torch.randint(256, (16, *shape), dtype=torch.uint8)
    assert network(observation).shape == (16, 3)
    action, reward, discount = torch.randint(3, (16,)), torch.randn(16), torch.zeros(16)
    optimizer = torch.optim.Adam(network.parameters(), lr=2e-3)
    for _ in range(80):
        prediction = network.predict(observation)
        with torch.no_grad():
            y = rainbow.td_target(config, network, prediction, network.values(prediction.atoms), reward, discount)
        loss = rainbow.td_loss(config, prediction, action, y).mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    still = [name for name, weight in network.named_parameters() if weight.grad is None or not weight.grad.any()]
    assert not still
    network.eval()
    values = network(observation).gather(1, action[:, None]).squeeze(1)
    assert (values - reward).abs().mean() < 0.25, "the values of the taken actions are not the rewards"


@pytest.mark.parametrize("program", COMPONENTS)
def test_every_program_has_its_name_and_recipe(program):
    if program not in ("rainbow", "double"):  # Double DQN's equation is in agents/dqn.py
        module = importlib.import_module(f"agents.rainbow.{program}")
        assert f"python -m agents.rainbow --only {program}" in module.__doc__
    for env in ("Breakout", "CartPole", "Catch"):
        config = rainbow.recipe(rainbow.Config(only=program, env=env))
        for key, value in COMPONENTS[program].items():
            assert getattr(config, key) == value
    if program != "rainbow":  # alone means alone
        plain = dataclasses.asdict(rainbow.Config())
        config = dataclasses.asdict(rainbow.recipe(rainbow.Config(only=program, env="Breakout")))
        assert {key for key in plain if plain[key] != config[key]} - {"only", "name"} == set(COMPONENTS[program])


def test_a_memory_too_small_for_its_steps_is_refused_at_once(tmp_path):
    asked = rainbow.recipe(rainbow.Config(env="Catch"))
    small = dict(capacity=64, n_step=20, folder=tmp_path, wandb="disabled")
    with pytest.raises(
        ValueError, match="--capacity 64: of each of 4 worlds it is certain to hold .* and 20 are drawn"
    ):
        rainbow.train(dataclasses.replace(asked, **small))


def test_rainbow_on_atari_has_no_dead_relus():
    """With none of these it learned nothing of Pong (see runs/published/atari, rainbow paper network)."""
    atari, catch = (rainbow.recipe(rainbow.Config(env=env)) for env in ("Pong", "Catch"))
    assert (atari.subtract_mean, atari.norm, atari.sigma) == (True, "layer", 0.1)
    assert (catch.subtract_mean, catch.norm, catch.sigma) == (False, "none", 0.5)


def test_what_does_not_go_together_is_refused():
    config = rainbow.Config(munchausen=True, distribution="c51")
    with pytest.raises(ValueError, match="no-double"):
        rainbow.RainbowNetwork(backbones.build("mlp", (4,)), (4,), 2, config)


@pytest.mark.parametrize("program", COMPONENTS)
def test_same_seed_same_run(tmp_path, program):
    for name in ("a", "b"):
        changes = dict(
            steps=1600, learn_start=400, capacity=1000, log_every=200, evaluate_every=400, film_seconds=0.0
        )
        rainbow.train(quick(tmp_path, program, name=name, evaluate_games=4, **changes))
    logs = [(tmp_path / "Catch" / name / "metrics.jsonl").read_bytes() for name in ("a", "b")]
    assert logs[0] == logs[1] and b"loss/td" in logs[0]


@pytest.mark.parametrize(
    "program",
    [pytest.param(program, marks=() if program == "rainbow" else pytest.mark.slow) for program in COMPONENTS],
)
def test_learns_catch(tmp_path, program):
    longer = {"steps": 40_000} if program in ("iqn", "qr_dqn") else {}  # quantiles take their time
    rainbow.train(quick(tmp_path, program, film_seconds=0.0, **longer))
    assert evaluations(tmp_path / f"Catch/{program}-1")[-1] >= 0.95


def test_atari_moves_every_weight(tmp_path):
    changes = dict(steps=480, learn_start=320, capacity=2000, worlds=8, batch=16)
    config = quick(tmp_path, "rainbow", "Breakout", **changes)
    rainbow.train(config)
    folder = tmp_path / "Breakout/rainbow-1/checkpoint"
    end = torch.load(folder / "000000000480.pt", weights_only=True)["parts"]["online"]
    torch.manual_seed(config.seed)
    begin = rainbow.build(config, envs.make("Breakout", 1)).state_dict()
    assert not [name for name in begin if torch.equal(begin[name], end[name])]
