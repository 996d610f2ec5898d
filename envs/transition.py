"""Transition, the record of a step, and StepResult, from which a world makes it."""

from typing import NamedTuple

import numpy as np
from torch import Tensor


class Transition(NamedTuple):
    """What a world emits, a memory stores and a learner receives. N rows, one for each world."""

    observation: Tensor  # (N, ...) uint8 or float32
    action: Tensor  # (N,) int64, or (N, A) float32
    reward: Tensor  # (N,) float32, the game's own, unclipped
    discount: Tensor  # (N,) float32, 0 where the world truly ended (or a life was lost), else 1
    next_observation: Tensor  # (N, ...) where the step led, never the next episode's first frame
    last: Tensor  # (N,) bool, the episode stopped here for any reason


class StepResult(NamedTuple):
    """The result of a step, as a subclass of World reads it from its simulator. NumPy, N rows."""

    observation: np.ndarray  # (N, ...) where the step led, also in the rows where a game ended
    present: np.ndarray  # (N, ...) current observations: the same array, unless the simulator has reset ended games
    reward: np.ndarray  # (N,) float32
    terminated: np.ndarray  # (N,) bool, the game truly ended
    truncated: np.ndarray  # (N,) bool, the game was cut short by a limit
    lost: np.ndarray | None = None  # (N,) bool, a life was lost and the game goes on; None: no such signal


class WorldError(Exception):
    """A world gave an invalid observation or reward; the message names the world, the step and the field."""

    sentence = True  # a command line shows the message alone, without the traceback
