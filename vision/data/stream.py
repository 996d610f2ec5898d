"""Batches of a set that does not fit: threads read and decode what is next while the present batch is learned from.

    files = data.listing("imagenet")
    stream = data.Stream(files.train, size=256, batch=128, seed=run.config.seed)
    for epoch in range(90):
        for images, labels in stream.epoch(epoch):     # (128, 3, 256, 256) uint8, (128,) int64

The order of an epoch follows from the seed and its number, and not from how quick the threads are.
"""

from __future__ import annotations

import os
from collections import deque
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path

import torch
from torch import Tensor

from vision.data.folders import Files, picture
from vision.data.sets import Labelled


class Stream:
    """Image files as batches of bytes.

    files: which, and of what classes. size: pixels, side of an image (as folders.picture cuts them). batch: images.
    seed: of the order; None: the files' own order, every time. workers: threads that decode; None: one a core.
    ahead: batches that are read before they are asked for.
    """

    def __init__(
        self,
        files: Files,
        size: int,
        batch: int = 128,
        seed: int | None = None,
        workers: int | None = None,
        ahead: int = 2,
    ) -> None:
        if not files.paths or batch < 1 or ahead < 1:
            raise ValueError(
                f"{len(files.paths)} files, batches of {batch}, {ahead} ahead: all of these are at least 1"
            )
        self.files, self.size, self.batch, self.seed, self.ahead = files, size, batch, seed, ahead
        self.workers = workers or os.cpu_count() or 1

    def __len__(self) -> int:
        """Batches an epoch, the last of which may be smaller."""
        return -(-len(self.files.paths) // self.batch)

    def epoch(self, number: int = 0) -> Iterator[Labelled]:
        """Every image once. Raises ValueError that names a file that cannot be read, when its turn comes."""
        waiting = iter(self._order(number).split(self.batch))
        pool = ThreadPoolExecutor(self.workers, thread_name_prefix="decode")
        read: deque[tuple[Tensor, Tensor, list[Future]]] = deque()

        def more() -> None:
            if (rows := next(waiting, None)) is not None:
                images = torch.empty(len(rows), 3, self.size, self.size, dtype=torch.uint8)
                tasks = [
                    pool.submit(self._decode, self.files.paths[row], into)
                    for row, into in zip(rows.tolist(), images, strict=True)
                ]
                read.append((images, self.files.labels[rows], tasks))

        try:
            for _ in range(self.ahead):
                more()
            while read:
                images, labels, tasks = read.popleft()
                for task in tasks:
                    task.result()
                more()
                yield Labelled(images, labels)
        finally:
            pool.shutdown(cancel_futures=True)

    def _order(self, number: int) -> Tensor:
        count = len(self.files.paths)
        if self.seed is None:
            return torch.arange(count)
        return torch.randperm(count, generator=torch.Generator().manual_seed(self.seed * 1_000_003 + number))

    def _decode(self, path: Path, into: Tensor) -> None:
        into.copy_(picture(path, self.size))
