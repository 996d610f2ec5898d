"""A vector environment that steps single Gymnasium environments in turn and checks their observations and rewards.

It differs from Gymnasium's SyncVectorEnv: `info`, which no learner here reads and in whose irregular values its
collector raises errors, is dropped; invalid rewards and observations raise errors that name the game; and a game may
start in a new environment.
"""

from collections.abc import Callable
from typing import Any

import gymnasium
import numpy as np
from gymnasium.spaces import Box
from gymnasium.vector import AutoresetMode, SyncVectorEnv
from gymnasium.vector.utils import iterate


class Fault(Exception):
    """Game n gave an invalid observation or reward."""

    def __init__(self, n: int, what: str) -> None:
        super().__init__(f"game {n}: {what}")
        self.n, self.what = n, what


class SerialVectorEnv(SyncVectorEnv):
    """N environments, each made by a call of `one`; returned arrays are valid until the next step.

    rebuild: make a new environment for every game, where games depend on those before.
    spare: open environments of the same kind to start with; those that are used are removed from the list.
    """

    def __init__(
        self,
        one: Callable[[], gymnasium.Env],
        count: int,
        rebuild: bool = False,
        spare: list[gymnasium.Env] | None = None,
    ) -> None:
        def first() -> gymnasium.Env:
            return spare.pop(0) if spare else one()

        super().__init__([first] * count, copy=False, autoreset_mode=AutoresetMode.DISABLED)
        self.env_fns = [one] * count
        self.rebuild = rebuild
        self._played = np.zeros(count, bool)

    def reset(
        self, *, seed: list[int], options: dict[str, np.ndarray] | None = None
    ) -> tuple[np.ndarray, dict[str, Any]]:
        """Start the games, or those of options["reset_mask"] (N,) bool. Raises Fault."""
        mask = (options or {}).get("reset_mask", np.ones(self.num_envs, bool))
        for n in np.flatnonzero(mask):
            if self.rebuild and self._played[n]:
                self.envs[n].close()
                self.envs[n] = self.env_fns[n]()
            self._played[n] = True
            answer = self.envs[n].reset(seed=seed[n])
            if not (isinstance(answer, tuple) and len(answer) == 2):
                raise Fault(n, "reset() returned one value, and in Gymnasium it returns two, observation and info")
            self._keep(n, answer[0])
        return self._observations, {}

    def step(self, actions: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray, dict[str, Any]]:
        """One step of all. Observations (N, ...), rewards (N,) float64, terminations and truncations (N,), {}.

        Raises Fault, or whatever an environment raises.
        """
        for n, action in enumerate(iterate(self.action_space, actions)):
            try:
                observation, reward, terminated, truncated, _ = self.envs[n].step(action)
            except Exception as error:
                error.add_note(f"This came from env.step({action!r}) of game {n}, of {self.num_envs} side by side.")
                raise
            self._keep(n, observation)
            self._rewards[n] = _number(n, reward)
            self._terminations[n], self._truncations[n] = bool(terminated), bool(truncated)
        return self._observations, self._rewards, self._terminations, self._truncations, {}

    def release(self) -> list[gymnasium.Env]:
        """The environments, still open. This vector environment is closed and holds none of them any more."""
        released, self.envs = list(self.envs), []
        self.close()
        return released

    def _keep(self, n: int, observation: Any) -> None:
        space = self.single_observation_space
        if type(observation) is np.ndarray and observation.dtype == space.dtype and observation.shape == space.shape:
            self._observations[n] = observation  # as nearly every environment has it
            return
        array = np.asarray(observation)
        if array.dtype.kind not in "biuf":
            raise Fault(n, f"the observation is {observation!r:.100}")
        if array.shape != space.shape:
            raise Fault(n, f"the observation has shape {array.shape}, and its space says {space.shape}")
        with np.errstate(over="ignore", invalid="ignore"):
            if isinstance(space, Box) and np.can_cast(array.dtype, space.dtype, "same_kind"):
                self._observations[n] = array
            elif np.array_equal(cast := array.astype(space.dtype), array) and space.contains(cast):
                self._observations[n] = cast
            else:
                raise Fault(n, f"the observation {observation!r:.100} is not of its space, {space}")


def _number(n: int, reward: Any) -> float:
    """A reward as a float: from a NumPy scalar, a bool, an int, or an array of one element. Raises Fault."""
    if isinstance(reward, float):
        return reward
    array = np.asarray(reward)
    if array.size != 1 or array.dtype.kind not in "biuf":
        if isinstance(reward, int):  # of more than 64 bits
            return float("inf") if abs(reward) > 10**38 else float(reward)
        raise Fault(n, f"the reward is {reward!r:.100}, and not a number")
    return float(array.reshape(()))
