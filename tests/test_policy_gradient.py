"""REINFORCE, A2C and PPO: their equations by hand, their heads, their learning, their resume."""

import dataclasses
import importlib
import json
import math
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from torch.distributions import Normal, TanhTransform, TransformedDistribution

import envs
from agents import a2c, hard_attention, ppo, reinforce, soft_attention, watch
from agents.networks import actor_critic, distributions, normalization
from agents.returns import gae
from agents.studies import gradient_variance
from replay.episodes import Episodes
from replay.rollout import Rollout

ROOT = Path(__file__).resolve().parent.parent
PROGRAMS = {"reinforce": reinforce, "a2c": a2c, "ppo": ppo}
REMEMBERING = {  # every network that carries a state from step to step
    "lstm": (ppo, actor_critic.build, dict(lstm_units=16)),
    "soft_attention": (soft_attention, soft_attention.build, {}),
    "hard_attention": (hard_attention, hard_attention.build, {}),
}


def quick(tmp_path, program, env="Catch", **changes):
    asked = program.recipe(program.Config(env=env))
    return dataclasses.replace(asked, folder=tmp_path, wandb="disabled", film_seconds=0.0, **changes)


def evaluations(folder):
    lines = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
    return [line["eval/return"] for line in lines if "eval/return" in line]


def column(*numbers, dtype=torch.float32):
    return torch.tensor(numbers, dtype=dtype)[:, None]


def test_credit_by_hand():
    config = reinforce.Config(discount=0.5)
    reward = column(1.0, 2.0, 4.0, 9.0)
    used = column(1, 1, 1, 0, dtype=torch.bool)  # the fourth step is of the next episode
    return_to_go = reinforce.step_returns(config, reward, used, torch.zeros(1))
    assert return_to_go.flatten().tolist() == [1 + 1 + 1, 2 + 2, 4, 0]
    cut = reinforce.step_returns(config, reward, used, torch.tensor([8.0]))  # a time limit, and what it led to
    assert cut.flatten().tolist() == [4, 6, 8, 0]
    whole = reinforce.step_returns(dataclasses.replace(config, credit="return"), reward, used, torch.zeros(1))
    assert whole.flatten().tolist() == [3, 3, 3, 0]


def test_baselines_by_hand():
    weight = torch.tensor([[4.0, 6.0], [2.0, 0.0]])
    used = torch.tensor([[True, True], [True, False]])
    value, moving = torch.full((2, 2), 7.0), torch.tensor(5.0)

    def of(kind):
        return reinforce.baselines(reinforce.Config(baseline=kind), weight, used, value, moving).tolist()

    assert of("none") == [[0, 0], [0, 0]] and of("moving") == [[5, 5], [5, 5]] and of("learned") == [[7, 7], [7, 7]]
    assert of("constant") == [[6, 3], [6, 3]]  # the mean of the other episode's steps


def test_advantages_by_hand():
    reward, value, next_value = column(1.0, 1.0, 1.0), column(0.0, 2.0, 4.0), column(2.0, 4.0, 8.0)
    last = column(False, False, False, dtype=torch.bool)
    half = torch.full((3, 1), 0.5)
    a = gae(reward, half, value, next_value, last, 0.5)
    assert a.flatten().tolist() == [2 + 0.25 * 1.25, 1 + 0.25 * 1.0, 1]  # deltas 2, 1, 1
    ended = gae(reward, half, value, next_value, column(False, True, False, dtype=torch.bool), 0.5)
    assert ended.flatten().tolist() == [2 + 0.25 * 1, 1, 1]
    plain = gae(reward, half, value, next_value, last, 1.0)
    assert plain[0].item() == 1 + 0.5 * 1 + 0.25 * 1 + 0.125 * 8 - 0  # lambda 1: the discounted rewards


def test_policy_loss_by_hand():
    old, advantage = torch.zeros(4), torch.tensor([1.0, 1.0, -1.0, -1.0])
    ratio = torch.tensor([1.5, 0.5, 1.5, 0.5])  # too far, and back, for good and for bad
    loss = ppo.policy_loss(ratio.log(), old, advantage, 0.2)
    assert loss.item() == pytest.approx(-(1.2 + 0.5 - 1.5 - 0.8) / 4)


def test_value_loss_by_hand():
    value, old, target = torch.tensor([1.0]), torch.tensor([0.0]), torch.tensor([2.0])
    assert ppo.value_loss(value, old, target, None).item() == 0.5
    assert ppo.value_loss(value, old, target, 0.5).item() == 0.5 * 1.5**2  # as if it had come only half way


def bounded(low, high):
    return SimpleNamespace(
        name="Box", actions=None, action_shape=(2,), action_low=np.array(low), action_high=np.array(high)
    )


def test_gaussian_is_torchs():
    torch.manual_seed(0)
    head = distributions.Gaussian(3, bounded([-1.0, -2.0], [1.0, 2.0]), squash=False)
    mean, log_std, action = torch.randn(3, 5, 2)
    normal = Normal(mean, log_std.exp())
    parameters = torch.stack([mean, log_std], 1)
    assert torch.allclose(head.log_prob(parameters, action), normal.log_prob(action).sum(1), atol=1e-5)
    assert torch.allclose(head.entropy(parameters), normal.entropy().sum(1), atol=1e-5)
    assert torch.equal(head.environment_action(torch.tensor([[-3.0, 3.0]])), torch.tensor([[-1.0, 2.0]]))


def test_squashed_gaussian_is_torchs():
    torch.manual_seed(0)
    head = distributions.Gaussian(3, bounded([-1.0, 0.0], [1.0, 4.0]), squash=True)
    mean, log_std, action = torch.randn(3, 5, 2)
    transformed = TransformedDistribution(Normal(mean, log_std.exp()), TanhTransform())
    expected = transformed.log_prob(action.tanh()) - torch.tensor([1.0, 2.0]).log()  # half the ranges
    got = head.log_prob(torch.stack([mean, log_std], 1), action)
    assert torch.allclose(got, expected.sum(1), atol=1e-4)
    assert torch.allclose(
        head.environment_action(torch.tensor([[50.0, -50.0], [0.0, 0.0]])), torch.tensor([[1.0, 0], [0, 2]])
    )
    with pytest.raises(ValueError, match="no bounds"):
        distributions.Gaussian(3, bounded([-np.inf, 0.0], [np.inf, 1.0]), squash=True)


def test_categorical_by_hand():
    logits = torch.tensor([[0.0, math.log(3)]])
    assert distributions.Categorical.log_prob(logits, torch.tensor([1])).item() == pytest.approx(math.log(0.75))
    assert distributions.Categorical.entropy(logits).item() == pytest.approx(
        -(0.25 * math.log(0.25) + 0.75 * math.log(0.75))
    )
    drawn = distributions.Categorical.sample(logits.expand(4000, 2), torch.Generator().manual_seed(0))
    assert drawn.float().mean().item() == pytest.approx(0.75, abs=0.03)


def test_entropy_of_a_certain_choice_has_a_gradient():
    logits = torch.tensor([[0.0, 300.0, -300.0]], requires_grad=True)  # probabilities underflow
    distributions.Categorical.entropy(logits).sum().backward()
    assert torch.equal(logits.grad, torch.zeros(1, 3))


def test_normalizer_knows_mean_and_variance_of_all():
    torch.manual_seed(0)
    rows = torch.randn(100, 3) * torch.tensor([1.0, 5.0, 0.1]) + torch.tensor([0.0, -2.0, 7.0])
    normalizer = normalization.RunningNormalizer((3,))
    assert torch.allclose(normalizer(rows), rows.clamp(-10, 10))
    for piece in rows.split([10, 1, 60, 29]):
        normalizer.update(piece)
    assert torch.allclose(normalizer.mean, rows.mean(0), atol=1e-5)
    assert torch.allclose(normalizer.variance, rows.var(0, correction=0), rtol=1e-4)
    assert torch.allclose(normalizer(rows).std(0, correction=0), torch.ones(3), atol=1e-3)


def test_normalizer_counts_beyond_what_float32_can():
    normalizer = normalization.RunningNormalizer(())
    normalizer.count.fill_(2**24)  # in float32, one more than that is the same
    for _ in range(64):
        normalizer.update(torch.ones(1))
    assert normalizer.count == 2**24 + 64 and normalizer.mean.item() == pytest.approx(64 / 2**24, rel=1e-3)


def test_rewards_are_scaled_by_the_deviation_of_returns():
    scale = normalization.RewardNormalizer(2, 0.5)
    reward = torch.tensor([[1.0, 0.0], [1.0, 2.0], [3.0, 0.0]])
    last = torch.tensor([[False, False], [True, False], [False, False]])
    assert torch.allclose(scale(reward, last), reward)  # nothing is known yet
    returns = torch.tensor([1.0, 1.5, 3.0, 0.0, 2.0, 1.0])  # the first world began anew after two steps
    assert scale.statistics.variance.item() == pytest.approx(returns.var(correction=0).item())
    assert torch.allclose(scale(reward, last), reward / returns.std(correction=0), atol=1e-5)


@pytest.mark.parametrize("name", ["a2c", "ppo"])
def test_the_value_is_of_scaled_rewards(tmp_path, name):
    program, error = PROGRAMS[name], {}
    for scaled in (True, False):
        changes = dict(steps=1_600, worlds=4, rollout=20, evaluate_every=1_600, evaluate_games=1, log_every=800)
        changes |= dict(name=str(scaled), scale_rewards=scaled)
        changes |= dict(epochs=2, minibatches=2) if name == "ppo" else {}
        program.train(quick(tmp_path, program, "Pendulum", **changes))
        log = (tmp_path / f"Pendulum-v1/{scaled}/metrics.jsonl").read_text().splitlines()
        error[scaled] = [line["loss/value"] for line in map(json.loads, log) if "loss/value" in line][-1]
    assert error[True] < 0.1 * error[False], error


@pytest.mark.parametrize("name", PROGRAMS)
def test_atari_moves_every_weight(tmp_path, name):
    program = PROGRAMS[name]
    changes = dict(steps=400, worlds=2) if name == "reinforce" else dict(steps=96, worlds=4, rollout=8)
    config = quick(tmp_path, program, "Breakout", **changes)
    program.train(config)
    folder = tmp_path / f"Breakout/{name}-1/checkpoint"
    end = torch.load(sorted(folder.glob("0*.pt"))[-1], weights_only=True)["parts"]["network"]
    torch.manual_seed(config.seed)
    begin = actor_critic.build(config, envs.make("Breakout", 1)).state_dict()
    still = [key for key in begin if torch.equal(begin[key], end[key])]
    assert not still, f"not learned: {still}"


@pytest.mark.parametrize("name", REMEMBERING)
def test_unrolls_with_resets_like_single_steps(name):
    program, build, changes = REMEMBERING[name]
    config = dataclasses.replace(program.recipe(program.Config(env="Catch")), **changes)
    world = envs.make("Catch", 3, seed=1, stack=1)
    torch.manual_seed(0)
    network = build(config, world)
    rollout = Rollout.empty(20, world.observation, network.head.shape, network.head.dtype)
    state, unroll_inputs = network.initial_state(3), []
    with torch.no_grad():
        for t in range(-4, 20):  # the rollout begins in the middle of an episode
            if t == 0:
                begin = state
            parameters, value, after = network.step(world.observation, state)
            action = network.head.sample(parameters)
            observation, transition = world.observation, world.step(network.head.environment_action(action))
            if t >= 0:
                rollout.observation[t], rollout.last[t], rollout.action[t] = observation, transition.last, action
                unroll_inputs.append(torch.cat([parameters, value[:, None]], 1))
            state = network.conditioned_on_action(after, action) * (~transition.last)[:, None]
        whole = rollout.batch(torch.zeros(20, 3), begin, recurrent=True)
        parameters, value = network.unroll(whole.observation, whole.is_first, whole.state, whole.action)
    assert rollout.last.any() and begin.abs().sum() > 0
    again = torch.cat([parameters, value[:, None]], 1).unflatten(0, (3, 20))
    assert torch.allclose(again, torch.stack(unroll_inputs, 1), atol=1e-5)


@pytest.mark.parametrize("name", ["a2c", "ppo"])
def test_recurrent_policies_learn_and_play(tmp_path, name):
    program = PROGRAMS[name]
    changes = dict(steps=96, worlds=4, rollout=8, lstm_units=16, stack=1)
    changes |= dict(minibatches=4) if name == "ppo" else {}
    config = quick(tmp_path, program, "Breakout", **changes)
    program.train(config)
    folder = tmp_path / f"Breakout/{name}-1"
    end = torch.load(folder / "checkpoint/000000000096.pt", weights_only=True)["parts"]["network"]
    torch.manual_seed(config.seed)
    begin = actor_critic.build(config, envs.make("Breakout", 1, stack=1)).state_dict()
    still = [key for key in begin if torch.equal(begin[key], end[key])]
    assert not still, f"not learned: {still}"
    with pytest.raises(ValueError, match="separate-critic"):
        program.train(dataclasses.replace(config, separate_critic=True, name="separate_critic"))


@pytest.mark.slow
def test_an_lstm_learns_under_flicker(tmp_path):
    changes = dict(steps=100_000, stack=1, flicker=0.5, evaluate_every=20_000)
    for name, lstm_units in (("with", 64), ("without", 0)):
        ppo.train(quick(tmp_path, ppo, name=name, lstm_units=lstm_units, **changes))
    remembering, forgetful = (max(evaluations(tmp_path / "Catch" / name)) for name in ("with", "without"))
    assert remembering >= 0.7 and remembering > forgetful + 0.2


@pytest.mark.parametrize("name", ["reinforce", pytest.param("a2c", marks=pytest.mark.slow), "ppo"])
def test_learns_catch_and_is_watched(tmp_path, name):
    PROGRAMS[name].train(quick(tmp_path, PROGRAMS[name]))
    folder = tmp_path / f"Catch/{name}-1"
    assert evaluations(folder)[-1] >= 0.95
    watch.main(watch.Config(folder, games=10, device="cpu", film=False))
    watch.main(watch.Config(folder, games=10, device="cpu", film=False, greedy=True))
    drawn, greedy = map(json.loads, (folder / "watch.jsonl").read_text().splitlines())
    assert min(drawn["mean"], greedy["mean"]) >= 0.8 and greedy["greedy"] and "greedy" not in drawn


@pytest.mark.slow
@pytest.mark.parametrize("seed", [1, 2, 3])
@pytest.mark.parametrize("name", PROGRAMS)
def test_learns_cartpole(tmp_path, name, seed):
    PROGRAMS[name].train(quick(tmp_path, PROGRAMS[name], "CartPole", seed=seed))
    assert max(evaluations(tmp_path / f"CartPole-v1/{name}-{seed}")) >= 475


@pytest.mark.parametrize("flags", [{}, {"squash": True, "normalize_observations": True}])
@pytest.mark.parametrize("name", PROGRAMS)
def test_continuous_actions(tmp_path, name, flags):
    program = PROGRAMS[name]
    changes = dict(steps=1_600, worlds=4, evaluate_every=800, evaluate_games=2) | flags
    changes |= {"reinforce": {}, "a2c": dict(rollout=20), "ppo": dict(rollout=20, epochs=2, minibatches=2)}[name]
    program.train(quick(tmp_path, program, "Pendulum", **changes))
    folder = tmp_path / f"Pendulum-v1/{name}-1"
    assert len(evaluations(folder)) == 2
    watch.main(watch.Config(folder, games=2, device="cpu", film=False))


@pytest.mark.parametrize("name", PROGRAMS)
def test_killed_run_ends_as_if_it_had_not_been(tmp_path, name, kill, same_ends):
    changes = dict(steps=23_040, evaluate_every=11_520, evaluate_games=4, save_every=0.2, log_every=100, worlds=8)
    changes |= {} if name == "reinforce" else {"rollout": 8}
    changes |= {"lstm_units": 16, "separate_critic": False, "scale_rewards": True} if name == "a2c" else {}
    kill(f"agents.{name}", env="CartPole", **changes)
    for folder in ("killed", "whole"):
        PROGRAMS[name].train(quick(tmp_path, PROGRAMS[name], "CartPole", name=folder, **changes))
    same_ends("network", "optimizer")


@pytest.mark.parametrize("name", PROGRAMS)
@pytest.mark.parametrize("env", ["Breakout", "CartPole", "Catch"])
def test_every_world_has_its_recipe(name, env):
    program = importlib.import_module(f"agents.{name}")
    assert program.recipe(program.Config(env=env)).env == env


@pytest.mark.parametrize("program", [reinforce, a2c, ppo, soft_attention, hard_attention])
def test_configs_extend_flags_alone(program):
    assert all("Config" not in base.__name__ for base in program.Config.__mro__[1:])


@pytest.mark.parametrize(("name", "env"), [("a2c", "Acrobot"), ("a2c", "LunarLander"), ("ppo", "LunarLander")])
def test_a_world_may_have_a_recipe_of_its_own(name, env):
    if env == "LunarLander":
        pytest.importorskip("Box2D")
    program = PROGRAMS[name]
    own, usual = (program.recipe(program.Config(env=each)) for each in (env, "CartPole"))
    assert dataclasses.replace(own, env="CartPole") != usual


@pytest.mark.parametrize(
    ("program", "changes", "message"),
    [
        (ppo, dict(minibatches=200), "2 steps or more"),
        (ppo, dict(normalize_observations=True), "it is for vectors"),
        (ppo, dict(clip=0.1, gae_lambda=1.5), "--gae-lambda 1.5: it takes from 0 to 1"),
        (hard_attention, dict(normalize_observations=True), "it is for vectors"),
        (hard_attention, dict(spectral=True), "no option 'spectral'"),
        (hard_attention, dict(context=True, scales=1), "would not move"),
        (soft_attention, dict(level=7), "2 maps, from 0 to 1"),
    ],
)
def test_numbers_that_would_fail_later_are_refused_at_once(tmp_path, program, changes, message):
    with pytest.raises(ValueError, match=message):
        program.train(quick(tmp_path, program, **changes))


@pytest.mark.parametrize("name", REMEMBERING)
def test_what_is_learned_from_is_what_was_done(tmp_path, monkeypatch, name):
    """Before the first update, probabilities and values are those of the rollout."""
    program, _, changes = REMEMBERING[name]
    differences, original_policy_loss, original_value_loss = [], ppo.policy_loss, ppo.value_loss

    def policy_loss(log_prob, old, *rest):
        differences.append((log_prob - old).abs().max().item())
        return original_policy_loss(log_prob, old, *rest)

    def value_loss(value, old, *rest):
        differences.append((value - old).abs().max().item())
        return original_value_loss(value, old, *rest)

    monkeypatch.setattr(ppo, "policy_loss", policy_loss)
    monkeypatch.setattr(ppo, "value_loss", value_loss)
    once = dict(worlds=4, rollout=15, epochs=1, minibatches=1, steps=360, bf16=False, evaluate_every=0)
    program.train(quick(tmp_path, program, **once | changes))  # games of nine steps
    assert len(differences) == 12 and max(differences) < 1e-4


def test_a_learned_baseline_explains_what_follows_and_only_first_episodes_count(tmp_path, monkeypatch):
    updates, take = [], Episodes.take
    monkeypatch.setattr(Episodes, "take", lambda self: updates.append(1) or take(self))
    asked = quick(tmp_path, reinforce, "CartPole", steps=12_000, evaluate_every=0, log_every=2_000)
    reinforce.train(asked)
    lines = [json.loads(line) for line in open(tmp_path / "CartPole-v1" / "reinforce-1" / "metrics.jsonl")]
    explained = [line["value/explained"] for line in lines if "value/explained" in line]
    assert sum(explained[1:]) / len(explained[1:]) > 0.1  # with one update, clipped with the policy: -0.3
    logged = sum(line.get("episode/count", 0) for line in lines)
    assert logged - asked.worlds * len(updates) in range(asked.worlds)  # those of an update not yet made are fewer


def test_policy_and_value_are_clipped_apart(tmp_path, monkeypatch):
    clipped = []
    monkeypatch.setattr(
        reinforce.nn.utils, "clip_grad_norm_", lambda weights, norm: clipped.append(len(list(weights)))
    )
    asked = quick(tmp_path, reinforce, "CartPole", steps=800, evaluate_every=0)
    reinforce.train(asked)
    network = actor_critic.build(asked, envs.make("CartPole", 1))
    assert clipped[:2] == [len(part) for part in network.parameter_groups()]
    clipped.clear()
    reinforce.train(dataclasses.replace(asked, separate_critic=False, name="together"))
    shared = actor_critic.build(dataclasses.replace(asked, separate_critic=False), envs.make("CartPole", 1))
    assert set(clipped) == {len(list(shared.parameters()))}


def test_a_separate_critic_has_its_own_loss():
    network = actor_critic.build(reinforce.recipe(reinforce.Config(env="CartPole")), envs.make("CartPole", 1))
    policy, value = network.parameter_groups()
    assert {id(w) for w in policy} | {id(w) for w in value} == {id(w) for w in network.parameters()}
    observation = torch.randn(5, 4)
    network.values(observation).sum().backward()
    assert all(w.grad is None for w in policy) and all(w.grad is not None for w in value)
    torch.testing.assert_close(network.values(observation), network(observation)[1])


def test_ant_is_not_shown_its_contact_forces():
    pytest.importorskip("mujoco")
    asked = ppo.recipe(ppo.Config(env="Ant"))
    assert envs.make("Ant", **ppo.world_options(asked)).observation_shape == (27,)
    cheetah = ppo.recipe(ppo.Config(env="HalfCheetah"))
    assert dataclasses.replace(asked, env="HalfCheetah", env_kwargs=()) == cheetah


def test_a_world_is_made_and_evaluated_and_watched_with_its_kwargs(tmp_path):
    kwargs = ("map_name=8x8", "is_slippery=False")
    asked = a2c.Config(env="FrozenLake", env_kwargs=kwargs)
    assert a2c.world_options(asked) == {"map_name": "8x8", "is_slippery": False}
    assert a2c.world_options(dataclasses.replace(asked, env="Pendulum", env_kwargs=("g=9.5",))) == {"g": 9.5}
    small = dict(
        folder=tmp_path, wandb="disabled", env_kwargs=kwargs, steps=512, evaluate_every=256, evaluate_games=2
    )
    a2c.train(dataclasses.replace(a2c.recipe(asked), **small))
    (folder,) = (tmp_path / "FrozenLake-v1").iterdir()
    watch.main(watch.Config(folder, games=2, film=False))  # a network for 64 states, not 16
    assert json.loads((folder / "watch.jsonl").read_text())["games"] == 2


@pytest.mark.parametrize(
    ("env", "kwarg", "message"),
    [
        ("CartPole", "continuous", "write name=value"),
        ("CartPole", "stack=2", "write --stack"),
        ("CartPole", "count=2", "decides that itself"),
        ("CartPole", "legs=4", "does not take these options"),
        ("Breakout", "frame_skip=2", "write --frame-skip"),
    ],
)
def test_kwargs_that_a_world_cannot_be_made_with_are_refused(env, kwarg, message):
    with pytest.raises(ValueError, match=message):
        a2c.world_options(a2c.Config(env=env, env_kwargs=(kwarg,)))


def test_variance_is_that_of_each_episodes_gradient():
    asked = dataclasses.replace(reinforce.recipe(reinforce.Config(env="Catch")), discount=1.0)
    world = envs.make("Catch", 4, seed=1)
    torch.manual_seed(0)
    network = actor_critic.build(asked, world)
    record, used = gradient_variance.collect_episodes(network, world, 6, 7)
    assert used.shape == record.reward.shape == (9, 6) and used.all()
    weight = reinforce.step_returns(asked, record.reward, used, torch.zeros(6))
    found = gradient_variance.gradients(network, record, used, torch.stack([weight, 2 * weight]))
    assert torch.allclose(found[1], 2 * found[0])
    network.zero_grad()
    parameters, _ = network(record.observation[:, 4])
    (weight[:, 4] * network.head.log_prob(parameters, record.action[:, 4])).sum().backward()
    parts = [w.grad for name, w in network.named_parameters() if not name.startswith("value")]
    assert torch.allclose(found[0, 4], torch.cat([part.flatten() for part in parts]), atol=1e-5)
    total, low, high = gradient_variance.total_variance(found[0])
    assert total == pytest.approx(found[0].var(0).sum().item(), rel=1e-4) and low < total < high


def test_study_of_variance_is_written(tmp_path):
    config = gradient_variance.Config(env="Catch", stages=(0, 400), episodes=24, folder=tmp_path)
    gradient_variance.main(config)
    folder = tmp_path / "Catch/variance-1"
    written = (folder / "variance.json").read_bytes()
    stages = json.loads(written)["variance"]
    assert set(stages) == {"0", "400"} and len(stages["0"]) == 6 and (folder / "variance.png").exists()
    gradient_variance.main(config)  # after a training that has finished before: of a command that was stopped later
    assert (folder / "variance.json").read_bytes() == written
