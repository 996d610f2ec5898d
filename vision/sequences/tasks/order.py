"""Temporal order: which of X and Y came first and second (Hochreiter & Schmidhuber 1997, task 6a)."""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import Tensor

from vision.sequences.network import SequenceNetwork
from vision.sequences.tasks.task import Batch, Task

DISTRACTORS = "abcd"
RELEVANT = "XY"
PLACES = ((0.1, 0.2), (0.5, 0.6))  # of the relevant symbols, as shares of the length: steps 10 to 20 and 50 to 60
HELD_OUT = 1_000  # sequences of a part


class Order(Task):
    """Sequences of random letters from "E" to the trigger "B", two of which are X or Y: one of four classes.

    length: of a sequence; the paper has 100 to 110.
    """

    shape = "many_to_one"
    inputs = (*DISTRACTORS, *RELEVANT, "E", "B")
    outputs = ("XX", "XY", "YX", "YY")

    def __init__(self, length: int, batch: int, seed: int) -> None:
        if length < 10:
            raise ValueError(f"--length {length}: the task order needs 10 or more")
        self.length, self.count, self.seed = length, batch, seed

    def training(self, step: int) -> Batch:
        return self._draw(self.count, torch.Generator().manual_seed(self.seed * 1_000_003 + step))

    def held_out(self, part: str) -> Iterator[Batch]:
        yield self._draw(HELD_OUT, torch.Generator().manual_seed(-1 if part == "validation" else -2))

    def _draw(self, count: int, generator: torch.Generator) -> Batch:
        def integers(low: int, high: int, *shape: int) -> Tensor:
            return torch.randint(low, high, (count, *shape), generator=generator)

        letters = integers(0, len(DISTRACTORS), self.length)
        letters[:, 0], letters[:, -1] = self.inputs.index("E"), self.inputs.index("B")
        kinds = integers(0, 2, 2)
        for number, (low, high) in enumerate(PLACES):
            places = integers(int(low * self.length), int(high * self.length) + 1)
            letters[torch.arange(count), places] = len(DISTRACTORS) + kinds[:, number]
        return Batch(letters, 2 * kinds[:, :1] + kinds[:, 1:])

    def show(self, network: SequenceNetwork, generator: torch.Generator) -> str:
        (letters, classes, _) = self._draw(5, generator)
        found = network(letters.to(network.device))[0].argmax(2).cpu()
        rows = zip(letters.tolist(), classes[:, 0].tolist(), found[:, 0].tolist(), strict=True)
        return "\n".join(
            f"{''.join(self.inputs[letter] for letter in row)}  {self.outputs[said]} (is {self.outputs[right]})"
            for row, right, said in rows
        )
