"""R2D2: recurrent Q-learning from prioritized replay of sequences, which begin in the stored recurrent state.

Kapturowski et al. 2019, "Recurrent experience replay in distributed reinforcement learning". One frame at a time is
enough, also where many of them are black (Hausknecht & Stone 2015, "Deep recurrent Q-learning for partially
observable MDPs").

    python -m agents.r2d2 --env Breakout
    python -m agents.r2d2 --env Pong --flicker 0.5
    python -m agents.r2d2 --env Catch --flicker 0.5

Deviations from the paper: those of agents/dqn.py, and
1. On Atari sequences of 4 + 16 steps instead of 40 + 80, 8 an update, which is 8 steps learned from per step played.
   The mean observation is subtracted (--subtract-mean), and layer norms stand before ReLUs, as in agents/rainbow/.
2. 16 worlds with one exploration that falls, instead of 256 with a constant one each. In the classic protocol the
   loss of a life ends an episode, in the paper it does not. --recipe paper has the paper's numbers.
3. The stored state is rounded to 16 bits. Steps with a time limit among the n that follow are not learned from: the
   observation after it is not stored.
4. The value function is not rescaled where rewards are clipped (--clip-reward).
5. Sequences begin every --length steps, so that only their burn-ins overlap, and may span episodes, with the state
   reset in between; the paper's overlap by half and end with the episode.
"""

from __future__ import annotations

import dataclasses
import functools
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional as F

import envs
import runs
from agents import q_learning
from agents.config import (
    BackboneFlags,
    ComputeFlags,
    EvaluationFlags,
    WorldFlags,
    estimate_mean_observation,
    from_recipe,
    world_options,
)
from agents.evaluation import evaluate_and_save, open_run
from agents.networks.lstm import RecurrentState
from agents.networks.recurrent_q import R2D2Network, build, make_policy
from agents.optimization import adam, compile_or_capture, frozen_copy, mean_metrics, set_learning_rate
from agents.q_learning import ReplayFlags, epsilon_at, epsilon_greedy
from agents.rainbow.prioritized import concatenate, split_batches
from agents.returns import n_step_targets, rescale, unscale
from replay import PrioritizedReplay
from runs.flag_types import Count, NonNegative, Share, Whole
from runs.loss_scaling import LossScaler
from runs.machine import precision


@dataclasses.dataclass(frozen=True)
class Config(WorldFlags, BackboneFlags, ReplayFlags, ComputeFlags, EvaluationFlags, runs.Options):
    hidden: Whole = 512  # units before the LSTM, and in each stream after it
    lstm_units: Count = 512  # of the LSTM
    capacity: Count = 500_000  # transitions in replay: a step's state takes 2 kB beside the frame's 7
    learn_every: Count = 16  # steps per update
    batch: Count = 8  # sequences per update
    burn_in: Whole = 4  # steps that only bring the state up to date
    length: Count = 16  # steps learned from, after those
    n_step: Count = 5  # rewards a target looks ahead
    learning_rate: NonNegative = 2e-4  # Adam
    discount: Share = 0.997  # of the return, per step
    target_update_every: Count = 4_000  # steps between copies of online into target
    clip_reward: bool = False  # learn from the sign of the reward
    huber: bool = False  # errors beyond 1 count linearly, not squared
    double: bool = True  # Double DQN: online chooses the next action, target values it
    priority_exponent: Share = 0.9  # exponent of priorities in replay; 0 for uniform
    importance_exponent: Share = 0.6  # exponent of importance weights
    eta: Share = 0.9  # a sequence's priority: eta * its largest error + (1 - eta) * their mean

    @property
    def window(self) -> int:
        """Consecutive steps of every world that an update needs."""
        return self.burn_in + self.length


ATARI = dict(  # Pong: 18.2 before the end of the run (runs/published/atari)
    stack=1,
    norm="layer",
    subtract_mean=True,
    steps=600_000,
    capacity=300_000,
    learn_start=10_000,
    discount=0.99,
    n_step=3,
    target_update_every=1_000,
    clip_reward=True,
    epsilon_steps=100_000,
)
CONTROL = dict(
    steps=120_000,
    worlds=4,
    hidden=128,
    lstm_units=64,
    capacity=100_000,
    learn_start=1_000,
    batch=16,
    burn_in=8,
    n_step=3,
    priority_exponent=0.6,
    learning_rate=1e-3,
    anneal_lr=True,
    adam_epsilon=1e-8,
    discount=0.99,
    target_update_every=500,
    max_grad_norm=10.0,
    epsilon=0.05,
    epsilon_steps=20_000,
    evaluate_every=5_000,
    evaluate_games=20,
    evaluate_epsilon=0.0,
    log_every=1_000,
)
CARTPOLE = dict(steps=80_000, discount=0.98, target_update_every=100, epsilon_steps=8_000)
ACROBOT = dict(steps=40_000, target_update_every=100, epsilon_steps=8_000)
CATCH = CONTROL | dict(
    stack=1,
    steps=16_000,
    hidden=64,
    burn_in=3,
    length=9,
    learn_every=8,
    epsilon_steps=5_000,
    evaluate_every=4_000,
    evaluate_games=40,
)
PIXELS = dict(
    stack=1,
    norm="layer",
    steps=1_000_000,
    worlds=8,
    capacity=200_000,
    discount=0.99,
    evaluate_every=50_000,
)
RECIPES = {
    "atari": ATARI,
    "control": CONTROL,
    "CartPole-v1": CONTROL | CARTPOLE,
    "Acrobot-v1": CONTROL | ACROBOT,
    "catch": CATCH,
    "pixels": PIXELS,
}


PAPER = {
    "atari": dict(  # Kapturowski 2019, section 2.3 and the appendix's table of hyperparameters
        steps=10_000_000,  # where the paper has billions
        worlds=256,
        norm="none",
        subtract_mean=False,
        capacity=4_000_000,
        learn_start=50_000,  # Ape-X's (Horgan et al. 2018): this paper does not say
        learn_every=3_328,  # 5 updates a second while 256 players take 260 frames each, 4 of them a step
        batch=64,
        burn_in=40,
        length=80,
        n_step=5,
        discount=0.997,
        clip_reward=False,
        learning_rate=1e-4,
        adam_epsilon=1e-3,
        target_update_every=8_320_000,  # 2,500 updates
    )
}


def recipe(asked: Config) -> Config:
    """The config that suits the world asked for. Raises ValueError on an unknown world."""
    return q_learning.shortened(from_recipe(asked, RECIPES, PAPER), asked)


class Step(NamedTuple):
    """A Transition, and the recurrent state before it."""

    observation: Tensor
    action: Tensor
    reward: Tensor
    discount: Tensor
    next_observation: Tensor
    last: Tensor
    state: Tensor  # (N, S) float16


def sequence_loss(
    config: Config, online: R2D2Network, target: R2D2Network, batch: Step, weight: Tensor
) -> tuple[Tensor, Tensor, Tensor]:
    """Loss of sequences (B, L, ...), after their burn-in of k steps. Section 2.3.

    weight: (B,), of importance.

    Returns:
        The loss; the values of the actions taken (B, L - k); and the sequences' priorities (B,).
    """
    k, device = config.burn_in, weight.device
    observation, previous_step, is_first, hidden, cell = online.unroll_inputs(batch)
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


load = functools.partial(q_learning.load, build=build, make_policy=make_policy)


def train(config: Config) -> None:
    device = runs.prepare(config.device, config.seed, config.threads)
    chosen = world_options(config)
    world = envs.make(config.env, config.worlds, seed=config.seed, device=device, **chosen)
    run = open_run(config, "agents.r2d2", world, q_learning.phases(config))

    online = build(config, world)
    estimate_mean_observation(config, online, run)
    target = frozen_copy(config, online)
    optimizer, scaler = adam(config, online), LossScaler(config.fp16, device)
    reach = config.window + config.length - 1  # a sequence may begin anywhere within a period
    memory = PrioritizedReplay(
        q_learning.build_memory(config, world, run, reach), config.priority_exponent, period=config.length
    )
    recurrent_state = RecurrentState(online.initial_state(world.count))
    run.track(
        online=online, target=target, optimizer=optimizer, memory=memory, world=world,
        recurrent_state=recurrent_state, **scaler.parts,
    )  # fmt: skip

    @torch.inference_mode()
    def act(observation: Tensor, state: Tensor, epsilon: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        with precision(config, device):
            values, hidden, cell = online(observation, state)
        return epsilon_greedy(values.argmax(1), world.actions, epsilon), hidden, cell

    def update(batch: Step, weight: Tensor) -> tuple[dict[str, Tensor], Tensor]:
        loss, taken, priority = sequence_loss(config, online, target, batch, weight)
        optimizer.zero_grad()
        scaler.scale(loss).backward()
        scaler.unscale_(optimizer)
        if config.max_grad_norm:
            nn.utils.clip_grad_norm_(online.parameters(), config.max_grad_norm)
        scaler.step(optimizer)
        return {"loss/td": loss.detach(), "value/mean": taken.detach().mean()} | scaler.metrics, priority

    def learn(batches: Step, weights: Tensor) -> tuple[dict[str, Tensor], Tensor]:
        parts = split_batches(batches, weights, config.updates)
        metrics, priority = zip(*(update(Step(*rows), weight) for rows, weight in parts), strict=True)
        return mean_metrics(metrics), concatenate(priority)

    act, learn = compile_or_capture(config, device, act, learn)

    for step in run.steps(config.steps, stride=world.count):
        epsilon = epsilon_at(step, config.learn_start, config.epsilon_steps, config.epsilon)
        action, hidden, cell = act(world.observation, recurrent_state.state, torch.full((), epsilon, device=device))
        world.send(action)
        if step >= config.learn_start:  # while the emulator plays
            if config.anneal_lr:
                set_learning_rate(optimizer, config.learning_rate * (1 - step / config.steps))
            for _ in run.due(config.learn_every * config.updates):
                drawn = memory.sequences(config.batch * config.updates, config.window, config.importance_exponent)
                metrics, priority = learn(drawn.record, drawn.weight)
                memory.update(drawn.index, priority)
                run.log(metrics)
            if run.due(config.target_update_every):
                target.load_state_dict(online.state_dict())
        transition = world.recv()
        memory.add(Step(*transition, recurrent_state.state.half()))
        recurrent_state.state = online.next_state(hidden, cell, transition)
        run.log(world.finished | {"explore/epsilon": epsilon})
        if run.evaluates():
            evaluate_and_save(run, lambda: make_policy(config, online, config.seed), online.backbone, **chosen)


if __name__ == "__main__":
    runs.launch(train, Config, recipe, "agents.r2d2", __doc__)
