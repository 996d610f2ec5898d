"""Every program on every kind of world: it runs, or one sentence says why not; a stop in the middle loses nothing."""

import dataclasses
import functools
import importlib
import signal
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from envs import World

PROGRAMS = {  # program: changes to its recipe, small enough for seconds
    "dqn": {},
    "rainbow": dict(n_step=3, prioritized=0.6),
    "r2d2": dict(units=8, burn_in=2, length=4, n_step=2),
    "pqn": dict(rollout=10),
    "reinforce": {},
    "a2c": dict(rollout=5),
    "ppo": dict(rollout=10, minibatches=2, epochs=1),
    "ppo-units": dict(rollout=10, minibatches=2, epochs=1, units=8),
}


def program(name: str) -> tuple[Callable[[Any], None], Callable[[Any], Any], type]:
    """Its train, recipe and Config."""
    module = importlib.import_module(f"agents.{name.split('-')[0]}")
    if name.split("-")[0] == "rainbow":
        return functools.partial(module.train, "rainbow"), functools.partial(module.recipe, "rainbow"), module.Config
    return module.train, module.recipe, module.Config


def small(name: str, env: str, folder: Path, **changes: Any) -> Any:
    """The recipe of a program for a world, for 200 steps of a network of few units."""
    _, recipe, config = program(name)
    wanted = dict(
        steps=200, worlds=2, hidden=8, width=0.125, batch=4, capacity=1_000, learn_start=40, learn_every=20,
        evaluate_every=100, evaluate_games=1, film_seconds=0.0, log_every=50, threads=0, bf16=False,
    )  # fmt: skip
    wanted |= dict(folder=folder, name=name, wandb="disabled", device="cpu") | PROGRAMS[name] | changes
    found = recipe(config(env=env))
    if found.backbone in ("nature", "impala"):
        wanted.setdefault("backbone", "small")
    if found.backbone == "mlp":
        wanted.pop("width")
    known = {field.name for field in dataclasses.fields(config)}
    return dataclasses.replace(found, **{key: value for key, value in wanted.items() if key in known})


@pytest.mark.parametrize("name", PROGRAMS)
def test_games_that_no_seed_determines_are_cut_short_where_a_run_stopped(name, tmp_path, monkeypatch):
    """Stopped by Ctrl-C in the middle of a game, and again: each time others begin, and the memory knows."""
    train = program(name)[0]
    config = small(name, "tests.nasty_worlds:nasty/UnseededPictures-v0", tmp_path, evaluate_every=0)
    send, sent = World.send, 0

    def interrupted(world: World, action: Any) -> None:
        nonlocal sent
        sent += 1
        if sent in (28, 58):
            signal.raise_signal(signal.SIGINT)
        send(world, action)

    monkeypatch.setattr(World, "send", interrupted)
    for _ in range(2):
        with pytest.raises(SystemExit), warnings.catch_warnings():
            warnings.simplefilter("ignore", RuntimeWarning)
            train(config)
    with pytest.warns(RuntimeWarning, match="this run goes on, but not exactly"):
        train(config)
    assert (tmp_path / "nasty/UnseededPictures-v0" / name / "finished.json").exists()
