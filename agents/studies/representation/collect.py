"""Collects frames of an Atari game with its RAM, as labels for pretraining and probing.

    python -m agents.studies.representation.collect --env Pong
    python -m agents.studies.representation.collect --env Pong --agent results/Pong/pqn-1 --games 20

Games are played at random and, with --agent, every second one by that agent with a tenth of its actions random.
`split` assigns whole games to training, validation and test; `labels` makes classes of the game's variables.
"""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple, Self

import numpy as np
import torch
from safetensors import safe_open
from safetensors.torch import save
from torch import Tensor

import envs
import runs
from agents.loading import load_checkpoint, load_config
from envs.atari_ram import VARIABLES, AtariRAM
from runs import machine, output
from runs.flag_types import Count, Whole

STACK = 4  # frames in an observation
BINS = 32  # classes a variable, at most
MAX_SHARE = 0.9  # a variable with one value more often than this is left out


class LabeledFrames(NamedTuple):
    """Games of one Atari ROM, step by step."""

    frame: Tensor  # (T, 84, 84) uint8, as agents see it
    memory: Tensor  # (T, 128) uint8, the RAM after it
    episode: Tensor  # (T,) int64, number of its game, from 0

    def stacks(self, rows: Tensor) -> Tensor:
        """The observations (B, 4, 84, 84) that end in the frames `rows` (B,); black before a game's first."""
        index = rows[:, None] + torch.arange(1 - STACK, 1)
        there = (index >= 0) & (self.episode[index.clamp(min=0)] == self.episode[rows][:, None])
        return self.frame[index.clamp(min=0)] * there[:, :, None, None]

    def save(self, path: Path, about: dict[str, object]) -> None:
        """Write the frames, with `about` as JSON metadata, as safetensors. Raises RunError where it cannot be
        written."""
        output.write(path, save(self._asdict(), metadata={"about": json.dumps(about)}), "--out")

    @classmethod
    def load(cls, path: Path) -> tuple[Self, dict]:
        """The frames and their metadata. Raises FileNotFoundError where there are none."""
        if not path.is_file():
            raise FileNotFoundError(
                f"no frames at {path}: `python -m agents.studies.representation.collect --env Pong` collects some"
            )
        with safe_open(path, framework="pt") as file:
            return cls(*(file.get_tensor(name) for name in cls._fields)), json.loads(file.metadata()["about"])


class Split(NamedTuple):
    """Rows of LabeledFrames, split by whole games, in the order of time."""

    train: Tensor
    validation: Tensor
    test: Tensor


def split(frames: LabeledFrames, seed: int) -> Split:
    """Rows of three fifths, a fifth and a fifth of the games; of duplicate frames only the first of all.

    Games of random play and of an agent alternate, and are split each by themselves.
    """
    games = int(frames.episode.max()) + 1
    order = np.random.default_rng(seed).permutation(games)
    order = np.concatenate([order[order % 2 == 0], order[order % 2 == 1]])
    part_of = np.empty(games, int)
    part_of[order] = np.array([0, 1, 0, 2, 0])[np.arange(games) % 5]
    seen: set[bytes] = set()
    parts: list[Tensor] = []
    for part in range(3):
        rows = torch.from_numpy(np.flatnonzero(part_of[frames.episode.numpy()] == part))
        looks = [frames.frame[row].numpy().tobytes() for row in rows]
        new = [each not in seen and not seen.add(each) for each in looks]
        parts.append(rows[torch.tensor(new, dtype=torch.bool)])
    return Split(*parts)


class Labels(NamedTuple):
    """A game's variables as classes: bins of equal width over their range in training."""

    names: list[str]
    bins: list[int]  # classes of each
    label: Tensor  # (T, V) int64
    constant: list[str]  # variables that hardly change and were left out


def labels(frames: LabeledFrames, game: str, train: Tensor) -> Labels:
    """The labels of every frame, binned as the rows `train` (N,) have them. Raises ValueError for unknown games."""
    if game not in VARIABLES:
        raise ValueError(f"the RAM of {game} is not documented: envs.atari_ram.VARIABLES has {', '.join(VARIABLES)}")
    names, bins, columns, constant = [], [], [], []
    for name, byte in VARIABLES[game].items():
        values = frames.memory[:, byte].long()
        known = values[train]
        if known.bincount().max() > MAX_SHARE * len(known):
            constant.append(name)
            continue
        low, high = int(known.min()), int(known.max())
        width = -(-(high - low + 1) // BINS)
        columns.append((values.clamp(low, high) - low) // width)
        bins.append((high - low) // width + 1)
        names.append(name)
    return Labels(names, bins, torch.stack(columns, 1), constant)


Policy = Callable[[Tensor], Tensor]  # observations (B, 4, 84, 84) -> actions (B,)


def collect(
    game: str, games: int, seed: int, policy: Policy | None = None, max_steps: int = 0, noise: float = 0.1
) -> LabeledFrames:
    """Frames of whole games, or of their first `max_steps` steps; every second one by the policy, if there is one.

    noise: share of random actions in the policy's games."""
    rows: list[tuple[Tensor, Tensor, int]] = []
    random = np.random.default_rng(seed)
    for episode in range(games):
        atari = AtariRAM(game, seed=1000 * seed + episode, stack=STACK)
        length, agent = 0, policy if episode % 2 else None
        while True:
            rows.append((atari.observation[-1], atari.ram, episode))
            length += 1
            if atari.over or length == max_steps:
                break
            if agent is None or random.random() < noise:
                action = int(random.integers(atari.actions))
            else:
                action = int(agent(atari.observation[None]))
            atari.step(action)
    frame, memory, episode = zip(*rows, strict=True)
    return LabeledFrames(torch.stack(frame), torch.stack(memory), torch.tensor(episode))


def load_player(folder: Path, seed: int) -> tuple[str, Policy]:
    """The game that a run's agent plays, and the agent, by the weights of its best evaluation."""
    program, config = load_config(folder)
    world = envs.make(config.env, 1, **program.world_options(config))
    policy = program.load(config, folder, load_checkpoint(folder, "best")["parts"], world, seed)
    world.close()
    return world.name, lambda observation: policy(observation, None)


@dataclasses.dataclass(frozen=True)
class Config:
    env: str = "Pong"  # an Atari game
    agent: Path | None = None  # a run's folder whose agent plays half of the games; None: all by random play
    games: Count = 20
    max_steps: Whole = 0  # steps after which a game is ended; 0: at its end
    seed: int = 1
    out: Path | None = None  # None: results/representation/<game>.safetensors


def main(config: Config) -> Path:
    """Collect frames and write them. Returns the path."""
    device = runs.prepare("cpu", config.seed)
    game, policy = envs.atari.canonical(config.env) or config.env, None
    if config.agent is not None:
        played, policy = load_player(config.agent, config.seed)
        if played != game:
            raise ValueError(f"the agent of {config.agent} plays {played}, not {game}")
    frames = collect(game, config.games, config.seed, policy, config.max_steps)
    path = config.out or Path(f"results/representation/{game}.safetensors")
    about = {"env": game, "games": config.games, "agent": config.agent and config.agent.name, "seed": config.seed}
    frames.save(path, about | machine.circumstances("agents.studies.representation.collect", device))
    print(f"{len(frames.frame):,} frames of {config.games} games in {path}")
    return path


if __name__ == "__main__":
    runs.launch(main, Config, None, "agents.studies.representation.collect", __doc__)
