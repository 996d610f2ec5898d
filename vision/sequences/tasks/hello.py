"""The word "hello", letter by letter: the example of CS231n's lecture 10, a vocabulary of four letters."""

from __future__ import annotations

from collections.abc import Iterator

import torch

from vision.sequences.network import SequenceNetwork
from vision.sequences.tasks.task import Batch, Task, symbols

WORD = "hello"


class Hello(Task):
    """For each of "hell" the next letter, "ello": l is followed by l once and by o once, so that the state is needed.

    There is nothing to hold out: what is evaluated is what is learned.
    """

    shape = "many_to_many"
    inputs = outputs = ("h", "e", "l", "o")

    def __init__(self, batch: int) -> None:
        self.count = batch

    def training(self, step: int) -> Batch:
        word = symbols(WORD, self.inputs).expand(self.count, -1)
        return Batch(word[:, :-1], word[:, 1:])

    def held_out(self, part: str) -> Iterator[Batch]:
        yield self.training(0)

    def show(self, network: SequenceNetwork, generator: torch.Generator) -> str:
        return network.continue_text(WORD[0], len(WORD) - 1, 0.0, generator)
