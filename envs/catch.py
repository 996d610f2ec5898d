"""Catch: a ball falls, a paddle moves left or right to catch it. Our fruit fly: pixels, no download, seconds.

After bsuite's catch (Osband et al. 2020, "Behaviour Suite for Reinforcement Learning"), with a picture of
40 x 40 pixels so that convolutional backbones can look at it. A game is 9 steps long; the last one is worth
+1 if the ball was caught and -1 if not. A perfect player's mean score is 1, a random one's about -0.8.

Registered with Gymnasium as "saccade/Catch-v0", also for other libraries:
    gymnasium.make("saccade/Catch-v0")       gymnasium.make_vec("saccade/Catch-v0", num_envs=64)
"""

from collections.abc import Sequence
from typing import Any

import gymnasium
import numpy as np
from gymnasium.spaces import Box, Discrete
from gymnasium.vector import AutoresetMode, VectorEnv
from gymnasium.vector.utils import batch_space

ID = "saccade/Catch-v0"
BOARD = 10  # rows and columns
CELL = 4  # pixels
BALL, PADDLE = 255, 128  # shades of grey


class CatchVectorEnv(VectorEnv):
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
        self.num_envs = num_envs
        self.autoreset_mode = AutoresetMode(autoreset_mode)
        self.render_mode = render_mode
        self.metadata = {
            "render_modes": ["rgb_array"],
            "render_fps": 5,
            "autoreset_mode": self.autoreset_mode,
        }
        self.single_observation_space = Box(0, 255, (1, BOARD * CELL, BOARD * CELL), np.uint8)
        self.single_action_space = Discrete(3)
        self.observation_space = batch_space(self.single_observation_space, num_envs)
        self.action_space = batch_space(self.single_action_space, num_envs)
        self._randoms = [np.random.default_rng() for _ in range(num_envs)]
        self._rows = np.arange(num_envs)
        self._ball = np.zeros((2, num_envs), np.int64)  # row and column
        self._paddle = np.zeros(num_envs, np.int64)  # column
        self._ended = np.zeros(num_envs, bool)

    def reset(
        self, *, seed: int | Sequence[int | None] | None = None, options: dict[str, Any] | None = None
    ) -> tuple[np.ndarray, dict[str, Any]]:
        """Start the games, or those of options["reset_mask"] (N,) bool. One seed counts up over the games."""
        mask = (options or {}).get("reset_mask", np.ones(self.num_envs, bool))
        if seed is None or isinstance(seed, int):
            seed = [None if seed is None else seed + n for n in range(self.num_envs)]
        for n in np.flatnonzero(mask):
            if seed[n] is not None:
                self._randoms[n] = np.random.default_rng(seed[n])
        self._start(mask)
        return self._picture(), {}

    def step(self, actions: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray, dict[str, Any]]:
        """One row down. Gymnasium's five: observations, rewards, terminations, truncations, infos."""
        idle = self._ended if self.autoreset_mode == AutoresetMode.NEXT_STEP else np.zeros(self.num_envs, bool)
        if self.autoreset_mode == AutoresetMode.DISABLED and self._ended.any():
            raise RuntimeError("a game that ended was stepped: reset it first, with options={'reset_mask': ...}")
        self._ball[0] += 1
        self._paddle = np.clip(self._paddle + np.asarray(actions) - 1, 0, BOARD - 1)
        if idle.any():  # these spend the step on starting again
            self._start(idle)
        ended = self._ball[0] == BOARD - 1
        reward = np.where(ended, np.where(self._ball[1] == self._paddle, 1.0, -1.0), 0.0)
        infos: dict[str, Any] = {}
        self._ended = ended
        picture = self._picture()
        if self.autoreset_mode == AutoresetMode.SAME_STEP and ended.any():
            infos = {"final_obs": picture, "_final_obs": ended}
            self._start(ended)
            picture = self._picture()
        return picture, reward, ended.copy(), np.zeros(self.num_envs, bool), infos

    def render(self) -> tuple[np.ndarray, ...] | None:
        """N pictures, each (H, W, 3) uint8."""
        if self.render_mode is None:
            return None
        return tuple(np.repeat(picture[0, :, :, None], 3, axis=2) for picture in self._picture())

    def _start(self, mask: np.ndarray) -> None:
        self._ended = self._ended & ~mask
        self._ball[0, mask] = 0
        self._ball[1, mask] = [self._randoms[n].integers(BOARD) for n in np.flatnonzero(mask)]
        self._paddle[mask] = BOARD // 2

    def _picture(self) -> np.ndarray:
        board = np.zeros((self.num_envs, BOARD, BOARD), np.uint8)
        board[self._rows, BOARD - 1, self._paddle] = PADDLE
        board[self._rows, self._ball[0], self._ball[1]] = BALL
        return board.repeat(CELL, axis=1).repeat(CELL, axis=2)[:, None]


class CatchEnv(gymnasium.Env):
    """One game of Catch, for libraries without vector environments."""

    metadata = {"render_modes": ["rgb_array"], "render_fps": 5}

    def __init__(self, render_mode: str | None = None) -> None:
        self._games = CatchVectorEnv(1, AutoresetMode.DISABLED, render_mode)
        self.render_mode = render_mode
        self.observation_space = self._games.single_observation_space
        self.action_space = self._games.single_action_space

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[np.ndarray, dict[str, Any]]:
        """Start a game."""
        super().reset(seed=seed)
        self._games._randoms = [self.np_random]
        observation, info = self._games.reset()
        return observation[0], info

    def step(self, action: int) -> tuple[np.ndarray, float, bool, bool, dict[str, Any]]:
        """One row down."""
        observation, reward, ended, _, info = self._games.step(np.array([action]))
        return observation[0], float(reward[0]), bool(ended[0]), False, info

    def render(self) -> np.ndarray | None:
        """(H, W, 3) uint8."""
        pictures = self._games.render()
        return None if pictures is None else pictures[0]


gymnasium.register(
    id=ID,
    entry_point="envs.catch:CatchEnv",
    vector_entry_point="envs.catch:CatchVectorEnv",
)
