"""Dimensions of a hyperparameter search, written as `learning_rate=1e-5:1e-2:log` or `epsilon=0.01,0.1`."""

from __future__ import annotations

import dataclasses
import itertools
import math
import random
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from runs import flags, suggestions

Value = int | float | str  # of a flag; booleans and choices are text, as on a command line
Point = dict[str, Value]
DIGITS = 6  # significant ones of a number that is drawn
YES, NO = ("true", "yes", "on"), ("false", "no", "off")


@dataclasses.dataclass(frozen=True)
class Dimension:
    """One hyperparameter of a search: a list of values, or a range.

    values: those listed; empty for a range. low, high: both included. log: uniform in the logarithm. whole: of whole
    numbers. count: of the points that a grid takes from a range; 0: not said.
    """

    name: str
    values: tuple[Value, ...] = ()
    low: float = 0.0
    high: float = 0.0
    log: bool = False
    whole: bool = False
    count: int = 0

    def draw(self, generator: random.Random) -> Value:
        """A random value: one of the list, or uniform in the range or its logarithm."""
        if self.values:
            return generator.choice(self.values)
        if self.whole and not self.log:
            return generator.randint(int(self.low), int(self.high))
        return self.at(generator.random())

    def at(self, share: float) -> Value:
        """The value at a share of the range, from 0 (low) to 1 (high)."""
        if self.log:
            value = math.exp(math.log(self.low) + share * (math.log(self.high) - math.log(self.low)))
        else:
            value = self.low + share * (self.high - self.low)
        return self.rounded(value)

    def rounded(self, value: float) -> Value:
        """A number of the range, whole or with DIGITS significant digits."""
        value = round(value) if self.whole else float(f"{value:.{DIGITS}g}")
        return min(max(value, int(self.low) if self.whole else self.low), int(self.high) if self.whole else self.high)

    def grid(self) -> list[Value]:
        """The values that a grid takes: those listed, or `count` evenly spaced ones. Raises ValueError for a range
        without a count."""
        if self.values:
            return list(self.values)
        if not self.count:
            raise ValueError(
                f"--search {self.name}: a grid needs values, or a number of them behind the range: "
                f"{self.name}={self.low:g}:{self.high:g}{':log' * self.log}:4"
            )
        spaced = [self.at(i / max(self.count - 1, 1)) for i in range(self.count)]
        return list(dict.fromkeys(spaced))  # whole numbers close to each other may be equal

    def ends(self) -> list[Value]:
        """Values at which all flags are checked before the search: every listed one, or both ends."""
        return list(self.values) or [self.at(0.0), self.at(1.0)]


def parse(text: str, kinds: Mapping[str, str]) -> Dimension:
    """A dimension from its text: `name=a,b,c`, `name=low:high`, `name=low:high:log`, `name=low:high:log:4`.

    kinds: of the program's flags, name -> "int", "float", "bool", "str", ..., see preview.

    Raises ValueError, in a sentence, for an unknown flag, a value that is no number, or an empty range.
    """
    name, equals, said = text.partition("=")
    name = name.lstrip("-").replace("-", "_")
    if not equals or not said:
        raise ValueError(f"--search {text}: write flag=low:high, flag=low:high:log or flag=value,value")
    if name not in kinds:
        raise ValueError(f"--search {name}: {suggestions.one_of(name, sorted(kinds), 'the flags are')}")
    kind, parts = kinds[name], said.split(":")
    if kind not in ("int", "float") or len(parts) == 1:
        values = tuple(dict.fromkeys(_value(name, each, kind) for each in said.split(",")))
        return Dimension(name, values)
    ends, rest = parts[:2], parts[2:]
    log = rest[:1] == ["log"]
    count = rest[log:]
    if len(count) > 1 or (count and not count[0].isdecimal()):
        raise ValueError(f"--search {text}: behind a range come log, and the number of a grid's values")
    low, high = (_value(name, each, kind) for each in ends)
    if not low < high or (log and low <= 0):
        above = " above 0, for its logarithm is searched" if log else ""
        raise ValueError(f"--search {text}: {ends[0]} to {ends[1]} is not a range from low to high{above}")
    return Dimension(name, (), low, high, log, kind == "int", int(count[0]) if count else 0)


def _value(name: str, text: str, kind: str) -> Value:
    if kind == "int":
        try:
            return flags.whole(text)
        except ValueError as error:
            raise ValueError(f"--search {name}: {error}") from None
    if kind == "float":
        try:
            value = float(text)
        except ValueError:
            value = math.nan
        if not math.isfinite(value):
            raise ValueError(f"--search {name}: {text!r} is not a number")
        return value
    if kind == "bool":
        if text.lower() not in (*YES, *NO):
            raise ValueError(f"--search {name}: {text!r} is neither yes nor no")
        return "yes" if text.lower() in YES else "no"
    return text


def grid(dimensions: Sequence[Dimension]) -> list[Point]:
    """Every combination of the dimensions' values, the last one changing first. Raises ValueError for a range
    without a count."""
    names = [each.name for each in dimensions]
    return [dict(zip(names, values, strict=True)) for values in itertools.product(*(d.grid() for d in dimensions))]


def draw(dimensions: Sequence[Dimension], seed: object) -> Point:
    """A random point, the same for the same seed."""
    generator = random.Random(str(seed))
    return {each.name: each.draw(generator) for each in dimensions}


def words(point: Mapping[str, Value], kinds: Mapping[str, str]) -> list[str]:
    """A point as flags of a command line: --learning-rate 0.001 --no-double."""
    found: list[str] = []
    for name, value in point.items():
        flag = name.replace("_", "-")
        if kinds.get(name) == "bool":
            found.append(f"--{flag}" if value == "yes" else f"--no-{flag}")
        else:
            found.append(f"--{flag}={value}")
    return found


def described(dimensions: Iterable[Dimension]) -> list[dict[str, Any]]:
    """Dimensions as JSON values."""
    return [dataclasses.asdict(each) | {"values": list(each.values)} for each in dimensions]


def seeded(text: str) -> int:
    """A seed of 32 bits from a text."""
    return random.Random(text).getrandbits(32)
