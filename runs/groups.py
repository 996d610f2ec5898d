"""Groups of runs: the seeds of one configuration, named by their variant or by the flags that differ."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterable, Sequence

import numpy as np

from runs.printing import one_line
from runs.reader import RunRecord
from runs.score import Score

# Flags that do not distinguish experiments; world and protocol are compared by the description of the world.
NOT_THE_EXPERIMENT = (
    "seed",
    "folder",
    "wandb",
    "wandb_project",
    "wandb_entity",
    "wandb_group",
    "tags",
    "save_every",
    "ray",
    "log_every",
    "film",
    "film_seconds",
    "evaluate_first",
    "threads",
    "bind",
    "device",
    "memory_on_disk",
    "accept_loss",
    "profile",
    "env",
    "protocol",
    "recipe",  # it chose other flags, which are compared themselves
)
OFF = ("False", "0", "0.0", "[]", "none", "")  # values with which a flag has no effect
NEUTRAL_FACTORS = {"updates": "1", "width": "1.0"}  # and those of flags that are factors


@dataclasses.dataclass(frozen=True)
class Group:
    """Runs which differ in nothing but their seed, in the order of their seeds."""

    world: str
    protocol: str | None
    program: str
    variant: str  # of its published records, or the flags in which the groups of its world and program differ
    runs: list[RunRecord]

    @property
    def score(self) -> Score:
        """The metric of its runs' evaluations."""
        return self.runs[0].score

    @property
    def name(self) -> str:
        """The program and its variant."""
        return f"{self.program} {self.variant}".strip()

    @property
    def seeds(self) -> str:
        """ "1, 2, 3 (running, at 40%)": every run that is not finished says so."""
        return ", ".join(f"{run.seed}" + f" ({run.unfinished})" * bool(run.unfinished) for run in self.runs)


def group(runs: Iterable[RunRecord]) -> list[Group]:
    """Gather the runs of one (world, protocol, program, score) that have the same configuration.

    A flag that some runs do not have yet and others have switched off does not separate them. Groups are named by the
    variant of their published records, others by the flags in which they differ: "batch=64, double=True".
    """
    families: dict[tuple, list[RunRecord]] = {}
    for run in runs:
        families.setdefault((run.world, run.protocol or "", run.program, run.score.metric), []).append(run)
    groups = []
    for (_, _, program, _), family in sorted(families.items()):
        known = [flags(run) for run in family]
        for key in set().union(*known):
            off = sorted({each[key] for each in known if key in each} & {*OFF, NEUTRAL_FACTORS.get(key)})
            for run, each in zip(family, known, strict=True):
                if off and key not in run.config:  # a None is known: the program's own choice
                    each.setdefault(key, off[0])
        differing = sorted(key for key in set().union(*known) if len({each.get(key) for each in known}) > 1)
        variants: dict[str, list[RunRecord]] = {}
        for run, each in zip(family, known, strict=True):
            variant = ", ".join(f"{key}={each[key]}" for key in differing if key in each)
            variants.setdefault(variant, []).append(run)
        for variant, members in sorted(_name_variants(variants).items()):
            members.sort(key=lambda run: (run.seed is None, run.seed or 0, str(run.folder)))
            groups.append(Group(members[0].world, members[0].protocol, program, variant, members))
    return groups


def _name_variants(variants: dict[str, list[RunRecord]]) -> dict[str, list[RunRecord]]:
    """Groups by the variant of their published records, where that is unique."""
    names = {}
    for by_flags, members in variants.items():
        words = {run.published["variant"] for run in members if run.published is not None}
        names[by_flags] = words.pop().replace("_", " ") if len(words) == 1 else by_flags
    taken = list(names.values())
    return {name if taken.count(name) == 1 else text: variants[text] for text, name in names.items()}


def flags(run: RunRecord) -> dict[str, str]:
    """The flags that define the experiment, {name: text}. --name counts too, without its seed."""
    kept = {
        one_line(key): one_line(value)
        for key, value in run.config.items()
        if key not in NOT_THE_EXPERIMENT and value is not None
    }
    if "name" in kept:
        kept["name"] = kept["name"].removesuffix(f"-{run.seed}")
    return kept


def interval(values: Sequence[float]) -> tuple[float, float]:
    """Mean of N >= 2 values and half the width of its 95% interval: Student's t, N - 1 degrees of freedom.

    For two values the half width is 12.7 standard errors.
    """
    from scipy.special import stdtrit  # a quarter of a second to import; only seeds need it

    half = stdtrit(len(values) - 1, 0.975) * np.std(values, ddof=1) / np.sqrt(len(values))
    return float(np.mean(values)), float(half)


def reach(values: Sequence[float | None], form: Callable[[float], str]) -> str:
    """The mean over seeds as `form` writes it, or "lowest to highest" where they differ by more than a tenth."""
    there = [value for value in values if value is not None]
    if not there:
        return "–"
    lowest, highest = form(min(there)), form(max(there))
    if lowest == highest or max(there) <= 1.1 * min(there):
        return form(float(np.mean(there)))
    return f"{lowest} to {highest}"
