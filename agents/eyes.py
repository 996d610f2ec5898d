"""Eyes that were trained before the agent: on frames of a game with what the console's memory says, or without.

    python -m agents.eyes frames --env Pong --agent results/Pong/pqn-1
    python -m agents.eyes train --way memory --frames results/eyes/Pong.safetensors --seed 1
    python -m agents.eyes train --way autoencoder --frames results/eyes/Pong.safetensors --seed 1
    python -m agents.eyes train --way photographs --seed 1
    python -m agents.dqn --env Pong --backbone results/eyes/Pong-memory-1

frames collects games, by random play and, if an agent is named, as many by that agent with a tenth of its actions at
random. train writes a folder whose eyes any agent or vision task can lift:
    memory       names where the game's variables are (Anand et al. 2019): one softmax over bins a variable
    autoencoder  paints the frames again from the last map, by transposed convolutions. A pixel counts by its
                 standard deviation over the frames, so that a ball is not lost beside the field
    photographs  names what is on CIFAR-10's photographs, made grey and 84 x 84: a small stand-in for eyes that are
                 trained on ImageNet. The same picture fills every frame of the stack
Of the games, only those that `split` gives to training are learned from: probes can be tested on the rest.
"""

from __future__ import annotations

import dataclasses
import importlib
import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Literal, NamedTuple, Self

import numpy as np
import torch
import tyro
from safetensors import safe_open
from safetensors.torch import save_file
from torch import Tensor, nn
from torch.nn import functional as F

import envs
import runs
from agents.watch import saved
from envs.console import VARIABLES, Console
from runs import machine
from vision import backbones, data

STACK = 4  # frames in an observation
BINS = 32  # classes a variable, at most
COMMON = 0.9  # a variable which has one value more often than this says nothing


class Frames(NamedTuple):
    """Games of one Atari ROM, step by step."""

    frame: Tensor  # (T, 84, 84) uint8, as agents see it
    memory: Tensor  # (T, 128) uint8, the console's, after it
    episode: Tensor  # (T,) int64, the game it is of, counted from 0

    def stacks(self, rows: Tensor) -> Tensor:
        """The observations (B, 4, 84, 84) that end in the frames `rows` (B,); black before a game's first."""
        index = rows[:, None] + torch.arange(1 - STACK, 1)
        there = (index >= 0) & (self.episode[index.clamp(min=0)] == self.episode[rows][:, None])
        return self.frame[index.clamp(min=0)] * there[:, :, None, None]

    def save(self, path: Path, about: dict[str, object]) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        save_file(self._asdict(), path, metadata={"about": json.dumps(about)})

    @classmethod
    def load(cls, path: Path) -> tuple[Self, dict]:
        """The frames and what was written about them. Raises FileNotFoundError where there are none."""
        if not path.is_file():
            raise FileNotFoundError(f"no frames at {path}: `python -m agents.eyes frames --env Pong` collects some")
        with safe_open(path, framework="pt") as file:
            return cls(*(file.get_tensor(name) for name in cls._fields)), json.loads(file.metadata()["about"])


class Split(NamedTuple):
    """Rows of Frames, by whole games, in time's order."""

    train: Tensor
    validation: Tensor
    test: Tensor


def split(frames: Frames, seed: int) -> Split:
    """Three fifths of the games, a fifth and a fifth; of frames that look the same only the first one of all.

    Random play and an agent's alternate, and each of the parts gets its share of both.
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
        new = [look not in seen and not seen.add(look) for look in looks]
        parts.append(rows[torch.tensor(new, dtype=torch.bool)])
    return Split(*parts)


class Labels(NamedTuple):
    """What a game's variables are, in bins of equal width over what training saw."""

    names: list[str]
    bins: list[int]  # classes of each
    label: Tensor  # (T, V) int64
    constant: list[str]  # variables that were left out: they hardly change


def labels(frames: Frames, game: str, train: Tensor) -> Labels:
    """The labels of every frame, binned as the rows `train` (N,) have them. Raises ValueError for unknown games."""
    if game not in VARIABLES:
        raise ValueError(f"nobody wrote down {game}'s memory: envs.console.VARIABLES has {', '.join(VARIABLES)}")
    names, bins, columns, constant = [], [], [], []
    for name, byte in VARIABLES[game].items():
        values = frames.memory[:, byte].long()
        known = values[train]
        if known.bincount().max() > COMMON * len(known):
            constant.append(name)
            continue
        low, high = int(known.min()), int(known.max())
        width = -(-(high - low + 1) // BINS)
        columns.append((values.clamp(low, high) - low) // width)
        bins.append((high - low) // width + 1)
        names.append(name)
    return Labels(names, bins, torch.stack(columns, 1), constant)


Policy = Callable[[Tensor], Tensor]  # observations (B, 4, 84, 84) -> actions (B,)


def collect(game: str, games: int, seed: int, policy: Policy | None = None, longest: int = 0, noise: float = 0.1):
    """Frames of whole games, or of their first `longest` steps; every second one by the policy, if there is one."""
    rows: list[tuple[Tensor, Tensor, int]] = []
    random = np.random.default_rng(seed)
    for episode in range(games):
        console = Console(game, seed=1000 * seed + episode, stack=STACK)
        length, agent = 0, policy if episode % 2 else None
        while True:
            rows.append((console.observation[-1], console.memory, episode))
            length += 1
            if console.over or length == longest:
                break
            if agent is None or random.random() < noise:
                action = int(random.integers(console.actions))
            else:
                action = int(agent(console.observation[None]))
            console.step(action)
    frame, memory, episode = zip(*rows, strict=True)
    return Frames(torch.stack(frame), torch.stack(memory), torch.tensor(episode))


def player(folder: Path, seed: int) -> tuple[str, Policy]:
    """The game that a run's agent plays, and the agent, by the weights of its best evaluation."""
    if not (folder / "config.json").is_file():
        raise FileNotFoundError(f"{folder} is no run's folder: it has no config.json")
    described = json.loads((folder / "config.json").read_text())
    program = importlib.import_module(described["player"])
    known = {field.name for field in dataclasses.fields(program.Config)}
    config = program.Config(**{key: value for key, value in described["config"].items() if key in known})
    world = envs.make(config.env, 1, **program.options(config))
    policy = program.load(config, folder, saved(folder, "best")["parts"], world, seed)
    world.close()
    return world.name, lambda observation: policy(observation, None)


class Naming(nn.Module):
    """The last map of a backbone -> logits (B, sum of bins) of all variables."""

    def __init__(self, backbone: backbones.Backbone, outputs: int) -> None:
        super().__init__()
        self.backbone = backbone
        self.last = nn.Linear(backbone.output_size(), outputs)

    def forward(self, observation: Tensor) -> Tensor:
        return self.last(self.backbone(observation)[-1].flatten(1))


class Painter(nn.Module):
    """The last map of a backbone with three stages -> pictures (B, C, 84, 84): the nature network, backwards."""

    def __init__(self, backbone: backbones.Backbone) -> None:
        super().__init__()
        if len(backbone.channels) != 3:
            raise ValueError(f"the painter undoes three stages, {backbone.spec['name']} has {len(backbone.channels)}")
        self.backbone = backbone
        one, two, three = backbone.channels
        self.paint = nn.Sequential(
            nn.ConvTranspose2d(three, two, 3, 1),  # 7 -> 9
            nn.ReLU(),
            nn.ConvTranspose2d(two, one, 4, 2),  # 9 -> 20
            nn.ReLU(),
            nn.ConvTranspose2d(one, backbone.shape[0], 8, 4),  # 20 -> 84
        )

    def forward(self, observation: Tensor) -> Tensor:
        return self.paint(self.backbone(observation)[-1])


def memory_loss(logits: Tensor, label: Tensor, bins: list[int]) -> Tensor:
    """Mean over variables of the cross-entropy in nats. logits: (B, sum of bins), label: (B, V)."""
    each = zip(logits.float().split(bins, 1), label.unbind(1), strict=True)
    return torch.stack([F.cross_entropy(one, row) for one, row in each]).mean()


def fresh(config: Eyes) -> backbones.Backbone:
    """The backbone that is to learn, initialised by the global generator."""
    return backbones.build(config.backbone, (STACK, 84, 84), width=config.width, norm=config.norm)


def fit(config: Eyes, model: nn.Module, rows: int, loss_of: Callable[[Tensor], Tensor]) -> list[float]:
    """Train on `rows` rows in batches; loss_of takes the chosen ones (B,). Returns the mean loss of each epoch."""
    updates = config.epochs * -(-rows // config.batch)
    optimizer = torch.optim.AdamW(model.parameters(), config.learning_rate, weight_decay=1e-4)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, config.learning_rate, updates, pct_start=0.1)
    epochs = []
    for epoch in range(config.epochs):
        losses = []
        for batch in torch.randperm(rows).split(config.batch):
            with torch.autocast("cpu", torch.bfloat16, enabled=config.bf16):
                loss = loss_of(batch)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            schedule.step()
            losses.append(loss.detach())
        epochs.append(float(torch.stack(losses).mean()))
        print(f"epoch {epoch + 1} of {config.epochs}: loss {epochs[-1]:.4f}", flush=True)
    return epochs


@dataclasses.dataclass(frozen=True)
class Collecting:
    """Collect frames of a game and what the console's memory says."""

    env: str = "Pong"  # an Atari game
    agent: Path | None = None  # a run's folder whose agent plays half of the games; None: all by random play
    games: int = 20
    longest: int = 0  # steps after which a game is left; 0: at its end
    seed: int = 1
    out: Path | None = None  # None: results/eyes/<game>.safetensors


@dataclasses.dataclass(frozen=True)
class Eyes:
    """Train eyes."""

    way: Literal["memory", "autoencoder", "photographs"]
    frames: Path = Path("results/eyes/Pong.safetensors")  # that `frames` wrote; photographs need none
    folder: Path | None = None  # to write; None: beside the frames, <game>-<way>-<seed>
    seed: int = 1
    backbone: str = "nature"
    width: float = 0.5  # channels of the backbone, times its family's
    norm: Literal["none", "layer"] = "layer"  # before every ReLU
    epochs: int = 8
    batch: int = 64
    learning_rate: float = 1e-3  # AdamW, one cycle
    bf16: bool = True  # autocast
    photographs: int = 20_000  # of CIFAR-10's training set
    data: Path | None = None  # CIFAR-10's folder; None: $SACCADE_DATA/cifar10 or ~/.cache/saccade/cifar10
    threads: int = 0  # of torch on the CPU; 0: one a core


def photographs(config: Eyes) -> tuple[nn.Module, int, Callable[[Tensor], Tensor]]:
    """A classifier of CIFAR-10 to fit, in the sense of `fit`."""
    train = data.load("cifar10", config.data).train
    model = Naming(fresh(config), 10)

    def loss_of(rows: Tensor) -> Tensor:
        grey = train.images[rows].float().mean(1, keepdim=True)
        grey = torch.where(torch.rand(len(rows), 1, 1, 1) < 0.5, grey.flip(3), grey)
        large = F.interpolate(grey, (84, 84), mode="bilinear", antialias=False)
        return F.cross_entropy(
            model(large.round().to(torch.uint8).expand(-1, STACK, -1, -1)).float(), train.labels[rows]
        )

    return model, min(config.photographs, len(train.images)), loss_of


def of_frames(config: Eyes) -> tuple[str, nn.Module, int, Callable[[Tensor], Tensor]]:
    """The game, and a model of its frames to fit."""
    frames, about = Frames.load(config.frames)
    rows = split(frames, seed=0).train
    if config.way == "memory":
        known = labels(frames, about["env"], rows)
        model = Naming(fresh(config), sum(known.bins))
        return (
            about["env"],
            model,
            len(rows),
            lambda batch: memory_loss(model(frames.stacks(rows[batch])), known.label[rows[batch]], known.bins),
        )
    model = Painter(fresh(config))
    some = frames.frame[rows[:: max(1, len(rows) // 2000)]].float() / 255
    mean, spread = some.mean(0), some.std(0).clamp(min=0.02)

    def loss_of(batch: Tensor) -> Tensor:
        stacks = frames.stacks(rows[batch])
        return F.mse_loss(model(stacks).float(), (stacks.float() / 255 - mean) / spread)

    return about["env"], model, len(rows), loss_of


def train(config: Eyes) -> tuple[Path, list[float]]:
    """Train eyes and save them. Returns their folder and the loss of every epoch."""
    device = runs.prepare("cpu", config.seed, config.threads)
    if config.way == "photographs":
        game, (model, rows, loss_of) = "any", photographs(config)
    else:
        game, model, rows, loss_of = of_frames(config)
    model.to(memory_format=torch.channels_last)
    losses = fit(config, model, rows, loss_of)
    folder = config.folder or config.frames.parent / f"{game}-{config.way}-{config.seed}"
    folder.mkdir(parents=True, exist_ok=True)
    backbones.save(model.backbone, folder / "backbone.safetensors")
    about = {"config": json.loads(json.dumps(dataclasses.asdict(config), default=str)), "rows": rows, "loss": losses}
    (folder / "eyes.json").write_text(
        json.dumps(about | machine.circumstances("agents.eyes", device), indent=1) + "\n"
    )
    print(f"eyes in {folder}: --backbone {folder} lifts them")
    return folder, losses


def gather(config: Collecting) -> Path:
    """Collect frames and write them. Returns the path."""
    device = runs.prepare("cpu", config.seed)
    game, policy = envs.atari.canonical(config.env) or config.env, None
    if config.agent is not None:
        played, policy = player(config.agent, config.seed)
        if played != game:
            raise ValueError(f"the agent of {config.agent} plays {played}, not {game}")
    frames = collect(game, config.games, config.seed, policy, config.longest)
    path = config.out or Path(f"results/eyes/{game}.safetensors")
    about = {"env": game, "games": config.games, "agent": config.agent and config.agent.name, "seed": config.seed}
    frames.save(path, about | machine.circumstances("agents.eyes", device))
    print(f"{len(frames.frame):,} frames of {config.games} games in {path}")
    return path


Command = (
    Annotated[Collecting, tyro.conf.subcommand("frames", prefix_name=False)]
    | Annotated[Eyes, tyro.conf.subcommand("train", prefix_name=False)]
)


def main(config: Collecting | Eyes) -> None:
    gather(config) if isinstance(config, Collecting) else train(config)


if __name__ == "__main__":
    try:
        main(tyro.cli(Command, description=__doc__))
    except (runs.RunError, ValueError, FileNotFoundError) as error:
        sys.exit(f"error: {error}")
