"""The recurrent Q-network of R2D2: a backbone, an LSTM and dueling streams. Kapturowski et al. 2019, section 2.3."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from agents.config import build_backbone
from agents.evaluation import Policy
from agents.networks.layers import dense, stream
from agents.networks.lstm import SequenceLSTM
from agents.q_learning import epsilon_greedy, require_discrete_actions
from agents.rainbow.dueling import combine
from agents.returns import rescale
from envs import Transition, World
from runs.machine import precision
from vision import backbones


class R2D2Network(nn.Module):
    """Recurrent Q-network: observations, and the action and reward before each -> value of each action, float32.

    Its state (N, S) is the LSTM's hidden and cell (N, U), and the action (one-hot) and reward of the step before.
    """

    def __init__(self, backbone: backbones.Backbone, shape: tuple[int, ...], actions: int, config: Any):
        super().__init__()
        self.backbone, self.actions, self.lstm_units = backbone, actions, config.lstm_units
        self.clip_reward = config.clip_reward
        features, hidden, norm = backbone.output_size(shape), config.hidden, config.norm
        self.hidden = dense(features, hidden, norm)
        self.recurrent = SequenceLSTM((hidden or features) + actions + 1, config.lstm_units)
        self.value = stream(nn.Linear, config.lstm_units, hidden, 1, norm)
        self.advantage = stream(nn.Linear, config.lstm_units, hidden, actions, norm)

    def initial_state(self, count: int) -> Tensor:
        """(N, S) zeros: the state at the start of an episode."""
        return F.pad(self.recurrent.initial_state(count), (0, self.actions + 1))

    def previous_step(self, action: Tensor, reward: Tensor) -> Tensor:
        """A step as input of the next one: the action (...) one-hot and the reward (...), as (..., A + 1) float32."""
        reward_feature = reward.sign() if self.clip_reward else rescale(reward)
        return torch.cat([F.one_hot(action, self.actions).float(), reward_feature.unsqueeze(-1)], -1)

    def next_state(self, hidden: Tensor, cell: Tensor, transition: Transition) -> Tensor:
        """The state (N, S) after a step that left hidden and cell (N, U): zeros where the episode stopped."""
        state = torch.cat([hidden, cell, self.previous_step(transition.action, transition.reward)], 1)
        return state * (~transition.last).unsqueeze(1)

    def unroll_inputs(self, batch: Any) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor]:
        """Inputs of `unroll` for sequences (B, L, ...), and one step more, to where the last one led.

        batch: Transitions with the `state` (B, L, S) before each.

        Returns:
            observation (B, L + 1, ...); previous_step (B, L + 1, A + 1) and is_first (B, L + 1); hidden and cell
            (B, U), as stored.
        """
        observation = torch.cat([batch.observation, batch.next_observation.unsqueeze(1)], 1)
        hidden, cell, before = split_state(batch.state[:, 0].float(), self.lstm_units)
        previous_step = torch.cat([before.unsqueeze(1), self.previous_step(batch.action, batch.reward)], 1)
        is_first = F.pad(batch.last[:, :-1], (1, 1))  # where the last step led is of its own episode in any case
        return observation, previous_step * (~is_first).unsqueeze(2), is_first, hidden, cell

    def encode(self, observation: Tensor) -> Tensor:
        """(B, L, C, H, W) uint8 or (B, L, D) float -> features (B, L, F)."""
        coarsest = self.backbone(observation.flatten(0, 1))[-1]
        return self.hidden(coarsest.permute(0, 2, 3, 1).flatten(1)).unflatten(0, observation.shape[:2])

    def unroll(
        self, features: Tensor, previous_step: Tensor, is_first: Tensor, hidden: Tensor, cell: Tensor
    ) -> tuple[Tensor, Tensor, Tensor]:
        """The LSTM's outputs (B, L, U), and its hidden and cell (B, U) after the last step.

        features: (B, L, F). previous_step: (B, L, A + 1), the action (one-hot) and the reward before each step.
        is_first: (B, L) bool, the step is an episode's first: the state is 0 there. hidden, cell: (B, U), before the
        first step.
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
        is_first = torch.zeros(state.shape[0], 1, dtype=torch.bool, device=state.device)
        output, hidden, cell = self.unroll(
            self.encode(observation.unsqueeze(1)), previous_step.unsqueeze(1), is_first, hidden, cell
        )
        return self.values(output).squeeze(1), hidden, cell


def split_state(state: Tensor, lstm_units: int) -> tuple[Tensor, Tensor, Tensor]:
    """(..., S) -> hidden and cell (..., U), and the action one-hot and reward of the step before (..., A + 1)."""
    return state[..., :lstm_units], state[..., lstm_units : 2 * lstm_units], state[..., 2 * lstm_units :]


def build(config: Any, world: World) -> R2D2Network:
    """The network for a world, on its device. config: R2D2's.

    Raises ValueError where actions are not discrete.
    """
    require_discrete_actions(world)
    network = R2D2Network(build_backbone(config, world), world.observation_shape, world.actions, config)
    return network.to(world.device, memory_format=torch.channels_last)


def make_policy(config: Any, network: R2D2Network, seed: int) -> Policy:
    """A policy to evaluate, epsilon-greedy with a recurrent state and a generator of its own."""
    device = network.recurrent.weight_hh.device
    generator = torch.Generator(device).manual_seed(seed)
    state_after: tuple[Tensor, Tensor] | None = None
    state = network.initial_state(1)  # before the last step

    @torch.inference_mode()
    def policy(observation: Tensor, transition: Transition | None = None) -> Tensor:
        nonlocal state, state_after
        if transition is None:
            state = network.initial_state(len(observation))
        else:
            state = network.next_state(*state_after, transition)
        with precision(config, device):
            values, *state_after = network(observation, state)
        return epsilon_greedy(values.argmax(1), network.actions, config.evaluate_epsilon, generator)

    def scores(observation: Tensor) -> Tensor:
        return network(observation, state[:1].clone().expand(len(observation), -1))[0]

    policy.network, policy.scores, policy.score_kind = network, scores, "values"
    return policy
