"""Transfer study: learning curves of DQN with pretrained backbones, and probes of an agent's backbone.

    python -m agents.studies.representation.transfer --agent results/Pong/pqn-1 --seeds 1 2 3

DQN learns a game with backbones from four sources, everything else being equal, seed by seed:
    scratch      as initialized
    memory       trained to classify the RAM variables, on frames of that seed (pretrain.py)
    autoencoder  trained to reconstruct the same frames
    agent        of an agent that has learned the game (--agent), the same for every seed
Pretrained backbones are frozen, or fine-tuned with --no-frozen. Missing frames, backbones and runs are made; those
that exist are used. The evaluations are compared; with them, and with memory.json and games.json of
agents.studies.representation.probe, study.json, study.png and study.md are written.

"area" is the mean of all evaluations (area under the curve), "end" the mean of the last --last of them. Intervals are
of the mean over seeds, 95%, Student's t; differences to scratch are taken seed by seed.
"""

from __future__ import annotations

import dataclasses
import json
import shutil
from pathlib import Path

import numpy as np

import runs
from agents import dqn
from agents.studies.representation import collect, pretrain
from agents.studies.representation.report import METHODS, draw, page, spread
from runs import machine, output
from runs.flag_types import Count, NonNegative, Whole
from runs.reader import read_run

BOUND = ("agent", "games", "epochs", "steps", "learning_rate", "evaluate_every", "evaluate_games")


@dataclasses.dataclass(frozen=True)
class Config:
    agent: Path = Path("results/Pong/pqn-1")  # a run's folder: its backbone is transferred, and it plays for frames
    env: str = "Pong"  # the game that this agent plays
    methods: tuple[str, ...] = METHODS
    seeds: tuple[int, ...] = (1, 2, 3)
    games: Count = 10  # played for frames, for each seed
    epochs: Count = 5  # over their frames, to pretrain backbones
    frozen: bool = True  # pretrained backbones stay as they are
    steps: Count = 30_000  # agent steps of each run
    learning_rate: NonNegative = 5e-4  # of the agents
    evaluate_every: Count = 7_500  # agent steps
    evaluate_games: Count = 5
    last: Count = 2  # evaluations that the end is a mean of
    folder: Path = Path("results/representation")
    out: Path | None = None  # folder of study.json and study.png; None: the same
    threads: Whole = 0  # of torch on the CPU; 0: as many as cores are free at the start


def variant(config: Config, method: str) -> str:
    """The name of a method's runs: "scratch", "memory-frozen", "memory"."""
    return f"{method}-frozen" if config.frozen and method != "scratch" else method


def agent_config(config: Config, method: str, seed: int) -> dqn.Config:
    """DQN's config of a short run. Pretrained backbones bring their own width and norm; scratch gets the same."""
    pretrained = config.folder / (f"{config.env}-agent" if method == "agent" else f"{config.env}-{method}-{seed}")
    return dataclasses.replace(
        dqn.recipe(dqn.Config(env=config.env)),
        seed=seed,
        name=f"{variant(config, method)}-{seed}",
        folder=config.folder,
        wandb="disabled",
        threads=config.threads,
        backbone="nature" if method == "scratch" else str(pretrained),
        frozen=config.frozen and method != "scratch",
        width=pretrain.Config.width if method == "scratch" else 1.0,
        norm=pretrain.Config.norm,
        steps=config.steps,
        learning_rate=config.learning_rate,
        hidden=256,
        capacity=100_000,
        learn_start=1_000,
        target_update_every=500,
        epsilon=0.02,
        epsilon_steps=8_000,
        evaluate_every=config.evaluate_every,
        evaluate_games=config.evaluate_games,
        film_seconds=0.0,
        log_every=2_000,
        save_every=3_600.0,
    )


def prepare(config: Config, seed: int) -> None:
    """Collect the frames of a seed and pretrain its backbones, where they are missing."""
    played = config.folder / f"{config.env}-{seed}.safetensors"
    if not played.exists():
        collect.main(collect.Config(config.env, config.agent, config.games, seed=seed, out=played))
    for method in config.methods:
        folder = config.folder / f"{config.env}-{'agent' if method == 'agent' else f'{method}-{seed}'}"
        if method == "scratch" or (folder / "backbone.safetensors").exists():
            continue
        if method == "agent":
            folder.mkdir(parents=True)
            shutil.copy(config.agent / "backbone.safetensors", folder)
        else:
            asked = pretrain.Config(method, played, folder, seed, epochs=config.epochs, threads=config.threads)
            pretrain.train(asked)


def bind(config: Config) -> None:
    """Record the flags of the study in its folder, whose existing runs are reused.

    Raises ValueError where the folder was started with other flags.
    """
    saved = {name: str(getattr(config, name)) for name in BOUND}
    file = config.folder / f"{config.env}.json"
    begun = json.loads(file.read_text()) if file.exists() else saved
    if other := [name for name in BOUND if begun[name] != saved[name]]:
        flag, before = other[0].replace("_", "-"), begun[other[0]]
        raise ValueError(
            f"{config.folder} was begun with --{flag} {before}: choose another --folder for {saved[other[0]]}"
        )
    output.write(file, json.dumps(saved) + "\n", "--folder")


def curves(config: Config) -> dict[str, dict]:
    """Evaluations of every variant that was run for as many steps, frozen or not.

    {"memory-frozen": {"seeds": [...], "steps": [...], "returns": (seeds, P)}, ...}
    """
    found = {}
    for frozen in (True, False):
        asked = dataclasses.replace(config, frozen=frozen)
        for method in config.methods:
            curve_of = {}
            for seed in config.seeds:
                folder = config.folder / config.env / agent_config(asked, method, seed).name
                if (folder / "finished.json").exists():
                    run = read_run(folder)
                    if run.config["steps"] == config.steps:
                        curve_of[seed] = run.curve("eval/return")
            if curve_of:
                steps = next(iter(curve_of.values()))[0].tolist()
                returns = [values.tolist() for _, values in curve_of.values()]
                found[variant(asked, method)] = {"seeds": list(curve_of), "steps": steps, "returns": returns}
    return found


def summary(found: dict[str, dict], last: int) -> dict[str, dict]:
    """End and area of each method, and their differences to scratch in the same seed."""
    result: dict[str, dict] = {}
    plain = found.get("scratch")
    for method, one in found.items():
        values = np.array(one["returns"])
        each = {"end": values[:, -last:].mean(1), "area": values.mean(1)}
        result[method] = {word: spread(list(map(float, numbers))) for word, numbers in each.items()}
        both = [seed for seed in one["seeds"] if plain and seed in plain["seeds"] and method != "scratch"]
        if not both:
            continue
        base = np.array(plain["returns"])[[plain["seeds"].index(seed) for seed in both]]
        mine = values[[one["seeds"].index(seed) for seed in both]]
        result[method]["end - scratch"] = spread((mine[:, -last:].mean(1) - base[:, -last:].mean(1)).tolist())
        result[method]["area - scratch"] = spread((mine.mean(1) - base.mean(1)).tolist())
    return result


def report(config: Config) -> dict:
    """Write study.json, study.png and study.md from the existing runs and probes."""
    study: dict = {"config": json.loads(json.dumps(dataclasses.asdict(config), default=str))}
    study |= machine.circumstances("agents.studies.representation.transfer", machine.choose("cpu"))
    if found := curves(config):
        name, seed = next((name, one["seeds"][0]) for name, one in found.items())
        first = config.folder / config.env / f"{name}-{seed}" / "config.json"
        about = {key: value for key, value in json.loads(first.read_text()).items() if key in ("config", "commit")}
        study["agents"] = {"env": config.env, "first": about, "curves": found, "summary": summary(found, config.last)}
    for key, name in (("memory", "memory.json"), ("naming", "games.json")):
        if (config.folder / name).exists():
            study[key] = json.loads((config.folder / name).read_text())
    out = config.out or config.folder
    output.write(out / "study.json", json.dumps(study) + "\n", "--out")
    output.write(out / "study.md", page(study), "--out")
    draw(study, out / "study.png")
    print(page(study))
    return study


def main(config: Config) -> None:
    if strange := set(config.methods) - set(METHODS):
        raise ValueError(f"unknown method {sorted(strange)[0]!r}: there are {', '.join(METHODS)}")
    bind(config)
    for seed in config.seeds:
        prepare(config, seed)
        for method in config.methods:
            asked = agent_config(config, method, seed)
            if not (config.folder / config.env / asked.name / "finished.json").exists():
                dqn.train(asked)
    report(config)


if __name__ == "__main__":
    runs.launch(main, Config, None, "agents.studies.representation.transfer", __doc__)
