"""The next point of a search: grid, random (Bergstra & Bengio 2012), or Bayesian by Optuna (Akiba et al. 2019).

A point is a function of the search's seed, its number and what became of the points before: a search that was stopped
goes on as it would have gone on. Optuna gets a study of its own for every point, made from that record.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any, Literal

from runs.sweep import space
from runs.sweep.space import Dimension, Point

BAYESIAN = ("tpe", "gp")  # Optuna's samplers: tree-structured Parzen estimator, Gaussian process
STARTING = 10  # random points before a Bayesian sampler has something to go by


@dataclasses.dataclass(frozen=True)
class Outcome:
    """What became of a point.

    status: "finished" with a value; "stopped" early, with the values that it had reached by then; "diverged", which
    is worse than any value; "failed" or "running". values: score by step.
    """

    point: Point
    status: Literal["finished", "stopped", "diverged", "failed", "running"]
    value: float | None = None
    values: Mapping[int, float] = dataclasses.field(default_factory=dict)


@dataclasses.dataclass(frozen=True)
class Sampler:
    """Points of a search.

    kind: "grid", "random", "tpe" or "gp". trials: points of a study at most; 0: all of a grid.

    Raises ValueError where a grid meets a range without a count, a random search has no end, or Optuna is missing.
    """

    kind: str
    dimensions: tuple[Dimension, ...]
    trials: int
    seed: int = 1

    def __post_init__(self) -> None:
        if self.kind == "grid":
            space.grid(self.dimensions)
        elif not self.trials:
            raise ValueError(f"--sampler {self.kind}: say how many points with --trials, or list values for a grid")
        if self.kind in BAYESIAN:
            optuna()

    @property
    def count(self) -> int:
        """Points of a study."""
        if not self.dimensions:
            return 1
        if self.kind != "grid":
            return self.trials
        points = len(space.grid(self.dimensions))
        return min(points, self.trials or points)

    def state(self) -> dict[str, Any]:
        """As the sweep's record has it: the sampler, and Optuna's version where it draws the points."""
        found = {"sampler": self.kind, "trials": self.trials, "seed": self.seed}
        return found | ({"optuna": optuna().__version__} if self.kind in BAYESIAN else {})

    def point(self, study: str, number: int, before: Sequence[Outcome], better: str) -> Point:
        """The point with a number, counted from 1.

        study: its name, so that no two studies draw the same points. before: what became of the points so far.
        better: of the score, "max" or "min".
        """
        if self.kind == "grid":
            return space.grid(self.dimensions)[number - 1]
        if self.kind == "random":
            return space.draw(self.dimensions, f"{self.seed} {study} {number}")
        return self._ask(study, number, before, better)

    def _ask(self, study: str, number: int, before: Sequence[Outcome], better: str) -> Point:
        library = optuna()
        seed = space.seeded(f"{self.seed} {study} {number}")
        if self.kind == "tpe":
            sampler = library.samplers.TPESampler(seed=seed, n_startup_trials=STARTING, constant_liar=True)
        else:
            sampler = library.samplers.GPSampler(seed=seed, n_startup_trials=STARTING)
        direction = "maximize" if better == "max" else "minimize"
        asked = library.create_study(direction=direction, sampler=sampler)
        spaces = {each.name: _distribution(library, each) for each in self.dimensions}
        for outcome in before:
            asked.add_trial(_trial(library, outcome, spaces))
        params = asked.ask(spaces).params
        return {
            each.name: params[each.name] if each.values else each.rounded(params[each.name])
            for each in self.dimensions
        }


def optuna() -> Any:
    """The library, which prints warnings only. Raises ValueError where it is not installed."""
    try:
        import optuna as library
    except ImportError:
        raise ValueError('Bayesian search needs Optuna: pip install "saccade[sweep]"') from None
    library.logging.set_verbosity(library.logging.WARNING)
    return library


def _distribution(library: Any, dimension: Dimension) -> Any:
    if dimension.values:
        return library.distributions.CategoricalDistribution(dimension.values)
    if dimension.whole:
        return library.distributions.IntDistribution(int(dimension.low), int(dimension.high), log=dimension.log)
    return library.distributions.FloatDistribution(dimension.low, dimension.high, log=dimension.log)


def _trial(library: Any, outcome: Outcome, spaces: Mapping[str, Any]) -> Any:
    """A point as Optuna's record of a trial; one that failed or diverged is a pruned one without a value, the worst
    there is."""
    states = library.trial.TrialState
    state = {"finished": states.COMPLETE, "running": states.RUNNING}.get(outcome.status, states.PRUNED)
    return library.trial.create_trial(
        state=state,
        params=dict(outcome.point),
        distributions=dict(spaces),
        value=outcome.value if state == states.COMPLETE else None,
        intermediate_values=dict(outcome.values) if outcome.status == "stopped" else None,
    )
