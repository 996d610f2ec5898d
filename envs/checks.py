"""Checks of actions, observations and rewards."""

import math

import numpy as np
import torch
from torch import Tensor


def action(given: Tensor, name: str, actions: int | None, shape: tuple[int, ...], device: torch.device) -> np.ndarray:
    """A checked action for the world called `name` as an array of `shape` (N, ...), float32 or int64.

    Raises TypeError or ValueError as World.send does.
    """
    dtype = torch.float32 if actions is None else torch.int64
    wanted = f"an action is a {dtype} tensor of shape {shape} on {device}"
    if not isinstance(given, Tensor):
        raise TypeError(f"{wanted}, got {type(given).__name__}")
    if given.dtype != dtype:
        raise TypeError(f"{wanted}, got {given.dtype}")
    if given.shape != shape:
        raise ValueError(f"{wanted}, got shape {tuple(given.shape)}")
    if given.device.type != device.type:
        raise ValueError(f"{wanted}, got one on {given.device}")
    array = given.detach().cpu().numpy()
    if actions is not None and (array.min() < 0 or array.max() >= actions):
        raise ValueError(f"an action of {name} is in 0..{actions - 1}, got {array.tolist()}")
    if actions is None and not np.isfinite(array).all():
        raise ValueError(f"an action of {name} must be finite, got {array.tolist()}")
    return array


def not_finite(observation: np.ndarray, mask: np.ndarray, reward: np.ndarray | None = None) -> tuple[int, str] | None:
    """The first world of those in `mask` (N,) whose observation or reward is NaN or infinite, and a message; or None.

    Pictures of bytes are not checked: they are always finite.

    observation: (N, ...). reward: (N,), or None at a reset.
    """
    # A sum is finite only if all terms are, and takes a fifth of the time.
    if reward is not None and not math.isfinite(reward.sum()):
        for n in np.flatnonzero(~np.isfinite(reward)).tolist():
            return n, f"the reward is {reward[n]}"
    if observation.dtype != np.uint8 and not math.isfinite(observation.sum()):
        rows = mask.reshape(-1, *[1] * (observation.ndim - 1))
        for n, *place in np.argwhere(~np.isfinite(observation) & rows).tolist():
            return n, f"observation[{', '.join(map(str, place))}] is {observation[n, *place]}"
    return None
