"""What our own simulators share: many games side by side in NumPy, and one game as a simple environment."""

from collections.abc import Sequence
from typing import Any

import gymnasium
import numpy as np
from gymnasium import Space
from gymnasium.vector import AutoresetMode, VectorEnv
from gymnasium.vector.utils import batch_space


class BatchVectorEnv(VectorEnv):
    """N games with a random generator each, which restart as any of Gymnasium's three ways has it.

    A subclass brings _start(mask), which begins the games in `mask` (N,) bool by the generators in `_randoms`;
    _play(actions), which takes all games one step on and returns rewards, terminations and truncations, (N,) each;
    and _observe() -> (N, ...), a fresh array. What _play says of a game that is over does not count.
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
        """Start the games, or those of options["reset_mask"] (N,) bool. One seed counts up over the games."""
        mask = (options or {}).get("reset_mask", np.ones(self.num_envs, bool))
        if seed is None or isinstance(seed, int):
            seed = [None if seed is None else seed + n for n in range(self.num_envs)]
        for n in np.flatnonzero(mask):
            if seed[n] is not None:
                self._randoms[n] = np.random.default_rng(seed[n])
        self._begin(mask)
        return self._observe(), {}

    def step(self, actions: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray, dict[str, Any]]:
        """One step on. Gymnasium's five: observations, rewards, terminations, truncations, infos."""
        idle = self._ended if self.autoreset_mode == AutoresetMode.NEXT_STEP else np.zeros(self.num_envs, bool)
        if self.autoreset_mode == AutoresetMode.DISABLED and self._ended.any():
            raise RuntimeError("a game that ended was stepped: reset it first, with options={'reset_mask': ...}")
        reward, terminated, truncated = self._play(np.asarray(actions))
        if idle.any():  # these spend the step on starting again
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
    """One game of a BatchVectorEnv of one, made with AutoresetMode.DISABLED: for libraries without vector ones."""

    metadata = {"render_modes": ["rgb_array"], "render_fps": 5}

    def __init__(self, games: BatchVectorEnv) -> None:
        self.games, self.render_mode = games, games.render_mode
        self.observation_space, self.action_space = games.single_observation_space, games.single_action_space

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[Any, dict[str, Any]]:
        """Start a game."""
        super().reset(seed=seed)
        self.games._randoms = [self.np_random]
        observation, info = self.games.reset()
        return observation[0], info

    def step(self, action: Any) -> tuple[Any, float, bool, bool, dict[str, Any]]:
        """One step on."""
        observation, reward, terminated, truncated, info = self.games.step(np.asarray(action)[None])
        return observation[0], float(reward[0]), bool(terminated[0]), bool(truncated[0]), info

    def render(self) -> np.ndarray | None:
        """(H, W, 3) uint8."""
        pictures = self.games.render()
        return None if pictures is None else pictures[0]
