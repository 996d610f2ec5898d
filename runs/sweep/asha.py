"""Asynchronous successive halving (ASHA): stops poor trials early, and lets good ones go on.

Li et al. 2018, "A system for massively parallel hyperparameter tuning" (arXiv 1810.05934), algorithm 2. Rung k lies
at r * eta^k steps. A trial that reaches a rung goes on if it is in the best 1/eta of all that have reached it so far;
else it is saved and stopped, and goes on from its checkpoint as soon as it is among the best 1/eta: whenever a place
is free, such a trial comes before a new one. Nothing waits for a rung to be full.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Hashable, Sequence


def rungs(steps: int, share: float, eta: int) -> list[int]:
    """The steps of the rungs below the end: share * steps * eta^k.

    Raises ValueError where there is none.
    """
    found, step = [], share * steps
    while 0 < step < steps and round(step) < steps:
        found.append(round(step))
        step *= eta
    if not found:
        raise ValueError(f"early stopping has no rung below {steps:,} steps: choose a smaller --first-rung")
    return found


@dataclasses.dataclass
class Ladder:
    """What the trials of one study and one seed have reached at each rung.

    rungs: steps. eta: one of eta goes on. better: of the score, "max" or "min".
    """

    rungs: Sequence[int]
    eta: int
    better: str = "max"
    reached: list[dict[Hashable, float]] = dataclasses.field(default_factory=list)

    def __post_init__(self) -> None:
        self.reached = self.reached or [{} for _ in self.rungs]

    def report(self, trial: Hashable, step: int, value: float) -> list[int]:
        """Enter an evaluation at each rung which it is the trial's first at or behind. Returns those rungs."""
        new = [k for k, at in enumerate(self.rungs) if step >= at and trial not in self.reached[k]]
        for k in new:
            self.reached[k][trial] = value
        return new

    def rung(self, trial: Hashable) -> int:
        """The highest rung that a trial has reached; -1 before the first."""
        return max((k for k, found in enumerate(self.reached) if trial in found), default=-1)

    def best(self, k: int) -> list[Hashable]:
        """The trials at rung k that go on: the best 1/eta of those that have reached it, the best first."""
        return self.ranked(k)[: len(self.reached[k]) // self.eta]

    def ranked(self, k: int) -> list[Hashable]:
        """The trials at rung k, the best first, of equal ones the earlier."""
        sign = -1 if self.better == "max" else 1
        return sorted(self.reached[k], key=lambda trial: sign * self.reached[k][trial])

    def goes_on(self, trial: Hashable) -> bool:
        """Whether a trial may go on from the highest rung that it has reached."""
        k = self.rung(trial)
        return k < 0 or trial in self.best(k)
