"""How far the runs of a sweep have come, read from their folders, and what has become of them and of their points."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Sequence
from pathlib import Path
from statistics import mean

from runs import files, reader
from runs.files import Damaged
from runs.lines import is_number, parse
from runs.score import RETURN, Score
from runs.sweep.plan import Study, Trial
from runs.sweep.samplers import Outcome

DEPTHS = ("*", "*/*", "*/*/*")  # of folders in a world's name


class Progress:
    """A run's folder, read as it grows.

    folder: None before the run has made it. step: the last one written. values: the score of each evaluation by its
    step.
    """

    def __init__(self) -> None:
        self.folder: Path | None = None
        self.score: Score = RETURN
        self.step, self.planned = 0, 0
        self.values: dict[int, float] = {}
        self._place = 0  # bytes of metrics.jsonl that are read

    @property
    def finished(self) -> bool:
        """Whether the run is finished."""
        return self.folder is not None and (self.folder / "finished.json").is_file()

    @property
    def last(self) -> float | None:
        """The score of the last evaluation."""
        return self.values[max(self.values)] if self.values else None

    @property
    def running(self) -> bool:
        """Whether a program holds the run's folder."""
        try:
            return self.folder is not None and reader.status(self.folder) == "running"
        except OSError:
            return False

    def update(self, root: Path, trial: Trial) -> None:
        """Read what is new in the folder of a trial's run. root: the folder of all runs."""
        if self.folder is None:
            self.folder = find(root, trial)
            if self.folder is None:
                return
            about = described(self.folder)
            self.planned = about["config"].get("steps") or 0
            if isinstance(about.get("score"), dict):
                self.score = Score(**about["score"])
        path = self.folder / reader.METRICS
        try:
            with open(path, "rb") as file:
                if path.stat().st_size < self._place:  # cut back to its checkpoint, as the run went on from there
                    self._place = 0
                file.seek(self._place)
                data = file.read()
        except OSError:
            return
        whole = data[: data.rfind(b"\n") + 1]
        self._place += len(whole)
        lines, _ = parse(whole)
        self.step = max(self.step, lines.last_step)
        for line in lines:
            value = line.get(self.score.metric)
            if is_number(value):
                self.values[line["step"]] = value


def described(folder: Path) -> dict:
    """The content of a run's config.json; {"config": {}} where it cannot be read."""
    try:
        return files.unsealed(folder / "config.json", {"program": str, "config": dict}, optional=True)
    except (OSError, Damaged):
        return {"config": {}}


def find(root: Path, trial: Trial) -> Path | None:
    """The folder of a trial's run below a root, which is named after the world as its program calls it; None where
    there is none yet."""
    flag, world = trial.study.world
    for depth in DEPTHS:
        for path in sorted(root.glob(f"{depth}/{trial.name}/config.json")):
            about = described(path.parent)
            if about.get("program") == trial.study.program and (not flag or about["config"].get(flag) == world):
                return path.parent
    return None


@dataclasses.dataclass
class State:
    """What has become of a run.

    status: "waiting", "running", "elsewhere" (another program runs it), "finished", "failed", "diverged" (a run of a
    search whose loss became no number), "stopped" early, or "saved", as the sweep was interrupted. reason: of a
    failure. killed: how often it was killed and started again.
    """

    trial: Trial
    status: str = "waiting"
    reason: str = ""
    killed: int = 0
    seconds: float = 0.0  # of all its processes that have ended
    began: float = 0.0  # time.monotonic() of the one that runs
    progress: Progress = dataclasses.field(default_factory=Progress)
    log_begin: int = 0  # bytes of its log that were there when it was started


def of(states: Iterable[State], study: Study, number: int | None = None) -> list[State]:
    """The states of a study's runs, or of one of its points."""
    found = [state for state in states if state.trial.study == study]
    return [state for state in found if number is None or state.trial.number == number]


def better(states: Iterable[State]) -> str:
    """Whether more or less of a study's score is better, "max" or "min", as its first run says."""
    return next((state.progress.score.better for state in states if state.progress.folder), "max")


def outcome(states: Sequence[State]) -> Outcome:
    """What has become of a point, from the states of its runs: the mean of their last evaluations once all have
    finished."""
    point, found = states[0].trial.point, {state.status for state in states}
    last = [state.progress.last for state in states]
    if "failed" in found or (found == {"finished"} and None in last):
        return Outcome(point, "failed")
    if "diverged" in found:
        return Outcome(point, "diverged")
    if found == {"finished"}:
        return Outcome(point, "finished", mean(last))
    if found <= {"finished", "stopped"}:
        reached = [state.progress.values for state in states if state.status == "stopped"]
        steps = {step for values in reached for step in values}
        means = {step: mean(values[step] for values in reached if step in values) for step in sorted(steps)}
        return Outcome(point, "stopped", None, means)
    return Outcome(point, "running")
