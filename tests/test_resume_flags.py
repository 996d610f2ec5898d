"""Flags on resume, for every program: what changes nothing that is learned may change, all else is refused."""

import dataclasses
import importlib
import json
import signal
from pathlib import Path

import pytest
import torch

from runs import Run, RunError
from runs.folder import Folder
from tests.test_worlds_contract import PROGRAMS as PLAYERS
from tests.test_worlds_contract import program, small

PROGRAMS = (
    *("agents.dqn", "agents.rainbow", "agents.r2d2", "agents.pqn", "agents.reinforce", "agents.a2c", "agents.ppo"),
    *(
        "agents.apex.loop",
        "agents.soft_attention",
        "agents.hard_attention",
        "agents.recurrent_attention",
        "agents.recurrent_attention.dram",
        "agents.tabular",
    ),
    "vision.classification",
)
FREE = {  # films, evaluation, logging, saving, W&B, and where it runs
    *("folder", "name", "wandb", "wandb_project", "wandb_entity", "wandb_group", "tags", "save_every", "log_every"),
    *(
        "profile",
        "device",
        "ray",
        "threads",
        "bind",
        "memory_on_disk",
        "accept_loss",
        "film",
        "film_seconds",
        "views",
        "test_rollouts",
    ),
    *("evaluate_every", "evaluate_games", "evaluate_steps", "evaluate_epsilon", "evaluate_greedy"),
    *("evaluate_first", "evaluate_rollouts", "evaluate_passes"),
}


def other(value):
    """A value that a flag of that value does not have."""
    if isinstance(value, bool):
        return not value
    if isinstance(value, int | float):
        return value + 1
    if isinstance(value, tuple):
        return (*value, "another")
    return Path("another") if isinstance(value, Path) else "another"


def begin(path, config, program):
    """A folder that holds a run, interrupted at step 40."""
    hold(path, config, program)
    (path / "checkpoint").mkdir()
    (path / "checkpoint" / "000000000040.json").write_text("{}")


def hold(path, config, program):
    """As a run that begins, or goes on, and leaves."""
    with Folder(path, config, {"program": program}) as folder:
        folder.begin()


@pytest.mark.parametrize("program", PROGRAMS)
def test_each_flag_on_resume(tmp_path, program):
    config = importlib.import_module(program).Config()
    for flag in (field.name for field in dataclasses.fields(config)):
        value, path = other(getattr(config, flag)), tmp_path / flag
        changed = dataclasses.replace(config, **{flag: value})
        begin(path, config, program)
        if flag not in FREE:
            with pytest.raises(RunError, match=f"  --{flag.replace('_', '-')}: .* there, .* here"):
                Folder(path, changed, {"program": program})
            continue
        hold(path, changed, program)
        message, new = json.loads((path / "config.json").read_text()), json.loads(json.dumps(value, default=str))
        if flag not in ("folder", "name"):  # a folder that was moved
            assert message["config"][flag] == new
            assert [(each["step"], each["flags"][flag][1]) for each in message["changes"]] == [(40, new)]
        hold(path, config, program)  # and back again


CHANGES = dict(
    evaluate_every=60, evaluate_first=20, evaluate_games=2, evaluate_steps=20, evaluate_epsilon=0.5,
    evaluate_greedy=False, log_every=30,
    film=False, save_every=0.0, tags=("again",), test_rollouts=3, views=2, evaluate_passes=2,
)  # fmt: skip
OTHERS = {  # program: its smallest numbers
    "agents.tabular": dict(env="FrozenLake", steps=2_000, worlds=4, evaluate_every=500, evaluate_games=4),
    "agents.recurrent_attention": dict(
        env="Translated",
        images="glyphs",
        steps=400,
        batch=20,
        glimpses=2,
        evaluate_every=200,
        log_every=100,
        film=False,
    ),
    "vision.classification": dict(
        data="shapes", backbone="airbench", width=0.125, shots=20, steps=400, batch=20, evaluate_every=200, bf16=False
    ),
}


@pytest.mark.slow
@pytest.mark.parametrize("name", [name for name in (*PLAYERS, *OTHERS) if name != "tabular"])
def test_what_may_change_on_resume_changes_no_weight(name, tmp_path, monkeypatch):
    if name in PLAYERS:
        train, config = (
            program(name)[0],
            small(
                name, "Catch" if name in ("soft_attention", "hard_attention", "ppo-units") else "CartPole", tmp_path
            ),
        )
    else:
        module = importlib.import_module(name)
        train, config = module.train, module.Config(**OTHERS[name], folder=tmp_path, wandb="disabled", threads=1)
    log, calls = Run.log, []

    def count(run, metrics):
        calls.append(run.step)
        if len(calls) == stop_at:
            signal.raise_signal(signal.SIGTERM)
        log(run, metrics)

    monkeypatch.setattr(Run, "log", count)
    stop_at = None
    train(dataclasses.replace(config, name="whole"))
    stop_at, calls = len(calls) // 2, []
    with pytest.raises(SystemExit):
        train(dataclasses.replace(config, name="broken"))
    stop_at, known = None, {field.name for field in dataclasses.fields(config)}
    changes = {key: value for key, value in CHANGES.items() if key in known}
    train(dataclasses.replace(config, name="broken", **changes))
    ends = [max(tmp_path.glob(f"**/{name}/checkpoint/0*.pt")) for name in ("whole", "broken")]
    whole, broken = (torch.load(path, weights_only=True)["parts"] for path in ends)
    for part in whole:
        if part in ("online", "network", "target", "optimizer", "model", "averaged", "optimizer", "table"):
            torch.testing.assert_close(broken[part], whole[part], rtol=0, atol=0)


@pytest.mark.parametrize("binding", [{"schedule": "plateau"}, {"stop_after": 3}])
def test_evaluations_that_decide_on_the_rate_or_the_end_stay_as_often(tmp_path, binding):
    from vision.classification import train as classification

    config = classification.Config(**binding)
    begin(tmp_path, config, "vision.classification")
    with pytest.raises(RunError, match="--evaluate-every: 20000 there, 10 here"):
        Folder(tmp_path, dataclasses.replace(config, evaluate_every=10), {"program": "vision.classification"})


def test_another_programs_run_is_named(tmp_path):
    from agents import dqn, ppo

    begin(tmp_path, dqn.Config(), "agents.dqn")
    with pytest.raises(RunError) as message:
        Folder(tmp_path, ppo.Config(), {"program": "agents.ppo"})
    assert "holds a run of agents.dqn, and this is agents.ppo: choose another --name" in str(message.value)
    assert len(str(message.value).splitlines()) == 1


@pytest.mark.parametrize("program", [name for name in PROGRAMS if name != "agents.tabular"])
def test_a_typo_in_the_backbone_has_its_near_match(program):
    config = importlib.import_module(program).Config(backbone="natur")
    with pytest.raises(ValueError, match="unknown backbone 'natur'.*'nature'"):
        config.validate()
