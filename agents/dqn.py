"""Deep Q-learning: a network predicts the return of each action, learned from replayed transitions.

Mnih et al. 2015, "Human-level control through deep reinforcement learning"; with --double, van Hasselt et al.
2016, "Deep reinforcement learning with double Q-learning".

    python -m agents.dqn --env Breakout
    python -m agents.dqn --env CartPole --seed 3

Deviations from the paper:
1. Adam instead of RMSProp; the Huber loss, whose gradient is the paper's clipped error.
2. Several worlds side by side; on Atari half the channels, an update of 64 every 8 steps where the paper makes two
   of 32, and a target copy every 1,000 steps instead of 40,000 (--recipe paper has the paper's).
3. The emulator plays the next step while the network learns: a transition reaches the memory one step later.
4. He initialization; exploration falls to 0.01 in 150,000 steps instead of to 0.1 in a million.
5. bf16 in the convolutions where the device is fast at it; weights, targets and the last layer stay fp32.
"""

from __future__ import annotations

import dataclasses
import functools

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
from agents.networks.q_network import build
from agents.optimization import adam, compile_or_capture, frozen_copy, mean_metrics, set_learning_rate
from agents.q_learning import ReplayFlags, epsilon_at, epsilon_greedy, make_policy
from envs import Transition
from runs import parallel
from runs.flag_types import Count, NonNegative, Share, Whole
from runs.loss_scaling import LossScaler
from runs.machine import precision


@dataclasses.dataclass(frozen=True)
class Config(WorldFlags, BackboneFlags, ReplayFlags, ComputeFlags, EvaluationFlags, runs.Options):
    hidden: Whole = 512  # units between backbone and values; 0 for none
    learn_every: Count = 8  # steps per update
    batch: Count = 64  # transitions per update
    learning_rate: NonNegative = 1.5e-4  # Adam
    discount: Share = 0.99  # of the return, per step
    target_update_every: Count = 2_000  # steps between copies of online into target
    huber: bool = True  # errors beyond 1 count linearly, not squared
    double: bool = False  # Double DQN: online chooses the next action, target values it


ATARI = dict(  # Breakout: 81.8 over 30 games (runs/published/atari), 47 minutes of one core
    steps=1_200_000,
    worlds=32,
    width=0.5,
    learning_rate=2e-4,
    target_update_every=1_000,
    epsilon_steps=150_000,
)
CONTROL = dict(
    steps=120_000,
    worlds=4,
    hidden=256,
    capacity=100_000,
    learn_start=1_000,
    learn_every=4,
    learning_rate=1e-3,
    anneal_lr=True,  # without it the last evaluations swing between all and nothing
    adam_epsilon=1e-8,
    target_update_every=500,
    huber=False,
    max_grad_norm=10.0,
    epsilon=0.05,
    epsilon_steps=20_000,
    double=True,
    evaluate_every=5_000,
    evaluate_games=20,
    evaluate_epsilon=0.0,
    log_every=1_000,
)
CATCH = CONTROL | dict(
    steps=16_000,
    hidden=64,
    batch=32,
    epsilon_steps=5_000,
    evaluate_every=4_000,
    evaluate_games=40,
)
CARTPOLE = CONTROL | dict(
    steps=80_000,
    discount=0.98,  # values of up to 50 are learned sooner than of up to 100
    target_update_every=100,  # a value of 50 grows by one reward a copy
    epsilon_steps=8_000,
)
ACROBOT = CONTROL | dict(
    steps=40_000,
    target_update_every=100,
    epsilon_steps=8_000,
)
LUNAR_LANDER = CONTROL | dict(
    steps=250_000,
    learning_rate=5e-4,
    epsilon_steps=30_000,
    evaluate_every=12_500,
)
MOUNTAIN_CAR = CONTROL | dict(
    capacity=10_000,  # the few transitions that led to the top are drawn often
    learn_every=2,
    batch=128,
    learning_rate=4e-3,
    discount=0.98,
    target_update_every=600,
    epsilon=0.07,
    epsilon_steps=25_000,
)
PIXELS = dict(steps=1_000_000, worlds=8, capacity=200_000, huber=False, evaluate_every=50_000)
RECIPES = {  # by world where it has one of its own, else by family
    "atari": ATARI,
    "control": CONTROL,
    "CartPole-v1": CARTPOLE,
    "Acrobot-v1": ACROBOT,
    "LunarLander-v3": LUNAR_LANDER,
    "MountainCar-v0": MOUNTAIN_CAR,
    "catch": CATCH,
    "pixels": PIXELS,
}
PAPER = {
    "atari": dict(  # Mnih 2015, extended data table 1; the learning rate is that of its RMSProp
        steps=50_000_000,
        worlds=1,
        width=1.0,
        capacity=1_000_000,
        learn_start=50_000,
        learn_every=4,
        batch=32,
        learning_rate=2.5e-4,
        target_update_every=40_000,  # the table's 10,000 updates; DQN Zoo takes them for steps
        epsilon=0.1,
        epsilon_steps=1_000_000,
        evaluate_epsilon=0.05,
    )
}


def recipe(asked: Config) -> Config:
    """The config that suits the world asked for. Raises ValueError on an unknown world."""
    return q_learning.shortened(from_recipe(asked, RECIPES, PAPER), asked)


def td_target(
    reward: Tensor, discount: Tensor, next_values: Tensor, online_next_values: Tensor | None = None
) -> Tensor:
    """y = r + gamma * max_a Q_target(s', a), with gamma 0 where the world ended. Mnih 2015, algorithm 1.

    Args:
        reward, discount: (B,).
        next_values: (B, A), the target network's.
        online_next_values: (B, A), the online network's, whose argmax chooses the action for Double DQN (van
            Hasselt 2016, equation 4). None: next_values choose for themselves.

    Returns:
        (B,).
    """
    chosen = (next_values if online_next_values is None else online_next_values).argmax(1, keepdim=True)
    return reward + discount * next_values.gather(1, chosen).squeeze(1)


def td_loss(values: Tensor, action: Tensor, target: Tensor, huber: bool = True) -> Tensor:
    """Loss of the taken actions' values (B, A) against targets (B,), a scalar.

    Huber counts errors beyond 1 linearly: the paper's clipped error. With unclipped rewards that bends the values
    from the mean towards the median, and squared errors serve better.
    """
    taken = values.gather(1, action[:, None]).squeeze(1)
    return F.smooth_l1_loss(taken, target) if huber else F.mse_loss(taken, target)


load = functools.partial(q_learning.load, build=build)


def train(config: Config) -> None:
    device = runs.prepare(config.device, config.seed, config.threads)
    config = parallel.share(config, "worlds", "batch", "capacity")
    chosen = world_options(config)
    world = envs.make(config.env, config.worlds, seed=config.seed, device=device, **chosen)
    run = open_run(config, "agents.dqn", world, q_learning.phases(config))

    online = build(config, world)
    estimate_mean_observation(config, online, run)
    target = frozen_copy(config, online)
    optimizer, scaler = adam(config, online), LossScaler(config.fp16, device)
    memory = q_learning.build_memory(config, world, run)
    run.track(online=online, target=target, optimizer=optimizer, memory=memory, world=world, **scaler.parts)

    @torch.inference_mode()
    def act(observation: Tensor, epsilon: Tensor) -> Tensor:
        with precision(config, device):
            best = online(observation).argmax(1)
        return epsilon_greedy(best, world.actions, epsilon)

    def update(batch: Transition) -> dict[str, Tensor]:
        reward = batch.reward.sign() if config.clip_reward else batch.reward
        with torch.no_grad(), precision(config, device):
            online_next_values = online(batch.next_observation) if config.double else None
            next_values = target(batch.next_observation)
            y = td_target(reward, config.discount * batch.discount, next_values, online_next_values)
        with precision(config, device):  # of its own: older torch keeps weights cast without gradient
            values = online(batch.observation)
        loss = td_loss(values, batch.action, y, config.huber)
        optimizer.zero_grad()
        scaler.scale(loss).backward()
        parallel.average(online)
        scaler.unscale_(optimizer)
        if config.max_grad_norm:
            nn.utils.clip_grad_norm_(online.parameters(), config.max_grad_norm)
        scaler.step(optimizer)
        return {"loss/td": loss.detach(), "value/mean": values.detach().mean()} | scaler.metrics

    def learn(batches: Transition) -> dict[str, Tensor]:
        parts = zip(*(field.chunk(config.updates) for field in batches), strict=True)
        return mean_metrics([update(Transition(*rows)) for rows in parts])

    act, learn = compile_or_capture(config, device, act, learn)

    for step in run.steps(config.steps, stride=world.count * parallel.ranks()):
        epsilon = epsilon_at(step, config.learn_start, config.epsilon_steps, config.epsilon)
        world.send(act(world.observation, torch.full((), epsilon, device=device)))
        if step >= config.learn_start:  # while the emulator plays
            if config.anneal_lr:
                set_learning_rate(optimizer, config.learning_rate * (1 - step / config.steps))
            for _ in run.due(config.learn_every * config.updates):
                run.log(learn(memory.sample(config.batch * config.updates)))
            if run.due(config.target_update_every):
                target.load_state_dict(online.state_dict())
        memory.add(world.recv())
        run.log(world.finished | {"explore/epsilon": epsilon})
        if run.evaluates():
            evaluate_and_save(run, lambda: make_policy(config, online, config.seed), online.backbone, **chosen)


if __name__ == "__main__":
    runs.launch(train, Config, recipe, "agents.dqn", __doc__)
