"""What a sweep runs: studies (a program in a world), their points, and a run for every seed of a point."""

from __future__ import annotations

import dataclasses
import hashlib
import itertools
import json
import re
from collections.abc import Mapping, Sequence
from typing import Any

from runs import programs
from runs.sweep import space
from runs.sweep.preview import Preview, preview
from runs.sweep.space import Dimension, Point

ROOMS = ("agents", "vision")  # whose programs train
SEPARATE = ("folder", "name", "seed")  # flags that the sweep gives to each run itself
CROSS_VALIDATION = ("folds", "fold")  # and where it has folds


@dataclasses.dataclass(frozen=True)
class Study:
    """A program in a world: its points are compared with one another.

    program: a module, "agents.dqn". world: the flag and its value, ("env", "Pong"); ("", "") for the program's own.
    kinds: of the program's flags. steps: of a run, where its recipe says them. first: the step of a run's first
    evaluation, 0 without any.
    """

    program: str
    world: tuple[str, str]
    kinds: Mapping[str, str] = dataclasses.field(default_factory=dict, compare=False)
    steps: int = dataclasses.field(default=0, compare=False)
    first: int = dataclasses.field(default=0, compare=False)

    @property
    def name(self) -> str:
        """As tables show it: dqn Pong."""
        return f"{self.program.partition('.')[2]} {self.world[1]}".strip()


@dataclasses.dataclass(frozen=True)
class Trial:
    """One run of a sweep: a point of a study with one seed.

    number: of the point in its study, from 1; 0 where nothing is searched. name: of its folder. fold: which of the
    `folds` of cross-validation is left out of its training; None without.
    """

    study: Study
    number: int
    seed: int
    name: str
    point: Point = dataclasses.field(default_factory=dict, compare=False)
    fold: int | None = None
    folds: int = 0

    @property
    def key(self) -> str:
        """Its name in the sweep's record and of its log."""
        return f"{self.study.world[1] or self.study.program}/{self.name}"

    def arguments(self, flags: Sequence[str], folder: str) -> list[str]:
        """The flags of its command line. flags: those of all runs."""
        flag, world = self.study.world
        found = [f"--{flag}={world}"] if flag else []
        found += [*flags, *space.words(self.point, self.study.kinds), f"--seed={self.seed}"]
        found += [] if self.fold is None else [f"--folds={self.folds}", f"--fold={self.fold}"]
        return [*found, f"--folder={folder}", f"--name={self.name}"]


@dataclasses.dataclass(frozen=True)
class Plan:
    """A sweep: studies, seeds, dimensions of the search and flags of all runs.

    name: of the sweep, in its folder and in the names of a search's runs. configs: of the runs of a grid without a
    search, by their keys, so that a run that is there already is recognized. folds: of cross-validation, a run for
    each; 0: none.
    """

    name: str
    studies: tuple[Study, ...]
    seeds: tuple[int, ...]
    dimensions: tuple[Dimension, ...]
    flags: tuple[str, ...]
    folder: str
    configs: Mapping[str, Preview] = dataclasses.field(default_factory=dict)
    folds: int = 0

    @property
    def repeats(self) -> list[tuple[int, int | None]]:
        """Seed and fold of each run of a point."""
        return [(seed, fold) for seed in self.seeds for fold in (range(self.folds) if self.folds else (None,))]

    def trials(self, study: Study, number: int = 0, point: Point | None = None) -> list[Trial]:
        """The runs of a point, one for each seed and fold."""
        short = study.program.rpartition(".")[2]
        searched = f"{self.name}-{number}-" if number else ""
        found = []
        for seed, fold in self.repeats:
            name = f"{short}-{searched}{seed}" + ("" if fold is None else f"-fold{fold}")
            found.append(Trial(study, number, seed, name, point or {}, fold, self.folds))
        return found

    def state(self) -> dict[str, Any]:
        """What identifies it, as JSON values: the same command is the same sweep."""
        studies = [[study.program, *study.world] for study in self.studies]
        found = {"studies": studies, "seeds": list(self.seeds), "search": space.described(self.dimensions)}
        folds = {"folds": self.folds} if self.folds else {}
        return found | folds | {"flags": list(self.flags), "folder": self.folder}


def make(
    names: Sequence[str],
    worlds: Sequence[tuple[str, str]],
    seeds: Sequence[int],
    search: Sequence[str],
    flags: Sequence[str],
    folder: str,
    name: str | None = None,
    folds: int = 0,
) -> Plan:
    """The plan of a command line. Every program is asked for its flags once, by a process of its own.

    names: of programs, "dqn" or "agents.dqn". worlds: flags and values, (("env", "Pong"), ...); none: each program's
    own. search: dimensions as text. flags: of all runs, behind `--`. folds: of cross-validation.

    Raises ValueError for an unknown program, world, flag or value, in the program's own words.
    """
    modules = list(dict.fromkeys(programs.named(each, ROOMS) for each in names))
    own_flags = "|".join((*SEPARATE, *CROSS_VALIDATION) if folds else SEPARATE)
    if taken := [each for each in flags if re.match(rf"--({own_flags})(=|$)", each)]:
        raise ValueError(f"{taken[0]} behind --: the sweep gives it to each run itself")
    studies, dimensions, configs = [], (), {}
    for module in modules:
        found = [Study(module, world) for world in worlds or [("", "")]]
        trials = Plan("", tuple(found), tuple(seeds), (), tuple(flags), folder, folds=folds)
        each = [trial for study in found for trial in trials.trials(study)]
        previews = _checked(module, [trial.arguments(flags, folder) for trial in each])
        configs |= {trial.key: shown for trial, shown in zip(each, previews, strict=True)}
        own = tuple(space.parse(text, previews[0].kinds) for text in search)
        if dimensions and own != dimensions:
            raise ValueError(f"--search: {module} takes other values than {modules[0]}: search each by itself")
        dimensions = own
        _distinct(own, flags)
        for study, shown in zip(found, previews[:: len(trials.repeats)], strict=True):
            studies.append(dataclasses.replace(study, kinds=shown.kinds, **_length(shown.config)))
        points = [{d.name: end for d, end in zip(own, ends, strict=True)} for ends in _ends(own)]
        more = [Trial(study, 1, seeds[0], "x", point) for study in studies[-len(found) :] for point in points]
        _checked(module, [trial.arguments(flags, folder) for trial in more])
    plan = Plan(name or "", tuple(studies), tuple(seeds), dimensions, tuple(flags), folder, configs, folds)
    return dataclasses.replace(plan, name=name or digest(plan.state()))


def digest(state: dict[str, Any]) -> str:
    """A name for a sweep from what it is: eight hexadecimal digits."""
    return hashlib.sha256(json.dumps(state, sort_keys=True).encode()).hexdigest()[:8]


def _checked(module: str, commands: list[list[str]]) -> list[Preview]:
    previews = preview(module, commands) if commands else []
    for shown, command in zip(previews, commands, strict=True):
        if shown.error:
            raise ValueError(f"{module} {' '.join(command[:-2])}: {shown.error}")
    return previews


def _distinct(dimensions: Sequence[Dimension], flags: Sequence[str]) -> None:
    names = [each.name for each in dimensions]
    if twice := {name for name in names if names.count(name) > 1 or name in SEPARATE}:
        raise ValueError(f"--search {min(twice)}: it is searched twice, or the sweep gives it to each run itself")
    given = {re.sub(r"^--(no-)?", "", each.partition("=")[0]).replace("-", "_") for each in flags if each[:2] == "--"}
    if both := given & set(names):
        raise ValueError(f"--search {min(both)}: the flags behind -- give it too")


def _ends(dimensions: Sequence[Dimension]) -> list[tuple]:
    """Points that together have every end of every dimension."""
    ends = [each.ends() for each in dimensions]
    count = max(map(len, ends), default=0)
    return (
        list(zip(*(list(itertools.islice(itertools.cycle(each), count)) for each in ends), strict=True))
        if ends
        else []
    )


def _length(config: Mapping[str, Any]) -> dict[str, int]:
    """The steps of a run and the step of its first evaluation, from its config."""
    steps, every, early = (config.get(key) or 0 for key in ("steps", "evaluate_every", "evaluate_first"))
    steps = steps if isinstance(steps, int) else 0
    first = min(each for each in (every, early or every, steps or every)) if every else 0
    return {"steps": steps, "first": first}
