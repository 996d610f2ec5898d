"""Streaming of image files that do not fit into memory: decoded by threads, when needed or ahead of it.

images = data.StreamedImages(data.listing("imagenet").train.paths, size=224)
images[rows]               # (B, 3, 224, 224) uint8, rows (B,) int64, as a tensor of them all would give
images.prefetch(next_rows)  # begins to read what will be asked for next, while the batch is learned from

stream = data.Stream(data.listing("imagenet").train, size=224, batch=128, seed=1)
for images, labels in stream.epoch(0):                          # (128, 3, 224, 224) uint8, (128,) int64
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Self

import torch
from torch import Tensor

from vision.data.folders import ImageFiles
from vision.data.image_files import read_image
from vision.data.sets import Labeled, order


class StreamedImages:
    """N image files as a lazily read tensor (N, 3, size, size) uint8, whose rows are decoded by threads.

    paths: of the files. size: pixels, side (as image_files.read_image cuts them). workers: threads that decode;
        None: one a core. device: where what is read is put.
    """

    dtype = torch.uint8

    def __init__(
        self,
        paths: Sequence[Path],
        size: int,
        workers: int | None = None,
        device: str | torch.device = "cpu",
    ) -> None:
        if not paths or size < 1:
            raise ValueError(f"{len(paths)} files of {size} x {size} pixels: both are at least 1")
        self.paths, self.shape = paths, torch.Size((len(paths), 3, size, size))
        self.device = torch.device(device)
        self._pool = ThreadPoolExecutor(workers or os.cpu_count() or 1, thread_name_prefix="decode")
        self._begun: dict[tuple[int, ...], tuple[Tensor, list[Future]]] = {}

    def __len__(self) -> int:
        return len(self.paths)

    def __getitem__(self, rows: Tensor | slice) -> Tensor:
        """(B, 3, size, size) uint8. Raises ValueError that names a file that cannot be read."""
        numbers = self._numbers(rows)
        self.prefetch(rows)
        images, tasks = self._begun.pop(numbers)
        for task in tasks:
            task.result()
        return images.to(self.device)

    def prefetch(self, rows: Tensor | slice) -> None:
        """Start reading images in the background, which are then indexed in the same order. rows: (B,) int64, or a
        slice."""
        numbers = self._numbers(rows)
        if numbers not in self._begun:
            with torch.inference_mode(False):  # the threads, which write into it, are in no such mode
                images = torch.empty(len(numbers), *self.shape[1:], dtype=torch.uint8)
            self._begun[numbers] = (
                images,
                [self._pool.submit(self._read, row, into) for row, into in zip(numbers, images, strict=True)],
            )

    def split(self, size: int) -> Iterator[Tensor]:
        """All images in batches (size, C, H, W), while the next batch is prefetched."""
        parts = [slice(begin, begin + size) for begin in range(0, len(self), size)]
        for part, upcoming in zip(parts, [*parts[1:], None], strict=True):
            images = self[part]
            if upcoming:
                self.prefetch(upcoming)
            yield images

    def to(self, device: str | torch.device) -> Self:
        """Return images on that device from now on."""
        self.device = torch.device(device)
        return self

    def close(self) -> None:
        """Stop reading."""
        self._pool.shutdown(cancel_futures=True)

    def _numbers(self, rows: Tensor | slice) -> tuple[int, ...]:
        return tuple(range(len(self))[rows] if isinstance(rows, slice) else rows.tolist())

    def _read(self, row: int, into: Tensor) -> None:
        into.copy_(read_image(self.paths[row], self.shape[-1]))


class Stream:
    """Image files as batches of bytes, in an order that follows from the seed and the epoch's number alone.

    files: which, and of what classes. size: pixels, side of an image. batch: images. seed: of the order; None: the
    files' own order, every time. workers: threads that decode; None: one a core. ahead: batches that are read before
    they are asked for.
    """

    def __init__(
        self,
        files: ImageFiles,
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
        self.workers = workers

    def __len__(self) -> int:
        """Batches an epoch, the last of which may be smaller."""
        return -(-len(self.files.paths) // self.batch)

    def epoch(self, number: int = 0) -> Iterator[Labeled]:
        """Every image once. Raises ValueError that names a file that cannot be read, when its turn comes."""
        pictures, count = StreamedImages(self.files.paths, self.size, self.workers), len(self.files.paths)
        rows = torch.arange(count) if self.seed is None else order(count, self.seed, number)
        parts = rows.split(self.batch)
        try:
            for rows in parts[: self.ahead]:
                pictures.prefetch(rows)
            for turn, rows in enumerate(parts):
                images = pictures[rows]
                for upcoming in parts[turn + self.ahead : turn + self.ahead + 1]:
                    pictures.prefetch(upcoming)
                yield Labeled(images, self.files.labels[rows])
        finally:
            pictures.close()
