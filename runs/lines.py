"""Lines of a .jsonl file of numbers, kept as columns: 10,000 lines take milliseconds and little memory."""

from __future__ import annotations

import contextlib
import functools
import json
import math
import operator
import warnings
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import orjson

DIGITS = b"0123456789.+-"  # of which a number is written,
EXPONENT = b"eE"  # and seldom of these
NUMERIC = {*DIGITS.decode(), ":", ",", "}", " ", '"', "\\"}
NUMBERS_ONLY = bytes.maketrans(b":,}", b",  ")  # of lines: a comma before each number, blanks around it
WORDS_ONLY = bytes(set(range(256)) - {*DIGITS, *b":,} "})


class Lines(Sequence):
    """A sequence of {"step": ..., word: number, ...}, each made when it is asked for; `column` needs none of them.

    Lines with the same words are rows of one table.
    """

    def __init__(self, rows: Sequence[dict[str, Any]] = ()):
        """rows: dicts of finite numbers, each with a step."""
        self._tables: list[dict[str, np.ndarray]] = []  # by the words of their lines: columns (P,)
        self._places: list[np.ndarray] = []  # and the numbers of their lines, (P,), increasing; of one table none
        self._count = len(rows)
        if table := _table(rows):
            self._tables.append(table)
            return
        for places, members in _by_words(rows):
            self._tables.append(_table(members) or {})
            self._places.append(places)

    @classmethod
    def of(cls, table: dict[str, np.ndarray]) -> Lines:
        """Lines from the columns of the words that all of them have, (P,) each."""
        found = cls()
        found._tables, found._count = [table], len(table["step"])
        return found

    def __len__(self) -> int:
        return self._count

    def __getitem__(self, index: int | slice) -> Any:
        if isinstance(index, slice):
            return [self[each] for each in range(*index.indices(len(self)))]
        index += len(self) if index < 0 else 0
        if not 0 <= index < len(self):
            raise IndexError(f"line {index} of {len(self)}")
        for table, places in zip(self._tables, self._numbers(), strict=True):
            at = int(np.searchsorted(places, index))
            if at < len(places) and places[at] == index:
                return {word: _number(column[at]) for word, column in table.items()}
        raise AssertionError(f"line {index} is in no table")

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Sequence) and len(self) == len(other) and all(map(operator.eq, self, other))

    __hash__ = None

    @property
    def words(self) -> set[str]:
        """Every word but the step."""
        return set().union(*self._tables) - {"step"}

    @property
    def last_step(self) -> int:
        """The largest step; 0 without lines."""
        return int(max((table["step"].max() for table in self._tables), default=0))

    def column(self, word: str) -> tuple[np.ndarray, np.ndarray]:
        """The numbers of the lines that have a word, and its values as floats, (P,) each."""
        parts = zip(self._tables, self._numbers(), strict=True)
        found = [(places, table[word].astype(float, copy=False)) for table, places in parts if word in table]
        if len(found) == 1:
            return found[0]
        places = np.concatenate([places for places, _ in found]) if found else np.empty(0, dtype=int)
        values = np.concatenate([values for _, values in found]) if found else np.empty(0)
        order = np.argsort(places)
        return places[order], values[order]

    def _numbers(self) -> list[np.ndarray]:
        """The numbers of each table's lines."""
        return self._places or [_up_to(self._count) for _ in self._tables]

    def curve(self, word: str) -> tuple[np.ndarray, np.ndarray]:
        """Increasing steps and the values of a word there, (P,) each; of a step that comes twice the last value."""
        places, values = self.column(word)
        every, steps = self.column("step")
        steps = steps if len(places) == len(every) else steps[places]
        if not (np.diff(steps) > 0).all():
            steps, last = np.unique(steps[::-1], return_index=True)
            values = values[::-1][last]
        return steps, values


def parse(data: bytes) -> tuple[Lines, int]:
    """The lines of a .jsonl file that hold a step, and how many others there are.

    Only finite numbers of a line are kept. A last line without its newline is still being written, or was cut off by
    a kill: it is not counted.
    """
    if table := _alike(data):
        return Lines.of(table), 0
    body, _, rest = data.rpartition(b"\n")
    if body and not rest:
        try:
            rows = orjson.loads(b"[" + body.replace(b"\n", b",") + b"]")  # ten times as fast as line by line
            if len(rows) == body.count(b"\n") + 1 and _are_lines(rows):
                return Lines(rows), 0
        except (orjson.JSONDecodeError, TypeError):  # some are no lines of numbers: they are read one by one
            pass
    kept, unreadable = [], 0
    texts = data.decode("utf-8", errors="replace").split("\n")
    for number, text in enumerate(texts, start=1):
        try:
            line = json.loads(text) if text.strip() else None
        except (ValueError, RecursionError):
            line = text
        if isinstance(line, dict) and is_number(line.get("step")):
            kept.append({word: value for word, value in line.items() if is_number(value)})
        elif line is not None and number < len(texts):
            unreadable += 1
    return Lines(kept), unreadable


class Later(Lines):
    """Lines of a file that are read when a column is asked for: until then only their number and the last are known.

    Of a thousand runs the wall time is the last line of each clock.jsonl; all of its lines are needed along hours.
    """

    def __init__(self, path: Path, size: int, count: int, last: dict[str, Any]):
        """size: bytes that were there when the run was read. count: the number of lines in them."""
        super().__init__()
        self._path, self._size, self._count, self._last = path, size, count, last
        self._read = False

    def __getitem__(self, index: int | slice) -> Any:
        if index in (-1, self._count - 1):
            return dict(self._last)
        self._load()
        return super().__getitem__(index)

    @property
    def words(self) -> set[str]:
        """Every word but the step."""
        self._load()
        return super().words

    @property
    def last_step(self) -> int:
        """The step of the last line: they only increase."""
        return int(self._last["step"])

    def column(self, word: str) -> tuple[np.ndarray, np.ndarray]:
        """The numbers of the lines that have a word, and its values as floats, (P,) each."""
        self._load()
        return super().column(word)

    def _load(self) -> None:
        if self._read:
            return
        self._read = True
        with open(self._path, "rb") as file:
            found, unreadable = parse(file.read(self._size))
        if unreadable or len(found) != self._count:
            warnings.warn(f"{self._path}: {unreadable} unreadable lines skipped", stacklevel=3)
        self._tables, self._places, self._count = found._tables, found._places, len(found)


def parse_later(path: Path, data: bytes, words: Sequence[str]) -> tuple[Lines, int]:
    """As `parse` of a file's bytes, but read later where every line seems to have just these words."""
    count = _count_alike(data, words, DIGITS + EXPONENT)
    if not count:
        return parse(data)
    last, unreadable = parse(data[data[:-1].rfind(b"\n") + 1 :])
    return parse(data) if unreadable else (Later(path, len(data), count, last[0]), 0)


def _count_alike(data: bytes, words: Sequence[str], but: bytes) -> int:
    """The number of lines, if all are as json.dumps writes one with these words, apart from the characters of `but`;
    else 0."""
    line = "".join(f"{', ' if at else '{'}{json.dumps(word)}: " for at, word in enumerate(words)) + "}\n"
    line, found = line.encode().translate(None, but), data.translate(None, but)
    count, rest = divmod(len(found), len(line))
    return count if not rest and found == line * count else 0


def _alike(data: bytes) -> dict[str, np.ndarray] | None:
    """Columns of lines that have the same words, read as one list of numbers; None where they cannot be.

    That is three times as fast as a dict a line. What stands between two numbers becomes blanks and one comma, and is
    known but for its digits: a digit among it is a number without its comma, and the list no JSON.
    """
    try:
        first = orjson.loads(data[: data.find(b"\n") + 1])
        if not isinstance(first, dict) or "step" not in first or not NUMERIC.isdisjoint("".join(first)):
            return None
        if not _count_alike(data, words := list(first), DIGITS) or data[0] != ord("{"):
            return None
        numbers = data.translate(NUMBERS_ONLY, WORDS_ONLY).lstrip()
        found = orjson.loads(b"[" + numbers[1:] + b"]")
        return {word: _numbers(found[at :: len(words)]) for at, word in enumerate(words)}
    except (orjson.JSONDecodeError, TypeError):
        return None


@functools.lru_cache(maxsize=8)
def _up_to(count: int) -> np.ndarray:
    """Whole numbers from 0, (count,), of all files with as many lines."""
    found = np.arange(count)
    found.flags.writeable = False
    return found


def is_number(value: object) -> bool:
    """Whether it is a finite int or float, and no bool."""
    try:
        return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)
    except OverflowError:  # a whole number that no float holds
        return False


def _are_lines(rows: list[Any]) -> bool:
    if set(map(type, rows)) != {dict}:
        return False
    alike = set(map(len, rows)) == {len(rows[0])} and "step" in rows[0]  # a missing word is then a KeyError of _table
    return alike or all("step" in row for row in rows)


def _table(rows: Sequence[dict[str, Any]]) -> dict[str, np.ndarray] | None:
    """Columns of rows with the same words; None where they differ."""
    if not rows or set(map(len, rows)) != {len(rows[0])}:
        return None
    try:
        return {word: _array(list(map(operator.itemgetter(word), rows))) for word in rows[0]}
    except KeyError:
        return None


def _by_words(rows: Sequence[dict[str, Any]]) -> Iterable[tuple[np.ndarray, Sequence[dict[str, Any]]]]:
    """Rows with the same words in the same order, and their numbers."""
    found: dict[tuple[str, ...], list[int]] = {}
    for number, row in enumerate(rows):
        found.setdefault(tuple(row), []).append(number)
    return [(np.array(numbers), [rows[number] for number in numbers]) for numbers in found.values()]


def _numbers(values: list[int | float]) -> np.ndarray:
    """Finite numbers as `_array` gives them, in less time where all are floats with a fraction, or all whole."""
    found = np.array(values)
    fractions = found.dtype == np.float64 and (found % 1 != 0).all()  # then none was a whole number
    return found if fractions or found.dtype == np.int64 else _array(values)


def _array(values: list[Any]) -> np.ndarray:
    """Finite numbers as (P,) int64 or float64, or as objects: of mixed kinds, or too large. Raises TypeError else."""
    kinds = set(map(type, values))
    if kinds == {float} and np.isfinite(found := np.fromiter(values, float, len(values))).all():
        return found
    if kinds == {int}:
        with contextlib.suppress(OverflowError):
            return np.array(values, dtype=np.int64)
    if not all(map(is_number, values)):
        raise TypeError("not a finite number")
    return np.array(values, dtype=object)


def _number(value: Any) -> int | float:
    return value.item() if isinstance(value, np.generic) else value
