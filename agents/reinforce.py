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
   over before the others plays on unused.
4. Where a time limit cuts an episode short, the learned baseline stands for the rest; the other baselines know none.
"""

from __future__ import annotations

import dataclasses
import math
from pathlib import Path
from typing import Literal, NamedTuple

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

import envs
import runs
from agents import dqn
from agents.dqn import options, precision
from agents.watch import Policy, assess
from envs import Transition, World
from vision import backbones


@dataclasses.dataclass(frozen=True)
class Config(runs.Options):
    env: str = "CartPole"  # the world: an Atari game, a Gymnasium id, or Catch
    protocol: Literal["classic", "sticky"] = "classic"  # Atari: Mnih 2015 (lives end episodes) or Machado 2018
    frame_skip: int = 4  # Atari frames an action is held
    full_actions: bool = False  # Atari: all 18 actions, not just those the game uses
    colour: bool = False  # Atari: three channels a frame
    stack: int = 0  # frames in an observation of pictures; 0: as the world has it, 4 in Atari
    flicker: float = 0.0  # probability that a frame is black (Hausknecht & Stone 2015)
    pixels: bool = False  # control: learn from the rendered picture
    steps: int = 10_000_000  # agent steps, those of games that wait for the others included
    worlds: int = 16  # games side by side: episodes an update
    backbone: str = "nature"  # nature, impala, small, mlp, or a run's folder whose eyes are lifted
    frozen: bool = False  # keep the backbone's weights as they are
    width: float = 1.0  # channels of the backbone, times its family's; lifted eyes keep their own
    norm: Literal["none", "layer"] = "none"  # before every ReLU; lifted eyes keep their own
    spectral: bool = False  # impala: residual convolutions of spectral norm 1; lifted eyes keep their own
    hidden: int = 512  # units between backbone and heads; 0 for none
    apart: bool = False  # the value has a backbone of its own
    scale: bool = False  # vectors: observations are normalised by the mean and deviation of those before
    squash: bool = False  # continuous actions: tanh of a Gaussian, instead of a Gaussian that is clipped
    learning_rate: float = 2.5e-4  # Adam
    anneal: bool = True  # the learning rate falls linearly to 0 over the run
    adam_epsilon: float = 1e-5  # added to the root of squared gradients in Adam
    discount: float = 0.99  # of the return, per step
    clip_reward: bool = True  # learn from the sign of the reward
    max_norm: float = 0.5  # of the gradient, larger ones are scaled down; 0 for no limit
    credit: Literal["return", "reward_to_go"] = "reward_to_go"  # a step answers for all rewards, or for later ones
    baseline: Literal["none", "constant", "moving", "learned"] = "learned"  # what a return is compared with
    memory: float = 0.9  # of the moving baseline: weight of what it was an update before
    normalise: bool = True  # advantages are divided by their root mean square
    entropy: float = 0.01  # weight of the bonus for entropy
    value_weight: float = 0.5  # of the learned baseline's squared error
    evaluate_every: int = 100_000  # steps between evaluations
    evaluate_games: int = 10  # whole games each
    evaluate_greedy: bool = True  # evaluations take the likeliest action instead of drawing one
    film_seconds: float = 20.0  # filmed of a game after each best evaluation; 0 for no films
    bf16: bool = True  # bf16 autocast where the device is fast at it
    compile: bool = False  # torch.compile act and learn


CONTROL = dict(
    steps=500_000,
    backbone="mlp",
    hidden=0,
    apart=True,
    learning_rate=3e-3,
    clip_reward=False,
    evaluate_every=20_000,
    evaluate_games=20,
    film_seconds=0.0,  # Gymnasium's screen needs pygame
    log_every=2_000,
    bf16=False,
    threads=1,  # a small network waits longer for a second thread than it gains
)
CATCH = CONTROL | dict(
    steps=40_000,
    backbone="small",
    hidden=64,
    apart=False,
    worlds=4,
    learning_rate=2e-3,
    max_norm=0.0,
    evaluate_every=8_000,
    evaluate_games=40,
    film_seconds=6.0,
)
PIXELS = dict(steps=1_000_000, clip_reward=False, evaluate_every=50_000)
RECIPES = {"atari": {}, "control": CONTROL, "catch": CATCH, "pixels": PIXELS}


def recipe(asked: Config) -> Config:
    """The config that suits the world asked for. Raises ValueError on an unknown world."""
    return Config(env=asked.env, **RECIPES[dqn.kind(asked, RECIPES)])


def continuous(name: str) -> bool:
    """Whether a control world's actions are numbers, not choices."""
    world = envs.make(name)
    world.close()
    return world.actions is None


class Normaliser(nn.Module):
    """Running mean and variance of rows (B, *shape), in the parallel form of Chan et al. 1983.

    Called on rows, it gives them mean 0 and deviation 1, clipped to 10. Nothing changes before the first update.
    """

    def __init__(self, shape: tuple[int, ...]) -> None:
        super().__init__()
        self.register_buffer("count", torch.zeros((), dtype=torch.float64))
        self.register_buffer("mean", torch.zeros(shape))
        self.register_buffer("variance", torch.ones(shape))

    def forward(self, rows: Tensor) -> Tensor:
        return ((rows - self.mean) / (self.variance + 1e-8).sqrt()).clamp(-10, 10)

    @torch.no_grad()
    def update(self, rows: Tensor) -> None:
        """Take in rows (B, *shape)."""
        mean, variance, count = rows.mean(0), rows.var(0, correction=0), len(rows)
        share = (count / (self.count + count)).float()
        apart = mean - self.mean
        self.variance.lerp_(variance, share).add_(apart.square() * share * (1 - share))
        self.mean.lerp_(mean, share)
        self.count += count


class Same(nn.Identity):
    """No normalisation: a Normaliser that lets rows pass, and learns nothing from them."""

    def update(self, rows: Tensor) -> None:
        """Ignore them."""


class Categorical(nn.Module):
    """features (B, F) -> logits (B, A) of discrete actions."""

    def __init__(self, features: int, world: World) -> None:
        super().__init__()
        self.logits = nn.Linear(features, world.actions)
        small(self.logits)

    def forward(self, features: Tensor) -> Tensor:
        return self.logits(features)

    @staticmethod
    def sample(logits: Tensor, generator: torch.Generator | None = None) -> Tensor:
        """(B,) int64."""
        return torch.multinomial(logits.softmax(1), 1, generator=generator).squeeze(1)

    @staticmethod
    def mode(logits: Tensor) -> Tensor:
        """(B,) int64, the likeliest."""
        return logits.argmax(1)

    @staticmethod
    def log_prob(logits: Tensor, action: Tensor) -> Tensor:
        """(B,)."""
        return -F.cross_entropy(logits, action, reduction="none")

    @staticmethod
    def entropy(logits: Tensor) -> Tensor:
        """(B,) nats."""
        return torch.special.entr(logits.softmax(1)).sum(1)

    @staticmethod
    def outward(action: Tensor) -> Tensor:
        """What the world is sent: the action as it is."""
        return action


class Gaussian(nn.Module):
    """features (B, F) -> means and logarithms of standard deviations (B, 2, A) of continuous actions.

    What is drawn is unbounded; the world is sent its clipped or (squash) its squashed version, which fills
    [action_low, action_high]. Deviations do not depend on the state (Schulman et al. 2015, arXiv 1506.02438).
    Raises ValueError for squash in a world whose actions have no bounds.
    """

    def __init__(self, features: int, world: World, squash: bool) -> None:
        super().__init__()
        if squash and not (np.isfinite(world.action_low).all() and np.isfinite(world.action_high).all()):
            raise ValueError(f"{world.name}'s actions have no bounds to be squashed into: leave --squash out")
        self.squash = squash
        self.mean = nn.Linear(features, world.action_shape[0])
        small(self.mean)
        self.log_std = nn.Parameter(torch.zeros(world.action_shape[0]))
        self.register_buffer("low", torch.from_numpy(world.action_low).float(), persistent=False)
        self.register_buffer("high", torch.from_numpy(world.action_high).float(), persistent=False)

    def forward(self, features: Tensor) -> Tensor:
        mean = self.mean(features)
        return torch.stack([mean, self.log_std.expand_as(mean)], 1)

    @staticmethod
    def sample(parameters: Tensor, generator: torch.Generator | None = None) -> Tensor:
        """(B, A) float32, before it is bounded."""
        mean, log_std = parameters.unbind(1)
        noise = torch.empty_like(mean).normal_(generator=generator)
        return mean + log_std.exp() * noise

    @staticmethod
    def mode(parameters: Tensor) -> Tensor:
        """(B, A), before it is bounded."""
        return parameters[:, 0]

    def log_prob(self, parameters: Tensor, action: Tensor) -> Tensor:
        """(B,), of what was drawn, or of what it becomes when squashed (Haarnoja et al. 2018, equation 21)."""
        mean, log_std = parameters.unbind(1)
        each = -0.5 * ((action - mean) / log_std.exp()).square() - log_std - 0.5 * math.log(2 * math.pi)
        if self.squash:  # log(1 - tanh^2 x), written so that it does not vanish
            each = each - 2 * (math.log(2) - action - F.softplus(-2 * action)) - ((self.high - self.low) / 2).log()
        return each.sum(1)

    @staticmethod
    def entropy(parameters: Tensor) -> Tensor:
        """(B,) nats, of the Gaussian: a squashed one's has no closed form."""
        return (parameters[:, 1] + 0.5 * math.log(2 * math.pi * math.e)).sum(1)

    def outward(self, action: Tensor) -> Tensor:
        """What the world is sent: within its bounds."""
        if self.squash:
            return self.low + (action.tanh() + 1) / 2 * (self.high - self.low)
        return torch.clamp(action, self.low, self.high)


def small(layer: nn.Linear) -> None:
    """Begin with hardly an opinion: orthogonal times 0.01, no bias."""
    nn.init.orthogonal_(layer.weight, gain=0.01)
    nn.init.zeros_(layer.bias)


class ActorCritic(nn.Module):
    """observation (B, ...) -> the parameters of the head's distribution (B, ...) and the state's value (B,)."""

    def __init__(self, world: World, config: Config) -> None:
        super().__init__()
        self.scale = Normaliser(world.observation_shape) if config.scale else Same()
        self.backbone = dqn.see(config, world)
        features = self.backbone.output_size(world.observation_shape)
        self.hidden = dqn.dense(features, config.hidden, config.norm)
        self.judge = nn.ModuleList()  # the value's own eyes and hidden layer, if it has any
        if config.apart:
            self.judge.extend([dqn.see(config, world), dqn.dense(features, config.hidden, config.norm)])
        width = config.hidden or features
        continuous = world.actions is None
        self.head = Gaussian(width, world, config.squash) if continuous else Categorical(width, world)
        self.value = nn.Linear(width, 1)
        nn.init.orthogonal_(self.value.weight)
        nn.init.zeros_(self.value.bias)

    def forward(self, observation: Tensor) -> tuple[Tensor, Tensor]:
        observation = self.scale(observation)
        features = _read(self.backbone, self.hidden, observation)
        judged = _read(*self.judge, observation) if self.judge else features
        with torch.autocast(observation.device.type, enabled=False):
            return self.head(features.float()), self.value(judged.float()).squeeze(1)


def _read(backbone: backbones.Backbone, hidden: nn.Module, observation: Tensor) -> Tensor:
    return hidden(backbone(observation)[-1].permute(0, 2, 3, 1).flatten(1))  # as channels_last lies in memory


def reward_to_go(reward: Tensor, discount: Tensor, following: Tensor | float = 0.0) -> Tensor:
    """G_t = r_t + gamma_t G_t+1: (T, N) each, and `following` (N,) what comes after the last step."""
    returns = torch.empty_like(reward)
    for t in reversed(range(len(reward))):
        returns[t] = following = reward[t] + discount[t] * following
    return returns


class Episodes:
    """The first episode of each of N worlds since the last update, and how many updates there were.

    Part of a checkpoint: an update may lie many steps ahead.
    """

    def __init__(self) -> None:
        self.updates = 0
        self.steps: list[Transition] = []  # (N, ...) each; action is what was drawn

    def add(self, came: Transition, drawn: Tensor) -> None:
        self.steps.append(came._replace(action=drawn))

    @property
    def whole(self) -> bool:
        """Whether every world has come to the end of an episode."""
        return bool(torch.stack([step.last for step in self.steps]).any(0).all())

    def take(self) -> tuple[Transition, Tensor]:
        """All of it, every field (T, N, ...), and which steps are of a first episode (T, N) bool; forgets it."""
        record = Transition(*(torch.stack(field) for field in zip(*self.steps, strict=True)))
        over = record.last.cumsum(0) - record.last.long()
        self.steps = []
        self.updates += 1
        return record, over == 0

    def state_dict(self) -> dict:
        fields = [torch.stack(field) for field in zip(*self.steps, strict=True)]
        return {"updates": self.updates, "fields": fields}

    def load_state_dict(self, state: dict) -> None:
        self.updates = state["updates"]
        self.steps = [Transition(*step) for step in zip(*(field.unbind(0) for field in state["fields"]), strict=True)]


class Moving(nn.Module):
    """A moving average of returns, kept with the run."""

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("mean", torch.zeros(()))

    def update(self, value: Tensor, memory: float, first: bool) -> None:
        self.mean.copy_(value if first else memory * self.mean + (1 - memory) * value)


def credits(config: Config, reward: Tensor, used: Tensor, final: Tensor) -> Tensor:
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


def baseline_of(config: Config, weight: Tensor, used: Tensor, value: Tensor, moving: Tensor) -> Tensor:
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


def build(config: Config, world: World) -> ActorCritic:
    """The network for a world, on its device."""
    return ActorCritic(world, config).to(world.device, memory_format=torch.channels_last)


def player(config: Config, network: ActorCritic, seed: int) -> Policy:
    """A policy to play with: the likeliest action, or one drawn from a generator of its own."""
    device = next(network.parameters()).device
    generator = torch.Generator(device).manual_seed(seed)

    @torch.inference_mode()
    def policy(observation: Tensor, came: Transition | None = None) -> Tensor:
        with precision(config, device):
            parameters, _ = network(observation)
        head = network.head
        return head.outward(head.mode(parameters) if config.evaluate_greedy else head.sample(parameters, generator))

    return policy


def load(config: Config, folder: Path, parts: dict, world: World, seed: int) -> Policy:
    """The policy that a run's saved parts describe, for agents.watch."""
    network = build(dqn.own_eyes(config, folder), world)
    network.load_state_dict(parts["network"])
    return player(config, network, seed)


class Batch(NamedTuple):
    """The steps of whole episodes, M of them."""

    observation: Tensor  # (M, ...)
    action: Tensor  # (M, ...) as drawn
    weight: Tensor  # (M,) the return that counts
    baseline: Tensor  # (M,)
    togo: Tensor  # (M,) the return that followed, which the learned baseline predicts


def train(config: Config) -> None:
    device = runs.prepare(config.device, config.seed, config.threads)
    chosen = options(config)
    world = envs.make(config.env, config.worlds, seed=config.seed, device=device, **chosen)
    run = runs.Run(config, "agents.reinforce", world.name, world.protocol, dqn.patience(world))

    network = build(config, world)
    optimizer = dqn.adam(config, network)
    episodes, moving = Episodes(), Moving().to(device)
    run.track(network=network, optimizer=optimizer, world=world, episodes=episodes, moving=moving)

    @torch.inference_mode()
    def act(observation: Tensor) -> Tensor:
        with precision(config, device):
            parameters, _ = network(observation)
        return network.head.sample(parameters)

    @torch.inference_mode()
    def judge(observation: Tensor) -> Tensor:
        with precision(config, device):
            return network(observation)[1]

    def learn(batch: Batch) -> dict[str, Tensor]:
        with precision(config, device):
            parameters, value = network(batch.observation)
        advantage = batch.weight - batch.baseline
        if config.normalise:
            advantage = advantage / (advantage.square().mean().sqrt() + 1e-8)
        entropy = network.head.entropy(parameters).mean()
        policy = -(advantage * network.head.log_prob(parameters, batch.action)).mean()
        error = F.mse_loss(value, batch.togo) if config.baseline == "learned" else torch.zeros_like(policy)
        optimizer.zero_grad()
        (policy - config.entropy * entropy + config.value_weight * error).backward()
        if config.max_norm:
            nn.utils.clip_grad_norm_(network.parameters(), config.max_norm)
        optimizer.step()
        losses = {"loss/policy": policy, "loss/value": error, "policy/entropy": entropy, "value/mean": value.mean()}
        return {name: loss.detach() for name, loss in losses.items()}

    if config.compile:
        act, learn = torch.compile(act), torch.compile(learn)

    for step in run.steps(config.steps, stride=world.count):
        drawn = act(world.observation)
        episodes.add(world.step(network.head.outward(drawn)), drawn)
        run.log(world.finished)
        if episodes.whole:
            record, used = episodes.take()
            reward = record.reward.sign() if config.clip_reward else record.reward
            learned = config.baseline == "learned"
            ends = used & record.last
            led = record.next_observation[ends.long().argmax(0), torch.arange(world.count, device=device)]
            final = judge(led) * (ends & (record.discount > 0)).any(0) if learned else torch.zeros_like(reward[0])
            weight = credits(config, reward, used, final)
            togo = credits(dataclasses.replace(config, credit="reward_to_go"), reward, used, final)
            value = torch.zeros_like(reward)
            if learned:
                value[used] = judge(record.observation[used])
            mean = weight.sum() / used.sum()
            compared = baseline_of(config, weight, used, value, moving.mean)
            batch = Batch(record.observation[used], record.action[used], weight[used], compared[used], togo[used])
            if config.anneal:
                for group in optimizer.param_groups:
                    group["lr"] = config.learning_rate * (1 - step / config.steps)
            run.log(learn(batch))
            network.scale.update(batch.observation)
            moving.update(mean, config.memory, first=episodes.updates == 1)
            world.reset(int(np.random.SeedSequence([config.seed, episodes.updates]).generate_state(1)[0] >> 1))
        if run.due(config.evaluate_every):
            assess(run, lambda: player(config, network, config.seed), network.backbone, **chosen)


if __name__ == "__main__":
    runs.launch(train, Config, recipe, "agents.reinforce", __doc__)
