"""Actor-critic networks of the policy gradients, and the stochastic policies that play by them.

An ActorCritic gives the parameters of an action distribution and the state's value. The distribution is its head
(agents/networks/distributions.py). With --lstm-units an LSTM lies between backbone and heads, and its state is
carried from step to step.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import torch
from torch import Tensor, nn

from agents.config import PolicyGradientFlags, build_backbone, load_backbone
from agents.networks.distributions import Categorical, Gaussian
from agents.networks.layers import dense
from agents.networks.lstm import build_lstm
from agents.networks.normalization import NoNormalizer, RunningNormalizer
from envs import Transition, World
from runs.machine import precision
from vision import backbones


class ActorCritic(nn.Module):
    """observation (B, ...) -> the parameters of the head's distribution (B, ...) and the state's value (B,).

    `initial_state`, `step`, `conditioned_on_action` and `unroll` are the interface of recurrent networks too; this
    one's state is empty.
    """

    is_recurrent = False

    def __init__(self, world: World, config: PolicyGradientFlags) -> None:
        super().__init__()
        if config.normalize_observations and world.observation.dtype == torch.uint8:
            raise ValueError(f"--normalize-observations: it is for vectors, and {world.name} gives pictures")
        self.normalize_observations = (
            RunningNormalizer(world.observation_shape) if config.normalize_observations else NoNormalizer()
        )
        self.backbone = build_backbone(config, world)
        features = self.backbone.output_size(world.observation_shape)
        self.hidden = dense(features, config.hidden, config.norm)
        self.critic_encoder = nn.ModuleList()  # with --separate-critic: the value's backbone and hidden layer
        if config.separate_critic:
            self.critic_encoder.extend([build_backbone(config, world), dense(features, config.hidden, config.norm)])
        self._build_heads(config.hidden or features, world, config)

    def _build_heads(self, width: int, world: World, config: PolicyGradientFlags) -> None:
        """Build the layers after the features (B, width)."""
        if config.squash and world.actions is not None:
            raise ValueError(f"--squash: it is for continuous actions, and those of {world.name} are discrete")
        head = Gaussian(width, world, config.squash) if world.actions is None else Categorical(width, world)
        self._set_heads(head, width)

    def _set_heads(self, head: nn.Module, width: int) -> None:
        self.head = head
        self.value = nn.Linear(width, 1)
        nn.init.orthogonal_(self.value.weight)
        nn.init.zeros_(self.value.bias)

    def forward(self, observation: Tensor) -> tuple[Tensor, Tensor]:
        observation = self.normalize_observations(observation)
        features = encode(self.backbone, self.hidden, observation)
        values = encode(*self.critic_encoder, observation) if self.critic_encoder else features
        with torch.autocast(observation.device.type, enabled=False):
            return self.head(features.float()), self.value(values.float()).squeeze(1)

    def values(self, observation: Tensor) -> Tensor:
        """The value alone, (B,), of observations (B, ...), of a network with --separate-critic."""
        values = encode(*self.critic_encoder, self.normalize_observations(observation))
        with torch.autocast(observation.device.type, enabled=False):
            return self.value(values.float()).squeeze(1)

    def parameter_groups(self) -> list[list[nn.Parameter]]:
        """The parameters of the policy, and those of the critic, of a network with --separate-critic."""
        critic = [*self.critic_encoder.parameters(), *self.value.parameters()]
        known = {id(weight) for weight in critic}
        return [[weight for weight in self.parameters() if id(weight) not in known], critic]

    def initial_state(self, count: int) -> Tensor:
        """(N, S) zeros: the recurrent state at the start of an episode."""
        return torch.zeros(count, 0, device=self.value.weight.device)

    def step(self, observation: Tensor, state: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """One step: observation (N, ...), state (N, S) -> parameters (N, ...), value (N,), the state after it."""
        return *self(observation), state

    def conditioned_on_action(self, state: Tensor, action: Tensor) -> Tensor:
        """The state (N, S) after a step, given the action (N, ...) that was sampled in it."""
        return state

    def attention_map(self, observation: Tensor, state: Tensor) -> Tensor | None:
        """Attention (N, Q, H, W) over pictures (N, C, H, W), given the state before the step; None without any."""
        return None

    def unroll(self, observation: Tensor, is_first: Tensor, state: Tensor, action: Tensor) -> tuple[Tensor, Tensor]:
        """B sequences of L steps: observation (B, L, ...) -> parameters (B * L, ...), value (B * L,).

        is_first: (B, L) bool, the step is an episode's first. state: (B, S), before the first step. action:
        (B, L, ...), as sampled.
        """
        return self(observation.flatten(0, 1))


class RecurrentActorCritic(ActorCritic):
    """An ActorCritic with an LSTM between backbone and heads, for partially observable worlds.

    Raises ValueError for --separate-critic: policy and value share the LSTM.
    """

    is_recurrent = True

    def __init__(self, world: World, config: PolicyGradientFlags) -> None:
        if config.separate_critic:
            raise ValueError(
                "--lstm-units: policy and value share the LSTM; leave --separate-critic out (--no-separate-critic)"
            )
        super().__init__(world, config)

    def _build_heads(self, width: int, world: World, config: PolicyGradientFlags) -> None:
        self.core = build_lstm(width, config.lstm_units)
        super()._build_heads(config.lstm_units, world, config)

    def initial_state(self, count: int) -> Tensor:
        return self.core.initial_state(count)

    def step(self, observation: Tensor, state: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        is_first = torch.zeros(state.shape[0], 1, dtype=torch.bool, device=state.device)
        return self._unroll(observation.unsqueeze(1), is_first, state)

    def unroll(self, observation: Tensor, is_first: Tensor, state: Tensor, action: Tensor) -> tuple[Tensor, Tensor]:
        parameters, value, _ = self._unroll(observation, is_first, state)
        return parameters, value

    def _unroll(self, observation: Tensor, is_first: Tensor, state: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        features = encode(self.backbone, self.hidden, self.normalize_observations(observation.flatten(0, 1)))
        output, hidden, cell = self.core.unroll(features.unflatten(0, is_first.shape), is_first, *state.chunk(2, 1))
        with torch.autocast(observation.device.type, enabled=False):
            flat = output.flatten(0, 1).float()
            return self.head(flat), self.value(flat).squeeze(1), torch.cat([hidden, cell], 1)


def encode(backbone: backbones.Backbone, hidden: nn.Module, observation: Tensor) -> Tensor:
    """The features (B, F) of observations (B, ...)."""
    return hidden(backbone(observation)[-1].permute(0, 2, 3, 1).flatten(1))  # as channels_last lies in memory


def build(config: PolicyGradientFlags, world: World) -> ActorCritic:
    """The network for a world, on its device."""
    network = RecurrentActorCritic if getattr(config, "lstm_units", 0) else ActorCritic
    return network(world, config).to(world.device, memory_format=torch.channels_last)


class StochasticPolicy:
    """A policy that plays: it samples actions with a generator of its own, or takes the most probable ones."""

    score_kind = "logits"

    def __init__(self, config: PolicyGradientFlags, network: ActorCritic, seed: int) -> None:
        self.config, self.network = config, network
        self.device = network.value.weight.device
        self.generator = torch.Generator(self.device).manual_seed(seed)
        self._before = self._after = network.initial_state(0)  # the state before and after the last step

    @torch.inference_mode()
    def __call__(self, observation: Tensor, transition: Transition | None = None) -> Tensor:
        network = self.network
        self._before = (
            network.initial_state(len(observation))
            if transition is None
            else self._after * (~transition.last).unsqueeze(1)
        )
        with precision(self.config, self.device):
            parameters, _, state = network.step(observation, self._before)
        head = network.head
        greedy = self.config.evaluate_greedy
        action = head.mode(parameters) if greedy else head.sample(parameters, self.generator)
        self._after = network.conditioned_on_action(state, action)
        return head.environment_action(action)

    def scores(self, observation: Tensor) -> Tensor:
        """The policy's logits (B, A) for observations (B, ...) in the first world's state before the last step.

        Raises ValueError for continuous actions.
        """
        if not isinstance(self.network.head, Categorical):
            raise ValueError("continuous actions have no scores: explanations are for discrete actions")
        before = self._before[:1].clone().expand(len(observation), -1)  # a clone, because of inference mode
        return self.network.step(observation, before)[0]

    @torch.inference_mode()
    def attention(self, observation: Tensor) -> Tensor | None:
        """Attention over the observation (N, C, H, W) of the last step, (N, H, W); None without attention."""
        with precision(self.config, self.device):
            attention = self.network.attention_map(observation, self._before)
        return None if attention is None else attention.mean(1)


def load(
    config: PolicyGradientFlags,
    folder: Path,
    parts: dict,
    world: World,
    seed: int,
    build: Callable[[PolicyGradientFlags, World], ActorCritic] = build,
) -> StochasticPolicy:
    """The policy of a saved run, from its config and the parts of its checkpoint."""
    network = build(load_backbone(config, folder), world)
    network.load_state_dict(parts["network"])
    return StochasticPolicy(config, network, seed)
