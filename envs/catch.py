"""Catch: a ball falls, and a paddle moves left or right to catch it; learned from pixels in seconds.

After bsuite's catch (Osband et al. 2020, "Behavior Suite for Reinforcement Learning"), with a picture of 40 x 40
pixels for convolutional backbones. A game is 9 steps long; the reward of the last one is +1 if the ball was caught,
else -1. A perfect player's mean score is 1, a random one's about -0.8.

Registered with Gymnasium as "saccade/Catch-v0", also for other libraries:
    gymnasium.make("saccade/Catch-v0")       gymnasium.make_vec("saccade/Catch-v0", num_envs=64)
"""

import gymnasium
import numpy as np
from gymnasium.spaces import Box, Discrete
from gymnasium.vector import AutoresetMode

from envs.vector_env import BatchVectorEnv, SingleEnv

ID = "saccade/Catch-v0"
SIDE = 10  # rows and columns
CELL = 4  # pixels
BALL, PADDLE = 255, 128  # shades of gray


class CatchVectorEnv(BatchVectorEnv):
    """N games of Catch in NumPy. Observations (N, 1, 40, 40) uint8; actions (N,) 0 left, 1 stay, 2 right.

    Args:
        num_envs: N.
        autoreset_mode: Gymnasium's, any of the three.
        render_mode: "rgb_array" or None.
    """

    def __init__(
        self,
        num_envs: int = 1,
        autoreset_mode: AutoresetMode | str = AutoresetMode.NEXT_STEP,
        render_mode: str | None = None,
    ) -> None:
        picture = Box(0, 255, (1, SIDE * CELL, SIDE * CELL), np.uint8)
        super().__init__(num_envs, picture, Discrete(3), autoreset_mode, render_mode, fps=5)
        self._rows = np.arange(num_envs)
        self._ball = np.zeros((2, num_envs), np.int64)  # row and column
        self._paddle = np.zeros(num_envs, np.int64)  # column

    def _play(self, actions: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        self._ball[0] += 1
        self._paddle = np.clip(self._paddle + actions - 1, 0, SIDE - 1)
        ended = self._ball[0] == SIDE - 1
        reward = np.where(ended, np.where(self._ball[1] == self._paddle, 1.0, -1.0), 0.0)
        return reward, ended, np.zeros(self.num_envs, bool)

    def render(self) -> tuple[np.ndarray, ...] | None:
        """N pictures, each (H, W, 3) uint8."""
        if self.render_mode is None:
            return None
        return tuple(np.repeat(picture[0, :, :, None], 3, axis=2) for picture in self._observe())

    def _start(self, mask: np.ndarray) -> None:
        self._ball[0, mask] = 0
        self._ball[1, mask] = [self._randoms[n].integers(SIDE) for n in np.flatnonzero(mask)]
        self._paddle[mask] = SIDE // 2

    def _observe(self) -> np.ndarray:
        pixels = np.zeros((self.num_envs, SIDE, SIDE), np.uint8)
        pixels[self._rows, SIDE - 1, self._paddle] = PADDLE
        pixels[self._rows, self._ball[0], self._ball[1]] = BALL
        return pixels.repeat(CELL, axis=1).repeat(CELL, axis=2)[:, None]


class CatchEnv(SingleEnv):
    """One game of Catch."""

    def __init__(self, render_mode: str | None = None) -> None:
        super().__init__(CatchVectorEnv(1, AutoresetMode.DISABLED, render_mode))


gymnasium.register(
    id=ID,
    entry_point="envs.catch:CatchEnv",
    vector_entry_point="envs.catch:CatchVectorEnv",
)
