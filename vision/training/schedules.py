"""Learning-rate schedules: factors by name, as functions of progress, 0 at the start and 1 at the end.

    factor = schedules.SCHEDULES["cosine"](progress)
    factor = schedules.at("one_cycle", step / steps, warm_up=0.05)

`plateau` depends on validation losses, and so has a state and is a class, PlateauSchedule.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Callable
from typing import Any

from runs import suggestions

DROPS = (0.5, 0.75)  # progress at which the step schedule drops, as for CIFAR in He et al. 2015, section 4.2
DROP = 0.1  # factor of each drop, and of the plateau's
HALF = 0.5  # factor of each drop of the halving schedule
PEAK = 0.25  # progress at which the one cycle is at its top
FLOOR = 0.04  # factor that the one cycle begins with


def constant(progress: float) -> float:
    """Always 1."""
    return 1.0


def step(progress: float) -> float:
    """Step decay: a tenth from half of the steps on, a hundredth from three quarters on."""
    return DROP ** sum(progress >= drop for drop in DROPS)


def halve(progress: float, drops: float) -> float:
    """Step decay by halves, as CS231n has it ("by a half every 5 epochs"): after each of `drops` equal parts of the
    steps; a part that is not whole is the last one."""
    return HALF ** int(progress * drops + 1e-9)  # what is one more part but for rounding is one more


def cosine(progress: float) -> float:
    """Cosine annealing from 1 to 0: Loshchilov & Hutter 2016, arXiv 1608.03983, equation 5 without restarts."""
    return 0.5 * (1 + math.cos(math.pi * min(progress, 1.0)))


def one_cycle(progress: float) -> float:
    """One cycle: linearly up to 1 at a quarter of the steps, then down to 0 (Smith & Topin 2017, arXiv 1708.07120).

    Other than in the paper, momentum is constant.
    """
    if progress < PEAK:
        return FLOOR + (1 - FLOOR) * progress / PEAK
    return max(0.0, (1 - progress) / (1 - PEAK))


def cycles(progress: float, count: int) -> float:
    """Cosine annealing with `count` warm restarts (Huang et al. 2017, arXiv 1704.00109, equation 2).

    The weights at the end of each cycle are a member of a snapshot ensemble.
    """
    return cosine(progress * count % 1.0)


SCHEDULES: dict[str, Callable[[float], float]] = {
    "constant": constant,
    "step": step,
    "cosine": cosine,
    "one_cycle": one_cycle,
}
NAMES = tuple(SCHEDULES)
ALL = (*NAMES, "halve", "plateau", "snapshots")  # also those that need more than the progress of a run


def at(name: str, progress: float, warm_up: float = 0.0, snapshots: int = 1, halvings: float = 1.0) -> float:
    """The factor of the learning rate at `progress`, warm-up included; `plateau` counts as constant here.

    warm_up: share of all steps on which the factor rises linearly from 0 to the schedule's first value (Goyal et al.
        2017, arXiv 1706.02677, section 2.2); the schedule has the other steps.
    snapshots: cycles of the schedule of that name. halvings: parts of all steps after each of which `halve` halves.
    Raises ValueError for an unknown name.
    """
    curves = SCHEDULES | {"plateau": constant, "snapshots": functools.partial(cycles, count=snapshots)}
    curves["halve"] = functools.partial(halve, drops=halvings)
    if name not in curves:
        raise ValueError(f"unknown schedule {name!r}: {suggestions.one_of(name, curves)}")
    if progress < warm_up:
        return curves[name](0.0) * progress / warm_up
    return curves[name]((progress - warm_up) / (1 - warm_up))


class PlateauSchedule:
    """Reduce on plateau, and early stopping: a rate that drops where validation losses stop falling.

    patience: evaluations without a better loss after which the factor is multiplied by DROP. 0: never.
    stop: evaluations without a better loss after which `done` is true (early stopping). 0: never.
    """

    def __init__(self, patience: int = 0, stop: int = 0) -> None:
        self.patience, self.stop = patience, stop
        self.best, self.resting, self.since_drop, self.factor = math.inf, 0, 0, 1.0

    @property
    def done(self) -> bool:
        """Whether early stopping ends the training."""
        return 0 < self.stop <= self.resting

    def record(self, loss: float) -> None:
        """Record the loss of an evaluation."""
        better = loss < self.best
        self.best = min(self.best, loss)
        self.resting = 0 if better else self.resting + 1
        self.since_drop = 0 if better else self.since_drop + 1
        if 0 < self.patience <= self.since_drop:
            self.factor, self.since_drop = self.factor * DROP, 0

    def state_dict(self) -> dict[str, Any]:
        """Best loss, counters and factor."""
        names = ("best", "resting", "since_drop", "factor")
        return {name: getattr(self, name) for name in names}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Restore what `state_dict` returned."""
        for name, value in state.items():
            setattr(self, name, value)
