"""An actor of Ape-X: plays with its own copy of the network, and computes the first priorities of what it plays.

A process of Ray's on some machine; nothing here needs Ray.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

import envs
import runs
from agents.apex.messages import Message, pack
from agents.config import world_options
from agents.q_learning import epsilon_greedy
from agents.rainbow.n_step import n_step_return
from envs import World


def exploration_rates(games: int, base: float, exponent: float) -> Tensor:
    """epsilon_i = epsilon^(1 + alpha i / (N - 1)) of N games, (N,). Horgan 2018, section 4.1.

    base: epsilon. exponent: alpha.
    """
    return base ** (1 + exponent * torch.arange(games) / max(games - 1, 1))


def n_step_errors(
    value: Tensor, following: Tensor, reward: Tensor, discount: Tensor, last: Tensor, gamma: float, n: int
) -> Tensor:
    """|R + gamma^m max_a Q(S', a) - Q(S, A)| of T consecutive steps of N worlds, (T, N).

    Horgan 2018, algorithm 1: the priorities that an actor computes by its own network. Returns are of m = n steps, or
    of fewer up to an episode's end and to the end of these steps, whose last rows have no successors here.

    Args:
        value: (T, N), Q(S_t, A_t). following: (T, N), max_a Q of next_observation_t.
        reward, discount, last: (T, N), of a Transition. gamma: discount of the return, per step.
    """
    steps = len(reward)
    last = torch.cat([last[:-1], torch.ones_like(last[:1])])

    def windows(field: Tensor, beyond: float) -> Tensor:
        padding = field.new_full((n - 1, *field.shape[1:]), beyond)
        return torch.cat([field, padding]).unfold(0, n, 1)  # (T, N, n)

    ends = windows(last, True)
    counted = 1 + (~ends[..., :-1]).long().cumprod(-1).sum(-1)  # (T, N) m
    total, kept = n_step_return(
        *(each.flatten(0, 1) for each in (windows(reward, 0.0), windows(discount, 1.0), ends)), gamma
    )
    final = torch.arange(steps)[:, None] + counted - 1
    bootstrap = kept.view_as(value) * following.gather(0, final)
    return (total.view_as(value) + bootstrap - value).abs()


class Actor:
    """Plays `worlds` games side by side, `rollout` steps a call.

    Args:
        config: of the learner.
        build: makes the network for a world.
        number: of the actor, from 0: its exploration rates.
        seed: of its games; an actor that replaces another one has another.
    """

    def __init__(self, config: Any, build: Callable[[Any, World], nn.Module], number: int, seed: int) -> None:
        self.device = runs.prepare("cpu", seed, threads=1)
        self.config = config
        self.world = envs.make(config.env, config.worlds, seed=seed, device=self.device, **world_options(config))
        self.network = build(config, self.world).eval()
        rates = exploration_rates(config.actors * config.worlds, config.epsilon, config.epsilon_exponent)
        self.epsilon = rates.view(config.actors, config.worlds)[number]
        self.version = -1

    @torch.inference_mode()
    def play(self, version: int, weights: Mapping[str, np.ndarray] | None) -> Message:
        """Play `rollout` steps.

        version: of the weights. weights: an array of its parameter's shape (...) for each name; None for those of the
        call before.
        """
        if weights is not None:
            self.network.load_state_dict({name: torch.tensor(value) for name, value in weights.items()})
        self.version = version
        steps, chosen, best, finished = [], [], [], {"episode/return": [], "episode/length": []}
        for _ in range(self.config.rollout):
            values = self.network(self.world.observation)
            action = epsilon_greedy(values.argmax(1), self.world.actions, self.epsilon)
            steps.append(self.world.step(action))
            chosen.append(values.gather(1, action[:, None]).squeeze(1))
            best.append(values.max(1).values)
            for name, found in finished.items():
                found += self.world.finished[name]
        reward, discount, last = (
            torch.stack([getattr(step, name) for step in steps]) for name in ("reward", "discount", "last")
        )
        if self.config.clip_reward:
            reward = reward.sign()
        error = n_step_errors(
            torch.stack(chosen), self._following(steps, best, discount, last), reward, discount, last,
            self.config.discount, self.config.n_step,
        )  # fmt: skip
        return pack(steps, self.world.stack, error, finished, self.version)

    def _following(self, steps: list, best: list[Tensor], discount: Tensor, last: Tensor) -> Tensor:
        """max_a Q of each next_observation, (T, N): known from acting, but for where an episode was cut."""
        following = torch.stack([*best[1:], torch.zeros_like(best[0])])
        unknown = last & (discount > 0)
        unknown[-1] = discount[-1] > 0
        if unknown.any():
            rows = torch.cat([step.next_observation[which] for step, which in zip(steps, unknown, strict=True)])
            following[unknown] = self.network(rows).max(1).values
        return following
