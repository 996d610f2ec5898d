"""Linear probes of frozen backbones: a game's RAM variables, or which game a frame is from.

    python -m agents.studies.representation.probe memory --backbones random own=results/Pong/pqn-1
    python -m agents.studies.representation.probe games --backbones random own=results/Pong/pqn-1 scratch

memory: for each variable of the game one softmax over bins of its value, on the standardized last map (Anand et
al. 2019, "Unsupervised state representation learning in Atari"; Alain & Bengio 2016). Trained on some games, stopped
early on others and tested on the rest; duplicates of frames are left out.
games: the same with one label a frame, the game, from few labels a class. Games are played at random and split the
same way.

A backbone is name=folder, or one of
    random   as initialized
    scratch  (games) as initialized, and trained together with the linear layer
"""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from typing import Annotated, NamedTuple

import numpy as np
import torch
import tyro
from torch import Tensor, nn
from torch.nn import functional as F

import runs
from agents.studies.representation import collect, pretrain
from agents.studies.representation.collect import STACK, LabeledFrames, Split
from runs import machine, output
from runs.printing import compact_json
from vision import backbones

GAMES = (  # of Atari 100k (Kaiser et al. 2020, "Model-based reinforcement learning for Atari")
    *("Alien", "Amidar", "Assault", "Asterix", "BankHeist", "BattleZone", "Boxing", "Breakout", "ChopperCommand"),
    *("CrazyClimber", "DemonAttack", "Freeway", "Frostbite", "Gopher", "Hero", "Jamesbond", "Kangaroo", "Krull"),
    *("KungFuMaster", "MsPacman", "Pong", "PrivateEye", "Qbert", "RoadRunner", "Seaquest", "UpNDown"),
)


class Part(NamedTuple):
    """Features and their labels."""

    inputs: Tensor  # (N, F) float features
    label: Tensor  # (N, V) int64


@torch.inference_mode()
def features(backbone: backbones.Backbone, observation: Tensor) -> Tensor:
    """The last map of observations (N, C, H, W), flattened: (N, F)."""
    backbone.eval()
    return torch.cat([backbone(part)[-1].flatten(1).float() for part in observation.split(256)])


def standardizer(train: Tensor, *others: Tensor) -> list[Tensor]:
    """Features (N, F), standardized by mean and standard deviation of the first; constant features become 0."""
    mean, spread = train.mean(0), train.std(0)
    scale = torch.where(spread > 1e-6, 1 / spread.clamp(min=1e-6), 0)
    return [(each - mean) * scale for each in (train, *others)]


def scores(logits: Tensor, label: Tensor, bins: list[int]) -> dict[str, list[float]]:
    """Accuracy and F1 of each variable. logits: (N, sum of bins), label: (N, V)."""
    answers = [each.argmax(1) for each in logits.split(bins, 1)]
    pairs = list(zip(answers, label.unbind(1), bins, strict=True))
    return {
        "accuracy": [float((answer == true).float().mean()) for answer, true, _ in pairs],
        "f1": [f1(answer, true, count) for answer, true, count in pairs],
    }


def f1(answer: Tensor, true: Tensor, classes: int) -> float:
    """F1 score averaged over classes, weighted by their frequency. answer, true: (N,) int64."""
    there, said = true.bincount(minlength=classes), answer.bincount(minlength=classes)
    right = true[answer == true].bincount(minlength=classes)
    each = 2 * right / (there + said).clamp(min=1)
    return float((each * there).sum() / there.sum())


def probe(train: Part, validation: Part, test: Part, bins: list[int], epochs: int = 20) -> dict[str, list[float]]:
    """Train a linear layer, keep the weights with the lowest validation loss, and score them on test.

    Adam with the learning rate falling to 0 along a half cosine; draws from the global generator.
    """
    inputs = standardizer(train.inputs, validation.inputs, test.inputs)
    layer = nn.Linear(inputs[0].shape[1], sum(bins))
    nn.init.zeros_(layer.weight)
    batch = min(256, len(inputs[0]))
    updates = max(epochs * len(inputs[0]) // batch, 400)  # few labels are seen more often
    rate = 0.1 / inputs[0].shape[1] ** 0.5  # a step then changes a logit by as much, whatever the number of features
    optimizer = torch.optim.AdamW(layer.parameters(), rate, weight_decay=0.01)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, updates)
    best, kept, drawn = float("inf"), {}, torch.empty(0, dtype=torch.int64)
    for update in range(updates):
        if len(drawn) < batch:
            drawn = torch.randperm(len(inputs[0]))
        rows, drawn = drawn[:batch], drawn[batch:]
        loss = pretrain.ram_loss(layer(inputs[0][rows]), train.label[rows], bins)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        schedule.step()
        if (update + 1) % (updates // 10) == 0:
            with torch.no_grad():
                found = float(pretrain.ram_loss(layer(inputs[1]), validation.label, bins))
            if found < best:
                best, kept = found, {key: value.clone() for key, value in layer.state_dict().items()}
    layer.load_state_dict(kept)
    with torch.no_grad():
        return scores(layer(inputs[2]), test.label, bins)


def subsample(rows: Tensor, most: int) -> Tensor:
    """At most `most` of the rows (N,), evenly spread."""
    return rows[torch.linspace(0, len(rows) - 1, min(most, len(rows))).long()]


def find_backbone(asked: str, config: RamConfig | GamesConfig, seed: int) -> tuple[str, backbones.Backbone]:
    """The backbone that a flag asks for: "random", "scratch", or name=folder, in which "{seed}" stands for the seed.

    Raises ValueError for another word, FileNotFoundError where no backbone is.
    """
    name, _, folder = asked.partition("=")
    if folder:
        return name, backbones.load(folder.format(seed=seed), (STACK, 84, 84))
    if name not in ("random", "scratch"):
        raise ValueError(f"backbone {asked!r}: give name=folder, or random or scratch")
    torch.manual_seed(seed)
    return name, pretrain.new_backbone(pretrain.Config("memory", width=config.width, norm=config.norm))


@dataclasses.dataclass(frozen=True)
class RamConfig:
    """Probe for the variables in a game's RAM."""

    backbones: tuple[str, ...] = ("random",)
    frames: str = (
        "results/representation/Pong-{seed}.safetensors"  # that agents.studies.representation.collect collected
    )
    seeds: tuple[int, ...] = (1, 2, 3)  # of frames, of backbones and of the linear layer
    most: int = 6_000  # frames to learn from; a third as many each to stop and to test on
    epochs: int = 15  # of the linear layer over them
    width: float = 0.5  # channels of untrained backbones, times their family's
    norm: str = "layer"  # of untrained backbones
    out: Path = Path("results/representation/memory.json")
    threads: int = 0  # of torch on the CPU; 0: as many as cores are free at the start


@dataclasses.dataclass(frozen=True)
class GamesConfig:
    """Probe for the game that a frame is from."""

    backbones: tuple[str, ...] = ("random", "scratch")
    games: tuple[str, ...] = GAMES
    per_class: tuple[int, ...] = (1, 3, 10, 30)  # labels a class
    seeds: tuple[int, ...] = (1, 2, 3)  # of games, of backbones and of the linear layer
    episodes: int = 5  # a game, of which three are learned from
    max_steps: int = 300  # steps an episode
    epochs: int = 30  # over the labels, from scratch
    width: float = 0.5  # channels of untrained backbones, times their family's
    norm: str = "layer"  # of untrained backbones
    out: Path = Path("results/representation/games.json")
    threads: int = 0  # of torch on the CPU; 0: as many as cores are free at the start


def probe_ram(config: RamConfig) -> dict:
    """{"variables": [...], "constant": [...], "scores": {backbone: {"accuracy": (seeds, V), "f1": (seeds, V)}}}.

    "blind" is a layer without inputs, which always gives the most common class.
    Raises ValueError where the seeds' frames disagree about which variables change.
    """
    found: dict[str, dict[str, list]] = {}
    names: list[str] = []
    for seed in config.seeds:
        played, about = LabeledFrames.load(Path(config.frames.format(seed=seed)))
        rows = collect.split(played, seed=0)
        known = collect.labels(played, about["env"], rows.train)
        rows = Split(*map(subsample, rows, (config.most, config.most // 3, config.most // 3)))
        names = names or known.names
        if known.names != names:
            raise ValueError(f"the frames of seed {seed} have {known.names}, those of {config.seeds[0]} {names}")
        for asked in config.backbones:
            name, backbone = find_backbone(asked, config, seed)
            parts = [Part(features(backbone, played.stacks(part)), known.label[part]) for part in rows]
            torch.manual_seed(seed)
            result = probe(*parts, known.bins, config.epochs)
            for word, values in result.items():
                found.setdefault(name, {}).setdefault(word, []).append(values)
            print(f"seed {seed}, {name}: F1 {np.mean(result['f1']):.3f}", flush=True)
        print(f"seed {seed}: {[len(part) for part in rows]} frames", flush=True)
        blind = [Part(torch.zeros(len(part), 1), known.label[part]) for part in rows]
        for word, values in probe(*blind, known.bins, config.epochs).items():
            found.setdefault("blind", {}).setdefault(word, []).append(values)
    return {"game": about["env"], "variables": known.names, "constant": known.constant, "scores": found}


def probe_games(config: GamesConfig) -> dict:
    """{"games": [...], "accuracy": {backbone: {labels a class: one for each seed}}}."""
    found: dict[str, dict[int, list[float]]] = {}
    for seed in config.seeds:
        pictures, label, parts = game_frames(config, seed)
        for asked in config.backbones:
            name, backbone = find_backbone(asked, config, seed)
            seen = None if name == "scratch" else features(backbone, pictures)
            for count in config.per_class:
                torch.manual_seed(seed)
                rows = [part[:count] for part in parts.train]
                chosen = Split(torch.cat(rows), torch.cat(parts.validation), torch.cat(parts.test))
                if seen is None:
                    score = finetune_game(config, find_backbone(asked, config, seed)[1], pictures, label, chosen)
                else:
                    sets = [Part(seen[part], label[part][:, None]) for part in chosen]
                    score = probe(*sets, [len(config.games)])["accuracy"][0]
                found.setdefault(name, {}).setdefault(count, []).append(score)
                print(f"seed {seed}, {name}, {count} labels a class: {score:.4f}", flush=True)
    return {"games": list(config.games), "accuracy": found}


def game_frames(config: GamesConfig, seed: int) -> tuple[Tensor, Tensor, Split]:
    """Observations (N, 4, 84, 84) of all games, their games (N,), and rows of each to train, validate and test on.

    The split holds lists, a tensor a game, in random order: at most 50 rows for stopping, 200 for testing.
    """
    generator = torch.Generator().manual_seed(seed)
    pictures, parts, begin = [], ([], [], []), 0
    for game in config.games:
        played = collect.collect(game, config.episodes, seed, max_steps=config.max_steps)
        most = (max(config.per_class), 50, 200)
        for part, rows, limit in zip(parts, collect.split(played, seed=0), most, strict=True):
            rows = rows[torch.randperm(len(rows), generator=generator)[:limit]]
            pictures.append(played.stacks(rows))
            part.append(torch.arange(begin, begin + len(rows)))
            begin += len(rows)
    sizes = [sum(len(part[k]) for part in parts) for k in range(len(config.games))]
    return torch.cat(pictures), torch.arange(len(sizes)).repeat_interleave(torch.tensor(sizes)), Split(*parts)


def finetune_game(
    config: GamesConfig, backbone: backbones.Backbone, pictures: Tensor, label: Tensor, rows: Split, batch: int = 64
) -> float:
    """Test accuracy of a backbone that is trained together with its linear layer.

    pictures: (N, 4, 84, 84) uint8. label: (N,) int64, the game. rows: of both, to train and test on. batch: of
    training.
    """
    model = pretrain.RamClassifier(backbone, len(config.games)).to(memory_format=torch.channels_last)
    updates = max(config.epochs * len(rows.train) // batch, 100)
    epochs = -(-updates * batch // len(rows.train))

    def loss_of(batch: Tensor) -> Tensor:
        chosen = rows.train[batch]
        return F.cross_entropy(model(pictures[chosen]).float(), label[chosen])

    pretrain.fit(pretrain.Config("memory", epochs=epochs, batch=batch), model, len(rows.train), loss_of)
    model.eval()
    with torch.inference_mode():
        answers = torch.cat([model(pictures[part]).argmax(1) for part in rows.test.split(256)])
    return float((answers == label[rows.test]).float().mean())


Command = (
    Annotated[RamConfig, tyro.conf.subcommand("memory", prefix_name=False)]
    | Annotated[GamesConfig, tyro.conf.subcommand("games", prefix_name=False)]
)


def main(config: RamConfig | GamesConfig) -> None:
    device = runs.prepare("cpu", config.seeds[0], config.threads)
    result = probe_ram(config) if isinstance(config, RamConfig) else probe_games(config)
    about = {"config": json.loads(json.dumps(dataclasses.asdict(config), default=str))}
    about |= machine.circumstances("agents.studies.representation.probe", device)
    output.write(config.out, compact_json(about | result) + "\n", "--out")
    print(f"written to {config.out}")


if __name__ == "__main__":
    runs.launch(main, Command, None, "agents.studies.representation.probe", __doc__)
