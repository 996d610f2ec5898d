"""Memory: the base class of replay memories, with checks, storage, n-step windows, and incremental save and load.

A memory is a set of ring buffers, tensors (S, ...) of S slots in which position p is in slot p % S. A save writes the
positions that were added since the last save as one more segment file.
"""

import os
import shutil
from collections import namedtuple
from collections.abc import Collection
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from replay import mapping, segments

Field = tuple[torch.dtype, tuple[int, ...]]  # dtype and shape
COUNTED = ("reward", "discount", "last")  # the fields that an n-step sample holds for each of its steps


class Memory:
    """Base of the memories in replay.MEMORIES, which define the storage (_layout, _rings) and draw from it.

    Sampling first draws places, then gathers their transitions: row r of a world is in place r % rows * worlds +
    world, and its next step `worlds` places further, around the ring.
    """

    def __init__(
        self,
        capacity: int,
        worlds: int,
        device: str | torch.device = "cpu",
        seed: int = 0,
        path: str | Path | None = None,
    ) -> None:
        if worlds < 1:
            raise ValueError(f"a memory of {worlds} worlds: there must be at least 1")
        if capacity < worlds:
            raise ValueError(
                f"capacity {capacity} is less than one transition for each of {worlds} worlds: raise --capacity"
            )
        self.capacity = capacity  # transitions, over all worlds
        self.worlds = worlds  # N
        self.rows = capacity // worlds  # T, transitions a world
        self.device = torch.device(device)
        self.path = None if path is None else Path(path)
        if self.path is not None and self.device.type != "cpu":
            raise ValueError(
                f"path={str(path)!r} with device={str(device)!r}: only a memory on the cpu can be "
                "memory-mapped, so leave one of the two out"
            )
        self.generator = torch.Generator(self.device).manual_seed(seed)
        self.adds = 0  # steps added, of all worlds together
        self._floor = 0  # rows before this one were in lost files and are not drawn
        self.record: type | None = None  # the named tuple's own type, known from the first add
        self.fields: dict[str, Field] = {}  # field -> dtype, shape without N
        self._store: dict[str, Tensor] = {}
        self._segments: list[segments.Segment] = []  # what the last save or load referred to, oldest first
        self._saves = 0
        self._changed: int | None = None  # the row whose `last` changed since it was saved

    def sample(self, batch: int, steps: int = 1) -> NamedTuple:
        """Draw `batch` transitions uniformly, with replacement: every field (B, ...), on the memory's device.

        With steps = n > 1 a draw is n consecutive steps of a world: reward, discount and last are (B, n),
        next_observation is that of the last step that counts, and every other field is the first step's. Steps after
        the first `last` do not count and have reward 0, discount 1, last True. So m = min(n, 1 + the number of last
        False) steps count, discount.prod(1) is the m-th step's discount, and with unclipped rewards (clip them before
        summing) the n-step target (Watkins 1989) is

            y = sum of gamma^i reward[:, i] + gamma^m discount.prod(1) max_a Q(next_observation, a)

        The newest n - 1 steps of each world have no n - 1 successors yet and are not drawn. In a FrameReplay
        the observations may be views of the same frames: copy before writing into one of them.
        Raises ValueError when there is nothing to draw (yet), or never would be.
        """
        return self.gather(self.draw(batch, steps), steps)

    def sequences(self, batch: int, length: int) -> NamedTuple:
        """Draw `batch` times L = `length` consecutive steps of one world: every field (B, L, ...).

        Only next_observation is (B, ...), the last step's: the others mostly are observation[:, 1:]. Starts are
        uniform over all that have L - 1 successors. Episodes may end within a sequence, followed by the next one: a
        learner resets its state after each `last`, and does not bootstrap across it. Raises as sample() does.
        """
        return self.unroll(self.draw(batch, length), length)

    def draw(self, batch: int, steps: int = 1) -> Tensor:
        """Uniform places (B,) int64 of transitions that have steps - 1 successors. Raises as sample() does."""
        raise NotImplementedError

    def gather(self, place: Tensor, steps: int = 1) -> NamedTuple:
        """What sample(batch, steps) returns, for chosen places (B,) int64, each with steps - 1 successors."""
        if steps == 1:
            return self._rebuild(place, place, {})
        missing = [name for name in (*COUNTED, "next_observation") if name not in self.fields]
        if missing or any(self.fields[name][1] for name in COUNTED):
            raise ValueError(
                f"steps={steps} needs next_observation and one reward, discount and last of shape (N,), "
                f"and the record has {self.fields}"
            )
        window = self._window(place, steps)
        fields = {name: self._take(name, window) for name in COUNTED}  # (B, n) each
        last = fields["last"]
        over = (last.cumsum(1) - last.long()) > 0  # (B, n) after the first last
        fields["reward"].masked_fill_(over, 0)
        fields["discount"].masked_fill_(over, 1)
        fields["last"] = last | over
        final = window.gather(1, (~over).sum(1, keepdim=True) - 1).squeeze(1)  # (B,)
        return self._rebuild(place, final, fields)

    def unroll(self, place: Tensor, length: int) -> NamedTuple:
        """What sequences(batch, length) returns, for chosen places (B,) int64, each with length - 1 successors."""
        raise NotImplementedError

    @torch.no_grad()
    def truncate_episodes(self, worlds: Tensor) -> None:
        """Set `last` of the newest step of the worlds in (N,) bool: a resumed run starts other games there.

        These games were not over, so the discount stays: a learner bootstraps from the next observation.
        """
        if self.adds and "last" in self.fields:
            self._store["last"][(self.adds - 1) % self.rows] |= worlds.to(self.device)
            self._changed = self.adds - 1 if self._changed is None else min(self._changed, self.adds - 1)

    @property
    def nbytes(self) -> int:
        """Bytes of all storage; 0 before the first add. Pages of RAM are taken only when written."""
        return sum(stored.nbytes for stored in self._store.values())

    def save(self, folder: str | Path) -> dict:
        """Write what was added since the last save to a new file in folder. Returns the state for `load`.

        The state is small and loads with weights_only=True. state["files"] maps the name of every file that it needs
        to its sha256; files of which all is overwritten are no longer listed, and the caller may delete them. Listed
        files that are missing are written again. Raises OSError when the disk is full, ValueError where what was
        added holds NaN or infinity; the memory and all earlier saves are then unchanged.
        """
        folder = Path(folder)
        folder.mkdir(parents=True, exist_ok=True)
        spans = self._spans() if self._store else {}
        low = {ring: first for ring, (first, _) in spans.items()}
        kept = [segment for segment in self._segments if segment.alive(low)]
        if not all((folder / segment.name).exists() for segment in kept):
            kept = []  # another folder, or deleted files
        if kept:
            saved = kept[-1].spans  # every add moves every ring on, so the last one reaches furthest
            spans = {ring: (max(first, saved[ring][1]), stop) for ring, (first, stop) in spans.items()}
            if self._changed is not None and "last" in spans:  # since it was saved
                first, stop = spans["last"]
                spans["last"] = (min(first, max(self._changed, low["last"])), stop)
        if any(start < stop for start, stop in spans.values()):
            self._check_numbers(spans)
            kept.append(segments.write(folder, self._saves + 1, self.adds, self._rings(), spans))
            self._saves += 1
        self._segments, self._changed = kept, None
        return {
            "memory": self._identity(),
            "fields": {name: [str(dtype), list(shape)] for name, (dtype, shape) in self.fields.items()},
            "adds": self.adds,
            "saves": self._saves,
            "floor": self._floor,
            "counters": {name: value.tolist() for name, value in self._counters().items()},
            "device": self.device.type,
            "generator": self.generator.get_state(),
            "files": {segment.name: segment.sha256 for segment in kept},
        }

    def _check_numbers(self, spans: dict[str, tuple[int, int]]) -> None:
        """Raise ValueError where the spans of floating-point rings hold NaN or infinity."""
        for name, ring in self._rings().items():
            if ring.dtype.is_floating_point:
                for block in segments.blocks(ring, *spans[name]):
                    if not block.isfinite().all():
                        raise ValueError(f"{name} in the memory is NaN or infinite")

    def loss(self, state: dict, without: Collection[str]) -> str:
        """A message about what load(folder, state, without) would lose.

        Raises ValueError where nothing would be left.
        """
        stored = min(state["adds"], self.rows)
        left = min(state["adds"] - self._stop(state, without), stored)
        if left <= 0:
            raise ValueError("nothing of the memory is left")
        lost = (stored - left) * self.worlds
        some = f"the oldest {lost:,}" if lost else "a few of the oldest"  # of which a frame is lost, and no row
        return f"{some} of the memory's {stored * self.worlds:,} transitions"

    def _stop(self, state: dict, without: Collection[str]) -> int:
        """The first row after those in lost files."""
        return max((segments.adds(name) for name in state["files"] if name in without), default=0)

    @torch.no_grad()
    def load(self, folder: str | Path, state: dict, without: Collection[str] = ()) -> None:
        """Restore what save(folder) saved, its random generator included: the same samples follow.

        (On another kind of device the generator starts from this memory's seed.)
        without: names of damaged files. Rows in them and in older files are no longer drawn.
        Raises ValueError, and changes nothing, when another file is missing or damaged or the sizes differ.
        """
        here, there = self._identity(), state["memory"]
        for name in here:
            if here[name] != there.get(name):
                raise ValueError(
                    f"the saved memory has {name} {there.get(name)!r} and this one {here[name]!r}: "
                    "make it with the same sizes, or start a new run"
                )
        fields = {
            name: (getattr(torch, dtype.removeprefix("torch.")), tuple(shape))
            for name, (dtype, shape) in state["fields"].items()
        }
        if self.fields and self.fields != fields:
            raise ValueError(f"the saved memory has fields {fields} and this one {self.fields}")
        if without:
            self.loss(state, without)
        floor = self._stop(state, without)
        files = [(name, sha256) for name, sha256 in sorted(state["files"].items()) if segments.adds(name) > floor]
        found = [segments.verify(Path(folder) / name, sha256) for name, sha256 in files]
        if fields and not self._store:
            self._allocate(fields)
        if self.record is None and fields:  # until the first add gives the type itself
            self.record = namedtuple("Transition", fields)
        for segment in found:  # oldest first, as they were written
            segments.read(Path(folder) / segment.name, self._rings())
        self.adds, self._saves, self._segments = state["adds"], state["saves"], found
        self._changed = None
        counters = state["counters"].items()
        self._restore({name: torch.tensor(value, device=self.device) for name, value in counters})
        self._floor = max(floor, state["floor"])
        if floor:
            self._lose(found)
        if state["device"] == self.device.type:
            self.generator.set_state(state["generator"])

    # ---- defined by subclasses

    def __len__(self) -> int:
        """Transitions that can be drawn."""
        raise NotImplementedError

    def lost(self, index: Tensor) -> Tensor:
        """Whether transitions, counted from the first ever added, can no longer be drawn: (...) int64 to bool.

        Row r of a world has the number r * worlds + world.
        """
        raise NotImplementedError

    def evicted(self, since: int) -> Tensor | None:
        """Places (M,) int64 that can no longer be drawn, though they were not overwritten, since there were `since`
        adds.

        It may include other places that cannot be drawn, and rows * worlds, which is not a place; None for none.
        """
        return None

    @property
    def least(self) -> int:
        """Steps of each world that are guaranteed to be drawable once as many were added."""
        return self.rows

    def _rebuild(self, place: Tensor, final: Tensor, fields: dict[str, Tensor]) -> NamedTuple:
        """The record of the places (B,), with next_observation from `final` (B,) and `fields` as they are."""
        raise NotImplementedError

    def _layout(self) -> dict[str, Field]:
        """Storage tensors: name -> dtype, shape, for the fields now known."""
        raise NotImplementedError

    def _rings(self) -> dict[str, Tensor]:
        """The rings: name -> (S, ...), views of the storage."""
        raise NotImplementedError

    def _spans(self) -> dict[str, tuple[int, int]]:
        """The positions in use: ring -> [first, stop)."""
        raise NotImplementedError

    def _identity(self) -> dict:
        """The sizes that a saved memory must share with the one it is loaded into."""
        return {"kind": type(self).__name__, "capacity": self.capacity, "worlds": self.worlds}

    def _counters(self) -> dict[str, Tensor]:
        """Small tensors beside the rings, (N,) each, which a state holds as lists."""
        return {}

    def _restore(self, counters: dict[str, Tensor]) -> None:
        """Take the counters of a state."""

    def _lose(self, found: list[segments.Segment]) -> None:
        """Draw no row before self._floor any more; found: the segments that were read."""

    # ---- shared

    def _check_record(self, transition: NamedTuple) -> None:
        """Check one step of all worlds before it is written. Raises ValueError or MemoryError."""
        if type(transition) is not self.record:
            self._first_add(transition)
        for (name, (dtype, shape)), value in zip(self.fields.items(), transition, strict=True):
            if value.shape != (self.worlds, *shape) or value.dtype != dtype:
                raise ValueError(
                    f"field {name!r} is {value.dtype} of shape {tuple(value.shape)}, but this memory of "
                    f"{self.worlds} worlds keeps {dtype} of shape {(self.worlds, *shape)}: every add must "
                    "bring one row for each world, always of the same shape and dtype"
                )

    def _first_add(self, transition: NamedTuple) -> None:
        """The first add, or the first after a load: note the record's type, and allocate storage."""
        names = getattr(transition, "_fields", None)
        if names is None or not all(isinstance(value, Tensor) for value in transition):
            raise ValueError(f"add() takes a NamedTuple of tensors, not {type(transition).__name__}")
        if self._store:
            if names != tuple(self.fields):
                raise ValueError(f"fields {names} in a memory of {tuple(self.fields)}: make another one for them")
        else:
            for name, value in zip(names, transition, strict=True):
                if value.shape[:1] != (self.worlds,):
                    raise ValueError(
                        f"field {name!r} has shape {tuple(value.shape)}, but this memory was made for "
                        f"{self.worlds} worlds: its first dimension must be {self.worlds}"
                    )
            self._allocate({n: (v.dtype, tuple(v.shape[1:])) for n, v in zip(names, transition, strict=True)})
        self.record = type(transition)

    def _allocate(self, fields: dict[str, Field]) -> None:
        self.fields = fields
        try:
            layout = self._layout()
            self._fit(sum(torch.Size(shape).numel() * dtype.itemsize for dtype, shape in layout.values()))
            with torch.inference_mode(False):  # or later adds outside of it could not write
                self._store = {name: self._room(name, *field) for name, field in layout.items()}
        except BaseException:
            self.fields = {}
            raise

    def _fit(self, needed: int) -> None:
        """Raise MemoryError where the storage cannot fit, before the system kills the run hours later. needed:
        bytes."""
        if self.path is not None:
            self.path.mkdir(parents=True, exist_ok=True)
            room, place = shutil.disk_usage(self.path).free, f"free on the disk of {self.path}"
        elif self.device.type == "cuda":
            room, place = torch.cuda.mem_get_info(self.device)[1], f"on {self.device}"
        elif hasattr(os, "sysconf") and "SC_PHYS_PAGES" in os.sysconf_names:
            room, place = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE"), "of RAM in this machine"
        else:
            return
        if needed > room:
            raise MemoryError(
                f"a memory of {self.capacity:,} transitions needs {needed:,} bytes, "
                f"and there are {room:,} {place}: lower --capacity"
            )

    def _room(self, name: str, dtype: torch.dtype, shape: tuple[int, ...]) -> Tensor:
        try:
            if self.device.type != "cpu" or 0 in shape:
                return torch.empty(shape, dtype=dtype, device=self.device)
            count = torch.Size(shape).numel() * dtype.itemsize
            if self.path is not None:
                return torch.from_numpy(mapping.mapped(self.path, count)).view(dtype).view(shape)
            # Of NumPy: huge pages, and no page touched (torch.empty does, in deterministic mode).
            return torch.from_numpy(np.empty(count, np.uint8)).view(dtype).view(shape)
        except OSError as error:
            raise MemoryError(
                f"{self.capacity:,} transitions cannot be kept on the disk of {self.path} "
                f"({error.strerror}): make room, or lower --capacity"
            ) from error
        except (RuntimeError, MemoryError) as error:
            raise MemoryError(f"{self.capacity:,} transitions: lower --capacity ({error})") from error

    def _take(self, name: str, place: Tensor) -> Tensor:
        """A field of the places (...): (..., *shape)."""
        stored = self._store[name].flatten(0, 1)
        if place.ndim == 1:
            return stored.index_select(0, place)
        return stored.index_select(0, place.reshape(-1)).unflatten(0, place.shape)

    def _window(self, place: Tensor, steps: int) -> Tensor:
        """(B,) places -> (B, steps), those of the steps that follow in the same world."""
        ahead = torch.arange(0, steps * self.worlds, self.worlds, device=self.device)
        return (place.unsqueeze(1) + ahead) % (self.rows * self.worlds)

    def check_draw(self, batch: int, steps: int) -> None:
        """Raise ValueError where draw(batch, steps) has nothing to draw (yet), or never would have."""
        if batch < 1:
            raise ValueError(f"a batch of {batch}: draw at least 1")
        if steps < 1:
            raise ValueError(f"{steps} steps: draw at least 1")
        if self.adds == 0:
            raise ValueError("sample() from an empty memory: add transitions first")
        if steps > self.least:
            raise ValueError(
                f"{steps} steps in a row from a memory that is certain to hold only {self.least} of each world: "
                "raise --capacity, or draw fewer steps"
            )
        if steps > (held := self.adds - self._floor):
            raise ValueError(f"{steps} steps in a row after only {held} of each world: add more first")
