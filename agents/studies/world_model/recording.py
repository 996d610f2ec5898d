"""Games as frames, actions, rewards and ends: what a world model learns from."""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

import torch
from torch import Tensor

import agents
import envs

HELD = 100  # steps for which a world keeps its share of random actions


class Recording(NamedTuple):
    """Steps of worlds side by side. The frame after step t is that of step t + 1, unless a game ended in between."""

    frame: Tensor  # (T, N, C, H, W) uint8, before the step
    action: Tensor  # (T, N) int64
    reward: Tensor  # (T, N) float32, of the step
    last: Tensor  # (T, N) bool, the game ended with the step

    def part(self, worlds: slice) -> Recording:
        """The steps of some of the worlds."""
        return Recording(*(field[:, worlds] for field in self))

    def starts(self, length: int, may_end: bool = False) -> Tensor:
        """Steps and worlds (M, 2) from which `length` steps and the frame after them belong to one game.

        may_end: the game may end with the last of these steps.
        Raises ValueError where there are none.
        """
        before = torch.cat([torch.zeros_like(self.last[:1], dtype=torch.long), self.last.long().cumsum(0)])
        begin = before[: max(len(self.last) - length, 0)]
        within = length - may_end
        found = torch.nonzero(before[within : within + len(begin)] == begin)
        if not len(found):
            raise ValueError(f"no game was recorded for {length} steps: record more frames, or ask for fewer steps")
        return found

    def windows(self, starts: Tensor, length: int) -> Recording:
        """`length` + 1 steps (length + 1, B, ...) from each of starts (B, 2)."""
        time = starts[:, 0] + torch.arange(length + 1, device=starts.device)[:, None]
        return Recording(*(field[time, starts[:, 1]] for field in self))


def record(
    env: str, agent: Path | None, worlds: int, frames: int, noise: float, seed: int, device: torch.device
) -> tuple[str, int, Recording]:
    """Play `worlds` games side by side, `frames` steps of all of them. Returns the game, its actions, the recording.

    agent: a run's folder, whose agent plays; None: random play. noise: each world draws its share of random actions
        from 0 to this, anew every HELD steps, so that an agent that wins all its games is seen losing points as well.
    Raises ValueError for worlds that show no pictures or have other than discrete actions.
    """
    if agent is None:
        policy, world = None, envs.make(env, worlds, seed=seed, device=device, evaluation=True)
    else:
        loaded = agents.load(agent, device=device, seed=seed)
        policy, world = loaded.policy, loaded.world(worlds, seed)
    generator, transition = torch.Generator().manual_seed(seed), None
    share = torch.zeros(worlds)
    rows: list[tuple[Tensor, ...]] = []
    try:
        if len(world.observation_shape) != 3 or world.actions is None:
            raise ValueError(f"{world.name} does not show pictures, or its actions are not discrete")
        for step in range(-(-frames // worlds)):
            observation = world.observation
            action = torch.randint(world.actions, (worlds,), generator=generator).to(device)
            if policy is not None:
                if step % HELD == 0:
                    share = noise * torch.rand(worlds, generator=generator)
                with torch.inference_mode():
                    chosen = policy(observation, transition)
                random = (torch.rand(worlds, generator=generator) < share).to(device)
                action = torch.where(random, action, chosen)
            frame = newest(world, observation).cpu().clone()
            transition = world.step(action)
            rows.append((frame, action.cpu(), transition.reward.cpu().clone(), transition.last.cpu().clone()))
        return world.name, world.actions, Recording(*(torch.stack(field) for field in zip(*rows, strict=True)))
    finally:
        world.close()


def newest(world: envs.World, observation: Tensor) -> Tensor:
    """The newest frame (N, C, H, W) of observations (N, stack * C, H, W) of a world."""
    return observation[:, -(observation.shape[1] // world.stack) :]
