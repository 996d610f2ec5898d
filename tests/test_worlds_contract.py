"""Every program on every kind of world: it runs, or one sentence says why not; a stop in the middle loses nothing."""

import dataclasses
import importlib
import json
import signal
import sys
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import gymnasium
import pytest
import torch

import runs
from agents import dqn, watch
from agents.rainbow import loop as rainbow
from agents.rainbow.recipes import COMPONENTS
from envs import World
from replay import RowReplay
from tests.odd_worlds import Spoilt

RAINBOW = ("rainbow", "btr", *(name for name in COMPONENTS if name != "rainbow"))  # btr: a recipe of the same loop
MEMORY = dict(batch=4, capacity=1_000, learn_start=40, learn_every=20)
ROLLOUT = dict(rollout=10, minibatches=2, epochs=1)
PROGRAMS: dict[str, dict[str, Any]] = {  # what of each recipe is made small enough for seconds
    "dqn": MEMORY,
    **dict.fromkeys(RAINBOW, MEMORY | dict(atoms=11, quantiles=5, fractions=4)),
    "r2d2": MEMORY | dict(lstm_units=8, burn_in=2, length=4, n_step=2),
    "pqn": ROLLOUT,
    "reinforce": {},
    "a2c": dict(rollout=5),
    "ppo": ROLLOUT,
    "ppo-units": ROLLOUT | dict(lstm_units=8, separate_critic=False),
    "soft_attention": ROLLOUT | dict(lstm_units=8),
    "hard_attention": ROLLOUT | dict(lstm_units=8),
    "tabular": {},
}
ODD = "tests.odd_worlds:odd/"
WORLDS = {
    "Catch": "Catch",
    "CartPole": "CartPole",
    "Pong": "Pong",
    "continuous": ODD + "Continuous-v0",
    "no-render": ODD + "Pictures-v0",
    "irregular-info": ODD + "Irregular-v0",
    "unseeded": ODD + "UnseededPictures-v0",
    "table": "FrozenLake",
}


def refusal(name: str, world: str) -> str | None:
    """What is said of a program and a world that do not go together."""
    if name == "tabular":
        return None if world == "table" else "does not publish its"
    if name in ("soft_attention", "hard_attention") and world in ("CartPole", "continuous", "table"):
        return "no recipe for"
    if world == "continuous" and name in ("dqn", "r2d2", "pqn", *RAINBOW):
        return "needs discrete actions.*agents.ppo"
    return None


def program(name: str) -> tuple[Callable[[Any], None], Callable[[Any], Any], type]:
    """Its train, recipe and Config."""
    if name in RAINBOW:
        changes = {"recipe": name} if name == "btr" else {"only": name}
        return rainbow.train, lambda asked: rainbow.recipe(dataclasses.replace(asked, **changes)), rainbow.Config
    module = importlib.import_module(f"agents.{name.removesuffix('-units')}")
    return module.train, module.recipe, module.Config


def small(name: str, env: str, folder: Path, **changes: Any) -> Any:
    """The recipe of a program for a world, for 200 steps of a network of few units."""
    _, recipe, config = program(name)
    found = recipe(config(env=env))
    wanted = dict(
        steps=200, worlds=2, hidden=8, evaluate_every=100, evaluate_games=1, film_seconds=0.0, log_every=50,
        threads=1, folder=folder, name=name, wandb="disabled", device="cpu", bf16=False,
    )  # fmt: skip
    if (backbone := getattr(found, "backbone", "mlp")) != "mlp":
        small_enough = backbone not in ("nature", "impala") or found.spectral  # small has no spectral norm
        wanted |= dict(width=0.125, backbone=backbone if small_enough else "small")
    if env == "Pong":
        wanted |= dict(env_kwargs=("max_frames=240",))
    wanted |= PROGRAMS[name] | changes
    known = {field.name for field in dataclasses.fields(config)}
    return dataclasses.replace(found, **{key: value for key, value in wanted.items() if key in known})


def contract() -> list[Any]:
    """Every program in every world; a diagonal of them is quick enough for each day."""
    cases = []
    for row, name in enumerate(PROGRAMS):
        for column, world in enumerate(WORLDS):
            fitting = ("table",) if name == "tabular" else ("Catch", "no-render", "irregular-info", "unseeded")
            daily = world == fitting[row % len(fitting)]
            daily |= name == "dqn" or (name == "ppo" and world not in ("Pong", "table"))
            daily |= refusal(name, world) is not None and (row + column) % 3 == 0
            cases.append(pytest.param(name, world, marks=() if daily else pytest.mark.slow))
    return cases


@pytest.mark.parametrize("name, world", contract())
def test_every_program_runs_in_every_world_or_says_why_not(name, world, tmp_path):
    train = program(name)[0]
    with warnings.catch_warnings():
        warnings.simplefilter("error", RuntimeWarning)
        if sentence := refusal(name, world):
            with pytest.raises(ValueError, match=sentence) as raised:
                train(small(name, WORLDS[world], tmp_path))
            assert "\n" not in str(raised.value)
            return
        film = dict(film_seconds=1.0) if world == "no-render" else {}  # it cannot, and the run goes on
        train(small(name, WORLDS[world], tmp_path, **film))
    (folder,) = tmp_path.glob(f"**/{name}")
    lines = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
    assert (folder / "finished.json").exists() and lines[-1]["step"] >= 200
    assert any("eval/return" in line for line in lines)
    assert any(key.startswith("loss/") for line in lines for key in line) or name in ("tabular", "reinforce")


@pytest.mark.parametrize("name", ["dqn", "rainbow", "r2d2", "pqn", "reinforce", "a2c", "ppo", "ppo-units"])
def test_games_that_no_seed_determines_are_cut_short_where_a_run_stopped(name, tmp_path, monkeypatch):
    """Stopped by Ctrl-C in the middle of a game, and again: each time others begin, and the memory knows."""
    train = program(name)[0]
    config = small(name, "tests.odd_worlds:odd/UnseededPictures-v0", tmp_path, evaluate_every=0)
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
    assert (tmp_path / "odd/UnseededPictures-v0" / name / "finished.json").exists()


@pytest.mark.parametrize("field, value", [("reward", float("nan")), ("reward", None), ("observation", float("inf"))])
def test_what_is_no_number_ends_a_run_in_a_sentence_and_is_not_remembered(
    field, value, tmp_path, monkeypatch, capsys
):
    gymnasium.register("Spoilt-v0", entry_point=Spoilt, kwargs=dict(field=field, value=value))
    config = small("dqn", "Spoilt-v0", tmp_path, learn_start=100)
    monkeypatch.setattr(sys, "argv", ["dqn"])
    for _ in range(2):  # and again where it goes on
        with pytest.raises(SystemExit) as left:
            runs.launch(lambda _: dqn.train(config), dqn.Config, None, "agents.dqn", None)
        message = capsys.readouterr().err
        assert left.value.code == 2 and "Traceback" not in message
        assert f"error: Spoilt-v0, world 0, at step 5 of its game: {'the ' * (field == 'reward')}{field}" in message
    (folder,) = tmp_path.glob("*/dqn/checkpoint")
    memory = torch.load(max(folder.glob("0*.pt")), weights_only=True)["parts"]["memory"]
    kept = RowReplay(1_000, 2)
    kept.load(folder / "memory", memory)
    drawn = kept.sample(100)
    assert len(kept) == 8 and drawn.reward.isfinite().all() and drawn.next_observation.isfinite().all()
    del gymnasium.registry["Spoilt-v0"]


def test_a_run_of_a_world_in_a_local_file_is_watched_from_anywhere(tmp_path, monkeypatch, capsys):
    (tmp_path / "there").mkdir()
    code = "import gymnasium\nfrom tests.odd_worlds import Plain\ngymnasium.register('Mine-v0', entry_point=Plain)\n"
    (tmp_path / "there" / "my_lessons.py").write_text(code)
    with monkeypatch.context() as there:
        there.syspath_prepend(tmp_path / "there")
        dqn.train(small("dqn", "my_lessons:Mine-v0", tmp_path / "results"))
    del sys.modules["my_lessons"], gymnasium.registry["Mine-v0"]
    asked = watch.Config(tmp_path / "results/Mine-v0/dqn", games=2, film=False)
    with pytest.raises(runs.RunError, match="--import-world"):
        watch.main(asked)
    assert "my_lessons" not in sys.modules
    monkeypatch.setattr(sys, "path", sys.path.copy())
    watch.main(dataclasses.replace(asked, import_world=True))
    assert "2 games of Mine-v0" in capsys.readouterr().out
