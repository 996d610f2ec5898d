"""Recordings of Atari games as labeled images in COCO's format: objects by console memory, masks by pixels, captions.

    recording = Recording(folder, settings)
    recording.run(world, play)              # play(episode) -> a policy for that game
    print(recording.table())

A recording is made game by game, each from its own seed, so that it can be stopped and goes on at the game that it
was in, to the same files as if it had never stopped. Games are assigned whole to training, validation and test, and
no picture is recorded twice: what is tested on was never seen.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch

import runs
from agents.evaluation import Policy
from envs import objects
from envs.atari import AtariWorld
from envs.objects import captions
from runs import files, output
from runs.progress import Bar
from vision.data.annotated import RECORDING
from vision.data.annotated.coco_writer import FRAMES, CocoWriter, Instance

PATTERN = ("train", "val", "test", *("train",) * 7)  # parts of ten games
ENOUGH = 0.97  # share of boxes that hold their object's color; below it a recording is not offered
IDLE = 20  # games without a new picture after which a recording ends


@dataclasses.dataclass(frozen=True)
class Settings:
    """What a recording is a function of; it goes on only with the same."""

    env: str  # name of a game of envs.objects.GAMES
    player: str  # who plays: "random", or a run's folder and weights
    frames: int  # to record
    every: int  # agent steps between recorded frames, on average
    episode_frames: int  # recorded of a game at most
    seed: int
    options: dict[str, Any]  # of the world


class Recording:
    """A folder of recorded frames, new or begun before.

    Raises ValueError for a game whose memory is not read, RunError where the folder holds anything else than a
    recording with these settings, Finished where it is finished.
    """

    def __init__(self, folder: Path, settings: Settings) -> None:
        if settings.env not in objects.GAMES:
            known = ", ".join(objects.GAMES)
            raise ValueError(f"the objects of {settings.env} are not read from console memory: those of {known} are")
        self.folder, self.settings, self.game = folder, settings, objects.GAMES[settings.env]
        self.count, self.episode = 0, 0
        self.held: Counter[str] = Counter()  # boxes that held their object's color, by class
        self.total: Counter[str] = Counter()
        self._known: set[bytes] = set()  # digests of pictures: 8 bytes each, all that memory grows by
        about = {"settings": json.loads(json.dumps(dataclasses.asdict(settings), default=str)), "finished": False}
        if folder.exists() and any(folder.iterdir()):
            if not (folder / RECORDING).is_file():
                raise runs.RunError(f"{folder} holds something else than a recording: choose another --folder")
            self._compare(files.unsealed(folder / RECORDING, {"settings": dict}), about["settings"])
        with output.writing(folder / RECORDING, "--folder"):
            files.write(folder / RECORDING, files.sealed(about))
            self.writer = CocoWriter(folder, self.game.classes, self._restore())

    def _compare(self, found: dict[str, Any], wanted: dict[str, Any]) -> None:
        for key in wanted:
            if found["settings"].get(key) != wanted[key]:
                raise runs.RunError(
                    f"{self.folder} is a recording with {key} {found['settings'].get(key)}, not {wanted[key]}: it is "
                    "not overwritten; choose another --folder"
                )
        if found.get("finished"):
            raise runs.Finished(f"{self.folder} is finished: python -m vision.data check {self.folder} shows it")

    def _restore(self) -> int:
        """Go on behind the last whole game. Returns the length of frames.jsonl up to there."""
        path = self.folder / FRAMES
        if not path.is_file():
            return 0
        offset = length = 0
        running: list[dict[str, Any]] = []
        with open(path, "rb") as file:
            for text in file:
                if not text.endswith(b"\n"):
                    break
                length += len(text)
                line = json.loads(text)
                if "file" in line:
                    running.append(line)
                    continue
                self._known |= {bytes.fromhex(each["digest"]) for each in running}
                self.count, self.episode, offset = self.count + len(running), line["episode"] + 1, length
                self.held.update(line["held"])
                self.total.update(line["total"])
                running = []
        return offset

    def run(self, world: AtariWorld, play: Callable[[int], Policy]) -> None:
        """Record the games that are missing, and write the annotations.

        world: of one game, with its memory. play: a policy for the game of that number, from the start.
        """
        bar, idle = Bar(self.settings.frames, self.count, unit="frames"), 0
        try:
            while self.count < self.settings.frames and idle < IDLE:
                before = self.count
                with output.writing(self.folder / FRAMES, "--folder"):
                    self._record_game(world, play(self.episode))
                self.episode += 1
                idle = idle + 1 if self.count == before else 0
                bar.update(self.count, f"{self.episode} games  {100 * self.share():.1f}% of boxes hold their color")
        finally:
            bar.close()
        with output.writing(self.folder / "annotations" / "instances_train.json", "--folder"):
            self._finish()

    def _finish(self) -> None:
        parts = self.writer.finish()
        about = {"settings": json.loads(json.dumps(dataclasses.asdict(self.settings), default=str)), "finished": True}
        about |= {"frames": self.count, "games": self.episode, "parts": {name: list(n) for name, n in parts.items()}}
        about |= {"held": dict(self.held), "total": dict(self.total), "share": self.share()}
        files.write(self.folder / RECORDING, files.sealed(about))

    def _record_game(self, world: AtariWorld, policy: Policy) -> None:
        """Play one game and record it, up to its limit of frames."""
        world.reset(self.settings.seed * 100_003 + self.episode)
        random = np.random.default_rng([self.settings.seed, self.episode])
        part, transition, recorded = PATTERN[self.episode % len(PATTERN)], None, 0
        held: Counter[str] = Counter()
        total: Counter[str] = Counter()
        wait = int(random.integers(2 * self.settings.every))
        while recorded < self.settings.episode_frames and self.count < self.settings.frames:
            if wait <= 0:
                if self._record(world, part, recorded, held, total):
                    recorded, self.count = recorded + 1, self.count + 1
                wait = int(random.integers(1, 2 * self.settings.every))
            with torch.inference_mode():
                action = policy(world.observation, transition)
            transition = world.step(action)
            wait -= 1
            if len(world.finished_worlds):
                break
        self.writer.note({"episode": self.episode, "part": part, "held": dict(held), "total": dict(total)})
        self.held.update(held)
        self.total.update(total)

    def _record(self, world: AtariWorld, part: str, number: int, held: Counter, total: Counter) -> bool:
        """Record the present frame, unless it was before. Returns whether it was new."""
        screen = world.screen[0]
        digest = hashlib.blake2b(screen.tobytes(), digest_size=8).digest()
        if digest in self._known:
            return False
        self._known.add(digest)
        memory = world.previous_ram if self.game.lag else world.ram
        there = objects.read(self.settings.env, memory[0].cpu().numpy())
        seen, holds = objects.appearances(there, screen)
        for item, holding in zip(there, holds, strict=True):
            total[item.name] += 1
            held[item.name] += holding
        instances = [Instance(self.game.classes.index(each.name), each.box, each.mask) for each in seen]
        about = {"episode": self.episode, "digest": digest.hex()}
        name = f"{self.episode:06d}-{number:05d}"
        self.writer.add(part, name, screen, instances, [captions.sentence(self.game, seen)], about)
        return True

    def share(self) -> float:
        """The share of boxes that hold their object's color, by memory alone."""
        return sum(self.held.values()) / max(1, sum(self.total.values()))

    def table(self) -> str:
        """What was recorded, in lines, and the check of boxes by class."""
        lines = [f"{self.count:,} frames of {self.episode} games of {self.settings.env} in {self.folder}"]
        for name in self.game.classes:
            if self.total[name]:
                share = 100 * self.held[name] / self.total[name]
                lines.append(f"  {name:14} {self.total[name]:9,} boxes  {share:6.2f}% hold their color")
        lines.append(f"  {'all':14} {sum(self.total.values()):9,} boxes  {100 * self.share():6.2f}%")
        return "\n".join(lines)

    def check(self) -> None:
        """Raises RunError where fewer boxes than ENOUGH hold their object's color."""
        if self.share() < ENOUGH:
            raise runs.RunError(
                f"only {100 * self.share():.1f}% of the boxes in {self.folder} hold their object's color, which is "
                f"less than {100 * ENOUGH:.0f}%: the game was played to where its memory is read wrongly"
            )


class RandomPlay:
    """A policy that meets varied states: random actions, held for 1, 4 or 12 steps on average by the number of the
    game, and, where a game has it, in every second one a player that follows an object.

    A follower takes a quarter of its actions at random.
    """

    HOLD = (1, 4, 12)  # steps
    ERRORS = 0.25

    def __init__(self, world: AtariWorld, game: str, seed: int, episode: int) -> None:
        self.world, self.game = world, game
        self.random = np.random.default_rng([seed, episode, 1])
        self.change = 1 / self.HOLD[episode // 2 % len(self.HOLD)]
        self.pursuit = objects.GAMES[game].pursuit if episode % 2 else None
        self.action = 0

    def __call__(self, observation: torch.Tensor, transition: object) -> torch.Tensor:
        """The action (1,) for the world's present."""
        if self.random.random() < self.change:
            self.action = int(self.random.integers(self.world.actions))
        action = self.action
        if self.pursuit is not None and self.random.random() >= self.ERRORS:
            action = self._toward()
        return torch.tensor([action], device=self.world.device)

    def _toward(self) -> int:
        axis = self.pursuit.axis
        middle = {
            each.name: (each.box[axis] + each.box[axis + 2]) / 2
            for each in objects.read(self.game, self.world.ram[0].cpu().numpy())
        }
        if self.pursuit.own not in middle or self.pursuit.other not in middle:
            return self.action
        gap = middle[self.pursuit.other] - middle[self.pursuit.own]
        return 0 if abs(gap) < 2 else self.pursuit.forth if gap > 0 else self.pursuit.back
