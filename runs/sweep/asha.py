"""Asynchronous successive halving (ASHA): stops poor trials early, and lets good ones go on.

Li et al. 2018, "A system for massively parallel hyperparameter tuning" (arXiv 1810.05934), algorithm 2. Rung k lies
at r * eta^k steps. A trial that reaches a rung goes on if it is in the best 1/eta of all that have reached it so far;
else it is saved and stopped, and goes on from its checkpoint as soon as it is among the best 1/eta: whenever a place
is free, such a trial comes before a new one. Nothing waits for a rung to be full.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Hashable, Mapping, Sequence

from runs.sweep.plan import Plan, Study, Trial
from runs.sweep.record import Record
from runs.sweep.state import State, better, of


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


class EarlyStopping:
    """ASHA over the runs of a sweep: which run stops at a rung, and which goes on later.

    Runs are compared within a study and a seed; what they have reached is in the sweep's record.

    share: of a run's steps, where the first rung lies. eta: one of eta goes on.

    Raises ValueError where a run has no evaluation before its second rung, or no rung at all.
    """

    def __init__(self, plan: Plan, record: Record, share: float, eta: int) -> None:
        self.plan, self.record = plan, record
        self.ladders: dict[tuple[str, int], Ladder] = {}
        self._to_the_end: set[str] = set()  # go on past all rungs
        for study in plan.studies:
            steps = rungs(study.steps, share, eta)
            if not study.first or study.first >= [*steps, study.steps][1]:
                when = f"is at step {study.first:,}" if study.first else "never comes"
                raise ValueError(
                    f"early stopping of {study.name} has rungs at {', '.join(f'{each:,}' for each in steps)} of "
                    f"{study.steps:,} steps, and the first evaluation {when}: set --evaluate-every behind --"
                )
            self.ladders |= {(study.name, seed): Ladder(steps, eta) for seed in plan.seeds}
        for line in record.rungs:
            self.ladders[line["study"], line["seed"]].report(line["number"], line["step"], line["value"])

    def report(self, state: State) -> None:
        """Enter the rungs that a run has reached."""
        trial = state.trial
        ladder = self.ladders[trial.study.name, trial.seed]
        for step, value in sorted(state.progress.values.items()):
            if ladder.report(trial.number, step, value):
                place = {"study": trial.study.name, "seed": trial.seed, "number": trial.number}
                self.record.add("rung", **place, step=step, value=value)

    def halts(self, state: State) -> bool:
        """Enter the rungs that a run has reached. Returns whether it has to stop where it is."""
        self.report(state)
        ladder = self.ladders[state.trial.study.name, state.trial.seed]
        ladder.better = state.progress.score.better
        return state.trial.key not in self._to_the_end and not ladder.goes_on(state.trial.number)

    def promotion(self, states: Mapping[str, State]) -> Trial | None:
        """A run that was stopped at a rung, and may now go on; of the highest rung first."""
        for (name, _), ladder in self.ladders.items():
            ladder.better = better(of(states.values(), self._study(name)))
        ladders = [(k, place) for place, ladder in self.ladders.items() for k in range(len(ladder.rungs))]
        for k, place in sorted(ladders, key=lambda each: -each[0]):
            ladder = self.ladders[place]
            for number in ladder.best(k):
                state = self._stopped(states, *place, number)
                if state and ladder.rung(number) == k:
                    return state.trial
        return None

    def finalist(self, states: Mapping[str, State]) -> Trial | None:
        """The best run of the highest rung, of a study and seed none of whose runs has finished or still may: it then
        goes on to the end."""
        for place, ladder in self.ladders.items():
            mine = [each for each in of(states.values(), self._study(place[0])) if each.trial.seed == place[1]]
            ladder.better = better(mine)
            if any(each.status in ("finished", "running", "elsewhere", "waiting") for each in mine):
                continue
            for k in reversed(range(len(ladder.rungs))):
                for number in ladder.ranked(k):
                    if state := self._stopped(states, *place, number):
                        self._to_the_end.add(state.trial.key)
                        return state.trial
        return None

    def _study(self, name: str) -> Study:
        return next(study for study in self.plan.studies if study.name == name)

    def _stopped(self, states: Mapping[str, State], study: str, seed: int, number: int) -> State | None:
        trial = self.plan.trials(self._study(study), number)[self.plan.seeds.index(seed)]
        state = states.get(trial.key)
        return state if state and state.status == "stopped" else None
