"""PPO: proximal policy optimization with a clipped surrogate objective.

Several epochs of policy-gradient updates on each rollout; the clipped probability ratio takes away the gain of going
far from the policy that collected it. Schulman et al. 2017, "Proximal policy optimization algorithms", with details
that Huang et al. 2022, "The 37 implementation details of proximal policy optimization", found to matter.

    python -m agents.ppo --env Breakout
    python -m agents.ppo --env LunarLander
    python -m agents.ppo --env HalfCheetah
    python -m agents.ppo --env Pong --lstm-units 128 --stack 1        # an LSTM instead of four stacked frames

Deviations from the paper:
1. A time limit is not an end: the return bootstraps from the value of the episode's last observation.
2. Observations and rewards are normalized by the statistics of all rollouts before the present one (Huang's are
   updated every step), so that the network is one function throughout a rollout.
3. bf16 in the convolutions where the device is fast at it; weights, targets and the last layers stay fp32.
4. On Atari the backbone of Mnih et al. 2015, as in the authors' code, with half the channels and layer norms;
   rollouts of 16 worlds x 64 steps, 4 epochs of 8 minibatches, twice the learning rate. --recipe paper has 8 worlds x
   128 steps, 3 epochs of 4 minibatches and the whole network; its clip stays constant where the paper's is annealed.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable

import torch
from torch import Tensor, nn

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
from agents.networks.actor_critic import ActorCritic, load
from agents.networks.lstm import RecurrentState
from agents.networks.normalization import RewardNormalizer
from agents.returns import gae
from envs import World
from replay.rollout import Rollout, RolloutBatch, minibatches
from runs import parallel
from runs.flag_types import Count, Positive, Share, Whole
from runs.loss_scaling import LossScaler
from runs.machine import precision

__all__ = ["Config", "load", "policy_loss", "recipe", "train", "value_loss", "world_options"]


@dataclasses.dataclass(frozen=True)
class PPOFlags:
    """The flags of PPO's loop, for the programs that learn by it."""

    worlds: Count = 8  # games side by side
    rollout: Count = 128  # steps each of them plays between updates
    epochs: Count = 4  # passes over a rollout
    minibatches: Count = 4  # updates an epoch
    gae_lambda: Share = 0.95  # of generalized advantage estimation: 0 trusts the value, 1 the rewards
    clip: Positive = 0.1  # epsilon: the ratio of new to old probability is clipped to 1 - epsilon .. 1 + epsilon
    clip_value: bool = True  # the new value is clipped to the old one +- epsilon
    normalize_advantages: bool = True  # advantages less their mean, divided by their standard deviation
    scale_rewards: bool = False  # divided by the standard deviation of the discounted return
    evaluate_greedy: bool = False  # evaluations take the most probable action instead of sampling

    def validate(self) -> None:
        """Raise ValueError for numbers outside of a flag's range, or minibatches of fewer than 2 steps."""
        super().validate()
        if self.minibatches * 2 > self.rollout * self.worlds:
            raise ValueError(
                f"--minibatches {self.minibatches}: advantages are normalized in each, so it needs 2 steps or more, "
                f"and --rollout {self.rollout} of {self.worlds} worlds has {self.rollout * self.worlds}"
            )


@dataclasses.dataclass(frozen=True)
class Config(WorldFlags, BackboneFlags, PPOFlags, PolicyGradientFlags, ComputeFlags, EvaluationFlags, runs.Options):
    lstm_units: Whole = 0  # of an LSTM between backbone and heads; 0 for none


CONTROL = dict(
    steps=300_000,
    worlds=8,
    rollout=64,
    hidden=0,
    separate_critic=True,
    learning_rate=1e-3,
    clip=0.2,
    clip_value=False,
    evaluate_every=10_000,
    evaluate_games=50,
    evaluate_greedy=True,
    log_every=2_000,
)
CATCH = dict(
    steps=24_000,
    worlds=8,
    rollout=36,
    hidden=64,
    learning_rate=2e-3,
    clip=0.2,
    evaluate_every=6_000,
    log_every=2_000,
)
LUNAR_LANDER = CONTROL | dict(
    steps=1_000_000,
    worlds=16,
    rollout=256,
    minibatches=16,
    learning_rate=5e-4,
    discount=0.999,  # the landing's reward comes hundreds of steps after what led to it
    gae_lambda=0.98,
    evaluate_every=50_000,
    evaluate_games=20,
)
CONTINUOUS = CONTROL | dict(
    steps=1_000_000,
    worlds=1,
    rollout=2_048,
    epochs=10,
    minibatches=32,
    learning_rate=3e-4,
    clip_value=True,
    normalize_observations=True,
    scale_rewards=True,
    entropy=0.0,
    evaluate_every=50_000,
    evaluate_games=10,
)
ANT = CONTINUOUS | dict(  # with v5's contact forces in the observation it ends at 91 instead of 1,300
    env_kwargs=("include_cfrc_ext_in_observation=False",)
)
PIXELS = dict(steps=1_000_000, evaluate_every=50_000)
ATARI = dict(  # Pong: 20 in two seeds (runs/published/atari), 33 minutes of one thread
    steps=1_000_000,
    worlds=16,
    rollout=64,
    minibatches=8,
    width=0.5,
    norm="layer",
    learning_rate=5e-4,
)
RECIPES = {  # by world where it has one of its own, else by family
    "atari": ATARI,
    "control": CONTROL,
    "continuous": CONTINUOUS,
    "LunarLander-v3": LUNAR_LANDER,
    "Ant-v5": ANT,
    "catch": CATCH,
    "pixels": PIXELS,
}
PAPER = {
    "atari": dict(  # Schulman 2017, table 5
        steps=10_000_000,
        worlds=8,
        rollout=128,
        epochs=3,
        minibatches=4,
        width=1.0,
        norm="none",
        learning_rate=2.5e-4,
        clip=0.1,  # the paper's is annealed with the learning rate
        clip_value=False,
        discount=0.99,
        gae_lambda=0.95,
        value_weight=2.0,  # c1 = 1, of a squared error that is halved here
        entropy=0.01,
    ),
    "continuous": dict(  # table 3, and the best clip of table 1; the normalizations are the authors' code's
        steps=1_000_000,
        worlds=1,
        rollout=2_048,
        epochs=10,
        minibatches=32,
        learning_rate=3e-4,
        anneal_lr=False,
        discount=0.99,
        gae_lambda=0.95,
        clip=0.2,
        clip_value=False,
        entropy=0.0,
    ),
}


def recipe(asked: Config) -> Config:
    """The config that suits the world asked for. Raises ValueError on an unknown world."""
    return from_recipe(asked, RECIPES, PAPER)


def policy_loss(log_prob: Tensor, old: Tensor, advantage: Tensor, clip: float) -> Tensor:
    """Clipped surrogate objective, negated: the mean of -min(ratio A, clip(ratio, 1 - clip, 1 + clip) A) over (B,).

    Schulman 2017, equation 7.
    """
    ratio = (log_prob - old).exp()
    return -torch.min(ratio * advantage, ratio.clamp(1 - clip, 1 + clip) * advantage).mean()


def value_loss(value: Tensor, old: Tensor, target: Tensor, clip: float | None) -> Tensor:
    """Half the mean squared error over (B,); with `clip` the larger of it and that of the clipped value.

    The clipped value is old + clamp(value - old, -clip, clip). Huang 2022, detail 9.
    """
    error = (value - target).square()
    if clip is not None:
        error = torch.max(error, (old + (value - old).clamp(-clip, clip) - target).square())
    return 0.5 * error.mean()


def train(
    config: Config, program: str = "agents.ppo", build: Callable[[Config, World], ActorCritic] = actor_critic.build
) -> None:
    """Train the network that `build` makes; soft_attention.py and hard_attention.py bring their own."""
    device = runs.prepare(config.device, config.seed, config.threads)
    config = parallel.share(config, "worlds")
    chosen = world_options(config)
    world = envs.make(config.env, config.worlds, seed=config.seed, device=device, **chosen)
    run = open_run(config, program, world)

    network = build(config, world)
    estimate_mean_observation(config, network, run)
    actor = optimization.frozen_copy(config, network)
    optimizer, scaler = optimization.adam(config, network), LossScaler(config.fp16, device)
    normalize_rewards = RewardNormalizer(world.count, config.discount).to(device)
    recurrent_state = RecurrentState(network.initial_state(world.count))
    run.track(
        network=network, optimizer=optimizer, world=world, rewards=normalize_rewards,
        recurrent_state=recurrent_state, **scaler.parts,
    )  # fmt: skip
    head = network.head
    rollout = Rollout.empty(config.rollout, world.observation, head.shape, head.dtype)
    batch = config.rollout * world.count * parallel.ranks()
    if network.is_recurrent and config.minibatches > world.count:
        raise ValueError(
            f"--minibatches {config.minibatches}: with an LSTM each needs a world, and there are {world.count}"
        )

    @torch.inference_mode()
    def act(observation: Tensor, state: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        with precision(config, device):
            parameters, value, state = actor.step(observation, state)
        action = head.sample(parameters)
        return action, head.log_prob(parameters, action), value, actor.conditioned_on_action(state, action)

    @torch.inference_mode()
    def critic(observation: Tensor, state: Tensor) -> Tensor:
        with precision(config, device):
            return actor.step(observation, state)[1]

    def learn(batch: RolloutBatch) -> dict[str, Tensor]:
        action, old, value, advantage = (field.flatten(0, 1) for field in batch[1:5])
        target = advantage + value
        if config.normalize_advantages:
            advantage = parallel.standardize(advantage)
        with precision(config, device):
            parameters, values = network.unroll(batch.observation, batch.is_first, batch.state, batch.action)
        policy = policy_loss(head.log_prob(parameters, action), old, advantage, config.clip)
        error = value_loss(values, value, target, config.clip if config.clip_value else None)
        entropy = head.entropy(parameters).mean()
        optimizer.zero_grad()
        scaler.scale(policy - config.entropy * entropy + config.value_weight * error).backward()
        parallel.average(network)
        scaler.unscale_(optimizer)
        if config.max_grad_norm:
            nn.utils.clip_grad_norm_(network.parameters(), config.max_grad_norm)
        scaler.step(optimizer)
        losses = {"loss/policy": policy, "loss/value": error, "policy/entropy": entropy, "value/mean": values.mean()}
        return {name: loss.detach() for name, loss in losses.items()} | scaler.metrics

    if config.compile:
        critic = optimization.compile_policy(critic)
    act, learn = optimization.compile_or_capture(config, device, act, learn)

    for step in run.steps(config.steps, stride=batch):
        actor.load_state_dict(network.state_dict())
        first_state = recurrent_state.state
        for t in range(config.rollout):
            action, log_prob, value, state = act(world.observation, recurrent_state.state)
            world.send(head.environment_action(action))
            rollout.store_action(t, world.observation, action, value, log_prob)  # while the emulator works
            transition = world.recv()
            final_value = critic(transition.next_observation, state) if world.finished_worlds else 0.0
            rollout.store_outcome(t, transition, final_value)
            recurrent_state.state = state * (~transition.last).unsqueeze(1)
            run.log(world.finished)
        rollout.value[-1] = critic(world.observation, recurrent_state.state)

        reward = rollout.reward.sign() if config.clip_reward else rollout.reward
        reward = normalize_rewards(reward, rollout.last) if config.scale_rewards else reward
        discount, value, next_value = config.discount * rollout.discount, rollout.value[:-1], rollout.next_value()
        advantage = gae(reward, discount, value, next_value, rollout.last, config.gae_lambda)
        experience = rollout.batch(advantage, first_state, network.is_recurrent)
        optimization.set_learning_rate(
            optimizer, config.learning_rate * (1 - step / config.steps if config.anneal_lr else 1)
        )
        for _ in range(config.epochs):
            for fields in minibatches(experience, config.minibatches):
                run.log(learn(RolloutBatch(*fields)))
        network.normalize_observations.update(rollout.observation.flatten(0, 1))
        if run.evaluates():
            evaluate_and_save(
                run, lambda: actor_critic.StochasticPolicy(config, network, config.seed), network.backbone, **chosen
            )


if __name__ == "__main__":
    runs.launch(train, Config, recipe, "agents.ppo", __doc__)
