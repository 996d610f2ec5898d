"""Small worlds of the kinds that users bring, registered with Gymnasium: "tests.odd_worlds:odd/Unseeded-v0" ...

A game of each is 12 steps long unless it says otherwise, with two actions.
"""

import time
from collections.abc import Callable
from typing import Any

import gymnasium
import numpy as np
from gymnasium.spaces import Box, Dict, Discrete, MultiDiscrete, Space, Tuple
from gymnasium.vector import AutoresetMode

from envs.vector_env import BatchVectorEnv

PICTURE = Box(0, 255, (1, 36, 36), np.uint8)
VECTOR = Box(-np.inf, np.inf, (3,), np.float32)
LENGTH = 12


class Plain(gymnasium.Env):
    """Shows random pictures or vectors; the reward is 1 for the action 1."""

    observation_space: Space = VECTOR
    action_space: Space = Discrete(2)

    def reset(self, *, seed: int | None = None, options: dict | None = None) -> tuple[Any, dict]:
        super().reset(seed=seed)
        self.time = 0
        return self.show(), self.tell()

    def step(self, action: Any) -> tuple[Any, Any, bool, bool, dict]:
        assert self.action_space.contains(action), action
        self.time += 1
        return self.show(), self.earn(action), self.time == LENGTH, False, self.tell()

    def show(self) -> Any:
        return self.draw(self.np_random)

    def draw(self, random: np.random.Generator) -> Any:
        space = self.observation_space
        if isinstance(space, Discrete):
            return int(random.integers(space.n))
        if space.dtype == np.uint8:
            return random.integers(0, 256, space.shape, np.uint8)
        return random.normal(size=space.shape).astype(space.dtype)

    def earn(self, action: Any) -> Any:
        return float(np.sum(action))

    def tell(self) -> dict:
        return {}


class Pictures(Plain):
    """Pictures, and no render()."""

    observation_space = PICTURE


class Unseeded(Plain):
    """Vectors that no seed determines."""

    def show(self) -> Any:
        return self.draw(np.random.default_rng())


class UnseededPictures(Unseeded):
    observation_space = PICTURE


class OldReset(Plain):
    """As it was in Gym before 0.26."""

    def reset(self, **given: Any) -> Any:
        return super().reset(**given)[0]


class Clock(Plain):
    """Shows what time it is."""

    def show(self) -> np.ndarray:
        return np.full(3, time.perf_counter_ns() % 1_000_003, np.float32)


class Kept(Plain):
    """Remembers the games before: each reset adds to what it shows."""

    games = 0

    def reset(self, **given: Any) -> tuple[Any, dict]:
        self.games += 1
        return super().reset(**given)

    def show(self) -> np.ndarray:
        return super().show() + np.float32(self.games)


class Irregular(Plain):
    """Tells something else each time: arrays of other lengths, a number and then a text, more than 64 bits, None."""

    observation_space = PICTURE

    def tell(self) -> dict:
        odd = self.time % 2
        return {
            "array": np.zeros(self.time), "kind": "text" if odd else 1, "large": 2**70 if odd else 1,
            "none": None if odd else 1.5, "nested": {"array": np.zeros((self.time, 2))}, "final_obs": 3,
        }  # fmt: skip


class Continuous(Plain):
    action_space = Box(-1, 1, (2,), np.float32)


class Spoilt(Plain):
    """Gives something that is not a number at step 5, in the field that is asked for."""

    def __init__(self, field: str = "reward", value: Any = float("nan"), space: Space | None = None) -> None:
        self.field, self.value = field, value
        self.observation_space = space or VECTOR

    def show(self) -> Any:
        seen = super().show()
        if (self.field, self.time) in (("observation", 5), ("reset", 0)):
            if isinstance(self.value, float):
                seen = seen.astype(np.float64)
                seen[1] = self.value
            else:
                seen = self.value
        return seen

    def earn(self, action: Any) -> Any:
        return self.value if (self.field, self.time) == ("reward", 5) else 1.0


class Rewards(Plain):
    """Rewards of a type of their own."""

    def __init__(self, make: Callable[[float], Any] = float) -> None:
        self.make = make

    def earn(self, action: Any) -> Any:
        return self.make(1)


class Spaces(Plain):
    """Any spaces; its observations are samples."""

    def __init__(self, observation: Space = VECTOR, action: Space = Plain.action_space) -> None:
        self.observation_space, self.action_space = observation, action

    def show(self) -> Any:
        return self.observation_space.sample()


class Many(BatchVectorEnv):
    """Many games at once, and no single one."""

    def __init__(self, num_envs: int = 1, autoreset_mode: AutoresetMode | str = AutoresetMode.NEXT_STEP) -> None:
        super().__init__(num_envs, VECTOR, Discrete(2), autoreset_mode, None, fps=5)
        self.time = np.zeros(num_envs, int)

    def _start(self, mask: np.ndarray) -> None:
        self.time[mask] = 0

    def _play(self, actions: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        self.time += 1
        return actions.astype(float), self.time >= LENGTH, np.zeros(self.num_envs, bool)

    def _observe(self) -> np.ndarray:
        return np.repeat(self.time[:, None], 3, axis=1).astype(np.float32)


class ManyOnTheirOwn(Many):
    """Begins the next games by itself only, as Gymnasium's vector environments do by default."""

    def __init__(self, num_envs: int = 1) -> None:
        super().__init__(num_envs)


SPACES = {
    "ChannelsLast": Box(0, 255, (84, 84, 4), np.uint8),
    "ChannelsFirst": Box(0, 255, (4, 84, 84), np.uint8),
    "Wide": Box(0, 255, (60, 3, 90), np.uint8),  # the middle is the smallest
    "Square": Box(0, 255, (40, 40, 40), np.uint8),
    "Ram": Box(0, 255, (128,), np.uint8),
    "Words": Box(-1000, 3000, (2,), np.int16),
    "Bits": Box(0, 1, (5,), np.int8),
    "States500": Discrete(500),
    "States20000": Discrete(20_000),
    "FloatPicture": Box(0, 1, (84, 84, 3), np.float32),
    "StackedColor": Box(0, 255, (4, 84, 84, 3), np.uint8),
    "Dict": Dict(place=Box(-1, 1, (2,)), kind=Discrete(3)),
    "Tuple": Tuple([Discrete(4), Box(-1, 1, (2,))]),
    "Several": MultiDiscrete([3, 4]),
}

for _name, _class in {
    "Plain": Plain, "Pictures": Pictures, "Unseeded": Unseeded, "UnseededPictures": UnseededPictures, "Clock": Clock,
    "Kept": Kept, "Irregular": Irregular, "Continuous": Continuous, "Spoilt": Spoilt, "Rewards": Rewards,
    "OldReset": OldReset,
}.items():  # fmt: skip
    gymnasium.register(f"odd/{_name}-v0", entry_point=_class)
for _name, _space in SPACES.items():
    gymnasium.register(f"odd/{_name}-v0", entry_point=Spaces, kwargs={"observation": _space})
gymnasium.register("odd/ManyActions-v0", entry_point=Spaces, kwargs={"action": MultiDiscrete([3, 4])})
gymnasium.register("odd/Many-v0", vector_entry_point=Many)
gymnasium.register("odd/ManyOnTheirOwn-v0", vector_entry_point=ManyOnTheirOwn)
