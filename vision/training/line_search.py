"""Line search for the strong Wolfe conditions, by Moré and Thuente's bracketing with cubic interpolation."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import NamedTuple

EVALUATIONS = 100  # at most in a search
SMALLEST = 1e-14  # of an interval, relative: below it rounding decides
SHRINK = 0.66  # an interval that two trials leave longer than this share is halved
LONGEST = 1e100


class Trial(NamedTuple):
    """A step along a line: its length, the function there, and its slope along the line."""

    step: float
    value: float
    slope: float


def wolfe(
    function: Callable[[float], tuple[float, float]],
    start: Trial,
    step: float = 1.0,
    decrease: float = 1e-4,
    curvature: float = 0.9,
) -> Trial | None:
    """A step that fulfills f(a) <= f(0) + decrease a f'(0) and |f'(a)| <= curvature |f'(0)|, or None where rounding
    or a function that falls without end leaves none.

    function: of a step, its value and slope. start: the trial of step 0. step: the first to be tried.
    Raises ValueError where the function does not fall at 0.

    Moré & Thuente 1994, "Line search algorithms with guaranteed sufficient decrease", as in MINPACK-2 and scipy.
    While no trial is both low enough and past a minimum, the interval is chosen for f(a) - f(0) - decrease a f'(0).
    """
    if not start.slope < 0:
        raise ValueError(f"the function does not fall along this direction: its slope is {start.slope:g}")
    test = decrease * start.slope
    best = other = start  # ends of the interval: the lowest trial, and one on the other side once there is a bracket
    bracketed, auxiliary, low, high = False, True, 0.0, 5 * step
    width, before = LONGEST, 2 * LONGEST
    for _ in range(EVALUATIONS):
        trial = Trial(step, *function(step))
        if not math.isfinite(trial.value):  # outside of the function's domain: shorten the step
            step, high = best.step + 0.1 * (step - best.step), step
            continue
        enough = trial.value <= start.value + step * test
        if enough and abs(trial.slope) <= -curvature * start.slope:
            return trial
        if bracketed and (not low < step < high or high - low <= SMALLEST * high):
            break
        if step >= LONGEST:
            break
        auxiliary = auxiliary and not (enough and trial.slope >= 0)
        tilt = test if auxiliary and not enough and trial.value <= best.value else 0.0
        tilted = (_tilt(each, -tilt) for each in (best, other, trial))
        step, best, other, bracketed = _refine(*tilted, bracketed, low, high)
        best, other = _tilt(best, tilt), _tilt(other, tilt)
        if bracketed:
            if abs(other.step - best.step) >= SHRINK * before:
                step = best.step + 0.5 * (other.step - best.step)
            before, width = width, abs(other.step - best.step)
            low, high = sorted((best.step, other.step))
            if not low < step < high or high - low <= SMALLEST * high:
                step = best.step
        else:
            low, high = step + 1.1 * (step - best.step), step + 4 * (step - best.step)
    return None


def _tilt(trial: Trial, slope: float) -> Trial:
    """The trial of the function plus a line of this slope through the start."""
    return Trial(trial.step, trial.value + slope * trial.step, trial.slope + slope)


def _refine(
    best: Trial, other: Trial, trial: Trial, bracketed: bool, low: float, high: float
) -> tuple[float, Trial, Trial, bool]:
    """The next step, the new ends of the interval, and whether they have a minimum between them.

    Section 4 of the paper: four cases, by whether the trial is higher than the best one, has a slope of the other
    sign, or a smaller one. Quadratics are the secant of two slopes, but for the first case's.
    """
    turned = trial.slope * best.slope < 0
    if trial.value > best.value:  # a minimum between the two
        cubic = _cubic(best, trial)
        chord = (best.value - trial.value) / (trial.step - best.step) + best.slope
        quadratic = best.step + 0.5 * best.slope / chord * (trial.step - best.step)
        nearer = abs(cubic - best.step) < abs(quadratic - best.step)
        step, found = (cubic if nearer else cubic + 0.5 * (quadratic - cubic)), True
    elif turned:
        cubic, secant = _cubic(trial, best), _secant(trial, best)
        step, found = (cubic if abs(cubic - trial.step) > abs(secant - trial.step) else secant), True
    elif abs(trial.slope) < abs(best.slope):  # the cubic may fall without end, or have its minimum behind
        cubic, secant = _cubic(trial, best), _secant(trial, best)
        beyond = (cubic - trial.step) * (trial.step - best.step) > 0
        cubic = cubic if beyond else (high if trial.step > best.step else low)
        nearer, found = abs(cubic - trial.step) < abs(secant - trial.step), bracketed
        step = cubic if nearer == bracketed else secant
        if bracketed:
            bound = trial.step + SHRINK * (other.step - trial.step)
            step = min(step, bound) if trial.step > best.step else max(step, bound)
        else:
            step = min(max(step, low), high)
    elif bracketed:
        step, found = _cubic(trial, other), True
    else:
        step, found = (high if trial.step > best.step else low), False
    if trial.value > best.value:
        return step, best, trial, found
    return step, trial, best if turned else other, found


def _cubic(one: Trial, other: Trial) -> float:
    """Where the cubic through two trials and their slopes has its minimum: Nocedal & Wright 2006, equation 3.59."""
    span = other.step - one.step
    theta = 3 * (one.value - other.value) / span + one.slope + other.slope
    root = math.copysign(math.sqrt(max(0.0, theta * theta - one.slope * other.slope)), span)
    below = 2 * root - one.slope + other.slope
    return one.step + span * (root - one.slope + theta) / below if below else math.copysign(math.inf, span)


def _secant(one: Trial, other: Trial) -> float:
    """Where the line through two slopes is 0."""
    return one.step + one.slope / (one.slope - other.slope) * (other.step - one.step)
