"""Rollout buffer of on-policy agents (A2C, PPO, PQN): T steps of N worlds, and the minibatches drawn from them.

Every observation is stored once. Rewards and discounts are the world's own: an agent clips and discounts in its
equations. A rollout is used up between two checkpoints, and is not part of them.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn import functional as F


class Rollout(NamedTuple):
    """T steps of N worlds."""

    observation: Tensor  # (T, N, ...)
    action: Tensor  # (T, N, ...) as sampled
    log_prob: Tensor  # (T, N) float32, of the action when it was sampled; 0 for an agent without a policy
    reward: Tensor  # (T, N) float32, the game's own
    discount: Tensor  # (T, N) float32, 0 where the world truly ended, else 1
    last: Tensor  # (T, N) bool, the episode stopped here
    value: Tensor  # (T + 1, N) float32, of each observation and of the one after the last step
    final_value: Tensor  # (T, N) float32, of the last observation of an episode that stopped here; 0 elsewhere

    @classmethod
    def empty(
        cls,
        length: int,
        observation: Tensor,
        action_shape: tuple[int, ...] = (),
        action_dtype: torch.dtype = torch.int64,
    ) -> Rollout:
        """Storage for `length` steps on the device of `observation`, (N, ...): one of those that will be stored."""
        count, device = len(observation), observation.device

        def zeros(*shape: int, dtype: torch.dtype = torch.float32) -> Tensor:
            return torch.zeros(*shape, dtype=dtype, device=device)

        return cls(
            observation=zeros(length, *observation.shape, dtype=observation.dtype),
            action=zeros(length, count, *action_shape, dtype=action_dtype),
            log_prob=zeros(length, count),
            reward=zeros(length, count),
            discount=zeros(length, count),
            last=zeros(length, count, dtype=torch.bool),
            value=zeros(length + 1, count),
            final_value=zeros(length, count),
        )

    def store_action(
        self, t: int, observation: Tensor, action: Tensor, value: Tensor, log_prob: Tensor | None = None
    ) -> None:
        """Store observation (N, ...), action (N, ...), value (N,) and log_prob (N,) of step t.

        Called between `send` and `recv`, while the emulator works."""
        self.observation[t], self.action[t], self.value[t] = observation, action, value
        if log_prob is not None:
            self.log_prob[t] = log_prob

    def store_outcome(self, t: int, transition: NamedTuple, final_value: Tensor | float) -> None:
        """Store the transition of step t.

        transition: has reward, discount and last, (N,) each. final_value: (N,), the value of its next_observation;
        arbitrary, e.g. 0, if no episode ended.
        """
        self.reward[t], self.discount[t], self.last[t] = transition.reward, transition.discount, transition.last
        self.final_value[t] = final_value

    def next_value(self) -> Tensor:
        """(T, N) value of the observation that each step led to, never that of the next episode's first."""
        return torch.where(self.last, self.final_value, self.value[1:])

    def batch(self, advantage: Tensor, state: Tensor, recurrent: bool) -> RolloutBatch:
        """All steps as one batch, with their advantages (T, N).

        recurrent: as N sequences of T steps, with the recurrent state (N, S) before the first of them; else as T N
        sequences of one step, without a state.
        """
        is_first = F.pad(self.last[:-1], (0, 0, 1, 0))
        fields = [self.observation, self.action, self.log_prob, self.value[:-1], advantage, is_first]
        if recurrent:
            return RolloutBatch(*(field.transpose(0, 1) for field in fields), state)
        single = (field.flatten(0, 1).unsqueeze(1) for field in fields)
        return RolloutBatch(*single, state.new_zeros(is_first.numel(), 0))


class RolloutBatch(NamedTuple):
    """B sequences of L steps."""

    observation: Tensor  # (B, L, ...)
    action: Tensor  # (B, L, ...) as sampled
    log_prob: Tensor  # (B, L), of the action when it was sampled
    value: Tensor  # (B, L), as estimated then
    advantage: Tensor  # (B, L)
    is_first: Tensor  # (B, L) bool, the step is an episode's first
    state: Tensor  # (B, S), the recurrent state before the first step


def minibatches(fields: Sequence[Tensor], count: int) -> Iterator[tuple[Tensor, ...]]:
    """One epoch: the rows of fields (B, ...) in random order, in `count` minibatches of nearly equal size."""
    for rows in torch.randperm(len(fields[0]), device=fields[0].device).tensor_split(count):
        yield tuple(field.index_select(0, rows) for field in fields)
