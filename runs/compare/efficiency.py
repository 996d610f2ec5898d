"""Sample efficiency: scores at shares of a common budget, and the steps, frames or hours until a threshold."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from runs.groups import Group
from runs.reader import RunRecord

SHARES = (0.1, 0.25, 0.5, 1.0)  # of the budget


def budget(groups: Sequence[Group], x: str = "steps") -> float:
    """The largest place that the score's curve of every run reaches; of the finished runs only, where there are any.

    Of groups without a curve it is 0.
    """
    curves = [(run, run.curve(each.score.metric, x)[0]) for each in groups for run in each.runs]
    curves = [(run, places) for run, places in curves if len(places)]
    finished = [places for run, places in curves if run.status == "finished"]
    return float(min((places[-1] for places in finished or [places for _, places in curves]), default=0.0))


def score_at(run: RunRecord, place: float, x: str = "steps") -> float | None:
    """The score at a place, interpolated between evaluations; None before the first and after the last of them."""
    places, values = run.curve(run.score.metric, x)
    if not len(places) or not places[0] <= place <= places[-1]:
        return None
    return float(np.interp(place, places, values))


def area(run: RunRecord, end: float, x: str = "steps") -> float | None:
    """Mean of the score along the curve, from its first evaluation to `end`; None where it does not reach `end`."""
    last = score_at(run, end, x)
    if last is None:
        return None
    places, values = run.curve(run.score.metric, x)
    inside = places < end
    places, values = np.append(places[inside], end), np.append(values[inside], last)
    if len(places) == 1:
        return last
    return float(np.trapezoid(values, places) / (places[-1] - places[0]))


def reached(run: RunRecord, threshold: float, x: str = "steps") -> float | None:
    """Where the score first is at the threshold or better, interpolated between evaluations; None where it never is.

    It says nothing of what came later, and of a noisy curve it is early: a longer mean of games is a fairer measure.
    """
    places, values = run.curve(run.score.metric, x)
    ahead = values >= threshold if run.score.better == "max" else values <= threshold
    if not ahead.any():
        return None
    first = int(np.argmax(ahead))
    if first == 0 or values[first] == values[first - 1]:
        return float(places[first])
    share = (threshold - values[first - 1]) / (values[first] - values[first - 1])
    return float(places[first - 1] + share * (places[first] - places[first - 1]))


def median_reached(times: Sequence[float | None]) -> float | None:
    """Median over runs of the place of the threshold, runs that never reach it counting as later than all others.

    None where half of the runs or more never do: the median is then beyond what was run.
    """
    ordered = sorted(float("inf") if time is None else time for time in times)
    if not ordered:
        return None
    middle = (ordered[(len(ordered) - 1) // 2] + ordered[len(ordered) // 2]) / 2
    return middle if np.isfinite(middle) else None
