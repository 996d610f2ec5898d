"""Description of a world: name, family, protocol and spaces."""

from __future__ import annotations

import dataclasses

import numpy as np
import torch


@dataclasses.dataclass(frozen=True)
class Description:
    """Name, rules and spaces of a world, by which a program chooses its recipe and its network."""

    name: str  # canonical, as `envs.make` takes it: "Pong", "CartPole-v1"
    id: str | None  # Gymnasium's; None for an Atari game
    family: str  # "atari", "catch", "control" (vectors) or "pixels"
    protocol: str | None  # that its name implies, e.g. "classic"; None where there is only one
    observation_shape: tuple[int, ...]  # (C, H, W) or (D,)
    observation_dtype: torch.dtype  # uint8 pictures or float32 vectors
    discrete: bool  # whether actions are discrete; else they are continuous within bounds
    action_shape: tuple[int, ...]  # of one world: () or (A,)
    action_low: np.ndarray | None  # (A,) where actions are continuous, else None
    action_high: np.ndarray | None
