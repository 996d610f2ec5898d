"""PPO: several steps along the policy gradient from the same experience, each held back where it would go too far.

Schulman et al. 2017, "Proximal policy optimization algorithms", with the details that Huang et al. 2022, "The 37
implementation details of proximal policy optimization", found to matter.

    python -m agents.ppo --env Breakout
    python -m agents.ppo --env LunarLander
    python -m agents.ppo --env HalfCheetah
    python -m agents.ppo --env Pong --units 128 --stack 1        # remembers, instead of seeing four frames

Deviations from the paper:
1. A time limit is no end: the return goes on with the value of where it led.
2. Observations are normalised, and rewards divided by the deviation of the return, by the statistics of all rollouts
   before the present one (Huang's per step), so that a rollout is judged by one and the same network.
3. bf16 in the convolutions where the device is fast at it; weights, targets and the last layers stay fp32.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional as F

import envs
import runs
from agents import arithmetic, policies, reinforce, setting
from agents.arithmetic import precision
from agents.policies import ActorCritic, load
from agents.recurrent import Carried
from agents.reinforce import continuous
from agents.setting import options
from agents.watch import COMMAND, SCORE, assess
from envs import Transition, World
from runs.ranges import Count, Share, Whole

__all__ = [
    "Config",
    "Experience",
    "RewardScale",
    "Rollout",
    "advantages",
    "load",
    "options",
    "policy_loss",
    "recipe",
    "train",
    "value_loss",
]


@dataclasses.dataclass(frozen=True)
class Config(policies.Config):
    env: str = "Breakout"  # the world: an Atari game, a Gymnasium id, or Catch
    worlds: Count = 8  # games side by side
    rollout: Count = 128  # steps each of them plays between two rounds of learning
    epochs: Count = 4  # passes over a rollout
    minibatches: Count = 4  # updates a pass
    trace: Share = 0.95  # lambda of generalised advantage estimation: 0 trusts the value, 1 the rewards
    clip: float = 0.1  # of the ratio of new to old probability, around 1
    clip_value: bool = True  # the new value is clipped around the old one likewise
    normalise: bool = True  # advantages are less their mean, and divided by their deviation
    scale_rewards: bool = False  # divided by the deviation of the discounted return
    units: Whole = 0  # of an LSTM between what is seen and what is decided; 0 for none
    evaluate_greedy: bool = False  # evaluations take the likeliest action instead of drawing one

    def validate(self) -> None:
        super().validate()
        if self.minibatches * 2 > self.rollout * self.worlds:
            raise ValueError(
                f"--minibatches {self.minibatches}: advantages are normalised in each, so it needs 2 steps or more, "
                f"and --rollout {self.rollout} of {self.worlds} worlds has {self.rollout * self.worlds}"
            )


CONTROL = reinforce.CONTROL | dict(
    steps=300_000,
    rollout=64,
    learning_rate=1e-3,
    clip=0.2,
    clip_value=False,
    evaluate_every=10_000,
    evaluate_greedy=True,
)
CATCH = reinforce.CATCH | dict(
    steps=24_000, rollout=36, learning_rate=2e-3, max_norm=0.5, entropy=0.01, clip=0.2, evaluate_every=6_000
)
LUNAR_LANDER = CONTROL | dict(
    steps=1_000_000,
    worlds=16,
    rollout=256,
    minibatches=16,
    learning_rate=5e-4,
    discount=0.999,  # landing comes hundreds of steps after what led to it
    trace=0.98,
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
    scale=True,
    scale_rewards=True,
    entropy=0.0,
    evaluate_every=50_000,
    evaluate_games=10,
)
ANT = CONTINUOUS | dict(  # with the contact forces that v5 shows it falls soon, and ends at 91 instead of 1,300
    env_kwargs=("include_cfrc_ext_in_observation=False",)
)
RECIPES = {  # by world where it has one of its own, else by family
    "atari": {},
    "control": CONTROL,
    "continuous": CONTINUOUS,
    "LunarLander-v3": LUNAR_LANDER,
    "Ant-v5": ANT,
    "catch": CATCH,
    "pixels": reinforce.PIXELS,
}


def recipe(asked: Config) -> Config:
    """The config that suits the world asked for. Raises ValueError on an unknown world."""
    kind = setting.kind(asked, RECIPES)
    kind = "continuous" if kind == "control" and continuous(asked) else kind
    return Config(env=asked.env, **RECIPES[kind] | setting.implied(asked))


class Rollout(NamedTuple):
    """T steps of N worlds, every observation once."""

    observation: Tensor  # (T, N, ...)
    action: Tensor  # (T, N, ...) as drawn
    log_prob: Tensor  # (T, N) float32, of the action, when it was drawn
    reward: Tensor  # (T, N) float32, as learned from
    discount: Tensor  # (T, N) float32, 0 where the world truly ended
    last: Tensor  # (T, N) bool, the episode stopped here
    value: Tensor  # (T + 1, N) float32, of each state and of the one after the last
    final: Tensor  # (T, N) float32, of where an episode was cut short; 0 where none was

    @classmethod
    def empty(cls, length: int, world: World, head: nn.Module) -> Rollout:
        """Room for `length` steps of a world, with actions as a network's head draws them, on its device."""

        def room(dtype: torch.dtype, *shape: int, steps: int = length) -> Tensor:
            return torch.zeros(steps, world.count, *shape, dtype=dtype, device=world.device)

        action = room(head.dtype, *head.shape)
        observation = room(world.observation.dtype, *world.observation_shape)
        log_prob, reward, discount, final = (room(torch.float32) for _ in range(4))
        value = room(torch.float32, steps=length + 1)
        return cls(observation, action, log_prob, reward, discount, room(torch.bool), value, final)

    def keep(self, t: int, came: Transition, discount: float, clip: bool) -> None:
        """What came of step t, the rewards as their signs if they are clipped."""
        self.reward[t] = came.reward.sign() if clip else came.reward
        self.discount[t], self.last[t] = discount * came.discount, came.last

    def following(self) -> Tensor:
        """(T, N) the value of where each step led: never the next episode's."""
        return torch.where(self.last, self.final, self.value[1:])


class Experience(NamedTuple):
    """Sequences of L steps, B of them: whole rollouts of a world for a network that remembers, else steps alone."""

    observation: Tensor  # (B, L, ...)
    action: Tensor  # (B, L, ...) as drawn
    log_prob: Tensor  # (B, L), of the action, when it was drawn
    value: Tensor  # (B, L), as estimated then
    advantage: Tensor  # (B, L)
    fresh: Tensor  # (B, L) bool, the step is an episode's first
    state: Tensor  # (B, S), carried into the first step

    @classmethod
    def of(cls, rollout: Rollout, advantage: Tensor, state: Tensor, in_order: bool) -> Experience:
        """All of a rollout; advantage: (T, N), state: (N, S) before it; in_order: as sequences."""
        fresh = F.pad(rollout.last[:-1], (0, 0, 1, 0))
        fields = [rollout.observation, rollout.action, rollout.log_prob, rollout.value[:-1], advantage, fresh]
        if in_order:
            return cls(*(field.transpose(0, 1) for field in fields), state)
        return cls(*(field.flatten(0, 1).unsqueeze(1) for field in fields), state.new_zeros(fresh.numel(), 0))


def advantages(
    reward: Tensor, discount: Tensor, value: Tensor, next_value: Tensor, last: Tensor, trace: float
) -> Tensor:
    """A_t = delta_t + gamma_t lambda A_t+1, delta_t = r_t + gamma_t V(s_t+1) - V(s_t), until the episode stops.

    Schulman et al. 2016, "High-dimensional continuous control using generalized advantage estimation", equation 16.

    Args:
        reward, value: (T, N). last: (T, N) bool.
        discount: (T, N), gamma, and 0 where the world truly ended.
        next_value: (T, N), of where each step led; anything finite where discount is 0.
        trace: lambda.

    Returns:
        (T, N).
    """
    assert reward.shape == discount.shape == value.shape == next_value.shape == last.shape and reward.dim() == 2
    delta = reward + discount * next_value - value
    kept = discount * trace * ~last
    return reinforce.reward_to_go(delta, kept)


def policy_loss(log_prob: Tensor, old: Tensor, advantage: Tensor, clip: float) -> Tensor:
    """-min(ratio A, clip(ratio, 1 - clip, 1 + clip) A), the mean over (B,). Schulman 2017, equation 7."""
    ratio = (log_prob - old).exp()
    return -torch.min(ratio * advantage, ratio.clamp(1 - clip, 1 + clip) * advantage).mean()


def value_loss(value: Tensor, old: Tensor, target: Tensor, clip: float | None) -> Tensor:
    """Half the mean squared error (B,), and where clipped the larger of it and that of old + clip(value - old)."""
    error = (value - target).square()
    if clip is not None:
        error = torch.max(error, (old + (value - old).clamp(-clip, clip) - target).square())
    return 0.5 * error.mean()


class RewardScale(nn.Module):
    """Divides rewards by the standard deviation of the discounted return, kept with the run. Huang 2022, detail 8."""

    def __init__(self, count: int, discount: float) -> None:
        super().__init__()
        self.discount = discount
        self.register_buffer("running", torch.zeros(count))  # (N,) each world's return so far
        self.statistics = policies.Normaliser(())

    def truncate_episodes(self, worlds: Tensor) -> None:
        """Begin the returns of the worlds in (N,) bool anew: other games begin there."""
        self.running.mul_(~worlds.to(self.running.device))

    def forward(self, reward: Tensor, last: Tensor) -> Tensor:
        """(T, N) rewards, scaled by what was known before them."""
        scaled = (reward / self.statistics.variance.add(1e-8).sqrt()).clamp(-10, 10)
        returns = []
        for t in range(len(reward)):
            self.running.mul_(self.discount).add_(reward[t])
            returns.append(self.running.clone())
            self.running.mul_(~last[t])
        self.statistics.update(torch.stack(returns).flatten())
        return scaled


def train(
    config: Config, program: str = "agents.ppo", build: Callable[[Config, World], ActorCritic] = policies.build
) -> None:
    """Train what `build` makes; agents/attention.py and gaze.py have networks of their own."""
    device = runs.prepare(config.device, config.seed, config.threads)
    chosen = options(config)
    world = envs.make(config.env, config.worlds, seed=config.seed, device=device, **chosen)
    run = runs.Run(
        config,
        program,
        world.name,
        world.protocol,
        setting.patience(world),
        score=SCORE,
        follow_up=COMMAND,
    )

    network = build(config, world)
    setting.look_around(config, network, run)
    actor = arithmetic.shadow(config, network)
    optimizer = arithmetic.adam(config, network)
    rewards = RewardScale(world.count, config.discount).to(device)
    carried = Carried(network.start(world.count))
    run.track(network=network, optimizer=optimizer, world=world, rewards=rewards, carried=carried)
    head = network.head
    rollout = Rollout.empty(config.rollout, world, head)  # learned from whole before a checkpoint: no part of it
    batch = config.rollout * world.count
    if network.remembers and config.minibatches > world.count:
        raise ValueError(
            f"--minibatches {config.minibatches}: with --units each needs a world, and {world.count} play"
        )

    @torch.inference_mode()
    def act(observation: Tensor, state: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        with precision(config, device):
            parameters, value, state = actor.step(observation, state)
        action = head.sample(parameters)
        return action, head.log_prob(parameters, action), value, actor.aware(state, action)

    @torch.inference_mode()
    def judge(observation: Tensor, state: Tensor) -> Tensor:
        with precision(config, device):
            return actor.step(observation, state)[1]

    def learn(batch: Experience) -> dict[str, Tensor]:
        action, old, value, advantage = (field.flatten(0, 1) for field in batch[1:5])
        target = advantage + value
        if config.normalise:
            advantage = (advantage - advantage.mean()) / (advantage.std() + 1e-8)
        with precision(config, device):
            parameters, judged = network.unroll(batch.observation, batch.fresh, batch.state, batch.action)
        policy = policy_loss(head.log_prob(parameters, action), old, advantage, config.clip)
        error = value_loss(judged, value, target, config.clip if config.clip_value else None)
        entropy = head.entropy(parameters).mean()
        optimizer.zero_grad()
        (policy - config.entropy * entropy + config.value_weight * error).backward()
        if config.max_norm:
            nn.utils.clip_grad_norm_(network.parameters(), config.max_norm)
        optimizer.step()
        losses = {"loss/policy": policy, "loss/value": error, "policy/entropy": entropy, "value/mean": judged.mean()}
        return {name: loss.detach() for name, loss in losses.items()}

    if config.compile:
        judge = arithmetic.compiled(judge)
    act, learn = arithmetic.quickened(config, device, act, learn)

    for step in run.steps(config.steps, stride=batch):
        actor.load_state_dict(network.state_dict())
        begin = carried.state
        for t in range(config.rollout):
            action, rollout.log_prob[t], rollout.value[t], state = act(world.observation, carried.state)
            world.send(head.outward(action))
            rollout.observation[t], rollout.action[t] = world.observation, action  # while the emulator plays
            came = world.recv()
            rollout.keep(t, came, config.discount, config.clip_reward)
            rollout.final[t] = judge(came.next_observation, state) if world.finished_worlds else 0
            carried.state = state * (~came.last).unsqueeze(1)
            run.log(world.finished)
        rollout.value[-1] = judge(world.observation, carried.state)

        reward = rewards(rollout.reward, rollout.last) if config.scale_rewards else rollout.reward
        value, following = rollout.value[:-1], rollout.following()
        advantage = advantages(reward, rollout.discount, value, following, rollout.last, config.trace)
        whole = Experience.of(rollout, advantage, begin, network.remembers)
        arithmetic.set_rate(optimizer, config.learning_rate * (1 - step / config.steps if config.anneal else 1))
        for _ in range(config.epochs):
            for rows in torch.randperm(len(whole.state), device=device).tensor_split(config.minibatches):
                run.log(learn(Experience(*(field.index_select(0, rows) for field in whole))))
        network.scale.update(rollout.observation.flatten(0, 1))
        if run.due(config.evaluate_every, config.evaluate_first):
            assess(run, lambda: policies.Player(config, network, config.seed), network.backbone, **chosen)


if __name__ == "__main__":
    runs.launch(train, Config, recipe, "agents.ppo", __doc__)
