"""What a reader of a comparison should know before believing it: few seeds, mixed protocols, unfinished runs."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import groupby

from runs.groups import Group
from runs.score import short

FEW = 3  # seeds, below which a mean has no interval
GOOD = 5  # seeds, below which intervals are wide
HOW_MEASURED = {"evaluate_games": "games an evaluation", "evaluate_epsilon": "random actions in evaluations"}
MOST_NAMED = 4


def caveats(groups: Sequence[Group]) -> list[str]:
    """Sentences, each about what it names; empty where nothing stands against the comparison."""
    found = []
    few = [f"{_named(each)} ({len(each.runs)})" for each in groups if len(each.runs) < FEW]
    if few:
        found.append(f"Fewer than {FEW} seeds, too few for an interval over seeds: {_listed(few)}.")
    some = [f"{_named(each)} ({len(each.runs)})" for each in groups if FEW <= len(each.runs) < GOOD]
    if some:
        found.append(f"Fewer than {GOOD} seeds, so that intervals are wide and rough: {_listed(some)}.")
    for word, said in (("running", "Still running"), ("interrupted", "Interrupted")):
        names = [f"{_named(each)} seed {run.seed}" for each in groups for run in each.runs if run.status == word]
        if names:
            found.append(f"{said}, so that the last evaluation is not the final one: {_listed(names)}.")
    absent = [f"{_named(each)} seed {run.seed}" for each in groups for run in each.runs if run.final is None]
    if absent:
        found.append(f"Without an evaluation, and in no aggregate: {_listed(absent)}.")
    for world, here in groupby(groups, key=lambda each: each.world):
        found += _mixed(world, list(here))
    return found


def _mixed(world: str, here: Sequence[Group]) -> list[str]:
    """What differs between the groups of a world beyond what is compared."""
    found = []
    protocols = sorted({each.protocol or "none" for each in here})
    if len(protocols) > 1:
        found.append(f"{world}: scores under the protocols {' and '.join(protocols)} do not compare.")
    if len(metrics := sorted({each.score.metric for each in here})) > 1:
        found.append(f"{world} is judged by {' and '.join(metrics)}: these do not compare.")
    budgets = sorted({run.planned or run.step for each in here for run in each.runs})
    if len(budgets) > 1:
        shown = f"{short(budgets[0])} to {short(budgets[-1])}"
        found.append(f"{world}: runs of {shown} steps stand beside one another; compare them at the same step.")
    for flag, meaning in HOW_MEASURED.items():
        values = {run.config[flag] for each in here for run in each.runs if run.config.get(flag) is not None}
        if len(values) > 1:
            found.append(f"{world}: {meaning} differ ({', '.join(map(str, sorted(values, key=str)))}).")
    skips = {run.frames_per_step for each in here for run in each.runs}
    if len(skips) > 1:
        found.append(f"{world}: a step is {' or '.join(map(str, sorted(skips)))} frames; compare along frames.")
    machines = {_machine(run.about.get("hardware")) for each in here for run in each.runs} - {""}
    if len(machines) > 1:
        found.append(f"{world}: wall times are of different machines ({'; '.join(sorted(machines))}).")
    for each in here:
        seeds = [run.seed for run in each.runs]
        if twice := sorted({str(seed) for seed in seeds if seeds.count(seed) > 1}):
            found.append(f"{_named(each)}: seed {', '.join(twice)} counts twice, and intervals are too narrow.")
    return found


def _machine(hardware: object) -> str:
    if not isinstance(hardware, dict):
        return ""
    cores = f"{hardware['cores']} cores" if "cores" in hardware else ""
    return ", ".join(str(part) for part in (hardware.get("gpu"), hardware.get("processor"), cores) if part)


def _named(each: Group) -> str:
    return f"{each.world} {each.name}" + (f" {each.protocol}" if each.protocol else "")


def _listed(names: Sequence[str]) -> str:
    more = f" and {len(names) - MOST_NAMED} more" if len(names) > MOST_NAMED else ""
    return ", ".join(names[:MOST_NAMED]) + more
