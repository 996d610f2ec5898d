"""Finds out, by playing some games, whether a game is a function of its seed and actions, as exact resume
requires."""

import copy
import random
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Literal

import gymnasium
import numpy as np

Verdict = Literal["seeded", "kept", "unseeded"]

STEPS, REPEATS = 40, 3  # of a game, and how often it is played again in the same environment
SECONDS = 1.0  # after which the games of a slow world are compared as far as they were played


def probe(one: Callable[[], gymnasium.Env]) -> tuple[Verdict, list[gymnasium.Env]]:
    """Play a game in two environments that `one` makes, from one seed with the same random actions, several times.

    Global generators (random, numpy.random) are restored.

    Returns:
        The verdict, and the environments that are still open: both if "seeded", else none.
        "seeded": every game was the same. "kept": those in new environments were, but not those in an environment
        that had played before (BipedalWalker and CarRacing keep Box2D's world over a reset). "unseeded": not even
        those in new environments.
    """
    end = time.monotonic() + SECONDS
    with _generators_put_back():
        first, second = opened = [one(), one()]
        try:
            space = copy.deepcopy(first.action_space)
            space.seed(0)
            actions = [space.sample() for _ in range(STEPS)]
            game = _play(first, 7, actions, end)
            verdict: Verdict = "unseeded"
            if _alike(game, _play(second, 7, actions, end)):
                verdict = "kept" if _keeps_world(first) else "seeded"
            for other in range(REPEATS if verdict == "seeded" else 0):
                _play(first, 100 + other, actions[::-1], end)
                if not _alike(game, _play(first, 7, actions, end)):
                    verdict = "kept"
                    break
            if verdict == "seeded":
                return verdict, opened
        except Exception:  # a run of this world will raise it again, with a better message
            verdict = "seeded"
        first.close(), second.close()
    return verdict, []


def _play(env: gymnasium.Env, seed: int, actions: list, end: float) -> list[np.ndarray]:
    """Observations and rewards of a game, from its reset to its end, or as far as there are actions or time."""
    seen = [_flat(env, env.reset(seed=seed)[0], 0.0, False)]
    for action in actions:
        if time.monotonic() > end:
            break
        observation, reward, terminated, truncated, _ = env.step(action)
        seen.append(_flat(env, observation, reward, terminated or truncated))
        if terminated or truncated:
            break
    return seen


def _flat(env: gymnasium.Env, observation: object, reward: object, over: bool) -> np.ndarray:
    flat = gymnasium.spaces.flatten(env.observation_space, observation)
    return np.concatenate([np.ravel(part).astype(np.float64) for part in (flat, reward, over)])


def _alike(a: list[np.ndarray], b: list[np.ndarray]) -> bool:
    """Whether two games are equal, as far as both were played."""
    return all(np.array_equal(x, y, equal_nan=True) for x, y in zip(a, b, strict=False))


def _keeps_world(env: gymnasium.Env) -> bool:
    """Whether its Box2D world, which holds the contacts of bodies, is the same object after another reset."""

    def worlds() -> dict[str, object]:
        return {name: value for name, value in vars(env.unwrapped).items() if type(value).__name__ == "b2World"}

    before = worlds()
    if not before:
        return False
    env.reset(seed=8)
    after = worlds()
    return any(after.get(name) is world for name, world in before.items())


@contextmanager
def _generators_put_back() -> Iterator[None]:
    python, numpy = random.getstate(), np.random.get_state()
    try:
        yield
    finally:
        random.setstate(python)
        np.random.set_state(numpy)
