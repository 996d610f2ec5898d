"""R2D2: Q-learning with a memory of its own, from sequences of replay that begin in the state it was then in.

Kapturowski et al. 2019, "Recurrent experience replay in distributed reinforcement learning". One frame at a time is
enough, also where many of them are black (Hausknecht & Stone 2015, "Deep recurrent Q-learning for partially
observable MDPs").

    python -m agents.r2d2 --env Breakout
    python -m agents.r2d2 --env Pong --flicker 0.5
    python -m agents.r2d2 --env Catch --flicker 0.5

Deviations from the paper: those of agents/dqn.py, and
1. On Atari sequences of 4 + 16 steps instead of 40 + 80, 8 an update, which is 8 steps learned from per step played.
   The mean observation is subtracted (--subtract-mean), and layer norms stand before ReLUs, as in agents/rainbow/.
2. One player with falling exploration instead of 256 with constant ones.
3. The stored state is rounded to 16 bits. Steps with a time limit among the n that follow are not learned from: where
   that one led is not kept.
4. The value function is not rescaled where rewards are clipped (--clip-reward).
"""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional as F

import envs
import runs
from agents import dqn, optimization, q_learning
from agents.config import build_backbone, estimate_mean_observation, implied, load_backbone, recipe_key, world_options
from agents.evaluation import SCORE, WATCH_COMMAND, Policy, evaluate_and_save
from agents.networks.layers import dense, stream
from agents.networks.lstm import RecurrentState, SequenceLSTM
from agents.q_learning import epsilon_at
from agents.rainbow.dueling import combine
from agents.rainbow.prioritized import concatenate, split_batches
from envs import Transition, World
from replay import PrioritizedReplay
from runs.flag_types import Count, Share, Whole
from runs.machine import precision
from vision import backbones


@dataclasses.dataclass(frozen=True)
class Config(dqn.Config):
    lstm_units: Count = 512  # of the LSTM
    burn_in: Whole = 4  # steps that only bring the state up to date
    length: Count = 16  # steps learned from, after those
    n_step: Count = 5  # rewards a target looks ahead
    priority_exponent: Share = 0.9  # exponent of priorities in replay; 0 for uniform
    importance_exponent: Share = 0.6  # exponent of importance weights
    eta: Share = 0.9  # a sequence's priority: eta * its largest error + (1 - eta) * their mean

    @property
    def window(self) -> int:
        return self.burn_in + self.length


PICTURES = dict(
    stack=1,
    norm="layer",
    double=True,
    clip_reward=False,
    huber=False,
    batch=8,
    learn_every=16,
    learning_rate=2e-4,
    target_update_every=4_000,
)
ATARI = PICTURES | dict(
    subtract_mean=True,
    discount=0.997,
    capacity=500_000,  # a step's state takes 2 kB beside the frame's 7
)
RECURRENT = dict(
    lstm_units=64, hidden=128, burn_in=8, length=16, n_step=3, batch=16, learn_every=16, priority_exponent=0.6
)
CONTROL = dqn.CONTROL | RECURRENT
CATCH = dqn.CATCH | dict(
    stack=1, lstm_units=64, burn_in=3, length=9, n_step=3, batch=16, learn_every=8, double=True, priority_exponent=0.6
)
PIXELS = dqn.PIXELS | PICTURES | dict(capacity=200_000)
RECIPES = {
    "atari": ATARI,
    "control": CONTROL,
    "CartPole-v1": dqn.CARTPOLE | RECURRENT,
    "Acrobot-v1": dqn.ACROBOT | RECURRENT,
    "catch": CATCH,
    "pixels": PIXELS,
}


def recipe(asked: Config) -> Config:
    """The config that suits the world asked for. Raises ValueError on an unknown world."""
    config = Config(env=asked.env, **RECIPES[recipe_key(asked, RECIPES)] | implied(asked))
    return dqn.shortened(config, asked)


class Step(NamedTuple):
    """A Transition, and what the agent brought into it."""

    observation: Tensor
    action: Tensor
    reward: Tensor
    discount: Tensor
    next_observation: Tensor
    last: Tensor
    state: Tensor  # (N, S) float16


class R2D2Network(nn.Module):
    """Observations, and what was done and received before each -> value of each action, float32."""

    def __init__(self, backbone: backbones.Backbone, shape: tuple[int, ...], actions: int, config: Config):
        super().__init__()
        self.backbone, self.actions, self.lstm_units = backbone, actions, config.lstm_units
        features, hidden, lstm_units, norm = (
            backbone.output_size(shape),
            config.hidden,
            config.lstm_units,
            config.norm,
        )
        self.hidden = dense(features, hidden, norm)
        self.recurrent = SequenceLSTM((hidden or features) + actions + 1, lstm_units)
        self.value = stream(nn.Linear, lstm_units, hidden, 1, norm)
        self.advantage = stream(nn.Linear, lstm_units, hidden, actions, norm)

    def initial_state(self, count: int) -> Tensor:
        """(N, S) zeros: the state at the start of an episode."""
        return F.pad(self.recurrent.initial_state(count), (0, self.actions + 1))

    def encode(self, observation: Tensor) -> Tensor:
        """(B, L, C, H, W) uint8 or (B, L, D) float -> features (B, L, F)."""
        coarsest = self.backbone(observation.flatten(0, 1))[-1]
        return self.hidden(coarsest.permute(0, 2, 3, 1).flatten(1)).unflatten(0, observation.shape[:2])

    def unroll(
        self, features: Tensor, previous_step: Tensor, is_first: Tensor, hidden: Tensor, cell: Tensor
    ) -> tuple[Tensor, Tensor, Tensor]:
        """The LSTM's outputs (B, L, U), and its hidden and cell (B, U) after the last step.

        features: (B, L, F). said: (B, L, A + 1), the action (one-hot) and the reward before each step. fresh: (B, L)
        bool, the step is an episode's first: the state is 0 there. hidden, cell: (B, U), before the first step.
        """
        return self.recurrent.unroll(
            torch.cat([features, previous_step.to(features.dtype)], 2), is_first, hidden, cell
        )

    def values(self, output: Tensor) -> Tensor:
        """The LSTM's outputs (B, L, U) -> (B, L, A) float32."""
        with torch.autocast(output.device.type, enabled=False):
            flat = output.flatten(0, 1).float()
            q = combine(self.value(flat).unsqueeze(1), self.advantage(flat).unsqueeze(2)).squeeze(2)
        return q.unflatten(0, output.shape[:2])

    def forward(self, observation: Tensor, state: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """One step: observation (N, ...) and state (N, S) -> values (N, A), and hidden and cell (N, U) after it."""
        hidden, cell, previous_step = split_state(state, self.lstm_units)
        is_first = torch.zeros(len(state), 1, dtype=torch.bool, device=state.device)
        output, hidden, cell = self.unroll(
            self.encode(observation.unsqueeze(1)), previous_step.unsqueeze(1), is_first, hidden, cell
        )
        return self.values(output).squeeze(1), hidden, cell


def split_state(state: Tensor, lstm_units: int) -> tuple[Tensor, Tensor, Tensor]:
    """(..., S) -> hidden and cell (..., U), and what was said: the action one-hot and the reward (..., A + 1)."""
    return state[..., :lstm_units], state[..., lstm_units : 2 * lstm_units], state[..., 2 * lstm_units :]


def previous_step_features(config: Config, action: Tensor, reward: Tensor, actions: int) -> Tensor:
    """What the network is told of a step: the action (...) one-hot and the reward (...), as (..., A + 1) float32."""
    reward_feature = reward.sign() if config.clip_reward else rescale(reward)
    return torch.cat([F.one_hot(action, actions).float(), reward_feature.unsqueeze(-1)], -1)


def rescale(x: Tensor, slope: float = 1e-3) -> Tensor:
    """h(x) = sign(x) (sqrt(|x| + 1) - 1) + slope x. Pohlen et al. 2018, arXiv 1805.11593, proposition A.2."""
    return x.sign() * ((x.abs() + 1).sqrt() - 1) + slope * x


def unscale(x: Tensor, slope: float = 1e-3) -> Tensor:
    """The inverse of rescale."""
    root = ((1 + 4 * slope * (x.abs() + 1 + slope)).sqrt() - 1) / (2 * slope)
    return x.sign() * (root.square() - 1)


def n_step_targets(
    reward: Tensor, discount: Tensor, last: Tensor, next_value: Tensor, gamma: float, steps: int
) -> tuple[Tensor, Tensor]:
    """For each step of sequences: R + gamma^m V(where it led after m), m = `steps` or what is left. Equation 1.

    Args:
        reward, discount, last: (B, T), as in Transition.
        next_value: (B, T + 1), V of each step's observation and, at the end, of where the last step led.
        gamma: discount of the return, per step.

    Returns:
        The targets (B, T), and whether each of them is known (B, T) bool: not where a time limit lies within.
    """
    assert next_value.shape == (reward.shape[0], reward.shape[1] + 1) and reward.shape == last.shape == discount.shape
    length = reward.shape[1]
    total, factor = torch.zeros_like(reward), torch.ones_like(reward)
    going = torch.ones_like(last)
    known = torch.ones_like(last)
    where = torch.arange(length, device=reward.device).expand_as(reward).clone()
    for k in range(min(steps, length)):
        ahead = [F.pad(field[:, k:].float(), (0, k)) for field in (reward, discount, last)]
        counts = going & (torch.arange(length, device=reward.device) + k < length)
        total += factor * ahead[0] * counts
        factor = torch.where(counts, factor * gamma * ahead[1], factor)
        where += counts
        stops = counts & ahead[2].bool()
        known &= ~(stops & (ahead[1] > 0) & (where < length))
        going = counts & ~stops
    return total + factor * next_value.gather(1, where), known


def build(config: Config, world: World) -> R2D2Network:
    """The network for a world, on its device."""
    q_learning.require_discrete_actions(world)
    network = R2D2Network(build_backbone(config, world), world.observation_shape, world.actions, config)
    return network.to(world.device, memory_format=torch.channels_last)


def next_state(config: Config, hidden: Tensor, cell: Tensor, transition: Transition, actions: int) -> Tensor:
    """The state (N, S) after a step that began in hidden and cell (N, U): zeros where the episode stopped."""
    state = torch.cat(
        [hidden, cell, previous_step_features(config, transition.action, transition.reward, actions)], 1
    )
    return state * (~transition.last).unsqueeze(1)


def unroll_inputs(config: Config, batch: Step, network: R2D2Network) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor]:
    """What unroll needs to live sequences (B, L, ...) again, and one step more, to where the last one led.

    Returns:
        observation (B, L + 1, ...); said (B, L + 1, A + 1) and fresh (B, L + 1); hidden and cell (B, U) as stored.
    """
    observation = torch.cat([batch.observation, batch.next_observation.unsqueeze(1)], 1)
    hidden, cell, before = split_state(batch.state[:, 0].float(), network.lstm_units)
    previous_step = torch.cat(
        [before.unsqueeze(1), previous_step_features(config, batch.action, batch.reward, network.actions)], 1
    )
    is_first = F.pad(batch.last[:, :-1], (1, 1))  # where the last step led is of its own episode in any case
    return observation, previous_step * (~is_first).unsqueeze(2), is_first, hidden, cell


def sequence_loss(
    config: Config, online: R2D2Network, target: R2D2Network, batch: Step, weight: Tensor
) -> tuple[Tensor, Tensor, Tensor]:
    """What sequences (B, L, ...) teach, after their burn-in of k steps. Section 2.3.

    weight: (B,), of importance.

    Returns:
        The loss; the values of the actions taken (B, L - k); and the sequences' surprise (B,), for their priorities.
    """
    k, device = config.burn_in, weight.device
    observation, previous_step, is_first, hidden, cell = unroll_inputs(config, batch, online)
    with torch.no_grad(), precision(config, device):
        values = target.unroll(target.encode(observation), previous_step, is_first, hidden, cell)[0]
        next_values = target.values(values[:, k:])  # (B, T + 1, A)
        if k:
            _, hidden, cell = online.unroll(
                online.encode(observation[:, :k]), previous_step[:, :k], is_first[:, :k], hidden, cell
            )
    with precision(config, device):
        outputs, _, _ = online.unroll(
            online.encode(observation[:, k:]), previous_step[:, k:], is_first[:, k:], hidden, cell
        )
        values = online.values(outputs)  # (B, T + 1, A)
    with torch.no_grad():
        chosen = (values if config.double else next_values).argmax(2, keepdim=True)
        next_value = next_values.gather(2, chosen).squeeze(2)
        reward = batch.reward.sign() if config.clip_reward else batch.reward
        if not config.clip_reward:
            next_value = unscale(next_value)
        y, known = n_step_targets(
            reward[:, k:], batch.discount[:, k:], batch.last[:, k:], next_value, config.discount, config.n_step
        )
        y = y if config.clip_reward else rescale(y)
    taken = values[:, :-1].gather(2, batch.action[:, k:].unsqueeze(2)).squeeze(2)
    each = (F.smooth_l1_loss if config.huber else F.mse_loss)(taken, y, reduction="none")
    count = known.sum(1).clamp(min=1)
    loss = (weight * (each * known).sum(1) / count).mean()
    error = (y - taken.detach()).abs() * known
    priority = config.eta * error.amax(1) + (1 - config.eta) * error.sum(1) / count
    return loss, taken, priority


def epsilon_greedy(config: Config, network: R2D2Network, epsilon: float, seed: int) -> Policy:
    """A policy to play with, random with probability epsilon, from its own generator; it remembers its games."""
    device = network.recurrent.weight_hh.device
    generator = torch.Generator(device).manual_seed(seed)
    remembered: tuple[Tensor, Tensor] | None = None

    @torch.inference_mode()
    def policy(observation: Tensor, transition: Transition | None = None) -> Tensor:
        nonlocal remembered
        if transition is None:
            state = network.initial_state(len(observation))
        else:
            state = next_state(config, *remembered, transition, network.actions)
        with precision(config, device):
            values, *remembered = network(observation, state)
        best = values.argmax(1)
        explore = torch.rand(best.shape, generator=generator, device=device) < epsilon
        return torch.where(
            explore, torch.randint(network.actions, best.shape, generator=generator, device=device), best
        )

    return policy


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
        "agents.r2d2",
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
    reach = config.window + config.length - 1  # a sequence may begin anywhere within a period
    memory = PrioritizedReplay(
        q_learning.build_memory(config, world, run, reach), config.priority_exponent, period=config.length
    )
    recurrent_state = RecurrentState(online.initial_state(world.count))
    run.track(
        online=online, target=target, optimizer=optimizer, memory=memory, world=world, recurrent_state=recurrent_state
    )

    @torch.inference_mode()
    def act(observation: Tensor, state: Tensor, epsilon: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        with precision(config, device):
            values, hidden, cell = online(observation, state)
        best = values.argmax(1)
        explore = torch.rand(best.shape, device=device) < epsilon
        return torch.where(explore, torch.randint(world.actions, best.shape, device=device), best), hidden, cell

    def update(batch: Step, weight: Tensor) -> tuple[dict[str, Tensor], Tensor]:
        loss, taken, priority = sequence_loss(config, online, target, batch, weight)
        optimizer.zero_grad()
        loss.backward()
        if config.max_grad_norm:
            nn.utils.clip_grad_norm_(online.parameters(), config.max_grad_norm)
        optimizer.step()
        return {"loss/td": loss.detach(), "value/mean": taken.detach().mean()}, priority

    def learn(batches: Step, weights: Tensor) -> tuple[dict[str, Tensor], Tensor]:
        dealt = split_batches(batches, weights, config.updates)
        metrics, priority = zip(*(update(Step(*rows), weight) for rows, weight in dealt), strict=True)
        return optimization.mean_metrics(metrics), concatenate(priority)

    act, learn = optimization.compile_or_capture(config, device, act, learn)

    for step in run.steps(config.steps, stride=world.count):
        epsilon = epsilon_at(config, step)
        action, hidden, cell = act(world.observation, recurrent_state.state, torch.tensor(epsilon, device=device))
        world.send(action)
        if step >= config.learn_start:  # while the emulator plays
            if config.anneal_lr:
                optimization.set_learning_rate(optimizer, config.learning_rate * (1 - step / config.steps))
            for _ in run.due(config.learn_every * config.updates):
                drawn = memory.sequences(config.batch * config.updates, config.window, config.importance_exponent)
                metrics, priority = learn(drawn.record, drawn.weight)
                memory.update(drawn.index, priority)
                run.log(metrics)
            if run.due(config.target_update_every):
                target.load_state_dict(online.state_dict())
        transition = world.recv()
        memory.add(Step(*transition, recurrent_state.state.half()))
        recurrent_state.state = next_state(config, hidden, cell, transition, world.actions)
        run.log(world.finished | {"explore/epsilon": epsilon})
        if run.due(config.evaluate_every, config.evaluate_first):
            evaluate_and_save(
                run,
                lambda: epsilon_greedy(config, online, config.evaluate_epsilon, config.seed),
                online.backbone,
                **chosen,
            )


if __name__ == "__main__":
    runs.launch(train, Config, recipe, "agents.r2d2", __doc__)
