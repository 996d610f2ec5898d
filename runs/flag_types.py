"""Types for flags with a range of valid numbers: `batch: Count = 64`.

Count         a whole number, 1 or more
Whole         a whole number, 0 or more
Share         from 0 to 1
Positive      more than 0
NonNegative   0 or more
"""

from __future__ import annotations

import dataclasses
import functools
import math
from typing import Annotated, Any, get_args, get_type_hints


@dataclasses.dataclass(frozen=True, repr=False)
class Range:
    """The interval from `least` to `most`, both included; `beyond`: without `least` itself."""

    least: float
    most: float = math.inf
    beyond: bool = False

    def __contains__(self, value: float) -> bool:
        return (self.least < value if self.beyond else self.least <= value) and value <= self.most

    def __str__(self) -> str:
        if self.most < math.inf:
            return f"from {self.least} to {self.most}"
        return f"more than {self.least}" if self.beyond else f"{self.least} or more"

    __repr__ = __str__  # in signatures


Count = Annotated[int, Range(1)]
Whole = Annotated[int, Range(0)]
Share = Annotated[float, Range(0, 1)]
Positive = Annotated[float, Range(0, beyond=True)]
NonNegative = Annotated[float, Range(0)]


def check(config: Any) -> None:
    """Raise ValueError for the first number of a config that is out of its flag's range, or NaN or infinite, which
    config.json could not hold."""
    for name, allowed in _ranges(type(config)):
        value = getattr(config, name)
        if value is not None and value not in allowed:
            raise ValueError(f"--{name.replace('_', '-')} {value}: it takes {allowed}")
    for field in dataclasses.fields(config):
        value = getattr(config, field.name)
        if isinstance(value, float) and not math.isfinite(value):
            raise ValueError(f"--{field.name.replace('_', '-')} {value}: it takes a finite number")


@functools.cache
def _ranges(kind: type) -> list[tuple[str, Range]]:
    types = get_type_hints(kind, include_extras=True).items()
    said = [(name, each) for name, hint in types for each in (hint, *get_args(hint))]  # Count, Count | None
    known = [(name, data) for name, each in said for data in getattr(each, "__metadata__", ())]
    return [(name, data) for name, data in known if isinstance(data, Range)]
