"""Rainbow: improvements of deep Q-learning, together or one alone.

Hessel et al. 2018, "Rainbow: combining improvements in deep reinforcement learning": double, dueling, prioritized,
n-step, noisy, C51. Each has a file with its paper and its equation, and is trained alone by --only; this is the
training loop of them all, which differs from agents/dqn.py's only by the components.

    python -m agents.rainbow --env Breakout
    python -m agents.rainbow --env Breakout --no-noisy         # one component out
    python -m agents.rainbow --only c51 --env Breakout                        # one component alone
    python -m agents.rainbow --env Breakout --distribution iqn --munchausen --no-double
    python -m agents.rainbow --env Breakout --recipe btr       # Beyond the Rainbow (Clark et al. 2024, see btr.py)

Deviations from the paper: those of agents/dqn.py; see also each component's file. With C51, priorities are the
cross-entropy, as Dopamine's Rainbow has it; the paper's divergence is less by the target's entropy. On Atari all of
them together subtract the mean picture, have layer norms, and a fifth of the noise at the start: the paper's network
(--no-subtract-mean --norm none --sigma 0.5) learned nothing of Pong in 220,000 steps.
"""

from __future__ import annotations

import dataclasses
import functools
from typing import Literal

import torch
from torch import Tensor, nn

import envs
import runs
from agents import optimization, q_learning
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
from agents.q_learning import ReplayFlags, epsilon_at, epsilon_greedy, make_policy
from agents.rainbow import btr, c51, munchausen, qr_dqn, recipes
from agents.rainbow.n_step import n_step_return
from agents.rainbow.network import Prediction, RainbowNetwork
from agents.rainbow.prioritized import absolute_error, concatenate, importance_exponent_at, split_batches
from envs import Transition, World
from replay import PrioritizedReplay
from runs.flag_types import Count, NonNegative, Positive, Share, Whole
from runs.loss_scaling import LossScaler
from runs.machine import precision
from runs.wandb_mirror import agent_run


@dataclasses.dataclass(frozen=True)
class Config(WorldFlags, BackboneFlags, ReplayFlags, ComputeFlags, EvaluationFlags, runs.Options):
    only: Literal[
        "rainbow", "double", "dueling", "prioritized", "n_step", "noisy", "c51", "qr_dqn", "iqn", "munchausen"
    ] = "rainbow"  # all components of the paper, or one alone on DQN
    recipe: Literal["default", "paper", "btr"] = "default"  # of Rainbow: ours or its paper's; Beyond the Rainbow's
    max_pool: Whole = 0  # side to which the last maps of the backbone are max-pooled; 0: as they are
    hidden: Whole = 512  # units between backbone and values; 0 for none
    learn_every: Count = 8  # steps per update
    batch: Count = 64  # transitions per update
    learning_rate: NonNegative = 1.5e-4  # Adam
    discount: Share = 0.99  # of the return, per step
    target_update_every: Count = 2_000  # steps between copies of online into target
    huber: bool = True  # errors beyond 1 count linearly, not squared
    double: bool = False  # Double DQN: online chooses the next action, target values it
    dueling: bool = False  # state value and advantages in streams of their own
    priority_exponent: Share = 0.0  # exponent of priorities in replay; 0 for uniform
    priority_of: Literal["loss", "error"] = "loss"  # of a distribution: its loss, or quantiles' mean absolute error
    importance_exponent: Share = 0.4  # exponent of importance weights at the start
    anneal_importance: bool = True  # it rises to 1 at the end
    n_step: Count = 1  # rewards a target looks ahead
    noisy: bool = False  # noise on the dense weights explores instead of epsilon
    sigma: NonNegative = 0.5  # of that noise at the start, times 1 / sqrt(inputs)
    noisy_epsilon: Share = 0.0  # share of the run's steps in which epsilon explores beside the noise
    distribution: Literal["mean", "c51", "qr_dqn", "iqn"] = "mean"  # what is predicted of the return
    atoms: int = 51  # c51: returns that can be predicted
    v_min: float = -10.0  # c51: the least of them
    v_max: float = 10.0  # c51: the greatest
    quantiles: Count = 200  # qr_dqn: fractions, fixed
    fractions: Count = 8  # iqn: fractions drawn for a transition
    action_fractions: Whole = 32  # iqn: others, drawn to compare actions; 0: those of a prediction compare them too
    munchausen: bool = False  # log-policy added to the reward, soft target
    munchausen_alpha: float = 0.9  # munchausen: alpha, of the bonus
    temperature: Positive = 0.03  # munchausen: tau, of the policy
    bonus_low: float = -1.0  # munchausen: l_0, the least log-policy that counts
    online_bonus: bool = False  # munchausen: log-policy of the online network, in the paper the target's

    @property
    def window(self) -> int:
        """Consecutive steps of every world that an update needs."""
        return self.n_step

    def validate(self) -> None:
        super().validate()
        if self.atoms < 2 or self.v_min >= self.v_max:
            raise ValueError(
                f"--v-min {self.v_min}, --v-max {self.v_max}, --atoms {self.atoms}: a distribution "
                "has 2 or more atoms, from the least return to a greater one"
            )
        if self.bonus_low > 0:
            raise ValueError(f"--bonus-low {self.bonus_low}: a log-probability is 0 or less")


def recipe(asked: Config) -> Config:
    """The config that suits the world and the components asked for. Raises ValueError on an unknown world."""
    if asked.only != "rainbow" and asked.recipe != "default":
        raise ValueError(f"--recipe {asked.recipe}: it is for all components together, leave --only {asked.only} out")
    known = recipes.of(asked.only)
    others = {"paper": recipes.PAPER, "btr": btr.of(known)}.get(asked.recipe)
    config = from_recipe(asked, known, others)
    variant = asked.only if asked.recipe != "btr" else "btr"
    name = None  # of the run's folder
    if variant != "rainbow":
        name = "-".join(filter(None, (variant, str(asked.seed), agent_run())))
    return q_learning.shortened(dataclasses.replace(config, only=asked.only, name=name), asked)


def td_loss(config: Config, online: Prediction, action: Tensor, target: Tensor) -> Tensor:
    """Loss (B,) of the prediction (B, A, Z) for the actions (B,) against the target.

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

    The online network's choose in Double DQN, else the target's own; IQN's by fractions that are not part of the
    prediction (Dabney 2018, equation 3 and algorithm 1): the larger of two samples is not a sample of the larger.
    """
    if config.double:
        return target.predict(observation), online(observation)
    if config.distribution == "iqn" and config.action_fractions:
        drawn = config.fractions + config.action_fractions
        predicted, chooser = target.predict(observation, drawn).split(config.fractions)
        return predicted, target.values(chooser.atoms)
    predicted = target.predict(observation)
    return predicted, target.values(predicted.atoms)


def td_target(
    config: Config,
    network: RainbowNetwork,
    predicted: Prediction,
    online_next_values: Tensor,
    reward: Tensor,
    discount: Tensor,
) -> Tensor:
    """r + discount * what the target network predicts for the next actions, in the form that td_loss takes.

    predicted: the target network's prediction (B, A, Z) at the next state. online_next_values: (B, A), which choose
    the next action: the online network's in Double DQN, else those of predicted itself.
    reward, discount: (B,).
    """
    if config.distribution == "c51":
        return c51.project(predicted.of(online_next_values.argmax(1)).softmax(1), reward, discount, network.support)
    if config.munchausen:
        future = munchausen.soft_target(predicted.atoms, online_next_values, config.temperature)
    else:
        future = predicted.of(online_next_values.argmax(1))
    return reward[:, None] + discount[:, None] * future


def build(config: Config, world: World) -> RainbowNetwork:
    """The network for a world, on its device."""
    q_learning.require_discrete_actions(world)
    network = RainbowNetwork(build_backbone(config, world), world.observation_shape, world.actions, config)
    return network.to(world.device, memory_format=torch.channels_last)


load = functools.partial(q_learning.load, build=build)


def train(config: Config) -> None:
    device = runs.prepare(config.device, config.seed, config.threads)
    chosen = world_options(config)
    world = envs.make(config.env, config.worlds, seed=config.seed, device=device, **chosen)
    run = open_run(config, "agents.rainbow", world, q_learning.phases(config))

    online = build(config, world)
    estimate_mean_observation(config, online, run)
    target = optimization.frozen_copy(config, online)
    optimizer, scaler = optimization.adam(config, online), LossScaler(config.fp16, device)
    memory = q_learning.build_memory(config, world, run, config.n_step)
    if config.priority_exponent:
        memory = PrioritizedReplay(memory, config.priority_exponent)
    run.track(online=online, target=target, optimizer=optimizer, memory=memory, world=world, **scaler.parts)

    @torch.inference_mode()
    def act(observation: Tensor, epsilon: Tensor) -> Tensor:
        with precision(config, device):
            best = online(observation).argmax(1)
        return epsilon_greedy(best, world.actions, epsilon)

    def bonus(values: Tensor, action: Tensor) -> Tensor:
        return config.munchausen_alpha * munchausen.bonus(values, action, config.temperature, config.bonus_low)

    def update(batch: Transition, weight: Tensor | None) -> tuple[dict[str, Tensor], Tensor]:
        reward = batch.reward.sign() if config.clip_reward else batch.reward
        if config.n_step > 1:
            reward, discount = n_step_return(reward, batch.discount, batch.last, config.discount)
        else:
            discount = config.discount * batch.discount
        with torch.no_grad(), precision(config, device):
            predicted, online_next_values = next_prediction(config, online, target, batch.next_observation)
            if config.munchausen and not config.online_bonus:
                reward = reward + bonus(target(batch.observation), batch.action)
            y = td_target(config, target, predicted, online_next_values, reward, discount)
        with precision(config, device):
            prediction = online.predict(batch.observation)
        if config.munchausen and config.online_bonus:
            y = y + bonus(online.values(prediction.atoms.detach()), batch.action)[:, None]
        each = td_loss(config, prediction, batch.action, y)
        loss = each.mean() if weight is None else (weight * each).mean()
        optimizer.zero_grad()
        scaler.scale(loss).backward()
        scaler.unscale_(optimizer)
        if config.max_grad_norm:
            nn.utils.clip_grad_norm_(online.parameters(), config.max_grad_norm)
        scaler.step(optimizer)
        with torch.no_grad():
            if config.distribution == "mean" or (config.priority_of == "error" and config.distribution != "c51"):
                priority = absolute_error(prediction.of(batch.action), y)
            else:
                priority = each.detach()
            mean = online.values(prediction.atoms).mean()
        return {"loss/td": loss.detach(), "value/mean": mean} | scaler.metrics, priority

    def learn(batches: Transition, weights: Tensor | None) -> tuple[dict[str, Tensor], Tensor]:
        metrics, priority = zip(
            *(update(Transition(*rows), weight) for rows, weight in split_batches(batches, weights, config.updates)),
            strict=True,
        )
        return optimization.mean_metrics(metrics), concatenate(priority)

    act, learn = optimization.compile_or_capture(config, device, act, learn)

    for step in run.steps(config.steps, stride=world.count):
        epsilon = epsilon_at(step, config.learn_start, config.epsilon_steps, config.epsilon)
        if config.noisy and step >= max(config.learn_start, config.noisy_epsilon * config.steps):
            epsilon = 0.0
        world.send(act(world.observation, torch.full((), epsilon, device=device)))
        if step >= config.learn_start:  # while the emulator plays
            if config.anneal_lr:
                optimization.set_learning_rate(optimizer, config.learning_rate * (1 - step / config.steps))
            rows = config.batch * config.updates
            for _ in run.due(config.learn_every * config.updates):
                if config.priority_exponent:
                    importance_exponent = config.importance_exponent
                    if config.anneal_importance:
                        importance_exponent = importance_exponent_at(step, config.steps, importance_exponent)
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
        if run.evaluates():
            evaluate_and_save(run, lambda: make_policy(config, online, config.seed), online.backbone, **chosen)
