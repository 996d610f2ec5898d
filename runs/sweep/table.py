"""The live table of a sweep, and its results."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Iterator, Sequence
from statistics import mean, stdev

from rich.console import Console, Group
from rich.live import Live
from rich.table import Table
from rich.text import Text

from runs.folder import quoted
from runs.printing import one_line, printable
from runs.progress import duration
from runs.score import short
from runs.sweep import space
from runs.sweep.engine import Sweep
from runs.sweep.plan import Study
from runs.sweep.state import State, better

EVERY = 0.5  # seconds between two pictures of the table
PLAIN_EVERY = 60.0  # and between two lines where there is no terminal
MARGIN = 8  # lines of the terminal that rows leave free
ORDER = ("running", "elsewhere", "failed", "waiting", "saved", "stopped", "diverged", "finished")  # of the rows
COLORS = {"running": "green", "failed": "bold red", "finished": "cyan"}
COLORS |= dict.fromkeys(("stopped", "diverged", "waiting"), "dim")
BEST = 10  # points in the result of a search


class LiveTable:
    """The state of a sweep on the terminal, drawn again twice a second; elsewhere a line a minute."""

    def __init__(self) -> None:
        self.terminal = Console()
        self._live: Live | None = None
        self._drawn = 0.0

    @contextlib.contextmanager
    def opened(self) -> Iterator[None]:
        """A context in which the table is on the terminal."""
        if not self.terminal.is_terminal:
            self._drawn = time.monotonic()
            yield
            return
        with Live(console=self.terminal, auto_refresh=False) as self._live:
            yield
        self._live = None

    def say(self, text: str) -> None:
        """Print lines above the table."""
        self.terminal.print(printable(text), highlight=False, markup=False, soft_wrap=True)

    def show(self, sweep: Sweep) -> None:
        """Draw the state, if the last picture is old enough."""
        now = time.monotonic()
        if now - self._drawn < (EVERY if self._live else PLAIN_EVERY):
            return
        self._drawn = now
        if self._live:
            self._live.update(table(sweep, self.terminal.height - MARGIN), refresh=True)
        else:
            self.say(counts(sweep))


def counts(sweep: Sweep) -> str:
    """How many runs are in which state, in words."""
    found = [state.status for state in sweep.states.values()]
    words = [f"{found.count(status)} {status}" for status in reversed(ORDER) if status in found]
    if sweep.plan.dimensions:
        drawn, total = sum(sweep.number.values()), sweep.sampler.count * len(sweep.plan.studies)
        words.insert(0, f"{drawn} of {total} points")
    return f"{', '.join(words)}; {duration(sweep.seconds())}"


def table(sweep: Sweep, rows: int = 20) -> Group:
    """The live table: what runs first, then failures, then the others, as many rows as fit."""
    shown = Table("run", "state", "steps", "score", "time", expand=False)
    states = sorted(sweep.states.values(), key=lambda state: ORDER.index(state.status))
    for state in states[: max(rows, 3)]:
        shown.add_row(*_cells(state))
    more = len(states) - max(rows, 3)
    return Group(shown, Text(counts(sweep) + (f" ({more} more)" if more > 0 else "")))


def _cells(state: State) -> list[Text]:
    progress = state.progress
    share = f" {progress.step / progress.planned:4.0%}" if progress.planned else ""
    steps = f"{short(progress.step)}{share}" if progress.step else ""
    score = progress.score.in_words(progress.last) if progress.last is not None else ""
    status = state.status + (f", killed {state.killed}x" if state.killed else "")
    words = f"{status}: {one_line(state.reason)[:60]}" if state.reason else status
    color = COLORS.get(state.status, "")
    seconds = state.seconds + (time.monotonic() - state.began if state.status == "running" else 0.0)
    texts = one_line(state.trial.key), steps, score, duration(seconds) if seconds else ""
    return [Text(texts[0]), Text(words, color), *map(Text, texts[1:])]


def results(sweep: Sweep) -> list[Table]:
    """The results: of a search its best points, else a row for every program and world."""
    if sweep.plan.dimensions:
        return [_points(sweep, study) for study in sweep.plan.studies]
    shown = Table("program", "world", "runs", "score", "lowest to highest", "time")
    for study in sweep.plan.studies:
        states = sweep.of(study)
        done = [each for each in states if each.status == "finished" and each.progress.last is not None]
        values = [each.progress.last for each in done]
        score = done[0].progress.score if done else None
        spread = f" ± {score.format(stdev(values))}" if len(values) > 1 else ""
        shown.add_row(
            study.program,
            one_line(study.world[1]),
            f"{sum(each.status == 'finished' for each in states)} of {len(states)}",
            f"{score.in_words(mean(values))}{spread}" if score else "",
            f"{score.format(min(values))} to {score.format(max(values))}" if len(values) > 1 else "",
            duration(sum(each.seconds for each in states)),
        )
    return [shown]


def ranked(sweep: Sweep, study: Study) -> list[tuple[int, float | None, str]]:
    """The points of a study, the best first: number, score and status. Points whose runs have finished come before
    those that were stopped early, these by how far they came, then those that diverged, and failed ones last."""
    sign = -1 if better(sweep.of(study)) == "max" else 1
    rows = []
    for number, found in enumerate(sweep.outcomes(study), 1):
        last = max(found.values, default=0)
        value = found.value if found.status == "finished" else found.values.get(last)
        order = ("finished", "stopped", "running", "diverged", "failed").index(found.status)
        rows.append(((order, -last, 0.0 if value is None else sign * value), number, value, found.status))
    return [row[1:] for row in sorted(rows)]


def _points(sweep: Sweep, study: Study) -> Table:
    names = [each.name for each in sweep.plan.dimensions]
    rows = ranked(sweep, study)
    tried = sum(status in ("finished", "stopped", "diverged") for *_, status in rows)
    shown = Table("point", "score", *names, "state", title=f"{study.name}: {tried} points")
    for number, value, status in rows[:BEST]:
        state = sweep.of(study, number)[0]
        point = [f"{each:g}" if isinstance(each, float) else str(each) for each in state.trial.point.values()]
        score = state.progress.score.format(value) if value is not None else ""
        steps = max((each.progress.step for each in sweep.of(study, number)), default=0)
        words = f"stopped at {short(steps)}" if status == "stopped" else status
        shown.add_row(str(number), score, *map(one_line, point), words)
    return shown


def closing(sweep: Sweep) -> list[str]:
    """Lines below the results: failures, the command of the best points, and how to go on."""
    lines = [
        f"failed: {state.trial.key}: {state.reason} (log: {sweep.record.log(state.trial.key)})"
        for state in sweep.states.values()
        if state.status == "failed"
    ]
    for study in sweep.plan.studies if sweep.plan.dimensions else ():
        rows = ranked(sweep, study)
        if rows and rows[0][2] == "finished":
            point = sweep.of(study, rows[0][0])[0].trial.point
            lines.append("best: " + " ".join(_command(study, sweep.plan.flags, space.words(point, study.kinds))))
    if sweep.interrupted or sweep.spent:
        lines.append("the same command goes on from here" + (", with more --minutes" if sweep.spent else ""))
    found = [state.progress.folder for state in sweep.states.values() if state.progress.folder]
    if worlds := list(dict.fromkeys(quoted(folder.parent) for folder in found)):
        lines.append(f"Next: python -m runs.compare {' '.join(worlds)}")
    return [one_line(line) for line in lines]


def _command(study: Study, flags: Sequence[str], words: Sequence[str]) -> list[str]:
    flag, world = study.world
    own = [f"--{flag}", quoted(world)] if flag else []
    return ["python", "-m", study.program, *own, *map(quoted, flags), *map(quoted, words)]
