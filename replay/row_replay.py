"""Uniform replay of whole rows (Lin 1992; Mnih et al. 2015, algorithm 1).

Every field is stored as it is, so that any record of tensors works. For stacked pictures FrameReplay needs an eighth
of the memory.
"""

from typing import NamedTuple

import torch
from torch import Tensor

from replay.memory import Field, Memory


class RowReplay(Memory):
    """The latest `capacity` transitions of `worlds` worlds that step together, drawn uniformly.

    capacity: transitions over all worlds (each world keeps capacity // worlds). device: where they are kept.
    seed: of the memory's own generator. path: a folder, to keep them in memory-mapped files instead of RAM.
    Raises ValueError for invalid sizes, MemoryError (at the first add) where it does not fit.
    """

    @torch.no_grad()
    def add(self, transition: NamedTuple) -> None:
        """Add one step of all worlds: every field (N, ...), of the same shape and dtype each time."""
        self._check_record(transition)
        row = self.adds % self.rows
        for kept, value in zip(self._store.values(), transition, strict=True):
            kept[row].copy_(value)
        self.adds += 1

    def draw(self, batch: int, steps: int = 1) -> Tensor:
        """Uniform places (B,) int64 of transitions that have steps - 1 successors. Raises as sample() does."""
        self.check_draw(batch, steps)
        oldest = self._oldest
        if steps == 1 and oldest in (0, self.adds - self.rows):  # by place: while the ring fills up, the first places
            return torch.randint(len(self), (batch,), generator=self.generator, device=self.device)
        ready = len(self) - (steps - 1) * self.worlds
        drawn = torch.randint(ready, (batch,), generator=self.generator, device=self.device)  # the oldest is 0
        return (drawn + oldest * self.worlds) % (self.rows * self.worlds)

    def unroll(self, place: Tensor, length: int) -> NamedTuple:
        """What sequences(batch, length) returns, for chosen places (B,) int64, each with length - 1 successors."""
        window = self._window(place, length)
        fields = {name: self._take(name, window) for name in self.fields if name != "next_observation"}
        return self._rebuild(place, window[:, -1], fields)

    def lost(self, index: Tensor) -> Tensor:
        """Whether transitions, counted from the first ever added, can no longer be drawn: (...) int64 to bool."""
        return index < self._oldest * self.worlds

    def __len__(self) -> int:
        return (self.adds - self._oldest) * self.worlds

    @property
    def _oldest(self) -> int:
        """The first row that can be drawn."""
        return max(self.adds - self.rows, self._floor)

    def _rebuild(self, place: Tensor, final: Tensor, fields: dict[str, Tensor]) -> NamedTuple:
        names = self.record._fields
        if final is place:  # all of them alike
            return self.record(*(self._store[name].flatten(0, 1).index_select(0, place) for name in names))
        if "next_observation" in names:
            fields["next_observation"] = self._take("next_observation", final)
        return self.record(*(fields[name] if name in fields else self._take(name, place) for name in names))

    def _layout(self) -> dict[str, Field]:
        return {name: (dtype, (self.rows, self.worlds, *shape)) for name, (dtype, shape) in self.fields.items()}

    def _rings(self) -> dict[str, Tensor]:
        return self._store

    def _spans(self) -> dict[str, tuple[int, int]]:
        return dict.fromkeys(self._store, (self._oldest, self.adds))
