"""Task: the contract of sequence tasks, and their batches.

Shapes, after Karpathy 2015, "The unreasonable effectiveness of recurrent neural networks":

    many_to_many      a symbol for each input: characters of a text, frames of a film
    many_to_one       a class for a whole sequence
    one_to_many       a sequence for one vector
    encoder_decoder   a sequence for a sequence (Sutskever et al. 2014, arXiv 1409.3215)
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Literal, NamedTuple

import torch
from torch import Tensor

if TYPE_CHECKING:
    from vision.sequences.network import SequenceNetwork

IGNORE = -100  # of targets: nothing is asked there
PARTS = ("train", "validation", "test")
Shape = Literal["many_to_many", "many_to_one", "one_to_many", "encoder_decoder"]


class Batch(NamedTuple):
    """B sequences: the network's inputs and its targets."""

    inputs: Tensor  # (B, T) int64 symbols; (B, F) floats for one_to_many; (B, T, C, H, W) uint8 frames
    targets: Tensor  # (B, U) int64 symbols or classes, IGNORE where nothing is asked
    begins: bool = True  # states are zero before it; False: those after the batch before are carried on


class Task:
    """A sequence task: its symbols, its shape and its batches, which depend only on the step and the seed.

    inputs: symbols read, as strings; features of a vector for one_to_many; or the shape (C, H, W) of a frame.
    outputs: symbols or classes said, as strings. end: the one that ends a generated sequence.
    streamed: whether states are carried from a batch to the next. unit: of the target symbols, in messages.
    """

    shape: Shape
    inputs: tuple[str, ...] | int | tuple[int, int, int]
    outputs: tuple[str, ...]
    end: str | None = None
    streamed = False

    def training(self, step: int) -> Batch:
        """The batch (B, T) at a step, counted in sequences."""
        raise NotImplementedError

    def held_out(self, part: str) -> Iterator[Batch]:
        """The batches (B, T) of the validation or the test part."""
        raise NotImplementedError

    def show(self, network: SequenceNetwork, generator: torch.Generator) -> str:
        """What the network says, as a text for people."""
        raise NotImplementedError


def symbols(text: str, known: tuple[str, ...]) -> Tensor:
    """A text as indices (T,) int64 of its characters. Raises ValueError for a character that is not among them."""
    index = {character: number for number, character in enumerate(known)}
    if strange := sorted({character for character in text if character not in index}):
        raise ValueError(f"{strange[0]!r} is none of the characters {''.join(known)!r}")
    return torch.tensor([index[character] for character in text], dtype=torch.int64)


def padded(rows: list[Tensor], value: int) -> Tensor:
    """Sequences (N, longest) int64 of several lengths, filled with a value."""
    return torch.nn.utils.rnn.pad_sequence(rows, batch_first=True, padding_value=value)


def spread(number: int) -> int:
    """A number from 0 to 99 that looks random: by it examples are held out."""
    return (number * 2_654_435_761 >> 16) % 100


def part_of(number: int) -> str:
    """The part that an example with this number belongs to: a tenth each for validation and test."""
    share = spread(number)
    return "test" if share < 10 else "validation" if share < 20 else "train"
