"""What a person sees of a run: a live bar on a terminal, plain lines everywhere else."""

from __future__ import annotations

import sys
import time
from collections import deque

from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn
from rich.table import Column

from runs.printing import printable

PLAIN_EVERY = 30.0  # seconds between plain lines


def duration(seconds: float) -> str:
    """Seconds as people say them: 48 s, 12 min, 3.4 h."""
    if seconds < 90:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 5400 else f"{seconds / 3600:.1f} h"


class Bar:
    """Shows how far a run is, in steps or another unit. update() is cheap enough for every step of a loop."""

    def __init__(self, total: int, start: int, unit: str = "steps"):
        self.total, self.start, self.unit = total, start, unit
        self.console = Console(stderr=True)
        self.live = self.console.is_terminal
        self.began = self.shown = time.monotonic()
        self.step = start
        self.words = ""
        self.recent: deque[tuple[float, int]] = deque([(self.began, start)], maxlen=31)  # one a second
        if self.live:
            width = len(f"{total:,}/{total:,}")
            self.progress = Progress(  # where the window is narrow, the words are cut and not the numbers
                BarColumn(bar_width=10, table_column=Column(min_width=10)),
                TextColumn("{task.completed:,.0f}/{task.total:,.0f}", table_column=Column(min_width=width)),
                TextColumn("{task.fields[speed]}", table_column=Column(min_width=13)),
                TimeRemainingColumn(table_column=Column(min_width=7)),
                TextColumn("{task.fields[words]}", table_column=Column(no_wrap=True, overflow="ellipsis")),
                console=self.console,
                refresh_per_second=4,
            )
            self.task = self.progress.add_task("", total=total, completed=start, speed="", words="")
            self.progress.start()

    def update(self, step: int, words: str) -> None:
        """Move to `step`; `words` are the latest metrics, ready to be read."""
        self.step, self.words = step, words
        now = time.monotonic()
        if now - self.recent[-1][0] >= 1.0:
            self.recent.append((now, step))
        if now - self.shown < (0.5 if self.live else PLAIN_EVERY):
            return
        self.shown = now
        speed = self.speed()
        pace = f"{speed:,.0f} {self.unit}/s" if speed >= 10 else f"{speed:.2g} {self.unit}/s"
        if self.live:
            self.progress.update(self.task, completed=step, speed=pace, words=words)
        else:
            left = duration((self.total - step) / speed) if speed > 0 else "?"
            self.say(f"{step:,}/{self.total:,} {self.unit}  {pace}  {left} left  {words}")

    def speed(self) -> float:
        """Steps (or what the unit is) a second over the last half minute."""
        (then, before), now = self.recent[0], time.monotonic()
        return (self.step - before) / max(now - then, 1e-9)

    def say(self, line: str) -> None:
        """A line above the bar, or a plain one."""
        line = printable(line)
        if self.live:
            self.console.print(line, highlight=False, markup=False)
        else:
            print(line, file=sys.stderr, flush=True)

    def close(self) -> None:
        """Leave the terminal as it was."""
        if self.live:
            self.progress.stop()
