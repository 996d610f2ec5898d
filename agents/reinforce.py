"""REINFORCE: the Monte Carlo policy gradient, with optional variance reduction.

The gradient of an action's log-probability is weighted by the return that followed the action, less a baseline.
Williams 1992, "Simple statistical gradient-following algorithms for connectionist reinforcement learning"; --credit
and --baseline are steps of variance reduction (Sutton & Barto 2018, sections 13.3 and 13.4).

    python -m agents.reinforce --env CartPole
    python -m agents.reinforce --env CartPole --credit return --baseline none     # without variance reduction
    python -m agents.reinforce --env Pendulum --squash

Deviations from the paper:
1. Adam instead of plain gradient ascent; several worlds at once, and one update for all of them.
2. The mean over steps instead of the sum over each episode, and a small entropy bonus; weights are divided by
   their root mean square, gradients clipped to a norm of 0.5, the learning rate falls to 0, and rewards on Atari are
   clipped to their sign. A recipe may leave these out.
3. All games start again after an update, so that one policy plays an episode from start to end. Only the first
   episode of each world counts: what it plays on while others finish is neither learned from nor scored.
4. Where a time limit cuts an episode short, the learned baseline bootstraps the return; the other baselines cannot.
5. A learned baseline with a backbone of its own takes several steps an update (--value-updates), after its values
   were used: a single step leaves it worse than a constant.
6. Where a lost life ends an episode (Atari's classic protocol), it is the first life of a game: the others are not
   learned from and no score of training is logged. --protocol sticky learns from whole games.
"""

from __future__ import annotations

import dataclasses
from typing import ClassVar, Literal, NamedTuple

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

import envs
import runs
from agents import optimization
from agents.config import (
    BackboneFlags,
    ComputeFlags,
    EvaluationFlags,
    PolicyGradientFlags,
    WorldFlags,
    estimate_mean_observation,
    from_recipe,
    world_options,
)
from agents.evaluation import evaluate_and_save, open_run
from agents.networks import actor_critic
from agents.networks.actor_critic import load
from agents.returns import reward_to_go
from envs import Transition
from replay.episodes import Episodes
from runs.flag_types import Count, Share
from runs.loss_scaling import LossScaler
from runs.machine import precision

__all__ = [
    "Config",
    "baselines",
    "step_returns",
    "load",
    "world_options",
    "recipe",
    "reward_to_go",
    "train",
]


@dataclasses.dataclass(frozen=True)
class Config(WorldFlags, BackboneFlags, PolicyGradientFlags, ComputeFlags, EvaluationFlags, runs.Options):
    CAPTURES: ClassVar[bool] = False  # episodes differ in length, and a graph keeps its shapes

    env: str = "CartPole"  # the world: an Atari game, a Gymnasium id, or Catch
    steps: Count = 10_000_000  # agent steps, those played while other worlds finish included
    worlds: Count = 16  # games side by side: episodes an update
    credit: Literal["return", "reward_to_go"] = "reward_to_go"  # weight: the return of the episode, or to go
    baseline: Literal["none", "constant", "moving", "learned"] = "learned"  # subtracted from the return
    baseline_decay: Share = 0.9  # of the moving baseline: weight of its value before an update
    value_updates: Count = 1  # of a learned baseline with --separate-critic: steps for one of the policy


CONTROL = dict(
    steps=500_000,
    worlds=8,  # of 16, whole games of 500 steps leave too few updates
    hidden=0,
    separate_critic=True,
    value_updates=20,
    learning_rate=3e-3,
    evaluate_every=50_000,
    evaluate_games=50,  # of 20, weights that fall in some games win by chance
    log_every=2_000,
)
CATCH = dict(
    steps=64_000,
    worlds=8,
    hidden=64,
    learning_rate=4e-3,
    max_grad_norm=0.0,
    entropy=0.03,
    evaluate_every=8_000,
    log_every=2_000,
)
PIXELS = dict(steps=1_000_000, evaluate_every=50_000)
RECIPES = {"atari": {}, "control": CONTROL, "catch": CATCH, "pixels": PIXELS}

EPISODIC = dict(  # Williams 1992: episodic REINFORCE with reinforcement comparison; the paper gives no other numbers
    credit="return",
    baseline="moving",
    normalize_advantages=False,
    max_grad_norm=0.0,
    entropy=0.0,
    anneal_lr=False,
)
PAPER = {"control": EPISODIC, "catch": EPISODIC}


def recipe(asked: Config) -> Config:
    """The config that suits the world asked for. Raises ValueError on an unknown world."""
    return from_recipe(asked, RECIPES, PAPER)


class MovingAverage(nn.Module):
    """Exponential moving average of returns, part of a checkpoint."""

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("mean", torch.zeros(()))

    def update(self, value: Tensor, baseline_decay: float, first: bool) -> None:
        """Average in a scalar, with weight 1 - baseline_decay; the first value is taken as it is."""
        self.mean.copy_(value if first else baseline_decay * self.mean + (1 - baseline_decay) * value)


def step_returns(config: Config, reward: Tensor, used: Tensor, final_value: Tensor) -> Tensor:
    """The return by which each step's gradient is weighted: its whole episode's, or its reward to go.

    Args:
        reward: (T, N).
        used: (T, N) bool, the steps of each world's first episode.
        final_value: (N,), the value of the last observation where a time limit cut the episode short, else 0.

    Returns:
        (T, N), 0 where not used.
    """
    reward = reward * used
    ends = used & ~F.pad(used[1:], (0, 0, 0, 1))  # each episode's last step
    reward = reward + config.discount * final_value * ends
    returns = reward_to_go(reward, config.discount * (used & ~ends))
    return (returns if config.credit == "reward_to_go" else returns[:1].expand_as(returns)) * used


def baselines(config: Config, weight: Tensor, used: Tensor, value: Tensor, moving: Tensor) -> Tensor:
    """The baseline subtracted from each step's weight, (T, N) both. It never depends on the step's own action.

    none: 0. constant: the mean weight of the other episodes. moving: the moving average over earlier updates.
    learned: the critic's value.
    """
    if config.baseline == "learned":
        return value
    if config.baseline == "moving":
        return moving.expand_as(weight)
    if config.baseline == "none":
        return torch.zeros_like(weight)
    total, count = weight.sum(), used.sum()
    return ((total - weight.sum(0)) / (count - used.sum(0)).clamp(min=1)).expand_as(weight)


class Batch(NamedTuple):
    """The steps of whole episodes, M of them."""

    observation: Tensor  # (M, ...)
    action: Tensor  # (M, ...) as sampled
    weight: Tensor  # (M,) the return by --credit
    baseline: Tensor  # (M,)
    return_to_go: Tensor  # (M,) the target of the learned baseline


def train(config: Config) -> None:
    if config.capture:
        raise ValueError("--capture: episodes differ in length, and a graph keeps its shapes")
    device = runs.prepare(config.device, config.seed, config.threads)
    chosen = world_options(config)
    world = envs.make(config.env, config.worlds, seed=config.seed, device=device, **chosen)
    run = open_run(config, "agents.reinforce", world)

    network = actor_critic.build(config, world)
    estimate_mean_observation(config, network, run)
    optimizer, scaler = optimization.adam(config, network), LossScaler(config.fp16, device)
    groups = network.parameter_groups() if config.separate_critic else [list(network.parameters())]
    episodes, moving = Episodes(Transition, device), MovingAverage().to(device)
    run.track(network=network, optimizer=optimizer, world=world, episodes=episodes, moving=moving, **scaler.parts)

    @torch.inference_mode()
    def act(observation: Tensor) -> Tensor:
        with precision(config, device):
            parameters, _ = network(observation)
        return network.head.sample(parameters)

    @torch.inference_mode()
    def critic(observation: Tensor) -> Tensor:
        with precision(config, device):
            return network(observation)[1]

    def learn(batch: Batch) -> dict[str, Tensor]:
        with precision(config, device):
            parameters, value = network(batch.observation)
        advantage = batch.weight - batch.baseline
        if config.normalize_advantages:
            advantage = advantage / (advantage.square().mean().sqrt() + 1e-8)
        entropy = network.head.entropy(parameters).mean()
        policy = -(advantage * network.head.log_prob(parameters, batch.action)).mean()
        error = F.mse_loss(value, batch.return_to_go) if config.baseline == "learned" else torch.zeros_like(policy)
        descend(policy - config.entropy * entropy + config.value_weight * error)
        losses = {"loss/policy": policy, "loss/value": error, "policy/entropy": entropy, "value/mean": value.mean()}
        if config.baseline == "learned":
            spread = batch.return_to_go.var()
            explained = 1 - (batch.return_to_go - batch.baseline).var() / spread
            losses["value/explained"] = explained.where(spread > 0, torch.zeros_like(spread))
        return {name: loss.detach() for name, loss in losses.items()} | scaler.metrics

    def fit(batch: Batch) -> None:
        with precision(config, device):
            value = network.values(batch.observation)
        descend(config.value_weight * F.mse_loss(value, batch.return_to_go))

    def descend(loss: Tensor) -> None:
        optimizer.zero_grad()
        scaler.scale(loss).backward()
        scaler.unscale_(optimizer)
        if config.max_grad_norm:
            for weights in groups:  # each by itself: the value's gradient is a thousand times the policy's
                nn.utils.clip_grad_norm_(weights, config.max_grad_norm)
        scaler.step(optimizer)

    if config.compile:
        act, learn, fit = optimization.compile_policy(act), torch.compile(learn), torch.compile(fit)

    for step in run.steps(config.steps, stride=world.count):
        action = act(world.observation)
        ended = episodes.add(world.step(network.head.environment_action(action)), action).tolist()
        first = [k for k, n in enumerate(world.finished_worlds) if ended[n]]  # of the games that ended in this step
        run.log({name: [numbers[k] for k in first] for name, numbers in world.finished.items()})
        if episodes.complete:
            record, used = episodes.take()
            reward = record.reward.sign() if config.clip_reward else record.reward
            learned = config.baseline == "learned"
            value, final_value = torch.zeros_like(reward), torch.zeros_like(reward[0])
            if learned:
                last = used & record.last
                final = record.next_observation[last.long().argmax(0), torch.arange(world.count, device=device)]
                final_value = critic(final) * (last & (record.discount > 0)).any(0)
                value[used] = critic(record.observation[used])
            weight = step_returns(config, reward, used, final_value)
            return_to_go = step_returns(dataclasses.replace(config, credit="reward_to_go"), reward, used, final_value)
            baseline = baselines(config, weight, used, value, moving.mean)
            fields = record.observation, record.action, weight, baseline, return_to_go
            batch = Batch(*(field[used] for field in fields))
            if config.anneal_lr:
                optimization.set_learning_rate(optimizer, config.learning_rate * (1 - step / config.steps))
            run.log(learn(batch))
            for _ in range(config.value_updates - 1 if learned and config.separate_critic else 0):
                fit(batch)
            network.normalize_observations.update(batch.observation)
            moving.update(weight.sum() / used.sum(), config.baseline_decay, first=episodes.updates == 1)
            world.reset(int(np.random.SeedSequence([config.seed, episodes.updates]).generate_state(1)[0] >> 1))
        if run.evaluates():
            evaluate_and_save(
                run, lambda: actor_critic.StochasticPolicy(config, network, config.seed), network.backbone, **chosen
            )


if __name__ == "__main__":
    runs.launch(train, Config, recipe, "agents.reinforce", __doc__)
