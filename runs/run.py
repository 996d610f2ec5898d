"""A training run: a folder, a clock and a log. It is iterated, resumes, times, saves and logs; it has no callbacks.

    run = Run(config, program="agents.dqn", world=world.name, protocol=world.protocol)
    run.track(online=online, optimizer=optimizer, memory=memory, world=world)
    for step in run.steps(config.steps, stride=world.count):
        ...
        run.log(learn(memory.sample(config.batch)))

metrics.jsonl in its folder holds what the algorithm did (bit-identical under the same seed on a CPU), clock.jsonl how
long it took, checkpoint/ all that is needed to resume exactly.
"""

from __future__ import annotations

import contextlib
import math
import time
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any, ClassVar

from runs import checkpoint, files, graph, machine, parallel, summary, threads
from runs.expected import expected
from runs.files import Finished, RunError
from runs.folder import Folder, inside, quoted
from runs.log import CLOCK, METRICS, Log
from runs.profile import Recorder
from runs.progress import Bar, duration
from runs.score import RETURN, Score
from runs.signals import Interrupted, Signals
from runs.tracked import Tracked
from runs.wandb_mirror import WandbMirror, agent_run

# A checkpoint is saved before an evaluation, unless the last one is more recent than this many times its saving took.
EVALUATION_SAVE_RATIO = 10


class Run:
    """One run: its folder, its clock, its log, its checkpoints.

    Args:
        config: a frozen dataclass that extends Options.
        program: the module named in commands, e.g. "agents.dqn".
        world: canonical name of the world (or data set): the folder above the run's.
        protocol: how scores are taken there, if there is more than one way.
        note: a sentence shown at the start.
        player: the module whose load() makes a policy from the saved parts; the program itself unless given.
        score: the metric of its evaluations by which the best is chosen.
        unit: of its steps: "steps", "images".
        follow_up: a command that takes the run's folder, suggested at its end: "python -m agents.watch".

    Raises:
        RunError: the folder belongs to another config, is in use, finished or cannot be written.
        ValueError: a number of the config is out of its flag's range.
    """

    stepping: ClassVar[bool] = False  # whether a run of this process has started to iterate
    current: ClassVar[Run | None] = None  # the one that iterates now
    held: ClassVar[list[Iterator[int]] | None] = None  # iterations, kept by launch until an error's run is saved

    def __init__(
        self,
        config: Any,
        program: str,
        world: str,
        protocol: str | None = None,
        note: str | None = None,
        player: str | None = None,
        score: Score = RETURN,
        unit: str = "steps",
        follow_up: str | None = None,
    ):
        config.validate()
        asked = parallel.whole(config, program)
        self.score, self.unit, self.note, self.follow_up, self.protocol = score, unit, note, follow_up, protocol
        self.config, self.program, self.world, self.player = config, program, world, player or program
        self.device = machine.choose(config.device)
        usual = program.rsplit(".", 1)[-1], str(asked.seed), agent_run()  # a sweep of W&B has many of one seed
        name = config.name or "-".join(filter(None, usual))
        self.folder = parallel.folder(inside(Path(config.folder), world, name))
        self.step, self.seconds, self.best, self._saving = 0, 0.0, score.worst, 0.0  # of the last checkpoint, seconds
        self.failed: set[str] = set()  # side tasks that raised an error: "film", "evaluation"
        self._signals, self._stopped, self._looping = Signals(), False, False
        self._log = Log(self.folder)
        described = {"program": program, "player": self.player, "world": {"name": world, "protocol": protocol}}
        described |= {"score": score.state(), "unit": unit, "follow_up": follow_up}
        described |= machine.circumstances(program, self.device)
        if folder := machine.package_folder(getattr(config, "env", "")):
            described["world"]["package_folder"] = folder  # for agents.watch, from anywhere
        self._place = Folder(self.folder, asked, described)
        self._tracked = Tracked(self._place, self._log, score, self.device, config.threads, config.accept_loss)
        self.wandb_mirror = WandbMirror(
            "disabled" if parallel.rank() else config.wandb,
            self.folder,
            identity=agent_run() or self.identity,
            name=f"{world}/{name}",
            group=config.wandb_group or f"{world}/{program}" + (f"/{protocol}" if protocol else ""),
            tags=(*config.tags, world, program) + ((protocol,) if protocol else ()),
            project=config.wandb_project,
            entity=config.wandb_entity,
        )

    @property
    def identity(self) -> str:
        """The run's id, which its files carry: eight hexadecimal digits."""
        return self._place.identity

    @property
    def parts(self) -> dict[str, Any]:
        """The tracked parts: name -> object."""
        return self._tracked.parts

    # ---- tracking and checkpoints -----------------------------------------------------------------------

    def track(self, **parts: Any) -> None:
        """Register the parts that checkpoints hold, and restore them if the folder has a checkpoint.

        A part has state_dict() and load_state_dict() or, if it is large, save(folder) -> state and load(folder,
        state), which keep files of their own and write only what is new. A part with a state for each game has
        truncate_episodes(worlds), which is called for the games that could not be resumed (World.interrupted).

        Raises:
            Finished: the run is finished already.
            RunError: every checkpoint in the folder is damaged, or the last one lacks
                a part, which the program did not have when it was saved.
        """
        self._tracked.parts = parts
        if self._place.finished:
            raise Finished(
                f"{self.folder} is finished ({self.result()}).\n{self._next()}\n"
                "For another run choose another --seed or --name."
            )
        if state := self._tracked.restore():
            self.step, self.seconds, self.best = state["step"], state["seconds"], state["best"]
            self._stopped = state["stopped"]
        elif kept := self._log.set_aside():  # of a run that died before its first checkpoint
            warnings.warn(
                f"no checkpoint yet: the run begins again, and its lines so far are in {kept}", stacklevel=2
            )

    @property
    def resumes(self) -> bool:
        """Whether there is a checkpoint to resume from."""
        return bool(checkpoint.steps(self.folder / "checkpoint"))

    def best_state(self) -> dict[str, Any]:
        """The content of checkpoint/best.pt, of the best evaluation: {"step": ..., "best": ..., "parts": {name:
        state}}.

        Raises RunError where it is missing or damaged.
        """
        return self._tracked.best_state()

    @contextlib.contextmanager
    def writing(self, name: str) -> Iterator[Path]:
        """A context that writes a file of the run's folder, of which it gives the path. An OSError becomes a
        RunError."""
        with self._place.writing(name, self.step) as path:
            yield path
        self._tracked.note_written(name)

    def _save(self) -> None:
        """Write a checkpoint of every tracked part now. Raises RunError, see Tracked.save."""
        began = time.monotonic()
        clock = {"step": self.step, "seconds": self._elapsed(), "best": self.best, "stopped": self._stopped}
        self._tracked.save(clock)
        self._saved = time.monotonic()
        self._saving = self._saved - began

    # ---- the clock --------------------------------------------------------------------------------------

    def steps(self, total: int, stride: int = 1) -> Iterator[int]:
        """Iterate from the current step to `total` steps, `stride` of them per iteration.

        Saves every config.save_every seconds, before evaluations, at the end, and on a signal (SIGINT, SIGTERM).
        """
        iteration = self._iterate(total, stride)
        if Run.held is not None:
            Run.held.append(iteration)
        return iteration

    def _iterate(self, total: int, stride: int) -> Iterator[int]:
        self.total, self.stride = total, stride
        if self.step < total < self.step + stride:
            few = f"{total - self.step:,} steps are fewer than the {stride:,} of one iteration, which is done whole"
            self.note = "\n".join(filter(None, (self.note, few)))
        load, self._looping = threads.Load(), True
        with self._place:
            with self._session(), self._recorder() as recorder:
                while self.step < total and not self._stopped:
                    recorder.iteration(self._log)
                    age = time.monotonic() - self._saved
                    if self._evaluates() and any(parallel.agree(age > EVALUATION_SAVE_RATIO * self._saving)):
                        self._save()
                    yield self.step
                    due = self.due(self.config.log_every)
                    self.step += stride
                    if due or self.step >= total or self._stopped:
                        self._flush()
                    self.bar.update(self.step, summary.latest(self._log.latest, self.score))
                    if not self.bar.settled and self._log.learned:
                        self.bar.restart_clock()
                    if estimate := self.bar.estimate():
                        self.bar.say("\n".join(filter(None, (estimate, threads.crowded(load)))))
                    old = time.monotonic() - self._saved > self.config.save_every
                    number, old = parallel.agree(self._signals.number or 0, old)
                    if number or old:
                        self._save()
                    if number:
                        self.bar.say(
                            f"saved at step {self.step:,} in {self.folder}; the same command goes on from here"
                        )
                        raise SystemExit(128 + number)
                self._save()
            self._looping = False
            self._finish()

    def stop(self) -> None:
        """Finish the run after this iteration, as if `total` steps had been reached."""
        self._stopped = True

    def due(self, every: int, first: int = 0) -> range:
        """A range with one element for each multiple of `every` steps that this iteration passes; false if there is
        none.

        every: 0 for never. first: an earlier step that counts as a multiple, too.
        """
        if not every:
            return range(0)
        after = self.step + self.stride
        early = self.step < first <= after and first < every
        return range(after // every - self.step // every or int(early))

    def evaluates(self) -> bool:
        """Whether this process evaluates in this iteration: every `evaluate_every` steps (0: never), at
        `evaluate_first`, and at the end of a longer run. Only the first process evaluates."""
        return parallel.rank() == 0 and self._evaluates()

    def _evaluates(self) -> bool:
        every, first = getattr(self.config, "evaluate_every", 0), getattr(self.config, "evaluate_first", 0)
        end = self.total > every and self.step + self.stride >= self.total
        return bool(every) and (end or bool(self.due(every, first)))

    @contextlib.contextmanager
    def side_task(self, what: str, needed: bool = False) -> Iterator[None]:
        """A context for work beside learning: an evaluation, a film, a picture.

        Global random generators are restored after it. A signal interrupts it at once: an evaluation is repeated when
        the run is resumed, from the checkpoint before it, and so is a task that a signal came before; anything else
        is skipped. An error in it is reported once, noted in `failed`, and the run continues, unless it is `needed`.
        """
        drawn, begun, self._signals.breakable = machine.random_state(), False, True
        try:
            if self._signals.number is not None:
                raise Interrupted
            begun = True
            yield
        except Interrupted:
            if what == "evaluation" or not begun:  # a context cannot leave its block out
                self._signals.breakable = False
                self.bar.say(f"{what} broken off, kept: {self._place.kept()}; the same command goes on from there")
                raise SystemExit(128 + (self._signals.number or 0)) from None
            self.bar.say(f"{what} broken off")
        except RunError:
            raise
        except Exception as error:
            if needed:
                raise
            if what not in self.failed:
                said = str(error).strip().splitlines() or ["no reason given"]
                self.bar.say(f"no {what} ({type(error).__name__}: {said[0]}); the run goes on without")
            self.failed.add(what)
        finally:
            self._signals.breakable = False
            machine.set_random_state(drawn)

    def save_after_error(self) -> None:
        """Save a checkpoint after an error in the middle of an iteration."""
        try:
            self._tracked.cancel_step()
            self._place.note(self.step, "an error ended an iteration in its middle, which was then begun again")
            self._save()
        except Exception as error:
            self.bar.say(f"could not save at step {self.step:,} ({error}). Kept: {self._place.kept()}")
            return
        self.bar.say(
            f"saved at step {self.step:,} in {self.folder}, in the middle of an iteration: the same command goes on "
            "from here, but not bit for bit as an unbroken run"
        )
        self.bar.close()

    def _recorder(self) -> Recorder:
        title, folder = f"{self.program} on {self.world}", self.folder / "profile"
        return Recorder(self.config.profile, title, folder, self.parts, self.device, self.bar.say, self.side_task)

    @contextlib.contextmanager
    def _session(self) -> Iterator[None]:
        self._place.begin()
        Run.stepping, Run.current = True, self
        self.wandb_mirror.open()
        self._began = self._saved = time.monotonic()
        self._signals.install()
        self.bar = Bar(self.total, self.step, self.unit, settled=False, silent=parallel.rank() > 0)
        where = machine.hardware(self.device)
        start = f"from step {self.step:,}" if self.step else "from the start"
        advised = graph.advice(self.config, self.device)
        notes = (expected(self.program, self.world, self.protocol, self.config), advised, self.note)
        self.bar.say(
            f"{self.program} on {self.world}: {self.total:,} steps {start}, on {where.get('gpu', where['device'])} "
            f"({where['processor']}, {where['cores']} cores, {threads.in_words()})\n"
            f"folder {self.folder}   W&B {self.wandb_mirror.words}" + "".join(f"\n{note}" for note in notes if note)
        )
        try:
            yield
        finally:
            self.seconds = self._elapsed()
            self._began = time.monotonic()
            whole = self._stopped or self.step >= self.total
            if message := self.wandb_mirror.finish(whole):
                self.bar.say(message)
            self.bar.close()
            self._signals.restore()
            Run.current = None

    def _elapsed(self) -> float:
        return self.seconds + time.monotonic() - self._began

    # ---- the log ----------------------------------------------------------------------------------------

    def log(self, metrics: dict[str, Any]) -> None:
        """Log metrics: numbers, lists of numbers or scalar tensors, without waiting for the device.

        A line of metrics.jsonl holds the means since the line before.
        """
        self._log.add(metrics)

    def log_evaluation(self, metrics: dict[str, float]) -> bool:
        """Write an evaluation's metrics as a line of metrics.jsonl. Returns whether its score is the best so far.

        NaN and infinity are never the best. The networks of the best evaluation are saved in checkpoint/best.pt.
        Raises RuntimeError outside the loop over steps(): a run that has finished takes no more results.
        """
        if not self._looping:
            raise RuntimeError("log_evaluation() is for the loop over run.steps(), which has not begun or is over")
        score, step = self.score, self.step + self.stride
        self._write_line(METRICS, {"step": step, **metrics})
        if score.metric not in metrics:
            return False
        value = self._log.latest["eval"] = metrics[score.metric]
        self.bar.say(summary.evaluation(step, metrics, score))
        if not math.isfinite(value):
            self.bar.say("that is not a score: the best evaluation so far stays the best")
        if not score.improves(value, self.best):  # of equal scores the later one is kept: it has learned longer
            return False
        self.best = value
        with self.writing("checkpoint/best.pt") as path:
            self._tracked.save_best(step, value, path)
        return True

    def _flush(self) -> None:
        line = {"step": self.step} | self._log.means()
        self._tracked.check_losses({key: [value] for key, value in line.items()}, self.step)
        self._write_line(METRICS, line)
        clock = {"step": self.step, "seconds": round(self._elapsed(), 3)}
        self._write_line(CLOCK, clock | {"speed/steps_per_second": round(self.bar.speed(), 2)})

    def _write_line(self, name: str, values: dict) -> None:
        with self._place.writing(name, self.step):
            self._log.write(name, values)
        self.wandb_mirror.poll()

    # ---- the end ----------------------------------------------------------------------------------------

    def result(self) -> str:
        """The last and best evaluation (or, without any, the last training return) as text."""
        return summary.result(self._log.lines(), self.score)

    def _next(self) -> str:
        follow_up = f"{self.follow_up} {quoted(self.folder)}   " if self.follow_up else ""
        return f"Next: {follow_up}python -m runs.compare {quoted(self.folder.parent)}"

    def _finish(self) -> None:
        self._tracked.verify_written(self.step)
        digests, words = self._log.verify(), self.result()
        if not self._log.learned:
            words += "; nothing was learned: the run ended before its first update"
        seconds = round(self.seconds, 1)
        finished = {"run": self.identity, "step": self.step, "seconds": seconds, "score": words} | digests
        if values := summary.evaluations(self._log.lines(), self.score):
            finished |= {"metric": self.score.metric, "final": values[-1], "best": self.score.best(values)}
        self._place.write("finished.json", files.sealed(finished), self.step)
        self.bar.say(
            f"finished {self.step:,} {self.unit} in {duration(self.seconds)}: {words}\n"
            f"folder {self.folder}\n{self._next()}"
        )
