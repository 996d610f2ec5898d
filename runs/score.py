"""Score: the metric by which runs are compared, and whether more or less of it is better; numbers as text."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Iterable
from typing import Any, Literal


@dataclasses.dataclass(frozen=True)
class Score:
    """A metric that a run's evaluations write: Score("eval/return", "max"), Score("eval/error", "min", unit="%").

    Raises ValueError where `better` is neither "max" nor "min", or the metric is not a word.
    """

    metric: str  # as metrics.jsonl has it
    better: Literal["max", "min"] = "max"
    unit: str = ""  # that its numbers are shown with: "%", "nats"

    def __post_init__(self) -> None:
        if self.better not in ("max", "min") or not self.metric or not isinstance(self.metric, str):
            raise ValueError(f"a score is a metric of which 'max' or 'min' is better, not {self}")

    @property
    def name(self) -> str:
        """The metric without its room: "return" of "eval/return"."""
        return self.metric.rpartition("/")[2]

    @property
    def worst(self) -> float:
        """The score before any evaluation: minus infinity, or infinity where less is better."""
        return -math.inf if self.better == "max" else math.inf

    def improves(self, value: float, best: float) -> bool:
        """Whether a value is at least as good as the best so far; NaN and infinity never are."""
        if not math.isfinite(value):
            return False
        return not math.isfinite(best) or (value >= best if self.better == "max" else value <= best)

    def best(self, values: Iterable[float]) -> float:
        """The best of finite values."""
        return max(values) if self.better == "max" else min(values)

    def format(self, value: float) -> str:
        """A value with its unit: 17.3, 0.412, 6.80%, 2.41 nats."""
        return number(value) + self.suffix

    def in_words(self, value: float) -> str:
        """A value with its name: return 17.3, error 6.80%; 2.41 nats."""
        return self.format(value) if self.unit == self.name else f"{self.name} {self.format(value)}"

    @property
    def suffix(self) -> str:
        """The unit as it follows a number."""
        return self.unit if self.unit in ("", "%") else f" {self.unit}"

    def state(self) -> dict[str, Any]:
        """As config.json holds it."""
        return dataclasses.asdict(self)


RETURN = Score("eval/return", "max")  # of whole games; the score of a run whose config.json names none


def number(value: float, like: float | None = None) -> str:
    """A number with about three significant digits (0.950, 17.3, 1,234), or with the decimals that `like` would
    get."""
    size = abs(like or value)
    if size < 0.01 or max(size, abs(value)) >= 1e9:
        return f"{value:.2g}" if size < 0.01 else f"{value:.3g}"
    return f"{value:,.{0 if size >= 1000 else 1 if size >= 10 else 2 if size >= 1 else 3}f}"


def short(steps: float) -> str:
    """A count in thousands or millions: 950, 12.5k, 2M."""
    for size, unit in ((1e9, "G"), (1e6, "M"), (1e3, "k")):
        if round(steps / size, 3) >= 1:
            return f"{steps / size:.3g}{unit}"
    return f"{steps:.0f}"
