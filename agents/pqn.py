"""PQN: parallelized Q-learning from rollouts, without replay or target network; layer norms keep it stable.

Gallici et al. 2024, "Simplifying deep temporal difference learning" (arXiv 2407.04811).

    python -m agents.pqn --env Breakout
    python -m agents.pqn --env CartPole --seed 3

Deviations from the paper:
1. On Atari half the channels, rollouts of 64 worlds x 32 steps, 4 epochs of 16 minibatches, lambda 0.8 and a rate
   that falls; the paper's are of 128 x 32, 2 epochs of 32, lambda 0.65 and a constant rate (--recipe paper).
2. Layer norm over channels and places, with a scale and a shift a channel; the paper's over channels alone,
   CleanRL's with a scale and a shift a pixel.
3. RAdam as Adam whose rate is rectified. Its first five updates, plain momentum there, only gather moments here.
   --optimizer muon has no counterpart in the paper.
4. He initialization, and near-zero output initialization.
5. A time limit is no end: the return goes on with the value of where it led.
6. bf16 in the convolutions where the device is fast at it; weights, targets and the last layer stay fp32.
"""

from __future__ import annotations

import dataclasses
import functools
import math
from typing import Literal

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
from agents.optimization import (
    adam,
    compile_or_capture,
    compile_policy,
    frozen_copy,
    muon,
    set_learning_rate,
)
from agents.q_learning import epsilon_at, epsilon_greedy, make_policy
from replay.rollout import Rollout, minibatches
from runs import parallel
from runs.flag_types import Count, NonNegative, Share, Whole
from runs.loss_scaling import LossScaler
from runs.machine import precision


@dataclasses.dataclass(frozen=True)
class Config(WorldFlags, BackboneFlags, ComputeFlags, EvaluationFlags, runs.Options):
    steps: Count = 10_000_000  # agent steps; in Atari each is four frames (--frame-skip)
    worlds: Count = 8  # games side by side
    rollout: Count = 128  # steps each of them plays between two rounds of learning
    epochs: Count = 4  # passes over a rollout
    minibatches: Count = 4  # updates a pass
    norm: Literal["none", "layer"] = "layer"  # before every ReLU; a pretrained backbone keeps its own
    hidden: Whole = 512  # units between backbone and values; 0 for none
    optimizer: Literal["radam", "muon"] = "radam"  # muon: orthogonalized momentum (vision/training/muon.py)
    learning_rate: NonNegative = 2.5e-4
    anneal_lr: bool = True  # the learning rate falls linearly to 0 over the run
    adam_epsilon: NonNegative = 1e-8  # added to the root of squared gradients in RAdam; far below them
    discount: Share = 0.99  # of the return, per step
    td_lambda: Share = 0.65  # lambda: 0 trusts the value of the next state, 1 the rewards of the whole rollout
    clip_reward: bool = True  # learn from the sign of the reward
    max_grad_norm: NonNegative = 10.0  # of the gradient, larger ones are scaled down; 0 for no limit
    epsilon: Share = 0.01  # exploration rate at the end
    epsilon_fraction: Share = 0.1  # of the run's steps, in which it falls from 1 to that
    evaluate_epsilon: Share = 0.01  # exploration rate in evaluations

    def validate(self) -> None:
        super().validate()
        if self.minibatches > self.rollout * self.worlds:
            raise ValueError(
                f"--minibatches {self.minibatches}: --rollout {self.rollout} of {self.worlds} worlds has only "
                f"{self.rollout * self.worlds} steps"
            )


ATARI = dict(  # Pong: 18.2, 18.9 and 19.7 over 30 games, 8 minutes of two cores (runs/published/atari)
    steps=800_000,
    worlds=64,
    rollout=32,
    minibatches=16,
    evaluate_every=200_000,
    width=0.5,
    learning_rate=5e-4,
    td_lambda=0.8,
)
CONTROL = dict(
    steps=200_000,
    worlds=16,
    rollout=32,
    hidden=0,
    learning_rate=1e-3,
    epsilon=0.05,
    epsilon_fraction=0.3,
    evaluate_every=10_000,
    evaluate_games=20,
    evaluate_epsilon=0.0,
    log_every=2_000,
)
CATCH = CONTROL | dict(
    steps=24_000,
    rollout=16,
    hidden=64,
    learning_rate=2e-3,
    td_lambda=0.8,  # the one reward comes at the end
    epsilon_fraction=0.5,
    evaluate_every=6_000,
    evaluate_games=40,
)
ACROBOT = CONTROL | dict(
    steps=300_000,
    rollout=64,
    minibatches=8,
    learning_rate=2e-3,
    discount=0.98,  # values settle before the goal is first reached, and its reward then stands out
    td_lambda=0.9,
    epsilon_fraction=0.2,
    evaluate_every=20_000,
)
LUNAR_LANDER = CONTROL | dict(steps=1_000_000, evaluate_every=50_000)
PIXELS = dict(steps=1_000_000, evaluate_every=50_000)
RECIPES = {  # by world where it has one of its own, else by family
    "atari": ATARI,
    "Breakout": ATARI | dict(steps=4_000_000),  # 303, 271, 342 over 30 games; of 2 million 140, 79
    "control": CONTROL,
    "Acrobot-v1": ACROBOT,
    "LunarLander-v3": LUNAR_LANDER,
    "catch": CATCH,
    "pixels": PIXELS,
}


PAPER = {
    "atari": dict(  # Gallici 2024: the authors' purejaxql/config/alg/pqn_atari.yaml
        steps=50_000_000,
        worlds=128,
        rollout=32,
        epochs=2,
        minibatches=32,
        width=1.0,
        learning_rate=2.5e-4,
        anneal_lr=False,
        td_lambda=0.65,
        epsilon=0.001,
        evaluate_epsilon=0.0,
    )
}


def recipe(asked: Config) -> Config:
    """The config that suits the world asked for. Raises ValueError on an unknown world."""
    return from_recipe(asked, RECIPES, PAPER)


def q_lambda(reward: Tensor, discount: Tensor, next_value: Tensor, last: Tensor, td_lambda: float) -> Tensor:
    """G_t = r_t + gamma_t * (lambda * G_t+1 + (1 - lambda) * max_a Q(s_t+1, a)), calculated backwards as by Gallici
    2024 and Daley & Amato 2019 (arXiv 1810.09967).

    Where an episode stops, and after the last step, max_a Q alone follows: the next return is another episode's.

    Args:
        reward: (T, N).
        discount: (T, N), gamma, and 0 where the world truly ended.
        next_value: (T, N), max_a Q of where each step led; anything finite where discount is 0.
        last: (T, N) bool.
        td_lambda: 0 trusts the value of the next state, 1 the rewards.

    Returns:
        (T, N).
    """
    assert reward.shape == discount.shape == next_value.shape == last.shape and reward.dim() == 2
    returns = torch.empty_like(reward)
    next_return = next_value[-1]
    for t in reversed(range(len(reward))):
        mixed = torch.lerp(next_value[t], next_return, td_lambda)
        returns[t] = next_return = reward[t] + discount[t] * torch.where(last[t], next_value[t], mixed)
    return returns


OPTIMIZERS = {"radam": adam, "muon": muon}


def rectification(update: int, beta: float = 0.999) -> float:
    """What RAdam multiplies Adam's rate by at its update (1, 2, ...). Liu et al. 2020, arXiv 1908.03265, algorithm 2.

    beta: decay of the squared gradients, whose mean is too uncertain to divide by in the first updates: 0 there.
    """
    rho_inf = 2 / (1 - beta) - 1
    rho = rho_inf - 2 * update * beta**update / (1 - beta**update)
    if rho <= 5:
        return 0.0
    return math.sqrt((rho - 4) * (rho - 2) * rho_inf / ((rho_inf - 4) * (rho_inf - 2) * rho))


load = functools.partial(q_learning.load, build=build, network="network")


def train(config: Config) -> None:
    device = runs.prepare(config.device, config.seed, config.threads)
    config = parallel.share(config, "worlds")
    chosen = world_options(config)
    world = envs.make(config.env, config.worlds, seed=config.seed, device=device, **chosen)
    run = open_run(config, "agents.pqn", world)

    network = build(config, world)
    estimate_mean_observation(config, network, run)
    actor = frozen_copy(config, network)
    optimizer, scaler = OPTIMIZERS[config.optimizer](config, network), LossScaler(config.fp16, device)
    rectified = config.optimizer == "radam"
    run.track(network=network, optimizer=optimizer, world=world, **scaler.parts)
    rollout = Rollout.empty(config.rollout, world.observation)
    count = world.count * parallel.ranks()
    batch = config.rollout * count

    @torch.inference_mode()
    def greedy_value(observation: Tensor) -> tuple[Tensor, Tensor]:
        with precision(config, device):
            value, best = actor(observation).max(1)
        return value, best

    @torch.inference_mode()
    def act(observation: Tensor, epsilon: Tensor) -> tuple[Tensor, Tensor]:
        value, best = greedy_value(observation)
        return epsilon_greedy(best, world.actions, epsilon), value

    def learn(observation: Tensor, action: Tensor, target: Tensor) -> dict[str, Tensor]:
        with precision(config, device):
            values = network(observation)
        loss = F.mse_loss(values.gather(1, action[:, None]).squeeze(1), target)
        optimizer.zero_grad()
        scaler.scale(loss).backward()
        parallel.average(network)
        scaler.unscale_(optimizer)
        if config.max_grad_norm:
            nn.utils.clip_grad_norm_(network.parameters(), config.max_grad_norm)
        scaler.step(optimizer)
        return {"loss/td": loss.detach(), "value/mean": values.detach().mean()} | scaler.metrics

    if config.compile:
        greedy_value = compile_policy(greedy_value)
    act, learn = compile_or_capture(config, device, act, learn)

    for step in run.steps(config.steps, stride=batch):
        actor.load_state_dict(network.state_dict())
        for t in range(config.rollout):
            epsilon = epsilon_at(step + t * count, 0, config.epsilon_fraction * config.steps, config.epsilon)
            action, value = act(world.observation, torch.full((), epsilon, device=device))
            world.send(action)
            rollout.store_action(t, world.observation, action, value)  # while the emulator works
            transition = world.recv()
            final_value = greedy_value(transition.next_observation)[0] if world.finished_worlds else 0.0
            rollout.store_outcome(t, transition, final_value)
            run.log(world.finished | {"explore/epsilon": epsilon})
        rollout.value[-1] = greedy_value(world.observation)[0]

        reward = rollout.reward.sign() if config.clip_reward else rollout.reward
        discount, next_value = config.discount * rollout.discount, rollout.next_value()
        target = q_lambda(reward, discount, next_value, rollout.last, config.td_lambda).flatten()
        experience = rollout.observation.flatten(0, 1), rollout.action.flatten(), target
        rate = config.learning_rate * (1 - step / config.steps if config.anneal_lr else 1)
        update = step // batch * config.epochs * config.minibatches
        for _ in range(config.epochs):
            for observation, action, target in minibatches(experience, config.minibatches):
                update += 1
                set_learning_rate(optimizer, rate * (rectification(update) if rectified else 1.0))
                run.log(learn(observation, action, target))
        if run.evaluates():
            evaluate_and_save(run, lambda: make_policy(config, network, config.seed), network.backbone, **chosen)


if __name__ == "__main__":
    runs.launch(train, Config, recipe, "agents.pqn", __doc__)
