"""Training batches, made by a thread ahead of time, in the order of a seed."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Generic, TypeVar

import torch

from vision.data.sets import order

T = TypeVar("T")


class Loader(Generic[T]):
    """Batches of a data set of `count` samples; what is in one depends only on the step and the seed.

    make: the batch of some rows, with a generator for its random numbers; it is called in another thread.
    """

    def __init__(self, count: int, batch: int, seed: int, make: Callable[[list[int], torch.Generator], T]) -> None:
        self.count, self.batch, self.seed, self.make = count, batch, seed, make
        self._pool = ThreadPoolExecutor(1, thread_name_prefix="batches")
        self._begun: dict[int, Future[T]] = {}

    def at(self, step: int) -> T:
        """The batch at a step, counted in samples; that of the next step is begun."""
        begun = self._begun.pop(step, None) or self._pool.submit(self._made, step)
        made = begun.result()
        self._begun = {step + self.batch: self._pool.submit(self._made, step + self.batch)}
        return made

    def _made(self, step: int) -> T:
        epoch, number = divmod(step // self.batch, max(1, self.count // self.batch))
        rows = order(self.count, self.seed, epoch)[number * self.batch : (number + 1) * self.batch]
        return self.make(rows.tolist(), torch.Generator().manual_seed(self.seed * 1_000_003 + step))

    def close(self) -> None:
        """Stop making batches."""
        self._pool.shutdown(cancel_futures=True)
