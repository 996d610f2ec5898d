"""Vocabulary: the words that a captioner knows, as numbers."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterable, Sequence
from pathlib import Path

import torch
from torch import Tensor

from vision.captioning.metrics import tokenize

END, UNKNOWN = "<end>", "<unknown>"
IGNORE = -100  # of targets: behind the end of a sentence


class Vocabulary:
    """Words and their numbers: 0 ends a sentence, 1 stands for unknown words, and `start` is read before the first.

    words: all of them, END and UNKNOWN first.
    """

    def __init__(self, words: Sequence[str]) -> None:
        self.words = tuple(words)
        self.index = {word: number for number, word in enumerate(self.words)}
        self.start = len(self.words)

    @classmethod
    def of(cls, captions: Iterable[str], least: int = 1) -> Vocabulary:
        """The words that occur at least `least` times, the most frequent first. Raises ValueError without any."""
        counts = Counter(word for caption in captions for word in tokenize(caption))
        known = sorted((word for word in counts if counts[word] >= least), key=lambda word: (-counts[word], word))
        if not known:
            raise ValueError(f"no word occurs {least} times or more in the captions")
        return cls((END, UNKNOWN, *known))

    def __len__(self) -> int:
        return len(self.words)

    def encode(self, caption: str, longest: int) -> Tensor:
        """A caption's numbers (T,) int64, its first `longest` words and the end."""
        numbers = [self.index.get(word, 1) for word in tokenize(caption)[:longest]]
        return torch.tensor([*numbers, 0])

    def decode(self, numbers: Iterable[int]) -> str:
        """The sentence of numbers, up to its end."""
        found = []
        for number in numbers:
            if number == 0:
                break
            found.append(self.words[number])
        return " ".join(found)

    def save(self, path: Path) -> None:
        """Write the words as JSON."""
        path.write_text(json.dumps({"words": list(self.words)}), encoding="utf-8")

    @classmethod
    def load(cls, path: Path) -> Vocabulary:
        """Read what `save` wrote."""
        return cls(json.loads(path.read_text(encoding="utf-8"))["words"])
