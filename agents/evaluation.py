"""Evaluation of agents: whole games, bootstrap intervals, films."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import torch
from torch import Tensor

import envs
import runs
from agents.film import film
from runs.progress import PLAIN_EVERY
from vision import backbones

EVALUATION_SEED = 1_000_000  # added to a run's seed: games that training never saw
SCORE = runs.Score("eval/return", "max")  # of what `evaluate` finds
WATCH_COMMAND = "python -m agents.watch"  # plays what is in the run's folder that follows


def open_run(config: Any, program: str, world: envs.World, note: str | None = None) -> runs.Run:
    """The run of a program that plays a world, scored by its evaluations.

    config: a frozen dataclass of flags. note: shown at the start, before the world's caveat.
    """
    said = "\n".join(filter(None, (note, world.caveat)))
    return runs.Run(config, program, world.name, world.protocol, said, score=SCORE, follow_up=WATCH_COMMAND)


# (N, ...) the observation, and the transition that led there (None at the start) -> (N,) actions.
# A policy over discrete actions also has its `network`, and `scores`: any observations (B, ...), taken for the one of
# the step just made -> (B, A), of the kind that `score_kind` says, "values" or "logits".
Policy = Callable[[Tensor, envs.Transition | None], Tensor]


def play(policy: Policy, world: envs.World, games: int, limit: int = 0) -> dict[str, list[float]]:
    """Play whole games to their ends, an equal share in each world, and return their scores.

    The first `games` to finish would be biased towards short ones; therefore each world plays its own share.
    limit: steps after which a game is truncated and counts with its return so far; 0: none.

    Returns:
        {"return": [...], "length": [...]}, games entries each (fewer where a game was truncated: it is the last of
        its world); "cut": the returns of truncated games.
    """
    flat = sorted(
        (game for ended in episodes(policy, world, games, limit) for game in ended), key=lambda game: game[0]
    )
    return {
        "return": [game[1] for game in flat],
        "length": [game[2] for game in flat],
        "cut": [game[1] for game in flat if not game[3]],
    }


def episodes(
    policy: Policy, world: envs.World, games: int, limit: int = 0
) -> Iterator[list[tuple[int, float, int, bool]]]:
    """Play whole games as `play` does; yields after each step the games that ended in it: world, return, length, and
    whether it ended by itself."""
    missing = [games // world.count + (n < games % world.count) for n in range(world.count)]
    transition = None
    while any(missing):
        transition = world.step(policy(world.observation, transition))
        finished, ended = world.finished, []
        for n, total, length in zip(
            world.finished_worlds, finished["episode/return"], finished["episode/length"], strict=True
        ):
            if missing[n]:
                missing[n] -= 1
                ended.append((n, total, length, True))
        for n, (total, length) in enumerate(world.running if limit else ()):
            if missing[n] and length >= limit:  # the last of its world, for a game cannot be started alone
                missing[n] = 0
                ended.append((n, total, length, False))
        yield ended


def evaluate(
    policy: Policy,
    name: str,
    games: int,
    seed: int,
    device: torch.device,
    limit: int = 0,
    say: Callable[[str], None] = print,
    **options: object,
) -> dict[str, float]:
    """Evaluate a policy on whole, unclipped games in new worlds: mean, median, standard deviation, length.

    limit: as in `play`; "eval/cut" is the number of truncated games, if there are any.
    say: prints a line every half minute.
    """
    world = envs.make(name, min(games, 16), seed=EVALUATION_SEED + seed, device=device, evaluation=True, **options)
    scores: list[tuple[int, float, int, bool]] = []
    reported = time.monotonic()
    try:
        for steps, ended in enumerate(episodes(policy, world, games, limit), start=1):
            scores += ended
            if time.monotonic() - reported > PLAIN_EVERY:
                reported = time.monotonic()
                say(f"evaluating: {len(scores)} of {games} games over after {steps:,} steps of each of {world.count}")
    finally:
        world.close()
    scores.sort(key=lambda game: game[0])
    returns = np.asarray([total for _, total, _, _ in scores])
    cut = sum(not whole for _, _, _, whole in scores)
    return {
        "eval/return": float(returns.mean()),
        "eval/median": float(np.median(returns)),
        "eval/std": float(returns.std(ddof=1)) if len(returns) > 1 else 0.0,
        "eval/length": float(np.mean([length for _, _, length, _ in scores])),
        "eval/games": len(scores),
        **({"eval/cut": cut} if cut else {}),
    }


def bootstrap_interval(scores: list[float]) -> tuple[float, float]:
    """95% interval of the mean: percentile bootstrap with a fixed seed."""
    values = np.asarray(scores)
    means = np.random.default_rng(0).choice(values, (10_000, len(values))).mean(1)
    low, high = np.percentile(means, [2.5, 97.5])
    return float(low), float(high)


def evaluate_and_save(
    run: runs.Run, policy: Callable[[], Policy], backbone: backbones.Backbone, **options: object
) -> None:
    """Evaluate a run's agent by its config and, if it is the best so far, save the backbone and a film.

    policy: makes the policy, with a newly seeded generator each time. options: of envs.make.
    """
    config, found = run.config, None
    where = dict(device=run.device, **options)
    with run.side_task("evaluation"):
        found = evaluate(
            policy(), config.env, config.evaluate_games, config.seed,
            limit=config.evaluate_steps, say=run.bar.say, **where,
        )  # fmt: skip
    if found is None or not run.log_evaluation(found):
        return
    with run.writing(backbones.FILENAME) as path:
        backbones.save(backbone, path)
    if config.film_seconds and "film" not in run.failed:  # not tried again after an error
        path = run.folder / "videos" / f"step-{run.step + run.stride:012d}.mp4"
        with run.side_task("film"):
            film(policy(), config.env, path, config.film_seconds, EVALUATION_SEED + config.seed, **where)
