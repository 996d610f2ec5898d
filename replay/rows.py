"""Uniform replay of whole rows (Lin 1992; Mnih et al. 2015, algorithm 1).

Every field is kept as it came, so that any record of tensors will do. For stacked pictures FrameReplay
holds the same transitions in an eighth of the room.
"""

from typing import NamedTuple

import torch
from torch import Tensor

from replay.memory import Field, Memory


class RowReplay(Memory):
    """The latest `capacity` transitions of `worlds` worlds that step together, drawn uniformly.

    capacity: transitions over all worlds (each world keeps capacity // worlds). device: where they are kept.
    seed: of the memory's own generator. path: a folder, to keep them in memory-mapped files instead of RAM.
    Raises ValueError for sizes that make no sense, MemoryError (at the first add) when it will not fit.
    """

    @torch.no_grad()
    def add(self, transition: NamedTuple) -> None:
        """Remember one step of all worlds: every field (N, ...), of the same shape and dtype each time."""
        self._admit(transition)
        row = self.adds % self.rows
        for kept, value in zip(self._store.values(), transition, strict=True):
            kept[row].copy_(value)
        self.adds += 1

    @torch.no_grad()
    def sample(self, batch: int) -> NamedTuple:
        """Draw `batch` transitions with replacement: every field (B, ...), on the memory's device."""
        self._check_sample(batch)
        drawn = torch.randint(len(self), (batch,), generator=self.generator, device=self.device)
        # The rows lie (T, N, ...): while the ring fills up, what is stored are the first len(self) of T * N.
        return self.record(*(self._store[name].flatten(0, 1).index_select(0, drawn) for name in self.record._fields))

    def __len__(self) -> int:
        return min(self.adds, self.rows) * self.worlds

    def _layout(self) -> dict[str, Field]:
        return {name: (dtype, (self.rows, self.worlds, *shape)) for name, (dtype, shape) in self.fields.items()}

    def _rings(self) -> dict[str, Tensor]:
        return self._store

    def _spans(self) -> dict[str, tuple[int, int]]:
        return dict.fromkeys(self._store, (max(self.adds - self.rows, 0), self.adds))
