"""Rollouts of on-policy agents: T steps of N worlds, every observation stored once."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from envs import Transition, World


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

    def keep(self, t: int, transition: Transition, discount: float, clip: bool) -> None:
        """What came of step t, the rewards as their signs if they are clipped."""
        self.reward[t] = transition.reward.sign() if clip else transition.reward
        self.discount[t], self.last[t] = discount * transition.discount, transition.last

    def next_value(self) -> Tensor:
        """(T, N) the value of where each step led: never the next episode's."""
        return torch.where(self.last, self.final, self.value[1:])


class Experience(NamedTuple):
    """Sequences of L steps, B of them: whole rollouts of a world for a network that remembers, else steps alone."""

    observation: Tensor  # (B, L, ...)
    action: Tensor  # (B, L, ...) as drawn
    log_prob: Tensor  # (B, L), of the action, when it was drawn
    value: Tensor  # (B, L), as estimated then
    advantage: Tensor  # (B, L)
    is_first: Tensor  # (B, L) bool, the step is an episode's first
    state: Tensor  # (B, S), carried into the first step

    @classmethod
    def of(cls, rollout: Rollout, advantage: Tensor, state: Tensor, in_order: bool) -> Experience:
        """All of a rollout; advantage: (T, N), state: (N, S) before it; in_order: as sequences."""
        is_first = F.pad(rollout.last[:-1], (0, 0, 1, 0))
        fields = [rollout.observation, rollout.action, rollout.log_prob, rollout.value[:-1], advantage, is_first]
        if in_order:
            return cls(*(field.transpose(0, 1) for field in fields), state)
        return cls(*(field.flatten(0, 1).unsqueeze(1) for field in fields), state.new_zeros(is_first.numel(), 0))
