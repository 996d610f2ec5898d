"""A run is a folder, a clock and a page: it is iterated, it resumes, times, saves and logs. It never calls you.

    run = Run(config, program="agents.dqn", world=world.name, protocol=world.protocol)
    run.track(online=online, optimizer=optimizer, memory=memory, world=world)
    for step in run.steps(config.steps, stride=world.count):
        ...
        run.log(learn(memory.sample(config.batch)))

The folder is the truth: metrics.jsonl holds what the algorithm did (bit-identical under the same seed on a
CPU), clock.jsonl how long it took, checkpoint/ all that is needed to go on exactly.
"""

from __future__ import annotations

import contextlib
import dataclasses
import math
import time
import warnings
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar, Literal

import torch

from runs import checkpoint, files, flag_types, machine, threads
from runs.files import Damaged, Finished, RunError
from runs.flag_types import Count, NonNegative, Whole
from runs.folder import Folder, inside, quoted
from runs.log import CLOCK, METRICS, Log
from runs.profile import Recorder
from runs.progress import Bar, duration
from runs.score import RETURN, Score, number
from runs.signals import Interrupted, Signals
from runs.wandb_mirror import WandbMirror

WORTH = 10  # times that a checkpoint's saving took: so long ago it is old, and an evaluation begins with a new one

KEPT = ("backbone.safetensors",)  # files that nothing reads back in training: verified at the end
KNOWN = {"step", "threads", "machine", "best", "stopped", "parts", "files", "log", "random"}  # of a checkpoint


@dataclasses.dataclass(frozen=True)
class Options:
    """The flags every program has for its run."""

    GROUP: ClassVar[str] = "run"

    seed: Whole = 1  # of everything random: the same seed gives the same run
    device: str = "auto"  # auto, cpu, cuda, cuda:1, mps
    folder: Path = Path("results")  # where runs lie
    name: str | None = None  # of this run's folder; <program>-<seed> unless given
    wandb: Literal["auto", "online", "offline", "disabled"] = "auto"  # auto: online when logged in, else offline
    wandb_project: str | None = None  # None: WANDB_PROJECT of the environment, else saccade
    wandb_entity: str | None = None  # the team or user it belongs to; None: the account's own
    wandb_group: str | None = None  # None: <world>/<program>, whose runs are seeds of one another
    threads: Whole = 0  # of torch on the CPU; 0: as many as cores are free at the start
    tags: tuple[str, ...] = ()  # W&B tags
    save_every: NonNegative = 120.0  # seconds between checkpoints
    log_every: Count = 5_000  # agent steps a line of metrics.jsonl
    accept_loss: bool = False  # go on without what is damaged of the run's folder; its record then says what was lost
    profile: Whole = 0  # iterations to record, soon after the first loss: see where the time goes in profile/

    @property
    def binding(self) -> tuple[str, ...]:
        """Flags of folder.OUTWARD that change what is learned under this config, and must stay as they are."""
        return ()

    def validate(self) -> None:
        """Raise ValueError for numbers that a flag does not take, or that do not go together."""
        flag_types.check(self)


class Run:
    """One run: its folder, its clock, its log, its checkpoints.

    Args:
        config: a frozen dataclass that extends Options.
        program: the module to be named in commands, e.g. "agents.dqn".
        world: canonical name of the world (or data set): the folder above the run's.
        protocol: how scores are taken there, if there is more than one way.
        note: a sentence to be shown at the start.
        player: the module whose load() makes a policy of what is saved; the program itself unless given.
        score: the metric of its evaluations by which the best is chosen.
        unit: what its steps are: "steps", "images".
        follow_up: a command that takes the run's folder, to be named at its end: "python -m agents.watch".

    Raises:
        RunError: the folder belongs to another config, is in use, finished or cannot be written.
        ValueError: the config has a number that a flag does not take.
    """

    stepping: ClassVar[bool] = False  # whether a run of this process has begun to iterate
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
        self.note, self.player = note, player or program
        self.judged_by, self.unit, self.follow_up = score, unit, follow_up
        self.config, self.program, self.world = config, program, world
        self.device = machine.choose(config.device)
        name = config.name or f"{program.rsplit('.', 1)[-1]}-{config.seed}"
        self.folder = inside(Path(config.folder), world, name)
        self.step, self.seconds, self.best = 0, 0.0, score.worst
        self.parts: dict[str, Any] = {}
        self.failed: set[str] = set()  # of what a run can do without: "film", "evaluation"
        self._signals = Signals()
        self._saving = 0.0  # seconds that the last checkpoint took
        self._stopped = False
        self._kept: dict[str, str] = {}  # of KEPT files, the SHA-256 that they were written with
        self._log = Log(self.folder)
        described = {"program": program, "player": self.player, "world": {"name": world, "protocol": protocol}}
        described |= {"score": score.state(), "unit": unit}
        described |= machine.circumstances(program, self.device)
        if folder := machine.package_folder(getattr(config, "env", "")):
            described["world"]["package_folder"] = folder  # for agents.watch, from anywhere
        self._place = Folder(self.folder, config, described)
        self.mirror = WandbMirror(
            config.wandb,
            self.folder,
            identity=self.identity,
            name=f"{world}/{name}",
            group=config.wandb_group or f"{world}/{program}" + (f"/{protocol}" if protocol else ""),
            tags=(*config.tags, world, program) + ((protocol,) if protocol else ()),
            project=config.wandb_project,
            entity=config.wandb_entity,
        )

    @property
    def identity(self) -> str:
        """Eight hexadecimal digits, which its files carry."""
        return self._place.identity

    # ---- tracking and checkpoints -----------------------------------------------------------------------

    def track(self, **parts: Any) -> None:
        """Name what a checkpoint holds, and restore it all if the folder has a checkpoint.

        A part has state_dict() and load_state_dict(), or, if it is large, save(folder) -> state and
        load(folder, state), which keep files of their own and write only what is new. One that follows games has
        truncate_episodes(worlds), called for those which a world says were `interrupted` when it was restored.

        Raises:
            Finished: the run is finished already.
            RunError: every checkpoint in the folder is damaged, or the last one lacks
                a part, which the program did not have when it was saved.
        """
        self.parts = parts
        folder = self.folder / "checkpoint"
        if self._place.finished:
            raise Finished(
                f"{self.folder} is finished ({self.score()}).\n{self._next()}\n"
                "For another run choose another --seed or --name."
            )
        found = None  # the newest whose memory is damaged
        for path, state in checkpoint.intact(folder, self.identity):
            lost = checkpoint.damaged(folder, state)
            if not lost:
                return self._restore(state)
            warnings.warn(
                f"checkpoint {path} is damaged ({', '.join(lost.values())}); the one before it is tried", stacklevel=2
            )
            found = found or (state, lost)
        if found:
            return self._restore(*found)
        if checkpoint.steps(folder):
            raise RunError(
                f"every checkpoint in {folder} is damaged, or another run's: put the right ones back, delete "
                f"{self.folder} to begin again, or choose --name"
            )
        if kept := self._log.set_aside():  # of a run that died before its first checkpoint
            warnings.warn(
                f"no checkpoint yet: the run begins again, and its lines so far are in {kept}", stacklevel=2
            )
        return None

    @property
    def resumes(self) -> bool:
        """Whether a checkpoint lies there to go on from: what it holds need not be made again."""
        return bool(checkpoint.steps(self.folder / "checkpoint"))

    def best_state(self) -> dict[str, Any]:
        """What checkpoint/best.pt holds of the best evaluation: {"step": ..., "best": ..., "parts": {name: state}}.

        Raises RunError where it is missing or damaged.
        """
        try:
            return checkpoint.load_file(self.folder / "checkpoint" / "best.pt", self.identity, self.device)
        except (OSError, Damaged) as error:
            raise RunError(
                f"the weights of the best evaluation are lost: {error}. The same command with --accept-loss goes on "
                "from the last checkpoint without them."
            ) from error

    @contextlib.contextmanager
    def writing(self, name: str) -> Iterator[Path]:
        """The path of a file in the run's folder that is being written. What the disk refuses becomes a RunError."""
        with self._place.writing(name, self.step) as path:
            yield path
        if name in KEPT:
            self._kept[name] = checkpoint.file_hash(path)

    def _save(self) -> None:
        """Write a checkpoint of every tracked part now.

        Raises:
            RunError: the disk is full or the folder cannot be written, or what was learned is no numbers any more;
                says what is kept.
        """
        began = time.monotonic()
        with self._place.writing("checkpoint", self.step) as folder:
            for place in (folder, folder / "memory"):
                files.make_folder(place)
            logged = self._log.state_dict() | {"step": self.step}
            self._check(logged["pending"])
            for name, part in self.parts.items():
                weights = part.parameters() if isinstance(part, torch.nn.Module) else ()
                if not all(weight.isfinite().all() for weight in weights):
                    raise self._not_finite(f"a weight of {name}")
            states, needed = {}, {}
            for name, part in self.parts.items():
                try:
                    states[name] = part.save(place) if hasattr(part, "save") else part.state_dict()
                except ValueError as error:
                    raise RunError(f"{error}, by step {self.step:,}. Kept: {self._place.kept()}.") from error
                needed |= states[name]["files"] if hasattr(part, "save") else {}
                if wrong := checkpoint.no_number(states[name]):
                    raise self._not_finite(f"{wrong} of {name}")
            state = {
                "step": self.step,
                "seconds": self._elapsed(),
                "threads": torch.get_num_threads(),
                "machine": self._machine(),
                "best": self.best,
                "metric": self.judged_by.metric,
                "stopped": self._stopped,
                "parts": states,
                "files": needed,
                "log": logged,
                "random": machine.random_state(),
                "about": self._place.about,
                "kept": self._kept,
            }
            checkpoint.save(folder, self.step, state, self.identity)
        self._saved = time.monotonic()
        self._saving = self._saved - began

    def _machine(self) -> dict[str, str]:
        """What changes a result's last digits, though not what is learned."""
        return {"device": self.device.type, "torch": str(torch.__version__)}

    def _restore(self, state: dict, lost: Mapping[str, str] | None = None) -> None:
        """Become what a checkpoint says; lost: damaged files of its memory, and why they are."""
        folder = self.folder / "checkpoint" / "memory"
        missing = sorted(KNOWN - state.keys()) or sorted(self.parts.keys() - state["parts"].keys())
        if missing:
            raise RunError(
                f"the checkpoint of step {state['step']:,} in {self.folder} has no {', '.join(missing)}: an "
                "older version saved it. Go on with that version (config.json names its commit), or choose --name."
            )
        if (metric := state.get("metric", RETURN.metric)) != self.judged_by.metric:
            raise RunError(
                f"the best of {self.folder} was chosen by {metric}, and now it would be by {self.judged_by.metric}: "
                "an older version began it. Go on with that version (config.json names its commit), or choose --name."
            )
        self.step, self.seconds, self.best = state["step"], state["seconds"], state["best"]
        self._stopped = state["stopped"]
        for name, part in self.parts.items():
            mine = (lost or {}).keys() & state["parts"][name].get("files", {}).keys()
            if mine:
                self._accept(*self._loss(part, state["parts"][name], {each: lost[each] for each in mine}))
                part.load(folder, state["parts"][name], mine)
            elif hasattr(part, "save"):
                part.load(folder, state["parts"][name])
            else:
                part.load_state_dict(state["parts"][name])
        for cut in [part.interrupted for part in self.parts.values() if hasattr(part, "interrupted")]:
            for part in self.parts.values():
                if cut.any() and hasattr(part, "truncate_episodes"):
                    part.truncate_episodes(cut)
            if cut.any():
                self._place.note(self.step, "games that could not be taken up were cut short, and others begun")
        if math.isnan(self.best):  # as older versions kept it: nothing is better than no number
            self.best = self.judged_by.worst
        threads.keep(state["threads"], self.config.threads)
        before, here = (
            {**each, "threads": count}
            for each, count in ((state["machine"], state["threads"]), (self._machine(), torch.get_num_threads()))
        )
        if changed := [f"{key} {here[key]} instead of {before[key]}" for key in here if here[key] != before.get(key)]:
            self._inexact(f"{', '.join(changed)}: its numbers differ in their last digits")
        self._restore_files(state)
        self._kept = dict(state.get("kept", {}))
        machine.set_random_state(state["random"])

    def _loss(self, part: Any, state: dict, lost: Mapping[str, str]) -> tuple[str, str]:
        """What is damaged of a part's files, and with what the run could go on, in words."""
        why = (
            f"every checkpoint in {self.folder / 'checkpoint'} stands on what is damaged: {', '.join(lost.values())}"
        )
        if not hasattr(part, "loss"):
            raise RunError(f"{why}. Put back what was there, or choose --name for a run of its own.")
        try:
            return why, f"from step {self.step:,} without {part.loss(state, lost.keys())}"
        except ValueError as error:
            raise RunError(f"{why}, and {error}. Choose --name for a run of its own.") from error

    def _restore_files(self, state: dict) -> None:
        """The log and the best weights, verified."""
        try:
            self._log.load_state_dict(state["log"])
        except Damaged as error:
            self._accept(str(error), "with the lines that can be read")
            self._log.salvage(state["log"])
        if math.isfinite(self.best):
            try:
                checkpoint.verify(self.folder / "checkpoint" / "best.pt", self.identity)
            except (OSError, Damaged) as error:
                self._accept(str(error), "without the weights of the best evaluation so far")
                self.best = self.judged_by.worst

    def _accept(self, why: str, left: str) -> None:
        """Go on without what is damaged, if --accept-loss asks for it. left: with what, in words."""
        if not self.config.accept_loss:
            raise RunError(
                f"{why}. Put back what was there, or go on {left}: the same command with --accept-loss does, and the "
                "record then says that the run is not exact."
            )
        self._inexact(f"{why}; it goes on {left}")

    def _inexact(self, what: str) -> None:
        """Say and keep in config.json that from here on the run is not what it would be had nothing happened."""
        self._place.note(self.step, what)
        warnings.warn(f"the run goes on from step {self.step:,}, but not exactly: {what}", stacklevel=2)

    # ---- the clock --------------------------------------------------------------------------------------

    def steps(self, total: int, stride: int = 1) -> Iterator[int]:
        """Iterate from where the run stands to `total` steps, `stride` of them an iteration.

        Saves every config.save_every seconds, before evaluations, at the end, and when a signal asks it to leave.
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
        load = threads.Load()
        with self._place:
            with self._session(), Recorder(self) as recorder:
                while self.step < total and not self._stopped:
                    recorder.iteration(self._log)
                    if self._evaluates() and time.monotonic() - self._saved > WORTH * self._saving:
                        self._save()
                    yield self.step
                    due = self.due(self.config.log_every)
                    self.step += stride
                    if due or self.step >= total or self._stopped:
                        self._flush()
                    self.bar.update(self.step, self._shown())
                    if not self.bar.settled and self._log.learned:
                        self.bar.finish()
                    if told := self.bar.estimate():
                        self.bar.say("\n".join(filter(None, (told, threads.crowded(load)))))
                    if self._signals.number is not None or time.monotonic() - self._saved > self.config.save_every:
                        self._save()
                    if self._signals.number is not None:
                        self.bar.say(
                            f"saved at step {self.step:,} in {self.folder}; the same command goes on from here"
                        )
                        raise SystemExit(128 + self._signals.number)
                self._save()
            self._finish()

    def stop(self) -> None:
        """Let this iteration be the last, as if `total` steps had been reached: the run is then finished."""
        self._stopped = True

    def due(self, every: int, first: int = 0) -> range:
        """How many multiples of `every` steps this iteration passes: to be iterated, or asked as a truth.

        every: 0 is never. first: a step before the first multiple that counts as one.
        """
        if not every:
            return range(0)
        after = self.step + self.stride
        early = self.step < first <= after and first < every
        return range(after // every - self.step // every or int(early))

    def _evaluates(self) -> bool:
        """Whether the agent or model is to be evaluated in this iteration, as far as the config tells."""
        every = getattr(self.config, "evaluate_every", None)
        first = getattr(self.config, "evaluate_first", 0)
        return every is not None and (bool(self.due(every, first)) or self.step + self.stride >= self.total)

    @contextlib.contextmanager
    def aside(self, what: str, needed: bool = False) -> Iterator[None]:
        """Do in this context what is no part of learning: an evaluation, a film, a picture.

        What it draws from global generators is taken back. A signal breaks it off at once: an evaluation is made
        again when the run goes on, from the checkpoint before it; anything else is left out. What fails in it is
        told once, kept in `failed`, and the run goes on, unless it is `needed`.
        """
        drawn, self._signals.breakable = machine.random_state(), True
        try:
            if self._signals.number is not None:
                raise Interrupted
            yield
        except Interrupted:
            if what == "evaluation":
                self._signals.breakable = False
                self.bar.say(
                    f"evaluation broken off, kept: {self._place.kept()}; the same command goes on from there"
                )
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

    def rescue(self) -> None:
        """Save what was learned, in the middle of an iteration that an error has ended."""
        try:
            for part in self.parts.values():
                if hasattr(part, "cancel_step"):
                    part.cancel_step()
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

    @contextlib.contextmanager
    def _session(self) -> Iterator[None]:
        self._place.begin()
        Run.stepping, Run.current = True, self
        self.mirror.open()
        self._began = self._saved = time.monotonic()
        self._signals.install()
        self.bar = Bar(self.total, self.step, self.unit, settled=False)
        where = machine.hardware(self.device)
        start = f"from step {self.step:,}" if self.step else "from the start"
        self.bar.say(
            f"{self.program} on {self.world}: {self.total:,} steps {start}, on {where.get('gpu', where['device'])} "
            f"({where['processor']}, {where['cores']} cores, {threads.in_words()})\n"
            f"folder {self.folder}   W&B {self.mirror.words}" + (f"\n{self.note}" if self.note else "")
        )
        try:
            yield
        finally:
            self.seconds = self._elapsed()
            self._began = time.monotonic()
            whole = self._stopped or self.step >= self.total
            if told := self.mirror.finish(whole):
                self.bar.say(told)
            self.bar.close()
            self._signals.restore()
            Run.current = None

    def _elapsed(self) -> float:
        return self.seconds + time.monotonic() - self._began

    # ---- the log ----------------------------------------------------------------------------------------

    def log(self, metrics: dict[str, Any]) -> None:
        """Take metrics in: numbers, lists of numbers or scalar tensors, which are not waited for.

        A line of metrics.jsonl holds the mean of what came in since the line before.
        """
        self._log.add(metrics)

    def record(self, metrics: dict[str, float]) -> bool:
        """Write metrics as a line of their own, now. Returns whether the score's metric is the best so far.

        What is no finite number is never the best. The best evaluation's parts (all but memory and world) are kept
        in checkpoint/best.pt.
        """
        score = self.judged_by
        self._line(METRICS, {"step": self.step + self.stride, **metrics})
        if score.metric not in metrics:
            return False
        value = self._log.latest["eval"] = metrics[score.metric]
        others = [
            f"{word.removeprefix('eval/')} {found:,}" if isinstance(found, int) else f"{word[5:]} {number(found)}"
            for word, found in metrics.items()
            if word.startswith("eval/") and word != score.metric
        ]
        self.bar.say(
            f"step {self.step + self.stride:,}: evaluation {score.in_words(value)}"
            + (f" ({', '.join(others)})" if others else "")
            + (f"; {metrics['eval/cut']} of them cut short by --evaluate-steps" if "eval/cut" in metrics else "")
        )
        if not math.isfinite(value):
            self.bar.say("that is no score: the best evaluation so far stays the best")
        if not score.improves(value, self.best):  # of equals the later is kept: it has seen more
            return False
        self.best = value
        light = {n: p.state_dict() for n, p in self.parts.items() if isinstance(p, torch.nn.Module)}
        with self.writing("checkpoint/best.pt") as path:
            state = {"step": self.step + self.stride, "best": self.best, "parts": light}
            checkpoint.save_file(state, path, self.identity)
        return True

    def _flush(self) -> None:
        line = {"step": self.step} | self._log.means()
        self._check({key: [value] for key, value in line.items()})
        self._line(METRICS, line)
        self._line(
            CLOCK,
            {
                "step": self.step,
                "seconds": round(self._elapsed(), 3),
                "speed/steps_per_second": round(self.bar.speed(), 2),
            },
        )

    def _check(self, metrics: Mapping[str, Sequence[float]]) -> None:
        """Raise RunError where a loss is no finite number."""
        for key, values in metrics.items():
            if key.startswith("loss/") and not all(map(math.isfinite, values)):
                raise self._not_finite(key)

    def _not_finite(self, what: str) -> RunError:
        return RunError(
            f"{what} became infinite or no number by step {self.step:,}. Kept: {self._place.kept()}. "
            "Try a smaller --learning-rate, with a --name of its own."
        )

    def _line(self, name: str, values: dict) -> None:
        with self._place.writing(name, self.step):
            self._log.write(name, values)
        self.mirror.look()

    def _shown(self) -> str:
        names = {
            "episode/return": "return {:.2f}",
            "loss/td": "loss {:.4f}",
            "loss/train": "loss {:.4f}",
            "train/accuracy": "train {:.1%}",
            "explore/epsilon": "epsilon {:.2f}",
        }
        latest = self._log.latest
        words = [form.format(latest[key]) for key, form in names.items() if key in latest]
        if latest.get("eval") is not None:
            words.insert("episode/return" in latest, f"eval {self.judged_by.format(latest['eval'])}")
        return "  ".join(words)

    # ---- the end ----------------------------------------------------------------------------------------

    def score(self) -> str:
        """The last and best evaluation (or, without any, the last return in training), in words."""
        if evaluations := self._evaluations():
            last, best = evaluations[-1], self.judged_by.best(evaluations)
            return f"evaluation {self.judged_by.in_words(last)} at the end, {self.judged_by.format(best)} at best"
        lines = self._log.lines()
        returns = [line["episode/return"] for line in lines if line.get("episode/return") is not None]
        if returns:
            return f"return {returns[-1]:.1f} in training"
        return "no episode ended" if self.judged_by == RETURN else "not evaluated"

    def _evaluations(self) -> list[float]:
        metric = self.judged_by.metric
        return [line[metric] for line in self._log.lines() if line.get(metric) is not None]

    def _next(self) -> str:
        follow_up = f"{self.follow_up} {quoted(self.folder)}   " if self.follow_up else ""
        return f"Next: {follow_up}python -m runs.compare {quoted(self.folder.parent)}"

    def _verify_kept(self) -> None:
        """At the end, when all that is better than at the last resume was written anew: files are as they were.

        Raises RunError, unless the run may go on without.
        """
        for name, digest in self._kept.items():
            try:
                whole = checkpoint.file_hash(self.folder / name) == digest
            except (OSError, Damaged):
                whole = False
            if not whole:
                self._accept(f"{self.folder / name} is not what the run has written there", "without it")

    def _finish(self) -> None:
        self._verify_kept()
        metrics, score = self._log.verify(), self.score()
        if not self._log.learned:
            score += "; nothing was learned: the run ended before its first update"
        summary = {"run": self.identity, "step": self.step, "seconds": round(self.seconds, 1), "score": score}
        summary["metrics"] = metrics  # the file's SHA-256
        if evaluations := self._evaluations():
            summary |= {"metric": self.judged_by.metric, "final": evaluations[-1]}
            summary |= {"best": self.judged_by.best(evaluations)}
        self._place.write("finished.json", files.sealed(summary), self.step)
        self.bar.say(
            f"finished {self.step:,} {self.unit} in {duration(self.seconds)}: {score}\n"
            f"folder {self.folder}\n{self._next()}"
        )
