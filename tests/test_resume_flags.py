"""Flags on resume, for every program: what changes nothing that is learned may change, all else is refused."""

import dataclasses
import importlib
import json
from pathlib import Path

import pytest

from runs import RunError
from runs.folder import Folder

PROGRAMS = (
    *("agents.dqn", "agents.rainbow", "agents.r2d2", "agents.pqn", "agents.reinforce", "agents.a2c", "agents.ppo"),
    *("agents.attention", "agents.gaze", "agents.recurrent_attention", "agents.dram", "agents.tabular"),
    "vision.classification",
)
FREE = {  # films, evaluation, logging, saving, W&B, and where it runs
    *("folder", "name", "wandb", "wandb_project", "wandb_entity", "wandb_group", "tags", "save_every", "log_every"),
    *("profile", "device", "threads", "memory_on_disk", "film", "film_seconds", "views", "test_rollouts"),
    *("evaluate_every", "evaluate_games", "evaluate_steps", "evaluate_epsilon", "evaluate_greedy"),
    *("evaluate_rollouts", "evaluate_passes"),
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
    folder = Folder(path, config, {"program": program})
    (path / "checkpoint").mkdir()
    (path / "checkpoint" / "000000000040.json").write_text("{}")
    folder.close()


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
        Folder(path, changed, {"program": program}).close()
        told, new = json.loads((path / "config.json").read_text()), json.loads(json.dumps(value, default=str))
        if flag not in ("folder", "name"):  # a folder that was moved
            assert told["config"][flag] == new
            assert [(each["step"], each["flags"][flag][1]) for each in told["changes"]] == [(40, new)]
        Folder(path, config, {"program": program}).close()  # and back again


@pytest.mark.parametrize("binding", [{"schedule": "plateau"}, {"stop_after": 3}])
def test_evaluations_that_decide_on_the_rate_or_the_end_stay_as_often(tmp_path, binding):
    from vision import classification

    config = classification.Config(**binding)
    begin(tmp_path, config, "vision.classification")
    with pytest.raises(RunError, match="--evaluate-every: 20000 there, 10 here"):
        Folder(tmp_path, dataclasses.replace(config, evaluate_every=10), {"program": "vision.classification"})


def test_another_programs_run_is_named(tmp_path):
    from agents import dqn, ppo

    begin(tmp_path, dqn.Config(), "agents.dqn")
    with pytest.raises(RunError) as told:
        Folder(tmp_path, ppo.Config(), {"program": "agents.ppo"})
    assert "holds a run of agents.dqn, and this is agents.ppo: choose another --name" in str(told.value)
    assert len(str(told.value).splitlines()) == 1


@pytest.mark.parametrize("program", [name for name in PROGRAMS if name != "agents.tabular"])
def test_a_typo_in_the_backbone_is_told_as_one(program):
    config = importlib.import_module(program).Config(backbone="natur")
    with pytest.raises(ValueError, match="unknown backbone 'natur'.*'nature'"):
        config.validate()
