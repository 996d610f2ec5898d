"""The engine of a sweep: draws points, starts runs, watches their folders, stops poor ones, restarts killed ones.

Every run is the ordinary program in a process of its own, in an ordinary run's folder: what is finished there is
never done again, and what was begun goes on from its checkpoint.
"""

from __future__ import annotations

import signal
import sys
import time
from collections import deque
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from runs.files import Diverged
from runs.folder import differences
from runs.sweep.asha import EarlyStopping
from runs.sweep.local import Ended, Local
from runs.sweep.plan import Plan, Study, Trial
from runs.sweep.preview import environment
from runs.sweep.ray_cluster import RayCluster
from runs.sweep.record import Record, last_line
from runs.sweep.samplers import Outcome, Sampler
from runs.sweep.state import Progress, State, better, described, of, outcome

POLL_EVERY = 1.0  # seconds between two readings of the runs' folders
PAUSE = 0.1  # seconds between two looks at their processes
SECOND = 1.0  # seconds in which signals count as one


class Sweep:
    """A sweep that is run once.

    Args:
        plan: what to run.
        sampler: draws the points of a search.
        executor: starts and stops processes: Local or RayCluster.
        record: the sweep's folder.
        early: stops poor runs; None: every run goes to its end.
        retries: how often a run that was killed is started again by one command; one whose node was lost always is.
        minutes: of all commands of this sweep together; 0: no limit.
        say: prints a line. show: shows the state, called often.
    """

    def __init__(
        self,
        plan: Plan,
        sampler: Sampler,
        executor: Local | RayCluster,
        record: Record,
        early: EarlyStopping | None = None,
        retries: int = 1,
        minutes: float = 0.0,
        say: Callable[[str], None] = print,
        show: Callable[[Sweep], None] = lambda sweep: None,
    ) -> None:
        self.plan, self.sampler, self.executor, self.record = plan, sampler, executor, record
        self.early, self.retries, self.minutes, self.say, self.show = early, retries, minutes, say, show
        self.states: dict[str, State] = {}
        self.number = {study.name: 0 for study in plan.studies}  # points so far
        self.interrupted = self.spent = False  # by a signal; the budget of time
        self._again: deque[Trial] = deque()  # were killed
        self._queue: deque[Trial] = deque()
        self._halting: set[str] = set()  # asked to stop at a rung
        self._began, self._polled, self._signaled = time.monotonic(), 0.0, 0.0
        self._restore()

    # ---- points -----------------------------------------------------------------------------------------

    def _restore(self) -> None:
        """What earlier commands of this sweep have done."""
        if not self.plan.dimensions:
            each = [self.plan.trials(study) for study in self.plan.studies]
            self._enter([trial for seeds in zip(*each, strict=True) for trial in seeds])
        for study in self.plan.studies if self.plan.dimensions else ():
            while (point := self.record.points.get((study.name, self.number[study.name] + 1))) is not None:
                self.number[study.name] += 1
                self._enter(self.plan.trials(study, self.number[study.name], point))
        for key, state in self.states.items():
            line = self.record.runs.get(key)
            if line is None:  # its folder, if it has one, is looked for when it is its turn
                continue
            state.seconds = line.get("seconds", 0.0)
            state.progress.update(Path(self.plan.folder), state.trial)
            finished = line.get("status") == "finished" and state.progress.finished
            known = line.get("status") == "diverged" or (line.get("status") == "stopped" and self.early)
            if finished or known:
                state.status = line["status"]
                self._queue.remove(state.trial)

    def _enter(self, trials: Sequence[Trial]) -> None:
        self.states |= {trial.key: State(trial) for trial in trials}
        self._queue.extend(trials)

    def of(self, study: Study, number: int | None = None) -> list[State]:
        """The states of a study's runs, or of one of its points."""
        return of(self.states.values(), study, number)

    def outcomes(self, study: Study) -> list[Outcome]:
        """What has become of a study's points so far, in their order."""
        return [outcome(self.of(study, number)) for number in range(1, self.number[study.name] + 1)]

    def _draw(self) -> bool:
        """Draw the next point, of the study that has the fewest. Returns whether there was one."""
        if not self.plan.dimensions:
            return False
        study = min(self.plan.studies, key=lambda each: self.number[each.name])
        number = self.number[study.name] + 1
        if number > self.sampler.count:
            return False
        point = self.sampler.point(study.name, number, self.outcomes(study), better(self.of(study)))
        self.record.add("point", study=study.name, number=number, values=point)
        self.number[study.name] = number
        self._enter(self.plan.trials(study, number, point))
        return True

    # ---- the loop ---------------------------------------------------------------------------------------

    def run(self) -> bool:
        """Run until all is done, the time is spent or a signal comes. Returns whether every run has finished, or was
        stopped early or diverged as a point of a search."""
        numbers = [getattr(signal, name) for name in ("SIGINT", "SIGTERM", "SIGHUP") if hasattr(signal, name)]
        heard = [number for number in numbers if signal.getsignal(number) is not signal.SIG_IGN]  # nohup ignores one
        before = {number: signal.signal(number, self._signal) for number in heard}
        try:
            while True:
                self._collect()
                self._read()
                self.show(self)
                if self.interrupted or self.over_budget():
                    break
                self._fill()
                if not self.executor.running and not self._elsewhere():
                    break
                time.sleep(PAUSE)
            self._save_all()
        finally:
            for key in list(self.executor.running):
                self.executor.kill(key)  # after an error of this program: they go on from their checkpoints
            for number, handler in before.items():
                signal.signal(number, handler)
            self.record.add("spent", seconds=round(time.monotonic() - self._began, 1))
        self.show(self)
        return all(state.status in ("finished", "stopped", "diverged") for state in self.states.values())

    def seconds(self) -> float:
        """Seconds spent by all commands of this sweep so far."""
        return self.record.spent + time.monotonic() - self._began

    def over_budget(self) -> bool:
        """Whether the time is spent."""
        self.spent = self.spent or bool(self.minutes) and self.seconds() >= 60 * self.minutes
        return self.spent

    def _signal(self, number: int, frame: Any) -> None:
        now = time.monotonic()
        if self.interrupted and now - self._signaled > SECOND:
            for key in list(self.executor.running):
                self.executor.kill(key)
        elif not self.interrupted:
            self.interrupted, self._signaled = True, now

    def _save_all(self) -> None:
        """Have every run save and end, and wait for it; a second signal kills them."""
        if self.executor.running:
            why = "the time is spent" if self.spent else "interrupted"
            self.say(f"{why}: {len(self.executor.running)} runs save their checkpoints")
        for key in list(self.executor.running):
            self.executor.stop(key)
        while self.executor.running:
            self._collect(ending=True)
            self.show(self)
            time.sleep(PAUSE)

    def _fill(self) -> None:
        """Start runs while there is room."""
        while True:
            waiting = self._again or self._queue
            expected = max((self.record.peaks.get(each.study.name, 0.0) for each in list(waiting)[:1]), default=0.0)
            if not self.executor.room(expected):
                return
            trial = self._next()
            if trial is None:
                return
            self._start(trial)

    def _next(self) -> Trial | None:
        if self._again:
            return self._again.popleft()
        if self.early and (trial := self.early.promotion(self.states)):
            return trial
        if self._queue or self._draw():
            return self._queue.popleft()
        return self.early.finalist(self.states) if self.early else None

    def _start(self, trial: Trial) -> None:
        state, root = self.states[trial.key], Path(self.plan.folder)
        state.progress.update(root, trial)
        if wrong := self._another_config(state):
            self._over(state, "failed", f"{state.progress.folder} holds a run with another config: {wrong}")
            return
        if state.progress.finished:
            self._over(state, "finished")
            return
        if state.progress.running:
            state.status = "elsewhere"
            self.say(f"{trial.key} is run by another program: its end is waited for")
            return
        log = self.record.log(trial.key)
        state.log_begin = log.stat().st_size if log.exists() else 0
        flags = list(self.plan.flags)
        if not any(each.partition("=")[0] == "--threads" for each in flags):
            flags.append(f"--threads={self.executor.threads}")
        command = [sys.executable, "-m", trial.study.program, *trial.arguments(flags, self.plan.folder)]
        expected = self.record.peaks.get(trial.study.name, 0.0)
        try:
            self.executor.start(trial.key, command, log, environment(), expected)
        except OSError as error:
            self._over(state, "failed", f"it could not be started: {error}")
            return
        state.status, state.began = "running", time.monotonic()

    def _another_config(self, state: State) -> str:
        """In what a run that is there already differs from the one that is asked for; "" where it does not."""
        asked = self.plan.configs.get(state.trial.key)
        there = described(state.progress.folder)["config"] if state.progress.folder else {}
        if asked is None or self.plan.dimensions or not there:
            return ""
        return "; ".join(differences(there, {key: asked.config.get(key) for key in there}, asked.binding))

    # ---- what becomes of runs ---------------------------------------------------------------------------

    def _collect(self, ending: bool = False) -> None:
        for ended in self.executor.ended():
            state = self.states[ended.key]
            state.seconds += ended.seconds
            state.progress.update(Path(self.plan.folder), state.trial)
            halted = ended.key in self._halting
            self._halting.discard(ended.key)
            if state.progress.finished:
                self._over(state, "finished", peak=ended.peak)
            elif ending and _signaled(ended.code):
                self._over(state, "saved", peak=ended.peak)
            elif halted and _signaled(ended.code):
                self._over(state, "stopped", peak=ended.peak)
            elif _signaled(ended.code):
                self._killed(state, ended)
            elif ended.code == Diverged.status and self.plan.dimensions:  # it would again: a result of the search
                self._over(state, "diverged", peak=ended.peak)
            else:
                why = last_line(self.record.log(ended.key), state.log_begin)
                self._over(state, "failed", f"exit {ended.code}: {why}", ended.peak)

    def _killed(self, state: State, ended: Ended) -> None:
        name = _signaled(ended.code)
        state.killed += not ended.lost
        if state.killed > self.retries:
            self._over(state, "failed", f"killed by {name}, {state.killed} times", ended.peak)
            return
        why = ended.lost or f"it was killed by {name}"
        self.say(f"{state.trial.key}: {why}; it is started again, from its last checkpoint")
        self.record.add(
            "run", run=state.trial.key, study=state.trial.study.name,
            status="lost" if ended.lost else "killed", reason=ended.lost or name,
            seconds=round(state.seconds, 1), peak=round(ended.peak, 3),
        )  # fmt: skip
        state.status, state.progress = "waiting", Progress()
        self._again.append(state.trial)

    def _over(self, state: State, status: str, reason: str = "", peak: float = 0.0) -> None:
        state.status, state.reason = status, reason
        if self.early and status != "failed":  # evaluations since the last look at its folder count at their rungs
            self.early.report(state)
        score = state.progress.last
        self.record.add(
            "run", run=state.trial.key, study=state.trial.study.name, status=status, reason=reason, score=score,
            step=state.progress.step, seconds=round(state.seconds, 1), peak=round(peak, 3), killed=state.killed,
        )  # fmt: skip
        words = {"stopped": "stopped early", "saved": "saved"}.get(status, status)
        result = f", {state.progress.score.in_words(score)}" if score is not None else ""
        where = f": see {self.record.log(state.trial.key)}" if status == "failed" else ""
        self.say(f"{state.trial.key} {words}{result}{f' ({reason})' if reason else ''}{where}")

    def _elsewhere(self) -> list[State]:
        return [state for state in self.states.values() if state.status == "elsewhere"]

    def _read(self) -> None:
        """Read what the runs have written, and stop those that are poor at a rung."""
        now = time.monotonic()
        if now - self._polled < POLL_EVERY:
            return
        self._polled = now
        for state in self._elsewhere():
            state.progress.update(Path(self.plan.folder), state.trial)
            if not state.progress.running:  # finished, or to be resumed
                state.status = "waiting"
                self._again.append(state.trial)
        for key in list(self.executor.running):
            state = self.states[key]
            state.progress.update(Path(self.plan.folder), state.trial)
            if self.early and self.early.halts(state) and key not in self._halting:
                self._halting.add(key)
                self.executor.stop(key)


def _signaled(code: int) -> str:
    """The name of the signal that a process ended by, also where it saved first; "" where it ended by itself."""
    number = -code if code < 0 else code - 128 if code > 128 else 0
    try:
        return signal.Signals(number).name if number else ""
    except ValueError:
        return ""
