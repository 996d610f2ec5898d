"""Worlds that show badly, never end or fail: "tests.failing_worlds:failing/NoRender-v0" ..."""

import os
from typing import Any

import gymnasium
import numpy as np
from gymnasium.spaces import Box, Discrete

LENGTH = 12


class Pictures(gymnasium.Env):
    """Random pictures; the reward is 1 for the action 1. A game is LENGTH steps long."""

    observation_space = Box(0, 255, (1, 36, 36), np.uint8)
    action_space = Discrete(2)
    metadata = {"render_modes": ["rgb_array"]}
    render_mode = "rgb_array"

    def __init__(self, render_mode: str | None = None) -> None:
        pass

    def reset(self, *, seed: int | None = None, options: dict | None = None) -> tuple[Any, dict]:
        super().reset(seed=seed)
        self.time = 0
        return self.show(), {}

    def step(self, action: Any) -> tuple[Any, Any, bool, bool, dict]:
        self.time += 1
        return self.show(), float(action == 1), self.time == LENGTH, False, {}

    def show(self) -> np.ndarray:
        return self.np_random.integers(0, 256, (1, 36, 36), np.uint8)

    def render(self) -> Any:
        return np.zeros((32, 32, 3), np.uint8)


class Flat(Pictures):
    def render(self) -> Any:
        return np.full((5, 300, 3), 200, np.uint8)


class Nothing(Pictures):
    def render(self) -> Any:
        return None


class Growing(Pictures):
    def render(self) -> Any:
        return np.full((20 + self.time, 30 + 2 * self.time, 3), 200, np.uint8)


class Broken(Pictures):
    def render(self) -> Any:
        raise OSError("no display")


class Words(Pictures):
    def render(self) -> Any:
        return "a text"


class NoRender(Pictures):
    metadata = {"render_modes": []}
    render_mode = None

    def __init__(self) -> None:
        pass

    def render(self) -> Any:
        raise NotImplementedError


class Endless(Pictures):
    """Never ends: without a time limit."""

    observation_space = Box(-1, 1, (2,), np.float32)

    def show(self) -> np.ndarray:
        return np.zeros(2, np.float32)

    def step(self, action: Any) -> tuple[Any, Any, bool, bool, dict]:
        self.time += 1
        return self.show(), 1.0, False, False, {}


class Raises(Endless):
    """Fails in its 301st step, while the file named by SACCADE_TEST_RAISES is there."""

    steps = 0

    def step(self, action: Any) -> tuple[Any, Any, bool, bool, dict]:
        type(self).steps += 1
        if type(self).steps > 300 and os.path.exists(os.environ.get("SACCADE_TEST_RAISES", "")):
            raise ArithmeticError("the motor fell off")
        observation, reward, *_ = super().step(action)
        return observation, reward, self.time == LENGTH, False, {}


for name, world in list(globals().items()):
    if isinstance(world, type) and issubclass(world, Pictures):
        gymnasium.register(f"failing/{name}-v0", world)
