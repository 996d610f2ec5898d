"""Sums, digit by digit: an encoder reads "123+456", a decoder writes "579".

As the addition of Zaremba & Sutskever 2014, arXiv 1410.4615, without its programs around it.
"""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import Tensor

from vision.sequences.network import SequenceNetwork
from vision.sequences.tasks.task import IGNORE, Batch, Task, padded, part_of, symbols

END = "."
HELD_OUT = 1_000  # sums of a part


class Sums(Task):
    """Sums of two numbers, read backwards as Sutskever et al. 2014 found better, and their results.

    length: digits of each number at most. A tenth of all pairs is held out for validation, and one for the test.
    """

    shape = "encoder_decoder"
    inputs = (*"0123456789+ ",)
    outputs = (*"0123456789", END)
    end = END

    def __init__(self, length: int, batch: int, seed: int) -> None:
        self.digits, self.count, self.seed = length, batch, seed

    def training(self, step: int) -> Batch:
        return self._draw("train", self.count, torch.Generator().manual_seed(self.seed * 1_000_003 + step))

    def held_out(self, part: str) -> Iterator[Batch]:
        yield self._draw(part, HELD_OUT, torch.Generator().manual_seed(-1))

    def _draw(self, part: str, count: int, generator: torch.Generator) -> Batch:
        rows: list[tuple[int, int]] = []
        while len(rows) < count:
            drawn = torch.randint(10**self.digits, (4 * count, 2), generator=generator).tolist()
            rows += [(a, b) for a, b in drawn if part_of(a * 10**self.digits + b) == part]
        rows = rows[:count]
        questions = torch.stack([self.read(f"{a}+{b}") for a, b in rows])
        return Batch(questions, padded([symbols(f"{a + b}{END}", self.outputs) for a, b in rows], IGNORE))

    def read(self, question: str) -> Tensor:
        """A sum as the network reads it (T,): backwards, padded to the longest."""
        return symbols(question.rjust(2 * self.digits + 1)[::-1], self.inputs)

    def show(self, network: SequenceNetwork, generator: torch.Generator) -> str:
        batch = self._draw("validation", 5, generator)
        said = network.generate(batch.inputs.to(network.device), self.digits + 2)
        asked = ["".join(self.inputs[each] for each in row)[::-1].strip() for row in batch.inputs.tolist()]
        return "\n".join(f"{question} = {text}" for question, text in zip(asked, said, strict=True))
