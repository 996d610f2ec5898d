"""What the policy-gradient agents decide with: distributions over actions, and networks that propose them.

reinforce.py, a2c.py and ppo.py are the programs. A network proposes the parameters of a distribution and values the
state; the distribution is its head: Categorical for choices, Gaussian for numbers. With --units it remembers: an LSTM
lies between what it sees and what it proposes, and its state is carried from step to step.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from agents import setting
from agents.arithmetic import precision
from agents.recurrent import Core
from envs import Transition, World
from runs.ranges import Count, NonNegative, Share, Whole
from vision import backbones


@dataclasses.dataclass(frozen=True)
class Config(setting.Setting):
    """The flags of every policy gradient."""

    steps: Count = 10_000_000  # agent steps; in Atari each is four frames (--frame-skip)
    worlds: Count = 16  # games side by side
    hidden: Whole = 512  # units between backbone and heads; 0 for none
    apart: bool = False  # the value has a backbone of its own
    scale: bool = False  # vectors: observations are normalised by the mean and deviation of those before
    squash: bool = False  # continuous actions: tanh of a Gaussian, instead of a Gaussian that is clipped
    learning_rate: NonNegative = 2.5e-4  # Adam
    anneal: bool = True  # the learning rate falls linearly to 0 over the run
    adam_epsilon: NonNegative = 1e-5  # added to the root of squared gradients in Adam
    discount: Share = 0.99  # of the return, per step
    clip_reward: bool = True  # learn from the sign of the reward
    max_norm: NonNegative = 0.5  # of the gradient, larger ones are scaled down; 0 for no limit
    normalise: bool = True  # advantages are divided by their root mean square
    entropy: float = 0.01  # weight of the bonus for entropy
    value_weight: float = 0.5  # of the value's squared error
    evaluate_every: Whole = 100_000  # steps between evaluations; 0: never
    evaluate_first: Whole = 10_000  # the step of the first, if that is sooner; 0: none of its own
    evaluate_games: Count = 10  # whole games each
    evaluate_steps: Count = 27_000  # of each game at most: longer ones count as they stand (27,000: Atari's limit)
    evaluate_greedy: bool = True  # evaluations take the likeliest action instead of drawing one
    film_seconds: NonNegative = 20.0  # filmed of a game after each best evaluation; 0 for no films


class Normaliser(nn.Module):
    """Running mean and variance of rows (B, *shape), in the parallel form of Chan et al. 1983.

    Called on rows, it gives them mean 0 and deviation 1, clipped to 10. Nothing changes before the first update.
    """

    def __init__(self, shape: tuple[int, ...]) -> None:
        super().__init__()
        self.register_buffer("count", torch.zeros((), dtype=torch.int64))  # float32 stops counting at 2^24
        self.register_buffer("mean", torch.zeros(shape))
        self.register_buffer("variance", torch.ones(shape))

    def forward(self, rows: Tensor) -> Tensor:
        return ((rows - self.mean) / (self.variance + 1e-8).sqrt()).clamp(-10, 10)

    @torch.no_grad()
    def update(self, rows: Tensor) -> None:
        """Take in rows (B, *shape)."""
        mean, variance, count = rows.mean(0), rows.var(0, correction=0), len(rows)
        share = count / (self.count + count)
        apart = mean - self.mean
        self.variance.lerp_(variance, share).add_(apart.square() * share * (1 - share))
        self.mean.lerp_(mean, share)
        self.count += count


class Same(nn.Identity):
    """No normalisation: a Normaliser that lets rows pass, and learns nothing from them."""

    def update(self, rows: Tensor) -> None:
        """Ignore them."""


class Categorical(nn.Module):
    """features (B, F) -> logits (B, A) of discrete actions.

    `dtype` and `shape` say what an action is that was drawn.
    """

    dtype, shape = torch.int64, ()

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
        log_p = logits.log_softmax(1)  # finite where p is 0, and so is the gradient
        return -(log_p.exp() * log_p).sum(1)

    @staticmethod
    def outward(action: Tensor) -> Tensor:
        """What the world is sent: the action as it is."""
        return action


class Gaussian(nn.Module):
    """features (B, F) -> means and logarithms of standard deviations (B, 2, A) of continuous actions.

    What is drawn is unbounded, and in units of the action's range: 0 is the middle of [action_low, action_high] and 1
    is half of its width, so that a policy begins with the same play whatever the bounds (see `units`). The world is
    sent it clipped or (squash) squashed, which fills the range. Deviations do not depend on the state (Schulman et
    al. 2015, arXiv 1506.02438). Probabilities and entropies are those of what is drawn.
    Raises ValueError for squash in a world whose actions have no bounds.
    """

    dtype = torch.float32

    def __init__(self, features: int, world: World, squash: bool) -> None:
        super().__init__()
        self.shape = world.action_shape
        if squash and not (np.isfinite(world.action_low).all() and np.isfinite(world.action_high).all()):
            raise ValueError(f"{world.name}'s actions have no bounds to be squashed into: leave --squash out")
        self.squash = squash
        self.mean = nn.Linear(features, world.action_shape[0])
        small(self.mean)
        self.log_std = nn.Parameter(torch.zeros(world.action_shape[0]))
        self.register_buffer("low", torch.from_numpy(world.action_low).float(), persistent=False)
        self.register_buffer("high", torch.from_numpy(world.action_high).float(), persistent=False)
        center, scale = units(world.action_low, world.action_high)
        self.register_buffer("center", torch.from_numpy(center).float())
        self.register_buffer("scale", torch.from_numpy(scale).float())

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
        return torch.clamp(self.center + self.scale * action, self.low, self.high)

    def _load_from_state_dict(self, state: dict, prefix: str, *others: Any) -> None:
        """Weights saved before actions had units were of a policy whose unit was 1 around 0."""
        if prefix + "center" not in state and (self.squash or not (self.center.any() or (self.scale != 1).any())):
            state |= {prefix + "center": self.center, prefix + "scale": self.scale}
        super()._load_from_state_dict(state, prefix, *others)


UNBOUNDED = 1e6  # what is further from 0 is no bound: many worlds write a large number where they mean none


def units(low: np.ndarray, high: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Where a policy begins, and how far its unit reaches: (A,) each, float64.

    The middle of [low, high] and half of its width. Where only one end is bounded 1 within it, and where none is 0;
    the unit is 1 there.
    """
    low, high = low.astype(np.float64), high.astype(np.float64)
    below, above = low > -UNBOUNDED, high < UNBOUNDED
    both = below & above & (high > low)
    with np.errstate(invalid="ignore", over="ignore"):  # of infinite ends, which are not chosen
        center = np.select([below & above, below, above], [(low + high) / 2, low + 1, high - 1], 0.0)
        return center, np.where(both, (high - low) / 2, 1.0)


def small(layer: nn.Linear) -> None:
    """Begin with hardly an opinion: orthogonal times 0.01, no bias."""
    nn.init.orthogonal_(layer.weight, gain=0.01)
    nn.init.zeros_(layer.bias)


def core(inputs: int, units: int) -> Core:
    """An LSTM with orthogonal weights and no bias, as Huang et al. 2022 begin it."""
    result = Core(inputs, units)
    nn.init.orthogonal_(result.weight_ih), nn.init.orthogonal_(result.weight_hh)
    nn.init.zeros_(result.bias_ih), nn.init.zeros_(result.bias_hh)
    return result


class ActorCritic(nn.Module):
    """observation (B, ...) -> the parameters of the head's distribution (B, ...) and the state's value (B,).

    `start`, `step`, `aware` and `unroll` are what a network that remembers has besides; this one carries nothing.
    """

    remembers = False

    def __init__(self, world: World, config: Config) -> None:
        super().__init__()
        if config.scale and world.observation.dtype == torch.uint8:
            raise ValueError(f"--scale: it is for vectors, and {world.name} gives pictures")
        self.scale = Normaliser(world.observation_shape) if config.scale else Same()
        self.backbone = setting.see(config, world)
        features = self.backbone.output_size(world.observation_shape)
        self.hidden = setting.dense(features, config.hidden, config.norm)
        self.judge = nn.ModuleList()  # the value's own eyes and hidden layer, if it has any
        if config.apart:
            self.judge.extend([setting.see(config, world), setting.dense(features, config.hidden, config.norm)])
        self._propose(config.hidden or features, world, config)

    def _propose(self, width: int, world: World, config: Config) -> None:
        """Make what comes after the features (B, width)."""
        head = Gaussian(width, world, config.squash) if world.actions is None else Categorical(width, world)
        self._decide(head, width)

    def _decide(self, head: nn.Module, width: int) -> None:
        self.head = head
        self.value = nn.Linear(width, 1)
        nn.init.orthogonal_(self.value.weight)
        nn.init.zeros_(self.value.bias)

    def forward(self, observation: Tensor) -> tuple[Tensor, Tensor]:
        observation = self.scale(observation)
        features = read(self.backbone, self.hidden, observation)
        judged = read(*self.judge, observation) if self.judge else features
        with torch.autocast(observation.device.type, enabled=False):
            return self.head(features.float()), self.value(judged.float()).squeeze(1)

    def judged(self, observation: Tensor) -> Tensor:
        """The value alone, (B,), of observations (B, ...), where it has eyes of its own."""
        judged = read(*self.judge, self.scale(observation))
        with torch.autocast(observation.device.type, enabled=False):
            return self.value(judged.float()).squeeze(1)

    def parts(self) -> list[list[nn.Parameter]]:
        """The weights of the policy, and those of a value with eyes of its own."""
        value = [*self.judge.parameters(), *self.value.parameters()]
        ours = {id(weight) for weight in value}
        return [[weight for weight in self.parameters() if id(weight) not in ours], value]

    def start(self, count: int) -> Tensor:
        """(N, S) zeros: what is carried into the first step of an episode."""
        return torch.zeros(count, 0, device=self.value.weight.device)

    def step(self, observation: Tensor, state: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """One step: observation (N, ...), state (N, S) -> parameters (N, ...), value (N,), the state after it."""
        return *self(observation), state

    def aware(self, state: Tensor, action: Tensor) -> Tensor:
        """The state (N, S) after a step, when it is known which action (N, ...) was drawn."""
        return state

    def look(self, observation: Tensor, state: Tensor) -> Tensor | None:
        """Where it looks in pictures (N, C, H, W) before a step, (N, Q, H, W), if it says so."""
        return None

    def unroll(self, observation: Tensor, fresh: Tensor, state: Tensor, action: Tensor) -> tuple[Tensor, Tensor]:
        """Many steps: observation (B, L, ...), fresh (B, L) bool -> parameters (B * L, ...), value (B * L,).

        fresh: the step is an episode's first. state: (B, S), before the first step. action: (B, L, ...), as drawn.
        """
        return self(observation.flatten(0, 1))


class Remembering(ActorCritic):
    """An ActorCritic with an LSTM of `units` behind its eyes: one frame at a time may be enough for it.

    Raises ValueError for --apart: the value reads the same memory.
    """

    remembers = True

    def __init__(self, world: World, config: Config) -> None:
        if config.apart:
            raise ValueError("--units: the value reads the memory of the policy, leave --apart out (--no-apart)")
        super().__init__(world, config)

    def _propose(self, width: int, world: World, config: Config) -> None:
        self.core = core(width, config.units)
        super()._propose(config.units, world, config)

    def start(self, count: int) -> Tensor:
        return self.core.start(count)

    def step(self, observation: Tensor, state: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        fresh = torch.zeros(len(state), 1, dtype=torch.bool, device=state.device)
        return self._live(observation.unsqueeze(1), fresh, state)

    def unroll(self, observation: Tensor, fresh: Tensor, state: Tensor, action: Tensor) -> tuple[Tensor, Tensor]:
        parameters, value, _ = self._live(observation, fresh, state)
        return parameters, value

    def _live(self, observation: Tensor, fresh: Tensor, state: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        features = read(self.backbone, self.hidden, self.scale(observation.flatten(0, 1)))
        output, hidden, cell = self.core.unroll(features.unflatten(0, fresh.shape), fresh, *state.chunk(2, 1))
        with torch.autocast(observation.device.type, enabled=False):
            flat = output.flatten(0, 1).float()
            return self.head(flat), self.value(flat).squeeze(1), torch.cat([hidden, cell], 1)


def read(backbone: backbones.Backbone, hidden: nn.Module, observation: Tensor) -> Tensor:
    """The features (B, F) of observations (B, ...)."""
    return hidden(backbone(observation)[-1].permute(0, 2, 3, 1).flatten(1))  # as channels_last lies in memory


def build(config: Config, world: World) -> ActorCritic:
    """The network for a world, on its device."""
    network = Remembering if getattr(config, "units", 0) else ActorCritic
    return network(world, config).to(world.device, memory_format=torch.channels_last)


class Player:
    """A policy to play with: the likeliest action, or one drawn from a generator of its own."""

    def __init__(self, config: Config, network: ActorCritic, seed: int) -> None:
        self.config, self.network = config, network
        self.device = network.value.weight.device
        self.generator = torch.Generator(self.device).manual_seed(seed)
        self._before = self._after = network.start(0)  # the state around the last step

    @torch.inference_mode()
    def __call__(self, observation: Tensor, came: Transition | None = None) -> Tensor:
        network = self.network
        self._before = network.start(len(observation)) if came is None else self._after * (~came.last).unsqueeze(1)
        with precision(self.config, self.device):
            parameters, _, state = network.step(observation, self._before)
        head = network.head
        greedy = self.config.evaluate_greedy
        action = head.mode(parameters) if greedy else head.sample(parameters, self.generator)
        self._after = network.aware(state, action)
        return head.outward(action)

    @torch.inference_mode()
    def looked(self, observation: Tensor) -> Tensor | None:
        """Where in the observation (N, C, H, W) of the last step it looked, (N, H, W), if its network says so."""
        with precision(self.config, self.device):
            found = self.network.look(observation, self._before)
        return None if found is None else found.mean(1)


def load(
    config: Config,
    folder: Path,
    parts: dict,
    world: World,
    seed: int,
    build: Callable[[Config, World], ActorCritic] = build,
) -> Player:
    """The policy that a run's saved parts describe, for agents.watch."""
    network = build(setting.own_eyes(config, folder), world)
    network.load_state_dict(parts["network"])
    return Player(config, network, seed)
