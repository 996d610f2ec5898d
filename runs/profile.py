"""Profiler of a run: some of its iterations are recorded, summed up and drawn.

    python -m agents.dqn --env Breakout --profile 50

records 50 iterations, starting a few after the first loss, and writes to the run's folder
    profile/profile.txt    the share of each kind of work, the bottleneck, the most expensive operations
    profile/timeline.png   the same, and a few iterations over time
    profile/trace.json     everything, for https://ui.perfetto.dev
Profiling does not change the run's results.
"""

from __future__ import annotations

import contextlib
import functools
import json
import os
import time
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

import torch
from torch import nn
from torch.profiler import ProfilerActivity, record_function

from runs.log import Log
from runs.trace import LABELS, describe

SETTLING = 5  # iterations that learn before the recording begins
LONGEST = 30.0  # seconds after which a recording ends, however many iterations were wanted


class Recorder:
    """Profiler of a run's iterations, from a few after its first loss on. A context around the run's loop.

    Args:
        iterations: how many to record; 0 costs nothing.
        title: of the page and the picture.
        folder: where they are written.
        parts: tracked parts of the run, whose methods are labeled.
        device: "cuda" records the accelerator too.
        say: prints a line.
        side_task: the run's context for what is not part of learning.
    """

    def __init__(
        self,
        iterations: int,
        title: str,
        folder: Path,
        parts: Mapping[str, Any],
        device: torch.device,
        say: Callable[[str], None],
        side_task: Callable[[str], AbstractContextManager[None]],
    ) -> None:
        self.wanted, self.title, self.folder = iterations, title, folder
        self._parts, self._device, self._say, self._side_task = parts, device, say, side_task
        self._profiler: torch.profiler.profile | None = None
        self._labeled: list[tuple[Any, str]] = []
        self._times: list[float] = []  # seconds, when iterations began that were not recorded
        self._recorded = 0  # iterations, the one that warms up included

    def iteration(self, log: Log) -> None:
        """Call at the start of every iteration. log: of the run, in which the first loss starts the recording."""
        if not self.wanted:
            return
        if self._profiler is None:
            if any(key.startswith("loss/") for key in (*log.pending, *log.latest)):
                self._times.append(time.perf_counter())
                if len(self._times) > SETTLING:
                    self._start()
        elif self._recorded > self.wanted or time.perf_counter() - self._times[-1] > LONGEST:
            self._finish()
        else:
            self._profiler.step()
            self._recorded += 1

    def __enter__(self) -> Recorder:
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        if self._profiler is not None and kind is None:
            self._finish()
        elif self._profiler is not None:  # the run is being stopped: reading the trace would take seconds
            self._discard()
            self._say("no profile: the run was left while it was recorded")
        elif self.wanted:
            self._say(
                f"no profile: the run ended before, or less than {SETTLING + 2} iterations after, its first loss"
            )

    def _start(self) -> None:
        os.environ.setdefault("KINETO_LOG_LEVEL", "99")  # read when its library first records: no lines of its own
        for name, part in self._parts.items():
            if isinstance(part, nn.Module):
                continue
            for method in LABELS:
                if callable(getattr(part, method, None)):
                    setattr(part, method, _label(f"{name}.{method}", getattr(part, method)))
                    self._labeled.append((part, method))
        activities = [ProfilerActivity.CPU]
        if self._device.type == "cuda":
            activities.append(ProfilerActivity.CUDA)
        self._profiler = torch.profiler.profile(
            activities=activities,
            schedule=torch.profiler.schedule(wait=0, warmup=1, active=self.wanted, repeat=1),
            on_trace_ready=self._write,
            acc_events=True,
        )
        self._profiler.start()
        self._recorded = 1

    def _finish(self) -> None:
        """End the recording and write it, which takes seconds; a signal interrupts it."""
        profiler, self.wanted = self._profiler, 0
        with self._side_task("profile"):
            profiler.stop()  # calls _write
            self._profiler = None
        self._discard()

    def _discard(self) -> None:
        """End the recording without reading it."""
        if self._profiler is not None:
            with contextlib.suppress(RuntimeError):  # it had ended, and was broken off while it was read
                torch.autograd._disable_profiler()
        self._profiler, self.wanted = None, 0
        for part, method in self._labeled:
            delattr(part, method)
        self._labeled = []

    def _write(self, profiler: torch.profiler.profile) -> None:
        from runs import timeline  # here, because most runs draw nothing

        folder = self.folder
        try:
            folder.mkdir(exist_ok=True)
            profiler.export_chrome_trace(str(folder / "trace.json"))
            with open(folder / "trace.json") as file:
                events = [event for event in json.load(file)["traceEvents"] if event.get("ph") == "X"]
            unrecorded = (self._times[-1] - self._times[0]) / SETTLING * 1000
            page = describe(self.title, events, unrecorded)
            (folder / "profile.txt").write_text(page)
            timeline.draw(folder / "timeline.png", self.title, events)
        except (OSError, ValueError) as error:  # a full disk, a trace cut short: no reason to end a run
            self._say(f"could not write the profile to {folder}: {error}")
        else:
            self._say(f"profile, in {folder}:\n{page}")


def _label(name: str, method: Callable) -> Callable:
    """The method, with a label in the recording."""

    @functools.wraps(method)
    def labeled(*arguments: Any, **named: Any) -> Any:
        with record_function(name):
            return method(*arguments, **named)

    return labeled
