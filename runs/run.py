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
import json
import math
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar, Literal

import torch

from runs import checkpoint, machine, ranges, threads
from runs.folder import Folder, RunError
from runs.log import CLOCK, METRICS, Log
from runs.mirror import Mirror
from runs.profile import Recorder
from runs.progress import Bar, duration
from runs.ranges import Count, NonNegative, Whole
from runs.score import RETURN, Score, number
from runs.signals import Interrupted, Signals

WORTH = 10  # times that a checkpoint's saving took: so long ago it is old, and an evaluation begins with a new one


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
    profile: Whole = 0  # iterations to record, soon after the first loss: see where the time goes in profile/

    @property
    def binding(self) -> tuple[str, ...]:
        """Flags of folder.OUTWARD that change what is learned under this config, and must stay as they are."""
        return ()

    def validate(self) -> None:
        """Raise ValueError for numbers that a flag does not take, or that do not go together."""
        ranges.check(self)


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
        self.folder = Path(config.folder) / world / name
        self.step, self.seconds, self.best = 0, 0.0, score.worst
        self.parts: dict[str, Any] = {}
        self.failed: set[str] = set()  # of what a run can do without: "film", "evaluation"
        self._signals = Signals()
        self._saving = 0.0  # seconds that the last checkpoint took
        self._stopped = False
        self._log = Log(self.folder)
        described = {"program": program, "player": self.player, "world": {"name": world, "protocol": protocol}}
        described |= {"score": score.state(), "unit": unit}
        described |= machine.circumstances(program, self.device)
        if folder := machine.package_folder(getattr(config, "env", "")):
            described["world"]["package_folder"] = folder  # for agents.watch, from anywhere
        self._place = Folder(self.folder, config, described)
        self.mirror = Mirror(
            config.wandb,
            self.folder,
            identity=self._place.identity,
            name=f"{world}/{name}",
            group=config.wandb_group or f"{world}/{program}" + (f"/{protocol}" if protocol else ""),
            tags=(*config.tags, world, program) + ((protocol,) if protocol else ()),
            project=config.wandb_project,
            entity=config.wandb_entity,
        )

    # ---- tracking and checkpoints -----------------------------------------------------------------------

    def track(self, **parts: Any) -> None:
        """Name what a checkpoint holds, and restore it all if the folder has a checkpoint.

        A part has state_dict() and load_state_dict(), or, if it is large, save(folder) -> state and
        load(folder, state), which keep files of their own and write only what is new. One that follows games has
        truncate_episodes(worlds), called for those which a world says were `interrupted` when it was restored.

        Raises:
            RunError: the run is finished already, every checkpoint in the folder is damaged, or the last one lacks
                a part, which the program did not have when it was saved.
        """
        self.parts = parts
        folder = self.folder / "checkpoint"
        if self._place.finished:
            raise RunError(
                f"{self.folder} is finished ({self.score()}).\n{self._next()}\n"
                "For another run choose another --seed or --name."
            )
        for _, state in checkpoint.intact(folder):
            self._restore(state)
            break
        else:
            if self.resumes:
                raise RunError(
                    f"every checkpoint in {folder} is damaged: delete {self.folder} to begin again, or choose --name"
                )
            self._log.clear()  # of a run that died before its first checkpoint

    @property
    def resumes(self) -> bool:
        """Whether a checkpoint lies there to go on from: what it holds need not be made again."""
        return any((self.folder / "checkpoint").glob("[0-9]*.json"))

    def _save(self) -> None:
        """Write a checkpoint of every tracked part now.

        Raises:
            RunError: the disk is full or the folder cannot be written, or what was learned is no numbers any more;
                says what is kept.
        """
        folder, began = self.folder / "checkpoint", time.monotonic()
        try:
            logged = self._log.state_dict()
            self._check(logged["pending"])
            for name, part in self.parts.items():
                weights = part.parameters() if isinstance(part, torch.nn.Module) else ()
                if not all(weight.isfinite().all() for weight in weights):
                    raise self._spoilt(f"a weight of {name}")
            (folder / "memory").mkdir(parents=True, exist_ok=True)
            states, files = {}, {}
            for name, part in self.parts.items():
                if hasattr(part, "save"):
                    states[name] = part.save(folder / "memory")
                    files.update(states[name]["files"])
                else:
                    states[name] = part.state_dict()
            state = {
                "step": self.step,
                "seconds": self._elapsed(),
                "threads": torch.get_num_threads(),
                "best": self.best,
                "metric": self.judged_by.metric,
                "parts": states,
                "log": logged,
                "random": machine.random_state(),
            }
            checkpoint.save(folder, self.step, state, files)
        except OSError as error:
            raise self._place.unwritten("checkpoint", self.step, error) from error
        self._saved = time.monotonic()
        self._saving = self._saved - began

    def _restore(self, state: dict) -> None:
        folder = self.folder / "checkpoint" / "memory"
        if missing := self.parts.keys() - state["parts"].keys():
            raise RunError(
                f"the checkpoint of step {state['step']:,} in {self.folder} has no {', '.join(sorted(missing))}: an "
                "older version saved it. Go on with that version (config.json names its commit), or choose --name."
            )
        if (metric := state.get("metric", RETURN.metric)) != self.judged_by.metric:
            raise RunError(
                f"the best of {self.folder} was chosen by {metric}, and now it would be by {self.judged_by.metric}: "
                "an older version began it. Go on with that version (config.json names its commit), or choose --name."
            )
        for name, part in self.parts.items():
            if hasattr(part, "save"):
                part.load(folder, state["parts"][name])
            else:
                part.load_state_dict(state["parts"][name])
        for cut in [part.interrupted for part in self.parts.values() if hasattr(part, "interrupted")]:
            for part in self.parts.values():
                if cut.any() and hasattr(part, "truncate_episodes"):
                    part.truncate_episodes(cut)
        self.step, self.seconds, self.best = state["step"], state["seconds"], state["best"]
        if math.isnan(self.best):  # as older versions kept it: nothing is better than no number
            self.best = self.judged_by.worst
        threads.keep(state.get("threads"), self.config.threads)
        self._log.load_state_dict(state["log"])
        machine.set_random_state(state["random"])

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
                self._estimate()
                if self._signals.number is not None or time.monotonic() - self._saved > self.config.save_every:
                    self._save()
                if self._signals.number is not None:
                    self.bar.say(f"saved at step {self.step:,} in {self.folder}; the same command goes on from here")
                    raise SystemExit(128 + self._signals.number)
            self._save()
        self._finish()

    def stop(self) -> None:
        """Let this iteration be the last, as if `total` steps had been reached: the run is then finished."""
        self._stopped = True

    def due(self, every: int) -> range:
        """How many multiples of `every` steps this iteration passes: to be iterated, or asked as a truth.

        0 is never.
        """
        if not every:
            return range(0)
        return range((self.step + self.stride) // every - self.step // every)

    def _evaluates(self) -> bool:
        """Whether the agent or model is to be evaluated in this iteration, as far as the config tells."""
        every = getattr(self.config, "evaluate_every", None)
        return every is not None and (bool(self.due(every)) or self.step + self.stride >= self.total)

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
        Run.stepping, Run.current = True, self
        self.mirror.open()
        self._began = self._saved = time.monotonic()
        self._estimated, self._load = False, threads.Load()
        self._signals.install()
        self.bar = Bar(self.total, self.step, self.unit)
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
            self._place.close()
            Run.current = None

    def _elapsed(self) -> float:
        return self.seconds + time.monotonic() - self._began

    def _estimate(self) -> None:
        """Once the speed has settled: say how long the whole will take."""
        since, remaining = time.monotonic() - self._began, self.total - self.step
        if self._estimated or since < 60 or remaining <= 0:
            return
        self._estimated = True
        speed = self.bar.speed()
        self.bar.say(
            f"at {speed:,.0f} steps/s the remaining {remaining:,} steps take about "
            f"{duration(remaining / speed)}; Ctrl-C saves and leaves, the same command goes on"
        )
        if hint := threads.crowded(self._load):
            self.bar.say(hint)

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
        try:
            (self.folder / "checkpoint").mkdir(exist_ok=True)
            checkpoint.save_file(
                {"step": self.step + self.stride, "best": self.best, "parts": light},
                self.folder / "checkpoint" / "best.pt",
            )
        except OSError as error:
            raise self._place.unwritten("checkpoint/best.pt", self.step, error) from error
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
                raise self._spoilt(key)

    def _spoilt(self, what: str) -> RunError:
        return RunError(
            f"{what} became infinite or no number by step {self.step:,}. Kept: {self._place.kept()}. "
            "Try a smaller --learning-rate, with a --name of its own."
        )

    def _line(self, name: str, values: dict) -> None:
        try:
            self._log.write(name, values)
        except OSError as error:
            raise self._place.unwritten(name, self.step, error) from error
        self.mirror.look()

    def _shown(self) -> str:
        names = {
            "episode/return": "return {:.1f}",
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
        follow_up = f"{self.follow_up} {self.folder}   " if self.follow_up else ""
        return f"Next: {follow_up}python -m runs.compare {self.folder.parent}"

    def _finish(self) -> None:
        summary = {"step": self.step, "seconds": round(self.seconds, 1), "score": self.score()}
        if evaluations := self._evaluations():
            summary |= {"metric": self.judged_by.metric, "final": evaluations[-1]}
            summary |= {"best": self.judged_by.best(evaluations)}
        self._place.write("finished.json", json.dumps(summary).encode(), self.step)
        self.bar.say(
            f"finished {self.step:,} {self.unit} in {duration(self.seconds)}: {self.score()}\n"
            f"folder {self.folder}\n{self._next()}"
        )
