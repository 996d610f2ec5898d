"""Rainbow: every improvement of deep Q-learning at once, and each of them alone.

Hessel et al. 2018, "Rainbow: combining improvements in deep reinforcement learning": double, dueling, prioritized,
n-step, noisy, C51. Each has a file with its paper and its equation, and is a program too; here is the loop of them
all. It differs from agents/dqn.py's by the components and by nothing else.

    python -m agents.rainbow --env Breakout
    python -m agents.rainbow --env Breakout --no-noisy         # one component out
    python -m agents.rainbow --only c51 --env Breakout                        # one component alone
    python -m agents.rainbow --env Breakout --distribution iqn --munchausen --no-double

Deviations from the paper: those of agents/dqn.py; see also each component's file. With C51, priorities are the
cross-entropy, as Dopamine's Rainbow has it; the paper's divergence is less by the target's entropy. On Atari all of
them together see pictures less their mean, have layer norms, and a fifth of the noise at the start: by the paper's
network (--no-subtract-mean --norm none --sigma 0.5) nothing of Pong was learned in 220,000 steps.
"""

from __future__ import annotations

import dataclasses
import functools
from pathlib import Path
from typing import Literal, NamedTuple

import torch
from torch import Tensor, nn

import envs
import runs
from agents import dqn, optimization, q_learning
from agents.config import build_backbone, estimate_mean_observation, implied, load_backbone, recipe_key, world_options
from agents.evaluation import SCORE, WATCH_COMMAND, Policy, evaluate_and_save
from agents.networks.layers import stream
from agents.q_learning import epsilon_at, epsilon_greedy
from agents.rainbow import c51, munchausen, qr_dqn
from agents.rainbow.dueling import combine
from agents.rainbow.iqn import FractionEmbedding
from agents.rainbow.n_step import n_step_return
from agents.rainbow.noisy import NoisyLinear
from agents.rainbow.prioritized import concatenate, importance_exponent_at, split_batches
from envs import Transition, World
from replay import PrioritizedReplay
from runs.flag_types import Count, NonNegative, Positive, Share
from runs.machine import precision
from vision import backbones


@dataclasses.dataclass(frozen=True)
class Config(dqn.Config):
    only: Literal[
        "rainbow", "double", "dueling", "prioritized", "n_step", "noisy", "c51", "qr_dqn", "iqn", "munchausen"
    ] = "rainbow"  # all components of the paper, or one alone on DQN
    dueling: bool = False  # state value and advantages in streams of their own
    priority_exponent: Share = 0.0  # exponent of priorities in replay; 0 for uniform
    importance_exponent: Share = 0.4  # exponent of importance weights at the start; 1 at the end
    n_step: Count = 1  # rewards a target looks ahead
    noisy: bool = False  # noise on the dense weights explores instead of epsilon
    sigma: NonNegative = 0.5  # of that noise at the start, times 1 / sqrt(inputs)
    distribution: Literal["mean", "c51", "qr_dqn", "iqn"] = "mean"  # what is predicted of the return
    atoms: int = 51  # c51: returns that can be predicted
    v_min: float = -10.0  # c51: the least of them
    v_max: float = 10.0  # c51: the greatest
    quantiles: Count = 200  # qr_dqn: fractions, fixed
    fractions: Count = 8  # iqn: fractions drawn for a transition
    munchausen: bool = False  # reward for being sure, soft target
    munchausen_alpha: float = 0.9  # munchausen: alpha, of the bonus
    temperature: Positive = 0.03  # munchausen: tau, of the policy
    bonus_low: float = -1.0  # munchausen: l_0, the least log-policy that counts

    @property
    def window(self) -> int:
        return self.n_step

    def validate(self) -> None:
        super().validate()
        if self.atoms < 2 or self.v_min >= self.v_max:
            raise ValueError(
                f"--v-min {self.v_min}, --v-max {self.v_max}, --atoms {self.atoms}: returns are told by 2 or more "
                "numbers, from the least to a greater one"
            )


ACTION_FRACTIONS = 32  # fractions iqn draws to compare actions
COMPONENTS: dict[str, dict] = {  # what each program switches on
    "double": dict(double=True),
    "dueling": dict(dueling=True),
    "prioritized": dict(priority_exponent=0.6),
    "n_step": dict(n_step=3),
    "noisy": dict(noisy=True),
    "c51": dict(distribution="c51"),
    "qr_dqn": dict(distribution="qr_dqn"),
    "iqn": dict(distribution="iqn"),
    "munchausen": dict(munchausen=True),
    "rainbow": dict(double=True, dueling=True, priority_exponent=0.5, n_step=3, noisy=True, distribution="c51"),
}
SMALL = dict(atoms=101, quantiles=32)  # 200 quantiles are 40,000 pairs a transition: an update 20 times as long
SUPPORTS = {  # of discounted returns, for c51, and how finely the distribution is told
    "atari": dict(v_min=-10.0, v_max=10.0),
    "catch": dict(v_min=-1.0, v_max=1.0),
    "control": SMALL | dict(v_min=-100.0, v_max=100.0, atoms=201),
    "CartPole-v1": SMALL | dict(v_min=0.0, v_max=50.0, atoms=51),
    "Acrobot-v1": SMALL | dict(v_min=-100.0, v_max=0.0),
    "LunarLander-v3": SMALL | dict(v_min=-200.0, v_max=300.0),
    "MountainCar-v0": SMALL | dict(v_min=-100.0, v_max=0.0),
    "pixels": dict(v_min=-100.0, v_max=100.0, atoms=201),
}

OVERRIDES = {  # a program's own numbers for a world
    ("rainbow", "atari"): dict(
        subtract_mean=True, norm="layer", sigma=0.1
    ),  # else dense layers die: --subtract-mean in the README
    ("iqn", "Acrobot-v1"): dict(steps=100_000),  # of 40,000, most pass before it first sees the goal
}


def recipe(asked: Config) -> Config:
    """The config that suits the world and the components asked for. Raises ValueError on an unknown world."""
    name = None if asked.only == "rainbow" else f"{asked.only}-{asked.seed}"  # of the run's folder
    key = recipe_key(asked, SUPPORTS)
    plain = dqn.RECIPES[recipe_key(asked, dqn.RECIPES)] | SUPPORTS[key]
    own = dict(double=False) | COMPONENTS[asked.only] | OVERRIDES.get((asked.only, key), {}) | implied(asked)
    return dqn.shortened(Config(env=asked.env, only=asked.only, name=name, **plain | own), asked)


class Prediction(NamedTuple):
    """What a network says of the return of each action."""

    atoms: Tensor  # (B, A, Z) values (Z = 1), logits of c51's support, or quantiles
    fractions: Tensor | None  # (B or 1, Z) which quantiles they are

    def of(self, action: Tensor) -> Tensor:
        """(B, Z), those of one action (B,) each."""
        return self.atoms[torch.arange(len(action), device=action.device), action]

    def split(self, count: int) -> tuple[Prediction, Prediction]:
        """The first `count` of quantiles that were drawn, and the others."""
        atoms = self.atoms.split([count, self.atoms.shape[2] - count], 2)
        first, others = map(Prediction, atoms, self.fractions.split([count, atoms[1].shape[2]], 1))
        return first, others


class RainbowNetwork(nn.Module):
    """observation (B, C, H, W) uint8 or (B, D) float -> value of each action (B, A) float32.

    `predict` gives the whole distribution. Raises ValueError for components that do not go together.
    """

    def __init__(self, backbone: backbones.Backbone, shape: tuple[int, ...], actions: int, config: Config):
        super().__init__()
        if config.munchausen and (config.double or config.distribution == "c51"):
            raise ValueError(
                "Munchausen averages over actions and quantiles: it needs --no-double, and --distribution mean, "
                "qr_dqn or iqn"
            )
        self.backbone, self.actions, self.distribution = backbone, actions, config.distribution
        features = backbone.output_size(shape)
        self.fractions = config.fractions
        self.embed = FractionEmbedding(features) if config.distribution == "iqn" else None
        self.outputs = {"mean": 1, "c51": config.atoms, "qr_dqn": config.quantiles, "iqn": 1}[config.distribution]
        linear = functools.partial(NoisyLinear, sigma=config.sigma) if config.noisy else nn.Linear
        self.advantage = stream(linear, features, config.hidden, actions * self.outputs, config.norm)
        self.value = stream(linear, features, config.hidden, self.outputs, config.norm) if config.dueling else None
        if config.distribution == "c51":
            z = c51.support(config.v_min, config.v_max, config.atoms, torch.device("cpu"))
            self.register_buffer("support", z, persistent=False)

    def predict(self, observation: Tensor, fractions: int | None = None) -> Prediction:
        """The distribution of each action's return; fractions: how many quantiles IQN draws."""
        coarsest = self.backbone(observation)[-1]
        x = coarsest.permute(0, 2, 3, 1).flatten(1)  # (B, F), as channels_last lies in memory
        if self.embed is None:
            atoms = self._streams(x).unflatten(1, (-1, self.outputs))  # (B, A, Z)
            fixed = qr_dqn.midpoints(self.outputs, x.device) if self.distribution == "qr_dqn" else None
            return Prediction(atoms, fixed)
        count = fractions or self.fractions
        if self.training:
            drawn = torch.rand(len(x), count, device=x.device)
        else:
            drawn = qr_dqn.midpoints(count, x.device).expand(len(x), count)
        x = x[:, None] * self.embed(drawn)  # (B, K, F)
        return Prediction(self._streams(x.flatten(0, 1)).unflatten(0, drawn.shape).transpose(1, 2), drawn)

    def values(self, atoms: Tensor) -> Tensor:
        """The mean of each distribution: (B, A, Z) -> (B, A)."""
        return (atoms.softmax(2) * self.support).sum(2) if self.distribution == "c51" else atoms.mean(2)

    def forward(self, observation: Tensor) -> Tensor:
        return self.values(self.predict(observation, ACTION_FRACTIONS).atoms)

    def _streams(self, x: Tensor) -> Tensor:
        advantage = _apply(self.advantage, x)
        if self.value is None:
            return advantage
        value = _apply(self.value, x).unflatten(1, (1, self.outputs))
        return combine(value, advantage.unflatten(1, (self.actions, self.outputs))).flatten(1)


def _apply(layers: nn.Sequential, x: Tensor) -> Tensor:
    x = layers[:-1](x)
    with torch.autocast(x.device.type, enabled=False):
        return layers[-1](x.float())  # bf16 would round away the gap between two actions


def td_loss(config: Config, online: Prediction, action: Tensor, target: Tensor) -> Tensor:
    """How far the prediction (B, A, Z) for the actions (B,) is from the target, (B,).

    target: (B, 1) a value, (B, Z) probabilities of c51's atoms, or (B, M) samples of the return.
    """
    taken = online.of(action)
    if config.distribution == "c51":
        return c51.cross_entropy(taken, target)
    if config.distribution == "mean":
        return (nn.functional.smooth_l1_loss if config.huber else nn.functional.mse_loss)(
            taken, target, reduction="none"
        ).squeeze(1)
    return qr_dqn.quantile_huber(taken, online.fractions, target)


def next_prediction(
    config: Config, online: RainbowNetwork, target: RainbowNetwork, observation: Tensor
) -> tuple[Prediction, Tensor]:
    """What the target predicts of the next observation (B, ...), and the values (B, A) that choose its action.

    The online network's choose in Double DQN, else the target's own; IQN's by fractions that are no part of the
    prediction (Dabney 2018, equation 3 and algorithm 1): the larger of two samples is no sample of the larger.
    """
    if config.double:
        return target.predict(observation), online(observation)
    if config.distribution == "iqn":
        next_value, chooser = target.predict(observation, config.fractions + ACTION_FRACTIONS).split(config.fractions)
        return next_value, target.values(chooser.atoms)
    next_value = target.predict(observation)
    return next_value, target.values(next_value.atoms)


def td_target(
    config: Config,
    network: RainbowNetwork,
    next_value: Prediction,
    online_next_values: Tensor,
    reward: Tensor,
    discount: Tensor,
) -> Tensor:
    """r + discount * what the target network predicts for the next actions, in the form that loss_of wants.

    following: the target network's prediction (B, A, Z) at the next state. judge: (B, A), the values
    that choose the next action: the online network's make it Double DQN, following's own the plain one.
    reward, discount: (B,).
    """
    if config.distribution == "c51":
        return c51.project(next_value.of(online_next_values.argmax(1)).softmax(1), reward, discount, network.support)
    if config.munchausen:
        future = munchausen.soft_target(next_value.atoms, online_next_values, config.temperature)
    else:
        future = next_value.of(online_next_values.argmax(1))
    return reward[:, None] + discount[:, None] * future


def build(config: Config, world: World) -> RainbowNetwork:
    """The network for a world, on its device."""
    q_learning.require_discrete_actions(world)
    network = RainbowNetwork(build_backbone(config, world), world.observation_shape, world.actions, config)
    return network.to(world.device, memory_format=torch.channels_last)


def load(config: Config, folder: Path, parts: dict, world: World, seed: int) -> Policy:
    """The policy that a run's saved parts describe, for agents.watch."""
    network = build(load_backbone(config, folder), world)
    network.load_state_dict(parts["online"])
    return epsilon_greedy(config, network, config.evaluate_epsilon, seed)


def train(config: Config) -> None:
    device = runs.prepare(config.device, config.seed, config.threads)
    chosen = world_options(config)
    world = envs.make(config.env, config.worlds, seed=config.seed, device=device, **chosen)
    run = runs.Run(
        config,
        "agents.rainbow",
        world.name,
        world.protocol,
        dqn.phases(config, world),
        score=SCORE,
        follow_up=WATCH_COMMAND,
    )

    online = build(config, world)
    estimate_mean_observation(config, online, run)
    target = optimization.frozen_copy(config, online)
    optimizer = optimization.adam(config, online)
    memory = q_learning.build_memory(config, world, run, config.n_step)
    if config.priority_exponent:
        memory = PrioritizedReplay(memory, config.priority_exponent)
    run.track(online=online, target=target, optimizer=optimizer, memory=memory, world=world)

    @torch.inference_mode()
    def act(observation: Tensor, epsilon: Tensor) -> Tensor:
        with precision(config, device):
            best = online(observation).argmax(1)
        explore = torch.rand(best.shape, device=device) < epsilon
        return torch.where(explore, torch.randint(world.actions, best.shape, device=device), best)

    def update(batch: Transition, weight: Tensor | None) -> tuple[dict[str, Tensor], Tensor]:
        reward = batch.reward.sign() if config.clip_reward else batch.reward
        if config.n_step > 1:
            reward, discount = n_step_return(reward, batch.discount, batch.last, config.discount)
        else:
            discount = config.discount * batch.discount
        with torch.no_grad(), precision(config, device):
            next_value, online_next_values = next_prediction(config, online, target, batch.next_observation)
            if config.munchausen:
                before = target(batch.observation)
                reward = reward + config.munchausen_alpha * munchausen.bonus(
                    before, batch.action, config.temperature, config.bonus_low
                )
            y = td_target(config, target, next_value, online_next_values, reward, discount)
        with precision(config, device):
            prediction = online.predict(batch.observation)
        each = td_loss(config, prediction, batch.action, y)
        loss = each.mean() if weight is None else (weight * each).mean()
        optimizer.zero_grad()
        loss.backward()
        if config.max_grad_norm:
            nn.utils.clip_grad_norm_(online.parameters(), config.max_grad_norm)
        optimizer.step()
        with torch.no_grad():
            if config.distribution == "mean":
                priority = (y - prediction.of(batch.action)).abs().squeeze(1)
            else:
                priority = each.detach()
            mean = online.values(prediction.atoms).mean()
        return {"loss/td": loss.detach(), "value/mean": mean}, priority

    def learn(batches: Transition, weights: Tensor | None) -> tuple[dict[str, Tensor], Tensor]:
        metrics, priority = zip(
            *(update(Transition(*rows), weight) for rows, weight in split_batches(batches, weights, config.updates)),
            strict=True,
        )
        return optimization.mean_metrics(metrics), concatenate(priority)

    act, learn = optimization.compile_or_capture(config, device, act, learn)

    for step in run.steps(config.steps, stride=world.count):
        epsilon = 0.0 if config.noisy and step >= config.learn_start else epsilon_at(config, step)
        world.send(act(world.observation, torch.tensor(epsilon, device=device)))
        if step >= config.learn_start:  # while the emulator plays
            if config.anneal_lr:
                optimization.set_learning_rate(optimizer, config.learning_rate * (1 - step / config.steps))
            rows = config.batch * config.updates
            for _ in run.due(config.learn_every * config.updates):
                if config.priority_exponent:
                    importance_exponent = importance_exponent_at(step, config.steps, config.importance_exponent)
                    drawn = memory.sample(rows, config.n_step, importance_exponent)
                    metrics, priority = learn(drawn.record, drawn.weight)
                    memory.update(drawn.index, priority)
                else:
                    metrics, _ = learn(memory.sample(rows, config.n_step), None)
                run.log(metrics)
            if run.due(config.target_update_every):
                target.load_state_dict(online.state_dict())
        memory.add(world.recv())
        run.log(world.finished | {"explore/epsilon": epsilon})
        if run.due(config.evaluate_every, config.evaluate_first):
            evaluate_and_save(
                run,
                lambda: epsilon_greedy(config, online, config.evaluate_epsilon, config.seed),
                online.backbone,
                **chosen,
            )
