"""Early stopping of a sweep's poor runs: which run halts at a rung, and which goes on later.

Runs are compared within a study and a seed (asha.Ladder); what they have reached is in the sweep's record.
"""

from __future__ import annotations

from collections.abc import Mapping

from runs.sweep import asha
from runs.sweep.plan import Plan, Study, Trial
from runs.sweep.record import Record
from runs.sweep.state import State, better, of


class EarlyStopping:
    """ASHA over the runs of a sweep.

    share: of a run's steps, where the first rung lies. eta: one of eta goes on.

    Raises ValueError where a run has no evaluation before its second rung, or no rung at all.
    """

    def __init__(self, plan: Plan, record: Record, share: float, eta: int) -> None:
        self.plan, self.record = plan, record
        self.ladders: dict[tuple[str, int], asha.Ladder] = {}
        self._to_the_end: set[str] = set()  # go on past all rungs
        for study in plan.studies:
            rungs = asha.rungs(study.steps, share, eta)
            if not study.first or study.first >= ([*rungs, study.steps])[1]:
                when = f"is at step {study.first:,}" if study.first else "never comes"
                raise ValueError(
                    f"early stopping of {study.name} has rungs at {', '.join(f'{each:,}' for each in rungs)} of "
                    f"{study.steps:,} steps, and the first evaluation {when}: set --evaluate-every behind --"
                )
            self.ladders |= {(study.name, seed): asha.Ladder(rungs, eta) for seed in plan.seeds}
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
        """Of a study and seed of which no run has finished or could yet, the best run of the highest rung: when
        nothing else is left, it goes on to the end."""
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
