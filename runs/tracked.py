"""Tracked: saves and restores the parts of a run (networks, optimizers, memories, worlds) as checkpoints."""

from __future__ import annotations

import math
import warnings
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch

from runs import checkpoint, files, machine, parallel, threads
from runs.files import Damaged, Diverged, RunError
from runs.folder import Folder
from runs.log import Log
from runs.score import RETURN, Score

VERIFIED = ("backbone.safetensors", "snapshots/")  # never read back in training: verified at its end
KEYS = {"step", "threads", "machine", "best", "stopped", "parts", "files", "log", "random"}  # of a checkpoint


class Tracked:
    """Saves a run's parts, log and random states as checkpoints, and restores them.

    Args:
        place: the run's folder.
        log: the run's log.
        score: the metric by which the best evaluation is chosen.
        device: where the run computes.
        threads: of torch, as --threads has it; 0: as many as cores are free.
        accept_loss: resume without damaged parts.

    parts: name -> object with state_dict() and load_state_dict(), or with save(folder) and load(folder, state).
    """

    def __init__(
        self, place: Folder, log: Log, score: Score, device: torch.device, threads: int, accept_loss: bool
    ) -> None:
        self._place, self._log, self._score, self._device = place, log, score, device
        self._threads, self._accept_loss = threads, accept_loss
        self.folder = place.path / "checkpoint"
        self.parts: dict[str, Any] = {}
        self._written: dict[str, str] = {}  # of VERIFIED files, the SHA-256 that they were written with

    def restore(self) -> dict[str, Any] | None:
        """Restore the newest intact checkpoint or, without any, the newest that can be restored in part.

        Returns its state: "step", "seconds", "best", "stopped"; None where there is no checkpoint yet.

        Raises:
            RunError: every checkpoint is damaged, or the last one lacks a part; or of several processes one has lost
                its checkpoints.
        """
        step = parallel.common_step(steps := checkpoint.steps(self.folder))
        if step is None:  # one process
            return self._restore()
        later = [each for each in steps if each > step]
        if len(later) > 1:  # one that dies while it saves is behind by one; this one has lost its own
            raise RunError(
                f"{self._place.path} has checkpoints of steps {', '.join(map(str, later))}, and another process has "
                f"none of these: put its folder (in {parallel.FOLDER}) back, or choose --name"
            )
        checkpoint.drop_after(self.folder, step, self._place.identity)
        state = self._restore() if step else None
        here = state["step"] if state else 0
        if parallel.agree(here, -here) != (here, -here):  # the largest and the smallest
            raise RunError(f"the processes have no checkpoint in common near {self._place.path}: choose --name")
        if state is None:
            parallel.start_equal(self.parts.values())
        return state

    def _restore(self) -> dict[str, Any] | None:
        found = None  # the newest whose memory is damaged
        for path, state in checkpoint.intact(self.folder, self._place.identity):
            lost = checkpoint.damaged(self.folder, state)
            if not lost:
                return self._load(state, {})
            warnings.warn(
                f"checkpoint {path} is damaged ({', '.join(lost.values())}); the one before it is tried", stacklevel=3
            )
            found = found or (state, lost)
        if found:
            return self._load(*found)
        if checkpoint.steps(self.folder):
            raise RunError(
                f"every checkpoint in {self.folder} is damaged, or another run's: put the right ones back, delete "
                f"{self._place.path} to begin again, or choose --name"
            )
        return None

    def save(self, state: dict[str, Any]) -> None:
        """Write a checkpoint. state: "step", "seconds", "best", "stopped" of the run.

        Raises:
            RunError: the disk is full or the folder cannot be written, or a weight is NaN or infinite; says what is
                kept.
        """
        step = state["step"]
        with self._place.writing("checkpoint", step) as folder:
            for place in (folder, folder / "memory"):
                files.make_folder(place)
            logged = self._log.state_dict() | {"step": step}
            self.check_losses(logged["pending"], step)
            for name, part in self.parts.items():
                weights = part.parameters() if isinstance(part, torch.nn.Module) else ()
                if not all(weight.isfinite().all() for weight in weights):
                    raise self._not_finite(f"a weight of {name}", step)
            states, needed = {}, {}
            for name, part in self.parts.items():
                try:
                    states[name] = part.save(place) if hasattr(part, "save") else part.state_dict()
                except ValueError as error:
                    raise RunError(f"{error}, by step {step:,}. Kept: {self._place.kept()}.") from error
                needed |= states[name]["files"] if hasattr(part, "save") else {}
                if wrong := checkpoint.no_number(states[name]):
                    raise self._not_finite(f"{wrong} of {name}", step)
            state = {
                "step": step,
                "seconds": state["seconds"],
                "threads": torch.get_num_threads(),
                "machine": self._machine(),
                "best": state["best"],
                "metric": self._score.metric,
                "stopped": state["stopped"],
                "parts": states,
                "files": needed,
                "log": logged,
                "random": machine.random_state(),
                "about": self._place.about,
                "kept": self._written,
            }
            checkpoint.save(folder, step, state, self._place.identity)

    def save_best(self, step: int, best: float, path: Path) -> None:
        """Write the networks of the best evaluation to a file."""
        networks = {n: p.state_dict() for n, p in self.parts.items() if isinstance(p, torch.nn.Module)}
        checkpoint.save_file({"step": step, "best": best, "parts": networks}, path, self._place.identity)

    def best_state(self) -> dict[str, Any]:
        """What save_best wrote to checkpoint/best.pt. Raises RunError where it is missing or damaged."""
        try:
            return checkpoint.load_file(self.folder / "best.pt", self._place.identity, self._device)
        except (OSError, Damaged) as error:
            raise RunError(
                f"the weights of the best evaluation are lost: {error}. The same command with --accept-loss goes on "
                "from the last checkpoint without them."
            ) from error

    def cancel_step(self) -> None:
        """Cancel the step that an interrupted iteration has begun, in the parts that have one."""
        for part in self.parts.values():
            if hasattr(part, "cancel_step"):
                part.cancel_step()

    def note_written(self, name: str) -> None:
        """Note the SHA-256 of a file of the run's folder, if it is one of VERIFIED."""
        if name.startswith(VERIFIED):
            self._written[name] = checkpoint.file_hash(self._place.path / name)

    def verify_written(self, step: int) -> None:
        """Verify the noted files at the end of the run.

        Raises RunError where one is damaged, unless --accept-loss lets the run go on without.
        """
        for name, digest in self._written.items():
            try:
                whole = checkpoint.file_hash(self._place.path / name) == digest
            except (OSError, Damaged):
                whole = False
            if not whole:
                self._accept(f"{self._place.path / name} is not what the run has written there", "without it", step)

    def check_losses(self, metrics: Mapping[str, Sequence[float]], step: int) -> None:
        """Raise Diverged where a loss is NaN or infinite."""
        for key, values in metrics.items():
            if key.startswith("loss/") and not all(map(math.isfinite, values)):
                raise self._not_finite(key, step)

    def _not_finite(self, what: str, step: int) -> Diverged:
        return Diverged(
            f"{what} became infinite or no number by step {step:,}. Kept: {self._place.kept()}. "
            "Try a smaller --learning-rate, with a --name of its own."
        )

    def _machine(self) -> dict[str, str]:
        """Device and torch version, on which the last digits of results depend."""
        return {"device": self._device.type, "torch": str(torch.__version__)}

    def _load(self, state: dict[str, Any], lost: Mapping[str, str]) -> dict[str, Any]:
        """Restore everything from a checkpoint's state; lost: damaged files of its memory, and why they are."""
        step, memory = state["step"], self.folder / "memory"
        missing = sorted(KEYS - state.keys()) or sorted(self.parts.keys() - state["parts"].keys())
        if missing:
            raise RunError(
                f"the checkpoint of step {step:,} in {self._place.path} has no {', '.join(missing)}: an "
                "older version saved it. Go on with that version (config.json names its commit), or choose --name."
            )
        if (metric := state.get("metric", RETURN.metric)) != self._score.metric:
            raise RunError(
                f"the best of {self._place.path} was chosen by {metric}, and now it would be by "
                f"{self._score.metric}: an older version began it. Go on with that version (config.json names its "
                "commit), or choose --name."
            )
        for name, part in self.parts.items():
            own = lost.keys() & state["parts"][name].get("files", {}).keys()
            if own:
                self._accept(*self._loss(part, state["parts"][name], {each: lost[each] for each in own}, step), step)
                part.load(memory, state["parts"][name], own)
            elif hasattr(part, "save"):
                part.load(memory, state["parts"][name])
            else:
                part.load_state_dict(state["parts"][name])
        for interrupted in [part.interrupted for part in self.parts.values() if hasattr(part, "interrupted")]:
            for part in self.parts.values():
                if interrupted.any() and hasattr(part, "truncate_episodes"):
                    part.truncate_episodes(interrupted)
            if interrupted.any():
                self._place.note(step, "games that could not be resumed were cut short, and others begun")
        threads.keep(state["threads"], self._threads)
        before, here = (
            {**each, "threads": count}
            for each, count in ((state["machine"], state["threads"]), (self._machine(), torch.get_num_threads()))
        )
        if changed := [f"{key} {here[key]} instead of {before[key]}" for key in here if here[key] != before.get(key)]:
            self._inexact(f"{', '.join(changed)}: its numbers differ in their last digits", step)
        self._load_files(state)
        self._written = dict(state.get("kept", {}))
        machine.set_random_state(state["random"])
        return state

    def _loss(self, part: Any, state: dict, lost: Mapping[str, str], step: int) -> tuple[str, str]:
        """Messages: what is damaged of a part's files, and what the run could be resumed without."""
        why = f"every checkpoint in {self.folder} stands on what is damaged: {', '.join(lost.values())}"
        if not hasattr(part, "loss"):
            raise RunError(f"{why}. Put back what was there, or choose --name for a run of its own.")
        try:
            return why, f"from step {step:,} without {part.loss(state, lost.keys())}"
        except ValueError as error:
            raise RunError(f"{why}, and {error}. Choose --name for a run of its own.") from error

    def _load_files(self, state: dict) -> None:
        """The log and the best weights, verified. Without the latter, state["best"] becomes the worst."""
        try:
            self._log.load_state_dict(state["log"])
        except Damaged as error:
            self._accept(str(error), "with the lines that can be read", state["step"])
            self._log.salvage(state["log"])
        if math.isfinite(state["best"]):
            try:
                checkpoint.verify(self.folder / "best.pt", self._place.identity)
            except (OSError, Damaged) as error:
                self._accept(str(error), "without the weights of the best evaluation so far", state["step"])
                state["best"] = self._score.worst

    def _accept(self, why: str, left: str, step: int) -> None:
        """Continue without a damaged part if --accept-loss allows it, else raise RunError. left: what is left, as
        text."""
        if not self._accept_loss:
            raise RunError(
                f"{why}. Put back what was there, or go on {left}: the same command with --accept-loss does, and the "
                "record then says that the run is not exact."
            )
        self._inexact(f"{why}; it goes on {left}", step)

    def _inexact(self, what: str, step: int) -> None:
        """Warn, and note in config.json, that from here on the run differs from an uninterrupted one."""
        self._place.note(step, what)
        warnings.warn(f"the run goes on from step {step:,}, but not exactly: {what}", stacklevel=2)
