"""Progress of a run: a live bar on a terminal, plain lines everywhere else."""

from __future__ import annotations

import errno
import os
import sys
import time
from collections import deque
from typing import Any, TextIO

from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn
from rich.table import Column

from runs.printing import printable

PLAIN_EVERY = 30.0  # seconds between plain lines


def duration(seconds: float) -> str:
    """Seconds as text: 48 s, 12 min, 3.4 h."""
    if seconds < 90:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 5400 else f"{seconds / 3600:.1f} h"


class Lasting:
    """A text stream that discards its output, instead of raising, once its reader is gone (`| head`, a closed
    terminal).

    stream: sys.stdout or sys.stderr, to which everything else is passed on.
    """

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream

    def write(self, text: str) -> int:
        """Write to the stream, or do nothing once it is closed. Returns the number of characters."""
        try:
            return self._stream.write(text)
        except OSError as error:
            self._lost(error)
            return len(text)

    def flush(self) -> None:
        """Flush the stream, or do nothing once it is closed."""
        try:
            self._stream.flush()
        except OSError as error:
            self._lost(error)

    def _lost(self, error: OSError) -> None:
        if error.errno in (errno.EPIPE, errno.EIO):  # for ever: what is still in its buffer goes nowhere too
            nowhere = os.open(os.devnull, os.O_WRONLY)
            os.dup2(nowhere, self._stream.fileno())
            os.close(nowhere)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)


class Bar:
    """Progress bar of a run, in steps or another unit. update() is cheap enough for every step of a loop."""

    def __init__(self, total: int, start: int, unit: str = "steps", settled: bool = True, silent: bool = False):
        self.total, self.start, self.unit = total, start, unit
        self.console = Console(stderr=True)
        self.silent = silent  # another process speaks for this one
        self.live = self.console.is_terminal and not silent
        self.began = self.shown = time.monotonic()
        self.step = start
        self.settled = settled  # whether the remaining time can be estimated from its speed
        self.words, self.estimated = "", False
        self.recent: deque[tuple[float, int]] = deque([(self.began, start)], maxlen=31)  # one a second
        self.long: deque[tuple[float, int]] = deque([(self.began, start)], maxlen=61)  # one in ten seconds
        if self.live:
            width = len(f"{total:,}/{total:,}")
            self.progress = Progress(  # where the window is narrow, the words are cut and not the numbers
                BarColumn(bar_width=10, table_column=Column(min_width=10)),
                TextColumn("{task.completed:,.0f}/{task.total:,.0f}", table_column=Column(min_width=width)),
                TextColumn("{task.fields[speed]}", table_column=Column(min_width=13)),
                TextColumn("{task.fields[left]}", table_column=Column(min_width=12)),
                TextColumn("{task.fields[words]}", table_column=Column(no_wrap=True, overflow="ellipsis")),
                console=self.console,
                refresh_per_second=4,
            )
            self.task = self.progress.add_task("", total=total, completed=start, speed="", left="", words="")
            self.progress.start()

    def update(self, step: int, words: str) -> None:
        """Move to `step`. words: the latest metrics as text."""
        self.step, self.words = step, words
        now = time.monotonic()
        if now - self.recent[-1][0] >= 1.0:
            self.recent.append((now, step))
        if now - self.long[-1][0] >= 10.0:
            self.long.append((now, step))
        if now - self.shown < (0.5 if self.live else PLAIN_EVERY):
            return
        self.shown = now
        speed = self.speed()
        pace = f"{speed:,.0f} {self.unit}/s" if speed >= 10 else f"{speed:.2g} {self.unit}/s"
        if self.live:
            self.progress.update(self.task, completed=step, speed=pace, left=self._left(), words=words)
        else:
            self.say(f"{step:,}/{self.total:,} {self.unit}  {pace}  {self._left()}  {words}")

    def speed(self) -> float:
        """Steps (or other units) per second over the last half minute."""
        (then, before), now = self.recent[0], time.monotonic()
        return (self.step - before) / max(now - then, 1e-9)

    def restart_clock(self) -> None:
        """Restart the measurement of speed, from which the remaining time is estimated."""
        now = time.monotonic()
        self.settled = True
        self.recent.clear()
        self.recent.append((now, self.step))
        self.long.clear()
        self.long.append((now, self.step))

    def left(self) -> float | None:
        """Seconds left at the speed of the last ten minutes, pauses included; None if not known yet."""
        (then, before), now = self.long[0], time.monotonic()
        if not self.settled or self.step <= before or now - then < 5.0:
            return None
        return (self.total - self.step) * (now - then) / (self.step - before)

    def estimate(self) -> str | None:
        """The estimate of the remaining time as a sentence, once, after a minute and when learning has begun; else
        None."""
        left = self.left()
        if self.estimated or left is None or time.monotonic() - self.began < 60 or self.step >= self.total:
            return None
        self.estimated = True
        return (
            f"the remaining {self.total - self.step:,} {self.unit} take about {duration(left)} at the speed since "
            "learning began; Ctrl-C saves and leaves, the same command goes on"
        )

    def _left(self) -> str:
        left = self.left()
        if left is not None:
            return f"{duration(left)} left"
        return "time left: not known yet" if self.settled else "not learning yet"

    def say(self, line: str) -> None:
        """Print a line, above the bar if there is one."""
        line = printable(line)
        if self.silent:
            return
        if self.live:
            self.console.print(line, highlight=False, markup=False)
        else:
            print(line, file=sys.stderr, flush=True)

    def close(self) -> None:
        """Remove the bar."""
        if self.live:
            self.progress.stop()
