"""REINFORCE: what was followed by much reward is made more likely, by the gradient of its log-probability.

Williams 1992, "Simple statistical gradient-following algorithms for connectionist reinforcement learning"; the steps
that make its gradient less noisy are switches: --credit and --baseline (Sutton & Barto 2018, sections 13.3 and 13.4).

    python -m agents.reinforce --env CartPole
    python -m agents.reinforce --env CartPole --credit return --baseline none     # as plain as it gets
    python -m agents.reinforce --env Pendulum --squash

Deviations from the paper:
1. Adam instead of plain gradient ascent; several games at once, and one update for all of them.
2. The mean over steps instead of the sum over each episode, and a small bonus for entropy.
3. After an update all games begin anew, so that every episode was played by one policy throughout. A game that is
   over before the others plays on unused, and its score is counted nowhere.
4. Where a time limit cuts an episode short, the learned baseline stands for the rest; the other baselines know none.
5. A learned baseline with eyes of its own is fitted by several steps an update (--value-updates), after what it was
   compared with: one leaves it worse than a constant.
"""

from __future__ import annotations

import dataclasses
from typing import Literal, NamedTuple

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
    duration_note,
    estimate_mean_observation,
    from_recipe,
    world_options,
)
from agents.evaluation import SCORE, WATCH_COMMAND, evaluate_and_save
from agents.networks import actor_critic
from agents.networks.actor_critic import load
from agents.returns import reward_to_go
from envs import Transition
from runs.flag_types import Count, Share
from runs.machine import precision

__all__ = [
    "Config",
    "Episodes",
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
    env: str = "CartPole"  # the world: an Atari game, a Gymnasium id, or Catch
    steps: Count = 10_000_000  # agent steps, those of games that wait for the others included
    worlds: Count = 16  # games side by side: episodes an update
    credit: Literal["return", "reward_to_go"] = "reward_to_go"  # a step answers for all rewards, or for later ones
    baseline: Literal["none", "constant", "moving", "learned"] = "learned"  # what a return is compared with
    baseline_decay: Share = 0.9  # of the moving baseline: weight of what it was an update before
    value_updates: Count = 1  # of a learned baseline with --separate-critic, for one of the policy


CONTROL = dict(
    steps=500_000,
    worlds=8,  # of 16, whole games of 500 steps leave too few updates
    backbone="mlp",
    hidden=0,
    separate_critic=True,
    learning_rate=3e-3,
    clip_reward=False,
    evaluate_every=50_000,
    evaluate_first=0,
    evaluate_games=50,  # of 20, weights that fall in some games win by chance
    film_seconds=0.0,  # Gymnasium's screen needs pygame
    log_every=2_000,
    bf16=False,
    threads=1,  # a small network waits longer for a second thread than it gains
)
CATCH = CONTROL | dict(
    steps=64_000,
    backbone="small",
    hidden=64,
    separate_critic=False,
    learning_rate=4e-3,
    max_grad_norm=0.0,
    entropy=0.03,
    evaluate_every=8_000,
    evaluate_games=40,
    film_seconds=6.0,
)
PIXELS = dict(steps=1_000_000, clip_reward=False, evaluate_every=50_000)
RECIPES = {"atari": {}, "control": CONTROL | dict(value_updates=20), "catch": CATCH, "pixels": PIXELS}


def recipe(asked: Config) -> Config:
    """The config that suits the world asked for. Raises ValueError on an unknown world."""
    return from_recipe(asked, RECIPES)


class Episodes:
    """The first episode of each of N worlds since the last update, and how many updates there were.

    Part of a checkpoint: an update may lie many steps ahead.
    """

    def __init__(self, device: torch.device | str = "cpu") -> None:
        self.device = device
        self.updates = 0
        self.steps: list[Transition] = []  # (N, ...) each; action is what was drawn
        self.over: Tensor | None = None  # (N,) bool, the world's first episode has ended

    def add(self, transition: Transition, drawn: Tensor) -> Tensor:
        """Take in a step. Returns (N,) bool: the worlds whose first episode ended with it."""
        self.steps.append(transition._replace(action=drawn))
        before = torch.zeros_like(transition.last) if self.over is None else self.over
        self.over = before | transition.last
        return transition.last & ~before

    @property
    def whole(self) -> bool:
        """Whether every world has come to the end of an episode."""
        return self.over is not None and bool(self.over.all())

    def take(self) -> tuple[Transition, Tensor]:
        """All of it, every field (T, N, ...), and which steps are of a first episode (T, N) bool; forgets it."""
        record = Transition(*(torch.stack(field) for field in zip(*self.steps, strict=True)))
        over = record.last.cumsum(0) - record.last.long()
        self.steps, self.over = [], None
        self.updates += 1
        return record, over == 0

    def state_dict(self) -> dict:
        fields = [torch.stack(field) for field in zip(*self.steps, strict=True)]
        return {"updates": self.updates, "fields": fields}

    def load_state_dict(self, state: dict) -> None:
        self.updates = state["updates"]
        fields = (field.to(self.device).unbind(0) for field in state["fields"])
        self.steps = [Transition(*step) for step in zip(*fields, strict=True)]
        self.over = torch.stack([step.last for step in self.steps]).any(0) if self.steps else None

    def truncate_episodes(self, worlds: Tensor) -> None:
        """Mark the newest step of the worlds in (N,) bool `last`, and not over: other games begin there."""
        if self.steps:
            worlds = worlds.to(self.device)
            self.steps[-1] = self.steps[-1]._replace(last=self.steps[-1].last | worlds)
            self.over = self.over | worlds


class MovingAverage(nn.Module):
    """A moving average of returns, kept with the run."""

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("mean", torch.zeros(()))

    def update(self, value: Tensor, baseline_decay: float, first: bool) -> None:
        self.mean.copy_(value if first else baseline_decay * self.mean + (1 - baseline_decay) * value)


def step_returns(config: Config, reward: Tensor, used: Tensor, final: Tensor) -> Tensor:
    """What each step is weighted by before a baseline: the return of its whole episode, or of what came after.

    Args:
        reward: (T, N). used: (T, N) bool, the steps of each world's first episode. final: (N,) the value of where a
            time limit cut it short, else 0.

    Returns:
        (T, N), 0 where not used.
    """
    reward = reward * used
    ends = used & ~F.pad(used[1:], (0, 0, 0, 1))  # each episode's last step
    reward = reward + config.discount * final * ends
    going = config.discount * (used & ~ends)
    returns = reward_to_go(reward, going)
    return (returns if config.credit == "reward_to_go" else returns[:1].expand_as(returns)) * used


def baselines(config: Config, weight: Tensor, used: Tensor, value: Tensor, moving: Tensor) -> Tensor:
    """What the weights (T, N) are compared with, (T, N). None of them depends on the action that is rated.

    none: 0. constant: the mean weight in the other episodes. moving: of the updates before. learned: the value.
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
    action: Tensor  # (M, ...) as drawn
    weight: Tensor  # (M,) the return that counts
    baseline: Tensor  # (M,)
    return_to_go: Tensor  # (M,) the return that followed, which the learned baseline predicts


def train(config: Config) -> None:
    if config.capture:
        raise ValueError("--capture: episodes differ in length, and a graph keeps its shapes")
    device = runs.prepare(config.device, config.seed, config.threads)
    chosen = world_options(config)
    world = envs.make(config.env, config.worlds, seed=config.seed, device=device, **chosen)
    run = runs.Run(
        config,
        "agents.reinforce",
        world.name,
        world.protocol,
        duration_note(world),
        score=SCORE,
        follow_up=WATCH_COMMAND,
    )

    network = actor_critic.build(config, world)
    estimate_mean_observation(config, network, run)
    optimizer = optimization.adam(config, network)
    parts = (
        network.parts() if config.separate_critic else [list(network.parameters())]
    )  # whose gradients are clipped apart
    episodes, moving = Episodes(device), MovingAverage().to(device)
    run.track(network=network, optimizer=optimizer, world=world, episodes=episodes, moving=moving)

    @torch.inference_mode()
    def act(observation: Tensor) -> Tensor:
        with precision(config, device):
            parameters, _ = network(observation)
        return network.head.sample(parameters)

    @torch.inference_mode()
    def critic_encoder(observation: Tensor) -> Tensor:
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
        return {name: loss.detach() for name, loss in losses.items()}

    def fit(batch: Batch) -> None:
        with precision(config, device):
            value = network.values(batch.observation)
        descend(config.value_weight * F.mse_loss(value, batch.return_to_go))

    def descend(loss: Tensor) -> None:
        optimizer.zero_grad()
        loss.backward()
        for weights in parts if config.max_grad_norm else ():  # the value's gradient is a thousand times the policy's
            nn.utils.clip_grad_norm_(weights, config.max_grad_norm)
        optimizer.step()

    if config.compile:
        act, learn, fit = optimization.compile_policy(act), torch.compile(learn), torch.compile(fit)

    for step in run.steps(config.steps, stride=world.count):
        drawn = act(world.observation)
        counted = episodes.add(world.step(network.head.environment_action(drawn)), drawn).tolist()
        run.log(
            {
                word: [x for n, x in zip(world.finished_worlds, told, strict=True) if counted[n]]
                for word, told in world.finished.items()
            }
        )
        if episodes.whole:
            record, used = episodes.take()
            reward = record.reward.sign() if config.clip_reward else record.reward
            learned = config.baseline == "learned"
            ends = used & record.last
            led = record.next_observation[ends.long().argmax(0), torch.arange(world.count, device=device)]
            final = (
                critic_encoder(led) * (ends & (record.discount > 0)).any(0)
                if learned
                else torch.zeros_like(reward[0])
            )
            weight = step_returns(config, reward, used, final)
            return_to_go = step_returns(dataclasses.replace(config, credit="reward_to_go"), reward, used, final)
            value = torch.zeros_like(reward)
            if learned:
                value[used] = critic_encoder(record.observation[used])
            mean = weight.sum() / used.sum()
            compared = baselines(config, weight, used, value, moving.mean)
            batch = Batch(
                record.observation[used], record.action[used], weight[used], compared[used], return_to_go[used]
            )
            if config.anneal_lr:
                optimization.set_learning_rate(optimizer, config.learning_rate * (1 - step / config.steps))
            run.log(learn(batch))
            for _ in range(config.value_updates - 1 if learned and config.separate_critic else 0):
                fit(batch)
            network.normalize_observations.update(batch.observation)
            moving.update(mean, config.baseline_decay, first=episodes.updates == 1)
            world.reset(int(np.random.SeedSequence([config.seed, episodes.updates]).generate_state(1)[0] >> 1))
        if run.due(config.evaluate_every, config.evaluate_first):
            evaluate_and_save(
                run, lambda: actor_critic.StochasticPolicy(config, network, config.seed), network.backbone, **chosen
            )


if __name__ == "__main__":
    runs.launch(train, Config, recipe, "agents.reinforce", __doc__)
