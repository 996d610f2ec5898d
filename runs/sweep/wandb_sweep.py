"""The same sweep as a W&B sweep definition: `wandb sweep FILE.yaml`, then `wandb agent ID` on any machine.

One file a program, as a W&B sweep has one command. W&B's agent names its runs itself: runs/wandb_mirror.py takes that
name where an agent has started the run.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from runs import output
from runs.score import Score
from runs.sweep.plan import Plan, Study
from runs.sweep.preview import preview
from runs.sweep.samplers import BAYESIAN, Sampler
from runs.sweep.space import Dimension

METHODS = {"grid": "grid", "random": "random"} | dict.fromkeys(BAYESIAN, "bayes")


def write(path: Path, plan: Plan, sampler: Sampler, eta: int = 0, share: float = 0.0) -> list[Path]:
    """Write a sweep as W&B sweep definitions, a file for each program: FILE.yaml, or FILE-dqn.yaml, FILE-ppo.yaml.

    eta, share: as `definition` takes them.

    Raises ValueError where W&B has no such sweep, RunError where a file cannot be written.
    """
    import yaml  # which wandb needs

    modules = list(dict.fromkeys(study.program for study in plan.studies))
    paths = []
    for module in modules:
        studies = [study for study in plan.studies if study.program == module]
        found = definition(studies, plan, sampler, eta, share)
        own = f"{path.stem}-{module.rpartition('.')[2]}{path.suffix}" if len(modules) > 1 else path.name
        output.write(path.with_name(own), yaml.safe_dump(found, sort_keys=False), "--wandb-sweep")
        paths.append(path.with_name(own))
    return paths


def definition(
    studies: Sequence[Study], plan: Plan, sampler: Sampler, eta: int = 0, share: float = 0.0
) -> dict[str, Any]:
    """The definition of the sweep of one program, in several worlds.

    eta, share: of early stopping, which W&B has as Hyperband: brackets between evaluations; 0: none.
    """
    commands = [plan.trials(study)[0].arguments(plan.flags, plan.folder)[:-1] for study in studies]
    shown = preview(studies[0].program, commands, whole=True)
    if wrong := [each.error for each in shown if each.error]:
        raise ValueError(wrong[0])
    score = Score(**shown[0].described["score"])
    parameters: dict[str, Any] = {}
    if flag := studies[0].world[0]:
        parameters[flag] = {"values": [study.world[1] for study in studies]}
    parameters["seed"] = {"values": list(plan.seeds)}
    for dimension in plan.dimensions:
        defaults = {each.config.get(dimension.name) for each in shown} if _is_bool(studies[0], dimension) else set()
        parameters |= _parameter(dimension, sampler.kind, defaults)
    found: dict[str, Any] = {
        "name": plan.name,
        "program": studies[0].program,
        "method": METHODS[sampler.kind],
        "metric": {"name": score.metric, "goal": "maximize" if score.better == "max" else "minimize"},
        "parameters": parameters,
    }
    if sampler.kind != "grid" and plan.dimensions:
        found["run_cap"] = sampler.trials * len(studies) * len(plan.seeds)
    if eta:
        evaluations = max(round(studies[0].steps * share / studies[0].first), 1)
        found["early_terminate"] = {"type": "hyperband", "min_iter": evaluations, "eta": eta}
    words = ["${env}", "${interpreter}", "-m", studies[0].program, "${args_no_boolean_flags}", *plan.flags]
    return found | {"command": [*words, f"--folder={plan.folder}"]}


def _is_bool(study: Study, dimension: Dimension) -> bool:
    return study.kinds.get(dimension.name) == "bool"


def _parameter(dimension: Dimension, kind: str, defaults: set[Any]) -> Mapping[str, Any]:
    """A dimension as a parameter of W&B.

    defaults: of a boolean flag, in each world. W&B writes --flag for true and nothing for false, so one that is on by
    itself is searched as no-flag.
    """
    name = dimension.name
    if defaults:
        if len(defaults) > 1:
            raise ValueError(f"--search {name}: it is on in some of these worlds by itself: write a sweep for each")
        on = defaults == {True}
        return {f"no_{name}" if on else name: {"values": [(each == "yes") != on for each in dimension.values]}}
    if dimension.values:
        return {name: {"values": list(dimension.values)}}
    if kind == "grid":
        return {name: {"values": dimension.grid()}}
    if dimension.whole:
        ends = {"min": int(dimension.low), "max": int(dimension.high)}
        return {name: ends | {"distribution": "q_log_uniform_values" if dimension.log else "int_uniform"}}
    ends = {"min": dimension.low, "max": dimension.high}
    return {name: ends | {"distribution": "log_uniform_values" if dimension.log else "uniform"}}
