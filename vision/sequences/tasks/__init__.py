"""Sequence tasks, a file each: text, hello, order, numerals, sums, films.

task.py    the contract: symbols, shape, batches
text.py    many_to_many: characters of a text        hello.py    the same of one word
films.py   many_to_many: a class for each frame      order.py    many_to_one: what came first
numerals.py  one_to_many: numbers in words           sums.py     encoder_decoder: digit by digit
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

from vision.sequences.tasks.films import DRAWN, DrawnFilms, RecordedFilms
from vision.sequences.tasks.hello import Hello
from vision.sequences.tasks.numerals import Numerals
from vision.sequences.tasks.order import Order
from vision.sequences.tasks.sums import Sums
from vision.sequences.tasks.task import IGNORE, Batch, Task
from vision.sequences.tasks.text import Text

__all__ = ["IGNORE", "TASKS", "Batch", "Task"]


def _films(config: Any) -> Task:
    if config.data == DRAWN:
        return DrawnFilms(config.length, config.batch, config.seed)
    return RecordedFilms(Path(config.data), config.track, config.length, config.size, config.batch, config.seed)


TASKS: dict[str, Callable[[Any], Task]] = {  # of the config of vision.sequences
    "text": lambda config: Text(config.text, config.length, config.batch, config.seed, config.temperature),
    "hello": lambda config: Hello(config.batch),
    "order": lambda config: Order(config.length, config.batch, config.seed),
    "numerals": lambda config: Numerals(config.batch, config.seed),
    "sums": lambda config: Sums(config.length, config.batch, config.seed),
    "films": _films,
}
