"""What has become of the runs of a sweep, and of the points of its search."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Sequence
from statistics import mean

from runs.sweep.plan import Study, Trial
from runs.sweep.progress import Progress
from runs.sweep.samplers import Outcome


@dataclasses.dataclass
class State:
    """What has become of a run.

    status: "waiting", "running", "elsewhere" (another program runs it), "finished", "failed", "stopped" early, or
    "saved", as the sweep was interrupted. reason: of a failure. killed: how often it was killed and started again.
    """

    trial: Trial
    status: str = "waiting"
    reason: str = ""
    killed: int = 0
    seconds: float = 0.0  # of all its processes that have ended
    began: float = 0.0  # time.monotonic() of the one that runs
    progress: Progress = dataclasses.field(default_factory=Progress)
    log_begin: int = 0  # bytes of its log that were there when it was started


def of(states: Iterable[State], study: Study, number: int | None = None) -> list[State]:
    """The states of a study's runs, or of one of its points."""
    found = [state for state in states if state.trial.study == study]
    return [state for state in found if number is None or state.trial.number == number]


def better(states: Iterable[State]) -> str:
    """Of a study's score, "max" or "min", as its first run says."""
    return next((state.progress.score.better for state in states if state.progress.folder), "max")


def outcome(states: Sequence[State]) -> Outcome:
    """What has become of a point, from the states of its seeds: the mean of their last evaluations once all have
    finished."""
    point, found = states[0].trial.point, {state.status for state in states}
    last = [state.progress.last for state in states]
    if "failed" in found or (found == {"finished"} and None in last):
        return Outcome(point, "failed")
    if found == {"finished"}:
        return Outcome(point, "finished", mean(last))
    if found <= {"finished", "stopped"}:
        reached = [state.progress.values for state in states if state.status == "stopped"]
        steps = {step for values in reached for step in values}
        means = {step: mean(values[step] for values in reached if step in values) for step in sorted(steps)}
        return Outcome(point, "stopped", None, means)
    return Outcome(point, "running")
