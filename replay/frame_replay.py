"""Uniform replay of stacked pictures, every frame stored once.

A transition of Mnih et al. (2015) is two stacks of 4 frames, of which 7 are also in its neighbors. Here each
world keeps a ring of frames and a ring of rows that say where in it their k + 1 frames lie, so that a million
84 x 84 transitions take 7.2 GB instead of 56. Samples equal what was added, bit for bit:

- An episode's first stack starts a new chain of frames. The blank frames with which a stack is padded at the start of
  a game are not stored: every memory has one shared blank frame.
- Where a training episode ends but the game and its stack continue (a life lost), the chain continues as well.
- A new chain takes up to k frames more than its rows, for which 1.5% more frames are allocated. If episodes are so
  short that this is too little, the oldest rows are evicted earlier, which len() accounts for.
"""

import math
from pathlib import Path
from typing import NamedTuple

import torch
from torch import Tensor

from replay.memory import Field, Memory
from replay.segments import Segment

BLANK = 0  # the slot of the shared blank frame
PICTURES = ("observation", "next_observation")  # the fields that are rebuilt from frames
WORDS = (torch.int64, torch.int32, torch.int16, torch.uint8)  # a frame is moved as the widest that it fills


class FrameReplay(Memory):
    """The latest transitions of `worlds` worlds that step together, at most `capacity`, drawn uniformly.

    Records need the fields observation and next_observation, (N, k * c, ...) uint8, oldest frame first, where
    next_observation is observation moved on by one frame, and last, (N,) bool. After a step with last False
    the next observation must be this next_observation (checked on the cpu, by its newest frame).

    capacity: transitions over all worlds (each world keeps capacity // worlds). stack: k, frames in an
    observation. device: where they are kept. seed: of the memory's own generator. path: a folder, to keep
    them in memory-mapped files instead of RAM.
    Raises ValueError for invalid sizes, MemoryError (at the first add) where it does not fit.
    """

    def __init__(
        self,
        capacity: int,
        worlds: int,
        stack: int,
        device: str | torch.device = "cpu",
        seed: int = 0,
        path: str | Path | None = None,
    ) -> None:
        super().__init__(capacity, worlds, device, seed, path)
        if stack < 1:
            raise ValueError(f"a stack of {stack} frames: there must be at least 1")
        if self.rows < stack:
            raise ValueError(
                f"capacity {capacity} leaves {self.rows} transitions to each of {worlds} worlds, less than "
                f"one stack of {stack}: raise --capacity to {stack * worlds} or more"
            )
        self.stack = stack  # k
        self.slots = math.ceil(self.rows * 1.015) + 2 * stack + 2  # F, frames a world
        zeros = torch.zeros(worlds, dtype=torch.int64, device=self.device)
        self._written = zeros.clone()  # (N,) frames written so far: the position of the next one
        self._blanks = zeros.clone()  # (N,) how many of the latest row's k + 1 frames are the blank one
        self._tail = zeros.clone()  # (N,) the oldest row that still has all its frames
        self._prompt = self.device.type == "cpu"  # whether reading a tensor's value needs no synchronization
        self._worlds = torch.arange(worlds, device=self.device)
        self._first = 1 + self._worlds * self.slots  # (N,) where each world's frames begin
        self._spare = 1 + worlds * self.slots  # the slot for frames that are discarded
        self._span = torch.arange(stack + 1, device=self.device)
        # One add writes at most k + 1 frames into a world's ring, and costs it at most 2k + 1 rows: one for
        # each frame, and k more where it hits the start of a chain, whose blank frames hang on its first one.
        self._reach = torch.arange(2 * stack + 1, device=self.device)

    @torch.no_grad()
    def add(self, transition: NamedTuple) -> None:
        """Add one step of all worlds: every field (N, ...), of the same shape and dtype each time.

        Raises ValueError (on the CPU) where an observation is not the next_observation of the step before.
        """
        self._check_record(transition)
        observation, newest = self._words(transition.observation), self._words(transition.next_observation)
        if __debug__ and self._prompt:
            self._check_chain(observation, newest)
        self._begin_chains(observation)
        row = self.adds % self.rows
        for name in self._kept:
            self._store[name][row].copy_(getattr(transition, name))
        torch.sub(self._written + self._blanks, self.stack, out=self._store["_oldest"][row])
        self._store["_blanks"][row].copy_(self._blanks)
        slot = self._first + self._written % self.slots
        self._frames.index_copy_(0, slot, newest[:, -1].to(self.device))
        self._written += 1
        self.adds += 1
        self._evict()

    def draw(self, batch: int, steps: int = 1) -> Tensor:
        """Uniform places (B,) int64 of transitions that have steps - 1 successors. Raises as sample() does."""
        self.check_draw(batch, steps)
        ready = self.adds - (steps - 1)
        ends = (ready - self._tail).clamp_(min=0).cumsum(0)  # (N,) rows to draw from up to and with each world
        # Their number is known on the device only, hence a remainder; its bias is below 1e-12.
        drawn = torch.randint(1 << 62, (batch,), generator=self.generator, device=self.device) % ends[-1]
        world = torch.searchsorted(ends, drawn, right=True)
        row = ready + drawn - ends[world]  # a world's rows end at `ready`
        return row % self.rows * self.worlds + world

    def unroll(self, place: Tensor, length: int) -> NamedTuple:
        """What sequences(batch, length) returns, for chosen places (B,) int64, each with length - 1 successors."""
        window = self._window(place, length)
        fields = {name: self._take(name, window) for name in self._kept}
        slot = self._slots(window.view(-1))  # (B * L, k + 1)
        fields["observation"] = self._pictures(slot[:, :-1]).unflatten(0, window.shape)
        fields["next_observation"] = self._pictures(slot[length - 1 :: length, 1:])
        return self.record(**fields)

    def lost(self, index: Tensor) -> Tensor:
        """Whether transitions, counted from the first ever added, can no longer be drawn: (...) int64 to bool."""
        return index // self.worlds < self._tail[index % self.worlds]

    def evicted(self, since: int) -> Tensor:
        """Places (M,) int64 that can no longer be drawn, though they were not overwritten, since there were `since`
        adds.

        It may include other places that cannot be drawn, and rows * worlds, which is not a place.
        """
        most = min((self.adds - since) * len(self._reach), self.rows)  # of each world
        row = self._tail.unsqueeze(1) - 1 - torch.arange(most, device=self.device)  # (N, M)
        place = row % self.rows * self.worlds + self._worlds.unsqueeze(1)
        return place.masked_fill_(row < max(self.adds - self.rows, 0), self.rows * self.worlds).flatten()

    @property
    def least(self) -> int:
        """Steps of each world that are guaranteed to be drawable once as many were added."""
        return min(self.rows, self.slots // (self.stack + 1))  # if each of them started a chain

    def __len__(self) -> int:
        return int((self.adds - self._tail).sum())  # synchronizes with the device

    def _rebuild(self, place: Tensor, final: Tensor, fields: dict[str, Tensor]) -> NamedTuple:
        fields |= {name: self._take(name, place) for name in self._kept if name not in fields}
        slot = self._slots(place)
        if final is place:
            frames = self._pictures(slot)  # (B, (k + 1) * c, ...): both observations are views of them
            fields["next_observation"] = frames[:, self._channels :]
        else:
            frames = self._pictures(torch.cat([slot[:, :-1], self._slots(final)[:, 1:]], 1))
            fields["next_observation"] = frames[:, self.stack * self._channels :]
        fields["observation"] = frames[:, : self.stack * self._channels]
        return self.record(**fields)

    def _slots(self, place: Tensor) -> Tensor:
        """(M,) places -> (M, k + 1), where the frames of their observation and next_observation lie."""
        blanks = self._take("_blanks", place).unsqueeze(1)  # (M, 1)
        position = self._take("_oldest", place).unsqueeze(1) - blanks + self._span
        slot = self._first[place % self.worlds].unsqueeze(1) + position % self.slots
        return slot.masked_fill_(self._span < blanks, BLANK)

    def _pictures(self, slot: Tensor) -> Tensor:
        """(M, K) slots -> (M, K * c, ...) uint8."""
        frames = self._frames.index_select(0, slot.reshape(-1)).view(torch.uint8)
        return frames.view(len(slot), slot.shape[1] * self._channels, *self._picture)

    def _check_chain(self, observation: Tensor, newest: Tensor) -> None:
        """Raise ValueError where an observation or next_observation does not continue the stack before it.

        observation, newest: (N, k, words). Only one frame is compared: 40 us a step of 16 worlds, measured.
        """
        seen = observation[:, -1].to(self.device)
        if self.stack > 1 and not torch.equal(seen, moved := newest[:, -2].to(self.device)):
            wrong = (seen != moved).any(1).nonzero().flatten().tolist()
            raise ValueError(
                f"next_observation is not observation moved on by one frame in worlds {wrong}: it must be "
                "where the step led (never the next episode's first frame), or else use RowReplay"
            )
        if self.adds:
            known = self._frames.index_select(0, self._first + (self._written - 1) % self.slots)
            if not torch.equal(seen, known):
                wrong = ((seen != known).any(1) & ~self._latest("last")).nonzero().flatten().tolist()
                if wrong:
                    raise ValueError(
                        f"observation is not the last step's next_observation in worlds {wrong}, though "
                        "that step's last was False: an episode that stops must say so"
                    )

    def _begin_chains(self, observation: Tensor) -> None:
        """Write the first stack of every world whose frames do not continue the latest row.

        observation: (N, k, words). Sets self._blanks for the next row.
        """
        is_first = self._latest("last") if self.adds else torch.ones_like(self._worlds, dtype=torch.bool)
        self._blanks.sub_(1).clamp_(min=0)
        if self._prompt:
            worlds = is_first.nonzero().flatten()  # (M,) mostly empty
            if not len(worlds):
                return
        else:
            worlds = self._worlds  # asking which ones would synchronize with the device
        stack = observation.to(self.device)[worlds]  # (M, k, words)
        place = torch.arange(self.stack, device=self.device)
        written = self._written[worlds].unsqueeze(1)  # (M, 1)
        first = self._first[worlds].unsqueeze(1)  # (M, 1)

        slot = first + (written - self.stack + place) % self.slots  # (M, k) of the latest next_observation
        slot.masked_fill_(place < self._blanks[worlds].unsqueeze(1), BLANK)
        known = self._frames[slot]
        is_first = is_first[worlds] & (stack != known).flatten(1).any(1)
        if not self.adds:
            is_first = torch.ones_like(is_first)

        # Frames that are not needed go to the spare slot, so that shapes stay fixed.
        blank = (stack == 0).all(2).cumprod(1).sum(1)  # (M,) leading blank frames
        slot = first + (written - blank.unsqueeze(1) + place) % self.slots
        slot.masked_fill_(~is_first.unsqueeze(1) | (place < blank.unsqueeze(1)), self._spare)
        self._frames.index_copy_(0, slot.view(-1), stack.flatten(0, 1))
        self._written[worlds] += (self.stack - blank) * is_first
        self._blanks[worlds] = torch.where(is_first, blank, self._blanks[worlds])

    def _evict(self) -> None:
        """Move the tails past the rows that were overwritten, or whose oldest frame was."""
        self._tail.clamp_(min=self.adds - self.rows)
        row = self._tail.unsqueeze(1) + self._reach  # (N, 2k + 1)
        oldest = self._store["_oldest"].view(-1)[row % self.rows * self.worlds + self._worlds.unsqueeze(1)]
        gone = (oldest < (self._written - self.slots).unsqueeze(1)) & (row < self.adds)
        self._tail += gone.sum(1)

    def _latest(self, name: str) -> Tensor:
        return self._store[name][(self.adds - 1) % self.rows]

    def _words(self, observation: Tensor) -> Tensor:
        """(N, k * c, ...) uint8 as (N, k, words) of the widest integers that a frame fills, mostly a view."""
        frames = observation.reshape(self.worlds, self.stack, self._bytes)
        word = self._frames.dtype
        return (frames.clone() if frames.storage_offset() % word.itemsize else frames).view(word)

    def _layout(self) -> dict[str, Field]:
        for name in (*PICTURES, "last"):
            if name not in self.fields:
                raise ValueError(f"a record without {name!r} cannot be stored as frames: use RowReplay")
        dtype, shape = self.fields["observation"]
        if self.fields["next_observation"] != (dtype, shape):
            raise ValueError(f"fields {self.fields}: next_observation must be like observation")
        if dtype != torch.uint8 or len(shape) < 2 or shape[0] % self.stack:
            raise ValueError(
                f"observation is {dtype} of shape {('N', *shape)}, and not uint8 pictures of a stack of "
                f"{self.stack} frames, (N, stack * channels, H, W): use RowReplay, or name the world's stack"
            )
        if self.fields["last"] != (torch.bool, ()):
            raise ValueError(f"last is {self.fields['last']}, and not (N,) of torch.bool")
        kept = {name: field for name, field in self.fields.items() if name not in PICTURES}
        layout = {name: (type_, (self.rows, self.worlds, *size)) for name, (type_, size) in kept.items()}
        rows = (self.rows, self.worlds)
        layout["_oldest"] = (torch.int64, rows)  # the position of a row's first frame that is stored
        layout["_blanks"] = (torch.uint8, rows)  # how many blank ones come before it
        layout["_frames"] = (torch.uint8, (self._spare + 1, math.prod(shape) // self.stack))
        return layout

    def _allocate(self, fields: dict[str, Field]) -> None:
        super()._allocate(fields)
        shape = fields["observation"][1]
        self._kept = [name for name in fields if name not in PICTURES]
        self._channels, self._picture = shape[0] // self.stack, shape[1:]  # c, (H, W)
        stored = self._store["_frames"]
        stored[BLANK].zero_()
        self._bytes = stored.shape[1]
        widest = next(word for word in WORDS if self._bytes % word.itemsize == 0)
        self._frames = stored.view(widest)  # (1 + N * F + 1, words)

    def _rings(self) -> dict[str, Tensor]:
        rings = {name: stored for name, stored in self._store.items() if name != "_frames"}
        frames = self._store["_frames"][1 : self._spare].unflatten(0, (self.worlds, self.slots))
        return rings | {f"frames/{world}": frames[world] for world in range(self.worlds)}

    def _spans(self) -> dict[str, tuple[int, int]]:
        rows = dict.fromkeys((*self._kept, "_oldest", "_blanks"), (int(self._tail.min()), self.adds))
        oldest = self._store["_oldest"][self._tail % self.rows, self._worlds]  # (N,) the oldest frame in use
        spans = zip(oldest.tolist(), self._written.tolist(), strict=True)
        return rows | {f"frames/{world}": span for world, span in enumerate(spans)}

    def _identity(self) -> dict:
        return super()._identity() | {"stack": self.stack}

    def _counters(self) -> dict[str, Tensor]:
        return {"written": self._written, "blanks": self._blanks, "tail": self._tail}

    def _restore(self, counters: dict[str, Tensor]) -> None:
        self._written, self._blanks, self._tail = counters["written"], counters["blanks"], counters["tail"]

    def _lose(self, found: list[Segment]) -> None:
        self._tail.clamp_(min=self._floor)
        for world in range(self.worlds):
            first = min((segment.spans[f"frames/{world}"][0] for segment in found), default=self._written[world])
            rows = torch.arange(int(self._tail[world]), self.adds, device=self.device)
            oldest = self._store["_oldest"][rows % self.rows, world]
            self._tail[world] += (oldest < first).sum()  # rows whose oldest frames were in a lost file
        self._floor = int(self._tail.max())
        if self._floor >= self.adds:
            raise ValueError("nothing of the memory is left")
