"""Characters of a text: Python's language reference, which comes with Python, or any text file.

    python -m vision.sequences --text path/to/novel.txt

The reference is pydoc_data.topics of the standard library (Python Software Foundation License), as the running
version of Python has it. Some of its topics repeat others: of equal paragraphs only the first is kept, so that what
is held out was not read in training.
"""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import torch
from torch import Tensor

from vision.sequences.network import SequenceNetwork
from vision.sequences.tasks.task import IGNORE, Batch, Task

RARE = 10  # characters with fewer occurrences are written as UNKNOWN
UNKNOWN = "\ufffd"
BLOCK = 4_000  # characters or somewhat more: of twenty neighboring blocks one is for validation, one for the test
STREAMS = 16  # of an evaluation
WINDOW = 256  # characters of an evaluation's batch
SHOWN = 600  # characters of a sample


class Text(Task):
    """The next character of a text, for each of its characters.

    B streams read the text side by side, a window of `length` characters a step; the states are carried on, the
    gradients are not (truncated back-propagation through time). At the end of the text the streams begin again, from
    another place.
    path: a file in UTF-8. None: Python's language reference.
    Raises ValueError for a text too short for the batch.
    """

    shape = "many_to_many"
    streamed = True

    def __init__(self, path: Path | None, length: int, batch: int, seed: int, temperature: float) -> None:
        whole = reference() if path is None else deduplicated(path.read_text(encoding="utf-8", errors="replace"))
        counts = Counter(whole)
        known = sorted(character for character, count in counts.items() if count >= RARE) or sorted(counts)
        self.inputs = self.outputs = (*known, UNKNOWN) if len(known) < len(counts) else tuple(known)
        self.digest = hashlib.sha256(whole.encode()).hexdigest()
        self.parts = {name: self.encode(text) for name, text in split(whole).items()}
        self.length, self.count, self.seed, self.temperature = length, batch, seed, temperature
        self.stride = (len(self.parts["train"]) - length) // batch  # characters of a stream
        self.windows = (self.stride - 1) // length  # of a pass
        if self.windows < 1 or any(len(part) < 2 * STREAMS for part in self.parts.values()):
            least = 20 * (length + 1) * (batch + 1) // 18
            raise ValueError(f"a text of {len(whole):,} characters is too short for this batch: {least:,} are needed")

    def encode(self, text: str) -> Tensor:
        """A text as indices (T,) int64; characters that are too rare are UNKNOWN."""
        index = {character: number for number, character in enumerate(self.inputs)}
        other = index.get(UNKNOWN, 0)
        return torch.tensor([index.get(character, other) for character in text], dtype=torch.int64)

    def training(self, step: int) -> Batch:
        train, (turn, window) = self.parts["train"], divmod(step // self.count, self.windows)
        shift = torch.randint(
            self.length, (), generator=torch.Generator().manual_seed(self.seed * 1_000_003 + turn)
        ).item()
        places = torch.arange(self.count) * self.stride + shift + window * self.length
        rows = train[(places[:, None] + torch.arange(self.length + 1)).clamp(max=len(train) - 1)]
        return Batch(rows[:, :-1], rows[:, 1:], begins=window == 0)

    def held_out(self, part: str) -> Iterator[Batch]:
        """All characters of a part but each stream's first, in STREAMS streams of WINDOW characters (B, T) each."""
        text = self.parts[part]
        longest = -(-(len(text) - 1) // STREAMS)
        places = torch.arange(STREAMS)[:, None] * longest + torch.arange(longest)
        inputs = text[places.clamp(max=len(text) - 1)]
        targets = torch.where(places + 1 < len(text), text[(places + 1).clamp(max=len(text) - 1)], IGNORE)
        for begin in range(0, longest, WINDOW):
            yield Batch(inputs[:, begin : begin + WINDOW], targets[:, begin : begin + WINDOW], begins=begin == 0)

    def show(self, network: SequenceNetwork, generator: torch.Generator) -> str:
        return network.continue_text("\n\n", SHOWN, self.temperature, generator)


def reference() -> str:
    """Python's language reference. Raises ValueError where this Python comes without it."""
    try:
        from pydoc_data import topics
    except ImportError as error:
        raise ValueError("this Python comes without pydoc_data: name a text file with --text") from error
    return deduplicated("\n\n".join(text.strip("\n") for _, text in sorted(topics.topics.items())))


def deduplicated(text: str) -> str:
    """The text without paragraphs that it had before."""
    return "\n\n".join(dict.fromkeys(text.replace("\r\n", "\n").split("\n\n")))


def split(text: str) -> dict[str, str]:
    """The text in three parts, whole paragraphs each: of twenty blocks one is for validation and one for the test."""
    blocks, parts = [""], {name: [] for name in ("train", "validation", "test")}
    for paragraph in text.split("\n\n"):
        if len(blocks[-1]) >= BLOCK:
            blocks.append("")
        blocks[-1] += f"{paragraph}\n\n"
    if len(blocks) < 60:  # a short text, in one piece each
        ends = [0, int(0.9 * len(text)), int(0.95 * len(text)), len(text)]
        return {name: text[low:high] for name, low, high in zip(parts, ends, ends[1:], strict=False)}
    for number, block in enumerate(blocks):
        parts[{9: "validation", 19: "test"}.get(number % 20, "train")].append(block)
    return {name: "".join(each) for name, each in parts.items()}
