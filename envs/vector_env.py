"""Base classes of our own simulators: vector environments in NumPy, and single environments made from them."""

from collections.abc import Sequence
from typing import Any

import gymnasium
import numpy as np
from gymnasium import Space
from gymnasium.vector import AutoresetMode, VectorEnv
from gymnasium.vector.utils import batch_space


class BatchVectorEnv(VectorEnv):
    """N games with a random generator each, in any of Gymnasium's three autoreset modes.

    A subclass defines _start(mask), which starts the games in `mask` (N,) bool with the generators in `_randoms`;
    _play(actions), which advances all games by one step and returns rewards, terminations and truncations, (N,) each;
    and _observe() -> (N, ...), a new array. Results of _play for games that are over are ignored.
    """

    def __init__(
        self,
        num_envs: int,
        observation_space: Space,
        action_space: Space,
        autoreset_mode: AutoresetMode | str,
        render_mode: str | None,
        fps: int,
    ) -> None:
        self.num_envs = num_envs
        self.autoreset_mode = AutoresetMode(autoreset_mode)
        self.render_mode = render_mode
        self.metadata = {"render_modes": ["rgb_array"], "render_fps": fps, "autoreset_mode": self.autoreset_mode}
        self.single_observation_space, self.single_action_space = observation_space, action_space
        self.observation_space = batch_space(observation_space, num_envs)
        self.action_space = batch_space(action_space, num_envs)
        self._randoms = [np.random.default_rng() for _ in range(num_envs)]
        self._ended = np.zeros(num_envs, bool)

    def reset(
        self, *, seed: int | Sequence[int | None] | None = None, options: dict[str, Any] | None = None
    ) -> tuple[np.ndarray, dict[str, Any]]:
        """Start the games, or those of options["reset_mask"] (N,) bool; of one seed game n gets seed + n.

        Returns observations (N, ...) and an empty dict."""
        mask = (options or {}).get("reset_mask", np.ones(self.num_envs, bool))
        if seed is None or isinstance(seed, int):
            seed = [None if seed is None else seed + n for n in range(self.num_envs)]
        for n in np.flatnonzero(mask):
            if seed[n] is not None:
                self._randoms[n] = np.random.default_rng(seed[n])
        self._begin(mask)
        return self._observe(), {}

    def step(self, actions: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray, dict[str, Any]]:
        """Advance by one step: observations (N, ...), rewards, terminations and truncations (N,), infos.

        Raises RuntimeError where a game that ended was not reset, with AutoresetMode.DISABLED."""
        idle = self._ended if self.autoreset_mode == AutoresetMode.NEXT_STEP else np.zeros(self.num_envs, bool)
        if self.autoreset_mode == AutoresetMode.DISABLED and self._ended.any():
            raise RuntimeError("a game that ended was stepped: reset it first, with options={'reset_mask': ...}")
        reward, terminated, truncated = self._play(np.asarray(actions))
        if idle.any():  # for these the step is the reset
            self._begin(idle)
            reward, terminated, truncated = np.where(idle, 0.0, reward), terminated & ~idle, truncated & ~idle
        self._ended = ended = terminated | truncated
        observation, infos = self._observe(), {}
        if self.autoreset_mode == AutoresetMode.SAME_STEP and ended.any():
            infos = {"final_obs": observation, "_final_obs": ended}
            self._begin(ended)
            observation = self._observe()
        return observation, reward, terminated, truncated, infos

    def _begin(self, mask: np.ndarray) -> None:
        self._ended = self._ended & ~mask
        self._start(mask)

    def _start(self, mask: np.ndarray) -> None:
        raise NotImplementedError

    def _play(self, actions: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        raise NotImplementedError

    def _observe(self) -> np.ndarray:
        raise NotImplementedError


class SingleEnv(gymnasium.Env):
    """A single environment from a BatchVectorEnv of one game, made with AutoresetMode.DISABLED."""

    metadata = {"render_modes": ["rgb_array"], "render_fps": 5}

    def __init__(self, games: BatchVectorEnv) -> None:
        self.games, self.render_mode = games, games.render_mode
        self.observation_space, self.action_space = games.single_observation_space, games.single_action_space

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[Any, dict[str, Any]]:
        """Start a game. Returns the observation and an empty dict."""
        super().reset(seed=seed)
        self.games._randoms = [self.np_random]
        observation, info = self.games.reset()
        return observation[0], info

    def step(self, action: Any) -> tuple[Any, float, bool, bool, dict[str, Any]]:
        """Advance by one step: observation, reward, terminated, truncated, info."""
        observation, reward, terminated, truncated, info = self.games.step(np.asarray(action)[None])
        return observation[0], float(reward[0]), bool(terminated[0]), bool(truncated[0]), info

    def render(self) -> np.ndarray | None:
        """The picture, (H, W, 3) uint8; None without render_mode."""
        pictures = self.games.render()
        return None if pictures is None else pictures[0]
