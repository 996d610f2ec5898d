"""Numbers in words, written letter by letter from the digits: 305 -> "three hundred five"."""

from __future__ import annotations

import functools
from collections.abc import Iterator

import torch
from torch import Tensor
from torch.nn import functional as F

from vision.sequences.network import SequenceNetwork
from vision.sequences.tasks.task import IGNORE, Batch, Task, padded, part_of, symbols

SMALL = (
    "zero one two three four five six seven eight nine ten eleven twelve thirteen fourteen fifteen sixteen seventeen "
    "eighteen nineteen"
).split()
TENS = "twenty thirty forty fifty sixty seventy eighty ninety".split()
DIGITS = 4
END = "."


def in_words(number: int) -> str:
    """A number from 0 to 9999 in English words."""
    parts = []
    for size, name in ((1000, "thousand"), (100, "hundred")):
        if number >= size:
            parts += [SMALL[number // size], name]
            number %= size
    if number >= 20:
        parts.append(TENS[number // 10 - 2])
        number %= 10
    if number or not parts:
        parts.append(SMALL[number])
    return " ".join(parts)


class Numerals(Task):
    """Numbers from 0 to 9999, as the one-hot vectors of their four digits together, and their words."""

    shape = "one_to_many"
    inputs = DIGITS * 10
    outputs = (*sorted(set("".join([*SMALL, *TENS, "hundred", "thousand", " "]))), END)
    end = END

    def __init__(self, batch: int, seed: int) -> None:
        self.count, self.seed = batch, seed

    @staticmethod
    @functools.cache
    def numbers(part: str) -> Tensor:
        """The numbers (N,) int64 of a part."""
        return torch.tensor([number for number in range(10**DIGITS) if part_of(number) == part])

    def training(self, step: int) -> Batch:
        generator = torch.Generator().manual_seed(self.seed * 1_000_003 + step)
        known = self.numbers("train")
        return self.batch(known[torch.randint(len(known), (self.count,), generator=generator)])

    def held_out(self, part: str) -> Iterator[Batch]:
        yield self.batch(self.numbers(part))

    def batch(self, numbers: Tensor) -> Batch:
        """Numbers (B,) as digits (B, 40), with their words."""
        words = padded([symbols(in_words(each) + END, self.outputs) for each in numbers.tolist()], IGNORE)
        return Batch(features(numbers), words)

    def show(self, network: SequenceNetwork, generator: torch.Generator) -> str:
        known = self.numbers("validation")
        numbers = known[torch.randint(len(known), (5,), generator=generator)]
        said = network.generate(features(numbers).to(network.device), longest())
        return "\n".join(f"{number}: {text}" for number, text in zip(numbers.tolist(), said, strict=True))


def features(numbers: Tensor) -> Tensor:
    """One-hot digits (B, 40) of numbers (B,), the thousands first."""
    places = 10 ** torch.arange(DIGITS - 1, -1, -1)
    return F.one_hot(numbers[:, None] // places % 10, 10).flatten(1).float()


@functools.cache
def longest() -> int:
    """Letters of the longest number's words, with the end."""
    return max(len(in_words(number)) for number in range(10**DIGITS)) + 1
