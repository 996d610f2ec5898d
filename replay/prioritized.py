"""Prioritized replay: transitions are drawn in proportion to a power of their last TD error.

Schaul et al. 2016, "Prioritized experience replay", the proportional variant. It wraps a memory, which stores the
transitions, and chooses which of them are drawn.
"""

from collections.abc import Collection
from pathlib import Path
from typing import NamedTuple

import torch
from torch import Tensor

from replay import segments
from replay.memory import Memory
from replay.sum_tree import SumTree

RECENT = 100  # updates, after which the largest priority so far is limited by the largest of these updates
FURTHEST = 100.0  # times the latter, at most: beyond it was an outlier


class PrioritizedBatch(NamedTuple):
    """A batch of prioritized replay, with importance weights."""

    record: NamedTuple  # what the memory's own sample() or sequences() returns
    index: Tensor  # (B,) int64, for update(): the transitions' numbers, counted from the first ever added
    weight: Tensor  # (B,) float32 importance weights, the largest of the batch is 1


class PrioritizedReplay:
    """The transitions of a memory, each drawn with probability P(i) = p_i / sum of all p, p = (|error| + e)^a.

    memory: a RowReplay or FrameReplay, to which all transitions are added through this class. exponent: a, from 0
    (uniform) to 1. smallest: e, added to every error. period: only every `period`-th step of a world is drawn, as the
    start of sequences that overlap by length - period (Kapturowski et al. 2019).

    New transitions whose error is not given get the largest priority so far (the paper's algorithm 1, line 6), but at
    most FURTHEST times the largest of the last RECENT updates: otherwise a single outlier would give nearly all draws
    to new transitions for the rest of the run.
    Raises ValueError for numbers out of range.
    """

    def __init__(self, memory: Memory, exponent: float = 0.6, smallest: float = 1e-6, period: int = 1) -> None:
        if not 0 <= exponent <= 1:
            raise ValueError(f"exponent {exponent}: 0 draws uniformly, 1 in proportion to the error; choose between")
        if smallest <= 0:
            raise ValueError(f"smallest {smallest}: at 0 or below, what was once predicted is never drawn again")
        if period < 1:
            raise ValueError(f"a period of {period} steps: it must be at least 1")
        self.memory = memory
        self.exponent, self.smallest, self.period = exponent, smallest, period
        self._size = memory.rows * memory.worlds  # places, and one leaf more for what need not be set
        self.priorities = SumTree(self._size + 1, memory.device)
        self._largest = torch.ones((), device=memory.device)  # priority of what is new
        self._recent = torch.zeros((), device=memory.device)  # the largest since it was last looked at
        self._updates = 0
        self._worlds = torch.arange(memory.worlds, device=memory.device)
        self._given: Tensor | None = None  # (T, N) priorities that came with their transitions, NaN without
        self._seen = 0  # adds that the priorities know of
        self._ready = 0  # rows before this one have the successors that the last draw asked for
        self._saves = 0

    def __len__(self) -> int:
        return len(self.memory)

    @property
    def capacity(self) -> int:
        """Transitions over all worlds, as of the memory."""
        return self.memory.capacity

    @property
    def device(self) -> torch.device:
        """Where transitions and priorities are stored."""
        return self.memory.device

    @property
    def nbytes(self) -> int:
        """Bytes of all storage: the memory's and the priorities'."""
        return self.memory.nbytes + self.priorities.nbytes

    def add(self, transition: NamedTuple, error: Tensor | None = None) -> None:
        """Add one step of all worlds, as the memory does.

        error: (N,) of any sign, of which its priorities are made, as where actors compute them (Horgan et al. 2018);
        None: it gets the largest priority so far (see the class). A memory that is loaded knows no errors that were
        given for its newest rows, if they had no successors yet.
        """
        self.memory.add(transition)  # priorities are set before the next draw, for all adds at once
        if error is not None and self._given is None:
            self._given = torch.full((self.memory.rows, self.memory.worlds), torch.nan, device=self.device)
        if self._given is not None:
            row = self._given[(self.memory.adds - 1) % self.memory.rows]
            row.fill_(torch.nan) if error is None else row.copy_(self._priority(error))

    def truncate_episodes(self, worlds: Tensor) -> None:
        """As the memory does, (N,) bool."""
        self.memory.truncate_episodes(worlds)

    def sample(self, batch: int, steps: int = 1, importance_exponent: float = 1.0) -> PrioritizedBatch:
        """Draw `batch` transitions, stratified by priority; for steps > 1 see Memory.sample.

        importance_exponent: beta of the weights w_i = (N P(i))^-beta / max w of the batch, from 0 (none) to 1 (full
        correction). With another number of steps than in the last draw, the newest rows count as new again.
        Raises ValueError when there is nothing to draw (yet), or never would be.
        """
        place, index, weight = self._draw(batch, steps, importance_exponent)
        return PrioritizedBatch(self.memory.gather(place, steps), index, weight)

    def sequences(self, batch: int, length: int, importance_exponent: float = 1.0) -> PrioritizedBatch:
        """Draw `batch` sequences of `length` steps, fields (B, L, ...), by the priority of their first step.

        importance_exponent: as in `sample`. See Memory.sequences."""
        place, index, weight = self._draw(batch, length, importance_exponent)
        return PrioritizedBatch(self.memory.unroll(place, length), index, weight)

    @torch.no_grad()
    def update(self, index: Tensor, error: Tensor) -> None:
        """Set the priorities of drawn transitions: index (B,) of a PrioritizedBatch, error (B,) of any sign.

        Transitions that were overwritten since are ignored, and so are errors of NaN, whose transitions keep their
        priority. An infinite error gives the highest priority that a leaf can have. Where a
        transition has several errors, the largest counts. Raises ValueError for other shapes.
        """
        if index.shape != error.shape or index.ndim != 1:
            raise ValueError(f"index {tuple(index.shape)} and error {tuple(error.shape)}: both must be (B,)")
        value = self._priority(error)
        lost = self.memory.lost(index) | (index >= self._ready * self.memory.worlds) | value.isnan()
        highest = value.nan_to_num(0.0).max()
        self._largest, self._recent = (torch.maximum(known, highest) for known in (self._largest, self._recent))
        self._updates += 1
        if self._updates % RECENT == 0:
            bound = torch.where(self._recent > 0, FURTHEST * self._recent, self._largest)  # 0: all were NaN
            self._largest = torch.minimum(self._largest, bound)
            self._recent = torch.zeros_like(self._recent)
        self.priorities.set((index % self._size).masked_fill_(lost, self._size), value.masked_fill_(lost, 0.0))

    def save(self, folder: str | Path) -> dict:
        """Save the memory (Memory.save) and, to a new file, the priorities. Returns the state for `load`."""
        memory = self.memory.save(folder)
        self._saves += 1
        used = min(self._seen, self.memory.rows) * self.memory.worlds  # leaves that were ever set
        segment = segments.write(
            Path(folder),
            self._saves,
            self._seen,
            {"leaves": self.priorities.leaves},
            {"leaves": (0, used)},
            "priorities",
        )
        return {
            "memory": memory,
            "priorities": segment.name,
            "prioritized": self._identity(),
            "largest": self._largest.item(),
            "recent": self._recent.item(),
            "updates": self._updates,
            "seen": self._seen,
            "ready": self._ready,
            "saves": self._saves,
            "files": memory["files"] | {segment.name: segment.sha256},
        }

    def loss(self, state: dict, without: Collection[str]) -> str:
        """A message about what load(folder, state, without) would lose; raises ValueError where nothing would be
        left."""
        lost = [self.memory.loss(state["memory"], without)] if without & state["memory"]["files"].keys() else []
        return " and ".join(lost + ["all priorities"] * (state["priorities"] in without))

    @torch.no_grad()
    def load(self, folder: str | Path, state: dict, without: Collection[str] = ()) -> None:
        """Restore what save(folder) saved: the same draws follow.

        without: names of damaged files; see Memory.load. Without the file of priorities all transitions count as new.
        Raises ValueError, and changes nothing, when a file is missing or damaged or the sizes differ.
        """
        if "prioritized" not in state:
            raise ValueError("the saved memory is not prioritized: make it without priorities, or start a new run")
        if state["prioritized"] != self._identity():
            raise ValueError(
                f"the saved priorities have {state['prioritized']} and these {self._identity()}: "
                "make them with the same numbers, or start a new run"
            )
        file = Path(folder) / state["priorities"]
        known = file.name not in without
        if known:
            segments.verify(file, state["files"][file.name])
        self.memory.load(folder, state["memory"], without)
        self.priorities.leaves.zero_()
        if known:
            segments.read(file, {"leaves": self.priorities.leaves})
            place = torch.arange(self._size, device=self.device)
            newest = self.memory.adds * self.memory.worlds - 1
            lost = self.memory.lost(newest - (newest - place) % self._size)
            self.priorities.leaves[:-1].masked_fill_(lost, 0)
        self.priorities.recount()
        self._largest.fill_(state["largest"])
        self._recent.fill_(state["recent"])
        self._updates, self._seen, self._saves = state["updates"], state["seen"], state["saves"]
        self._ready = state["ready"] if known else 0  # 0: the next draw counts every row as new
        self._given = None

    def _priority(self, error: Tensor) -> Tensor:
        value = error.float().abs().add_(self.smallest).pow_(self.exponent)
        return value.clamp_(max=self.priorities.highest)

    def _identity(self) -> dict:
        return {"exponent": self.exponent, "smallest": self.smallest, "period": self.period}

    def _draw(self, batch: int, steps: int, importance_exponent: float) -> tuple[Tensor, Tensor, Tensor]:
        """Places, indices and weights, (B,) each."""
        memory = self.memory
        memory.check_draw(batch, steps)
        if steps + self.period - 1 > memory.least:
            raise ValueError(
                f"{steps} steps in a row every {self.period} from a memory that is certain to hold only "
                f"{memory.least} of each world: raise --capacity, or draw fewer steps"
            )
        self._catch_up(steps)
        place = self.priorities.draw(batch, memory.generator)
        newest = memory.adds * memory.worlds - 1
        index = newest - (newest - place) % self._size
        units = self.priorities.leaves.index_select(0, place)
        weight = (units / units.min()).pow_(-importance_exponent)  # N and the sum of all priorities cancel
        return place, index, weight

    def _catch_up(self, steps: int) -> None:
        """Set the priorities of rows that were added or evicted since the last draw, which need `steps` - 1
        successors."""
        memory = self.memory
        ready = memory.adds - (steps - 1)
        if memory.adds == self._seen and ready == self._ready:
            return
        first = max(min(self._ready, ready), memory.adds - memory.rows)
        row = torch.arange(first, memory.adds, device=memory.device).unsqueeze(1)  # (M, 1)
        index = row * memory.worlds + self._worlds  # (M, N)
        drawable = ~memory.lost(index) & (row < ready) & (row % self.period == 0)
        new = self._largest
        if self._given is not None:
            given = self._given[row.squeeze(1) % memory.rows]
            new = torch.where(given.isnan(), self._largest, given)
        leaf, value = (index % self._size).flatten(), (new * drawable).flatten()
        gone = memory.evicted(self._seen)
        if gone is not None:
            leaf, value = torch.cat([leaf, gone]), torch.cat([value, value.new_zeros(len(gone))])
        self.priorities.set(leaf, value)
        self._seen, self._ready = memory.adds, ready
