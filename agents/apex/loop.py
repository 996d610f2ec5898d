"""Ape-X DQN: many actors play, and one learner learns from the prioritized replay memory of all that they play.

Horgan et al. 2018, "Distributed prioritized experience replay" (arXiv 1803.00933): double, dueling, n-step
Q-learning. Actors are processes of Ray, on the cores of this machine or on a cluster's. Each explores at a rate of
its own, and computes the first priorities of its transitions itself; the learner publishes its weights.

    python -m agents.apex --env CartPole
    python -m agents.apex --env Breakout --actors 14
    python -m agents.apex --env Breakout --actors 360 --ray auto     # on a cluster, from one of its machines

Needs Ray: pip install "saccade[ray]". Deviations from the paper:
1. The learner makes one update every --learn-every steps and waits for actors, instead of as many as it can: how
   often a transition is learned from does not depend on the machine.
2. A message whose weights are more than --max-staleness updates old is discarded; the paper sets no bound.
3. Adam instead of RMSProp; the memory forgets the oldest transitions, and is in the learner's process. Memory and
   messages hold every frame of a picture once; the paper compresses whole stacks.
4. The last n - 1 steps of a message have returns of fewer than n steps, up to the message's end.
5. The learner's target is Double DQN's; actors compute priorities with their own network alone, as in the paper's
   algorithm 1.

Messages arrive in an order that no seed determines: two runs differ, and a resumed one starts other games.
"""

from __future__ import annotations

import contextlib
import dataclasses
import functools
from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

import envs
import runs
from agents import optimization, q_learning
from agents.apex.actor_pool import ActorPool
from agents.apex.messages import size, unpack, weights
from agents.config import (
    BackboneFlags,
    ComputeFlags,
    EvaluationFlags,
    WorldFlags,
    build_backbone,
    estimate_mean_observation,
    from_recipe,
    world_options,
)
from agents.evaluation import evaluate_and_save, open_run
from agents.networks.layers import stream
from agents.rainbow.dueling import combine
from agents.rainbow.n_step import n_step_return
from agents.rainbow.prioritized import importance_exponent_at
from envs import Transition, World
from replay import PrioritizedReplay
from runs import parallel, ray_connection
from runs.flag_types import Count, NonNegative, Share, Whole
from runs.loss_scaling import LossScaler
from runs.machine import precision
from vision import backbones


@dataclasses.dataclass(frozen=True)
class Config(WorldFlags, BackboneFlags, ComputeFlags, EvaluationFlags, runs.Options):
    ray: str = "local"  # Ray cluster of the actors: local, on this machine; auto or host:port
    actors: Count = 4  # processes that play, with a CPU each
    worlds: Count = 1  # games side by side in an actor
    rollout: Count = 50  # steps of each of them in a message
    publish_every: Count = 100  # updates between two publications of the weights, or --max-staleness if that is less
    max_staleness: Count = 2_000  # updates; messages played with older weights are discarded
    steps: Count = 10_000_000  # agent steps of all actors; in Atari each is four frames (--frame-skip)
    capacity: Count = 1_000_000  # transitions in replay
    memory_on_disk: bool = False  # in mapped files in the run's folder instead of RAM
    learn_start: Whole = 20_000  # steps before the first update
    learn_every: Count = 8  # steps per update
    batch: Count = 64  # transitions per update
    hidden: Whole = 512  # units of each stream between backbone and values; 0 for none
    learning_rate: NonNegative = 1.5e-4  # Adam
    anneal_lr: bool = False  # the learning rate falls linearly to 0 over the run
    adam_epsilon: NonNegative = 1e-6  # added to the root of squared gradients in Adam; far below them
    max_grad_norm: NonNegative = 40.0  # of the gradient, larger ones are scaled down; 0 for no limit
    clip_reward: bool = True  # learn from the sign of the reward
    huber: bool = True  # errors beyond 1 count linearly, not squared
    discount: Share = 0.99  # of the return, per step
    n_step: Count = 3  # rewards a target looks ahead
    target_update_every: Count = 2_500  # updates between copies of online into target
    priority_exponent: Share = 0.6  # exponent of priorities in replay; 0 for uniform
    importance_exponent: Share = 0.4  # exponent of importance weights at the start
    anneal_importance: bool = False  # it rises to 1 at the end
    epsilon: Share = 0.4  # exploration of the first game; of game i it is epsilon^(1 + alpha i / (N - 1))
    epsilon_exponent: NonNegative = 7.0  # alpha
    evaluate_first: Whole = 25_000  # step of an evaluation before all others; 0: none
    evaluate_epsilon: Share = 0.01  # exploration rate in evaluations

    @property
    def stride(self) -> int:
        """Steps of a message."""
        return self.rollout * self.worlds

    def validate(self) -> None:
        super().validate()
        if self.rollout < self.n_step:
            raise ValueError(
                f"--rollout {self.rollout}: returns of --n-step {self.n_step} need as many steps or more"
            )
        if self.capacity < self.batch:
            raise ValueError(f"--capacity {self.capacity}: an update draws --batch {self.batch} transitions")


CONTROL = dict(
    steps=120_000,
    rollout=20,
    publish_every=10,
    capacity=100_000,
    learn_start=1_000,
    learn_every=4,
    hidden=256,
    learning_rate=1e-3,
    anneal_lr=True,
    adam_epsilon=1e-8,
    max_grad_norm=10.0,
    huber=False,
    target_update_every=125,
    evaluate_every=5_000,
    evaluate_games=20,
    evaluate_epsilon=0.0,
    log_every=1_000,
)
RECIPES: dict[str, dict[str, Any]] = {  # by world where it has one of its own, else by family
    "atari": dict(steps=1_200_000, capacity=300_000, learn_start=10_000, learning_rate=2e-4, target_update_every=250),
    "catch": CONTROL
    | dict(steps=20_000, learn_every=2, hidden=64, batch=32, evaluate_every=4_000, evaluate_games=40),
    "control": CONTROL,
    "CartPole-v1": CONTROL | dict(steps=40_000, discount=0.98, target_update_every=25),
    "Acrobot-v1": CONTROL | dict(steps=40_000, target_update_every=25),
    "LunarLander-v3": CONTROL | dict(steps=250_000, learning_rate=5e-4, evaluate_every=12_500),
    "pixels": dict(steps=1_000_000, capacity=200_000, huber=False, evaluate_every=50_000),
}
PAPER = {
    "atari": dict(  # Horgan 2018, sections 4.1 and C; 22.8 billion frames in 5 days
        steps=5_700_000_000,
        actors=360,
        publish_every=1,
        capacity=2_000_000,
        learn_start=50_000,
        learn_every=658,  # 12,500 transitions and 19 batches a second
        batch=512,
        learning_rate=6.25e-5,
        adam_epsilon=1.5e-7,
        target_update_every=2_500,
    )
}


def recipe(asked: Config) -> Config:
    """The config that suits the world asked for. Raises ValueError on an unknown world."""
    config = from_recipe(asked, RECIPES, PAPER)
    steps = config.steps if asked.steps == Config.steps else asked.steps
    return dataclasses.replace(config, learn_start=min(config.learn_start, steps // 10))


class DuelingNetwork(nn.Module):
    """observation (B, C, H, W) uint8 or (B, D) float -> value of each action (B, A) float32. Wang et al. 2016."""

    def __init__(
        self, backbone: backbones.Backbone, shape: tuple[int, ...], actions: int, hidden: int, norm: str = "none"
    ) -> None:
        super().__init__()
        self.backbone, self.actions = backbone, actions
        features = backbone.output_size(shape)
        self.advantage = stream(nn.Linear, features, hidden, actions, norm)
        self.value = stream(nn.Linear, features, hidden, 1, norm)

    def forward(self, observation: Tensor) -> Tensor:
        coarsest = self.backbone(observation)[-1]
        x = coarsest.permute(0, 2, 3, 1).flatten(1)  # as channels_last lies in memory
        value, advantage = (layers[:-1](x) for layers in (self.value, self.advantage))
        with torch.autocast(x.device.type, enabled=False):  # bf16 would round away the gap between two actions
            value, advantage = self.value[-1](value.float()), self.advantage[-1](advantage.float())
            return combine(value[..., None], advantage[..., None]).squeeze(-1)


def build(config: Config, world: World) -> DuelingNetwork:
    """The network for a world, on its device."""
    q_learning.require_discrete_actions(world)
    backbone = build_backbone(config, world)
    network = DuelingNetwork(backbone, world.observation_shape, world.actions, config.hidden, config.norm)
    return network.to(world.device, memory_format=torch.channels_last)


load = functools.partial(q_learning.load, build=build)


def td_target(reward: Tensor, discount: Tensor, next_values: Tensor, online_next_values: Tensor) -> Tensor:
    """R + gamma^n Q_target(S', argmax_a Q_online(S', a)), (B,). Horgan 2018, section 3.1.

    reward, discount: (B,), of n steps. next_values, online_next_values: (B, A), of target and online network.
    """
    chosen = online_next_values.argmax(1, keepdim=True)
    return reward + discount * next_values.gather(1, chosen).squeeze(1)


def train(config: Config) -> None:
    device = runs.prepare(config.device, config.seed, config.threads)
    world = envs.make(config.env, config.worlds, seed=config.seed, device=device, **world_options(config))
    note = f"{config.actors} actors of {config.worlds} games; no seed determines the order of their messages"
    run = open_run(config, "agents.apex", world, note)

    online = build(config, world)
    estimate_mean_observation(config, online, run)
    target = optimization.frozen_copy(config, online)
    optimizer, scaler = optimization.adam(config, online), LossScaler(config.fp16, device)
    memory = q_learning.build_memory(config, world, run, config.n_step)
    memory = PrioritizedReplay(memory, config.priority_exponent)
    world.close()  # the actors have their own
    run.track(online=online, target=target, optimizer=optimizer, memory=memory, **scaler.parts)

    def learn(batch: Transition, weight: Tensor) -> tuple[dict[str, Tensor], Tensor]:
        reward = batch.reward.sign() if config.clip_reward else batch.reward
        if config.n_step > 1:
            reward, discount = n_step_return(reward, batch.discount, batch.last, config.discount)
        else:
            discount = config.discount * batch.discount
        with torch.no_grad(), precision(config, device):
            y = td_target(reward, discount, target(batch.next_observation), online(batch.next_observation))
        with precision(config, device):
            values = online(batch.observation)
        taken = values.gather(1, batch.action[:, None]).squeeze(1)
        loss = (weight * (F.smooth_l1_loss if config.huber else F.mse_loss)(taken, y, reduction="none")).mean()
        optimizer.zero_grad()
        scaler.scale(loss).backward()
        scaler.unscale_(optimizer)
        if config.max_grad_norm:
            nn.utils.clip_grad_norm_(online.parameters(), config.max_grad_norm)
        scaler.step(optimizer)
        metrics = {"loss/td": loss.detach(), "value/mean": values.detach().mean()}
        return metrics | scaler.metrics, (y - taken).detach().abs()

    learn = torch.compile(learn) if config.compile else learn
    learn = runs.Captured(learn, device) if config.capture else learn

    updates = run.step // config.learn_every  # so far, or about as many
    publish_every = min(config.publish_every, config.max_staleness)  # else every message would be too old
    with open_actor_pool(config, run) as pool:
        for step in run.steps(config.steps, stride=config.stride):
            if pool.version < 0 or updates - pool.version >= publish_every:
                pool.publish(weights(online), updates)
            message = pool.receive(updates)
            for transition, error in unpack(message, device):
                memory.add(transition, error)
            run.log(message.finished | {"actors/staleness": float(updates - message.version)})
            run.log({"actors/lost": float(pool.lost), "actors/discarded": float(pool.discarded)})
            run.log({"actors/bytes": size(message) / config.stride})
            if step >= config.learn_start:
                if config.anneal_lr:
                    optimization.set_learning_rate(optimizer, config.learning_rate * (1 - step / config.steps))
                for _ in run.due(config.learn_every):
                    exponent = config.importance_exponent
                    if config.anneal_importance:
                        exponent = importance_exponent_at(step, config.steps, exponent)
                    drawn = memory.sample(config.batch, config.n_step, exponent)
                    metrics, priority = learn(drawn.record, drawn.weight)
                    memory.update(drawn.index, priority)
                    run.log(metrics)
                    updates += 1
                    if updates % config.target_update_every == 0:
                        target.load_state_dict(online.state_dict())
            if run.evaluates():
                policy = functools.partial(q_learning.make_policy, config, online, config.seed)
                evaluate_and_save(run, policy, online.backbone, **world_options(config))


@contextlib.contextmanager
def open_actor_pool(config: Config, run: runs.Run) -> Iterator[ActorPool]:
    """The actors of a run, ended with the context. Raises ValueError without Ray, RunError without its cluster."""
    with ray_connection.connected(config.ray, config.actors + 1) as ray:
        seed = config.seed + parallel.SEEDS * (1 + run.step)  # resumed, other games than those in the memory
        pool = ActorPool(ray, config, build, seed, lambda text: run.bar.say(text))
        try:
            yield pool
        finally:
            pool.close()
