"""R2D2: its equations by hand, its stored states, its learning, its resume."""

import dataclasses
import json
from pathlib import Path

import pytest
import torch
from torch import nn

import envs
from agents import dqn, r2d2, watch
from agents.networks.recurrent_q import R2D2Network
from agents.returns import n_step_targets, rescale, unscale
from replay import FrameReplay
from vision import backbones

ROOT = Path(__file__).resolve().parent.parent


def quick(tmp_path, env="Catch", **changes):
    asked = r2d2.recipe(r2d2.Config(env=env))
    return dataclasses.replace(asked, folder=tmp_path, wandb="disabled", film_seconds=0.0, **changes)


def evaluations(folder):
    lines = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
    return [line["eval/return"] for line in lines if "eval/return" in line]


def test_rescaling_by_hand():
    x = torch.tensor([0.0, 3.0, -3.0, 99.0])
    assert torch.allclose(rescale(x), torch.tensor([0.0, 1.003, -1.003, 9.099]))
    wide = torch.linspace(-5000, 5000, 101, dtype=torch.float64)
    assert torch.allclose(unscale(rescale(wide)), wide, atol=1e-6)
    assert torch.allclose(unscale(rescale(wide.float())), wide.float(), rtol=2e-3, atol=2e-3)


def test_targets_by_hand():
    reward = torch.tensor([[1.0, 2.0, 4.0, 8.0]] * 3)
    value = torch.tensor([[10.0, 20.0, 30.0, 40.0, 50.0]] * 3)
    last = torch.tensor([[0, 0, 0, 0], [0, 1, 0, 0], [0, 1, 0, 1]], dtype=torch.bool)
    discount = torch.tensor([[1.0, 1, 1, 1], [1, 0, 1, 1], [1, 1, 1, 1]])  # goes on; an end; two time limits
    y, known = n_step_targets(reward, discount, last, value, gamma=0.5, steps=3)
    assert y[0].tolist() == [1 + 1 + 1 + 5, 2 + 2 + 2 + 6.25, 4 + 4 + 12.5, 8 + 25]
    assert y[1].tolist() == [1 + 1, 2, 4 + 4 + 12.5, 8 + 25]
    assert y[2, 2:].tolist() == [4 + 4 + 12.5, 8 + 25]
    assert known.tolist() == [[True] * 4, [True] * 4, [False, False, True, True]]


def test_one_step_targets_are_plain():
    reward, discount, value = torch.randn(5, 7), torch.ones(5, 7), torch.randn(5, 8)
    y, known = n_step_targets(reward, discount, torch.zeros(5, 7, dtype=torch.bool), value, 0.9, 1)
    assert torch.allclose(y, reward + 0.9 * value[:, 1:]) and known.all()


def test_unroll_is_an_lstm_that_starts_anew():
    torch.manual_seed(0)
    network = R2D2Network(backbones.build("mlp", (4,)), (4,), 2, r2d2.Config(hidden=16, lstm_units=8))
    features, said = torch.randn(3, 5, 16), torch.randn(3, 5, 3)
    is_first = torch.rand(3, 5) < 0.3
    hidden, cell = torch.randn(2, 3, 8)
    outputs, last_hidden, last_cell = network.unroll(features, said, is_first, hidden, cell)
    for t in range(5):
        hidden, cell = hidden * ~is_first[:, t, None], cell * ~is_first[:, t, None]
        hidden, cell = network.recurrent(torch.cat([features[:, t], said[:, t]], 1), (hidden, cell))
        assert torch.allclose(outputs[:, t], hidden, atol=1e-6)
    assert torch.allclose(last_hidden, hidden, atol=1e-6) and torch.allclose(last_cell, cell, atol=1e-6)


def test_burn_in_unrolls_stored_states():
    """Sequences from replay, begun in their stored state, bring the values that were acted upon."""
    config = dataclasses.replace(r2d2.recipe(r2d2.Config(env="Catch")), flicker=0.4)
    world = envs.make("Catch", 3, seed=1, flicker=0.4)
    torch.manual_seed(0)
    network = r2d2.build(config, world)
    nn.init.normal_(network.advantage[-1].weight)
    memory = FrameReplay(600, world.count, world.stack)
    state, seen = network.initial_state(world.count), []
    with torch.no_grad():
        for _ in range(60):
            values, hidden, cell = network(world.observation, state)
            seen.append(values)
            transition = world.step(torch.randint(3, (world.count,)))
            memory.add(r2d2.Step(*transition, state.half()))
            state = network.next_state(hidden, cell, transition)
        seen = torch.stack(seen, 1)  # (N, 60, A)
        place = torch.arange(45 * 3)  # row r of world n lies in place 3 r + n
        batch = memory.unroll(place, 15)
        observation, said, is_first, hidden, cell = network.unroll_inputs(batch)
        again = network.values(network.unroll(network.encode(observation), said, is_first, hidden, cell)[0])[:, :-1]
    expected = torch.stack([seen[n % 3, n // 3 : n // 3 + 15] for n in place.tolist()])
    assert batch.last.any() and torch.allclose(again, expected, atol=0.02)  # states were rounded to 16 bits
    assert expected.std() > 0.2


def test_gradients_of_a_sequence_equal_those_of_single_steps():
    """Two sequences of 3 + 4 steps, the second with an end and a time limit, step by step in plain Python."""
    config = dataclasses.replace(
        r2d2.recipe(r2d2.Config(env="CartPole")),
        lstm_units=8,
        hidden=16,
        burn_in=3,
        length=4,
        n_step=2,
        discount=0.9,
        eta=0.75,
        bf16=False,
        huber=False,
    )
    world = envs.make("CartPole", 1)
    torch.manual_seed(0)
    online, target = r2d2.build(config, world), r2d2.build(config, world)
    for network in (online, target):
        nn.init.normal_(network.advantage[-1].weight)
    last = torch.zeros(2, 7, dtype=torch.bool)
    last[1, 1] = last[1, 5] = True  # the end of a game in the burn-in; a time limit
    batch = r2d2.Step(
        observation=torch.randn(2, 7, 4),
        action=torch.randint(2, (2, 7)),
        reward=torch.randn(2, 7),
        discount=1 - (last & (torch.arange(7) == 1)).float(),
        next_observation=torch.randn(2, 4),
        last=last,
        state=torch.randn(2, 7, 2 * 8 + 3).half(),
    )
    weight = torch.tensor([0.5, 1.0])
    loss, taken, priority = r2d2.sequence_loss(config, online, target, batch, weight)

    def live(network, b):  # the values (8, A) of a sequence's steps, and of where it led
        state, seen = batch.state[b, :1].float(), []
        for t in range(8):
            if t:
                transition = envs.Transition(
                    *(field[b : b + 1, t - 1] for field in batch[:4]), None, last[b : b + 1, t - 1]
                )
                state = network.next_state(hidden, cell, transition)  # noqa: F821
            observation = batch.observation[b, t] if t < 7 else batch.next_observation[b]
            values, hidden, cell = network(observation[None], state)
            seen.append(values[0])
        return torch.stack(seen)

    losses, surprises = [], []
    with torch.no_grad():
        for b in range(2):
            mine, theirs = live(online, b), live(target, b)
            errors = []
            for t in range(3, 7):
                if b == 1 and t in (4, 5):  # where the time limit led was not kept
                    continue
                ahead = range(t, min(t + 2, 7))
                value = unscale(theirs[ahead[-1] + 1, mine[ahead[-1] + 1].argmax()])
                y = sum(0.9**n * batch.reward[b, at] for n, at in enumerate(ahead)) + 0.9 ** len(ahead) * value
                errors.append((rescale(y) - mine[t, batch.action[b, t]]).item())
            losses.append(weight[b].item() * sum(e**2 for e in errors) / len(errors))
            surprises.append(0.75 * max(map(abs, errors)) + 0.25 * sum(map(abs, errors)) / len(errors))
    assert loss.item() == pytest.approx(sum(losses) / 2, rel=1e-4)
    assert priority.tolist() == pytest.approx(surprises, rel=1e-4)
    assert taken.shape == (2, 4)


def test_a_step_is_stored_with_the_state_it_began_in(tmp_path, monkeypatch):
    """Of a network that stays as it is, one stored state leads to the next."""
    differences, live = [], R2D2Network.unroll_inputs

    def relived(network, batch):
        found = live(network, batch)
        observation, said, is_first, hidden, cell = found
        with torch.no_grad():
            for t in range(batch.action.shape[1] - 1):
                one = slice(t, t + 1)
                seen = network.encode(observation[:, one])
                _, hidden, cell = network.unroll(seen, said[:, one], is_first[:, one], hidden, cell)
                stored = batch.state[:, t + 1, : network.lstm_units].float()
                differences.append(((stored - hidden) * ~is_first[:, t + 1, None]).abs().max().item())
        return found

    monkeypatch.setattr(R2D2Network, "unroll_inputs", relived)
    r2d2.train(quick(tmp_path, steps=480, learn_start=400, learning_rate=0.0, bf16=False, evaluate_every=0))
    assert len(differences) > 50 and max(differences) < 2e-3


def test_a_memory_too_small_for_its_sequences_is_refused_at_once(tmp_path):
    with pytest.raises(ValueError, match="--capacity 120: .* and 20 are drawn"):
        r2d2.train(quick(tmp_path, capacity=120))  # 3 + 9 steps, beginning anywhere within 9


def test_learning_moves_every_weight(tmp_path):
    changes = dict(worlds=4, steps=320, learn_start=160, learn_every=40, batch=2, burn_in=4, length=8, capacity=2000)
    config = quick(tmp_path, "Breakout", **changes)
    r2d2.train(config)
    end = torch.load(tmp_path / "Breakout/r2d2-1/checkpoint/000000000320.pt", weights_only=True)["parts"]["online"]
    torch.manual_seed(config.seed)
    begin = r2d2.build(config, envs.make("Breakout", 1, stack=1)).state_dict()
    still = [name for name in begin if torch.equal(begin[name], end[name])]
    assert not still, f"not learned: {still}"


def test_learns_catch_and_is_watched(tmp_path):
    r2d2.train(quick(tmp_path, steps=9_000, evaluate_every=4_500))
    folder = tmp_path / "Catch/r2d2-1"
    assert evaluations(folder)[-1] >= 0.95
    watch.main(watch.Config(folder, games=10, device="cpu", film=False))
    assert json.loads((folder / "watch.jsonl").read_text())["mean"] >= 0.8


def test_killed_run_ends_as_if_it_had_not_been(tmp_path, kill, same_ends):
    changes = dict(
        steps=1600,
        learn_start=400,
        epsilon_steps=800,
        burn_in=3,
        length=9,
        worlds=4,
        evaluate_every=800,
        save_every=0.2,
        log_every=100,
        flicker=0.3,
    )
    kill("agents.r2d2", env="Catch", **changes)
    for name in ("killed", "whole"):
        r2d2.train(quick(tmp_path, name=name, **changes))
    same_ends("online", "target", "optimizer", "recurrent_state")


@pytest.mark.slow
def test_remembers_what_flickers(tmp_path):
    """Half of the frames are black: who remembers the others catches far more balls than who sees one at a time."""
    changes = dict(steps=40_000, epsilon_steps=10_000, flicker=0.5)
    r2d2.train(quick(tmp_path, **changes))
    asked = dqn.recipe(dqn.Config(env="Catch"))
    dqn.train(dataclasses.replace(asked, stack=1, folder=tmp_path, wandb="disabled", film_seconds=0.0, **changes))
    remembering, forgetful = (evaluations(tmp_path / "Catch" / name)[-1] for name in ("r2d2-1", "dqn-1"))
    assert remembering >= 0.3 and remembering > forgetful + 0.3
