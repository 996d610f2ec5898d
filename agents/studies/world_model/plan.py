"""Plays a game by planning in the dream of its world model, and compares with random play and the recorded agent.

    python -m agents.studies.world_model.plan results/Catch/world_model-1 --games 100
    python -m agents.studies.world_model.plan results/Pong/world_model-1 --games 2 --hold 2

No policy is learned: at every decision the planner (planner.py) draws sequences of actions, dreams what follows, and
takes the first action of the sequence with the highest expected reward. The games are whole, and the same for all
players. The page and the record with all scores go to --out.
"""

from __future__ import annotations

import dataclasses
import time
from pathlib import Path
from typing import Annotated

import torch
import tyro
from torch import Tensor

import agents
import envs
import runs
from agents import evaluation
from agents.loading import WATCH_SEED
from agents.studies.world_model import __main__ as program
from agents.studies.world_model.model import WorldModel
from agents.studies.world_model.planner import Planner
from runs import saved, study_report
from runs.flag_types import Count, Share, Whole
from runs.printing import printable

PROGRAM = "agents.studies.world_model.plan"


@dataclasses.dataclass(frozen=True)
class Config:
    run: Annotated[Path, tyro.conf.Positional]  # folder of a world model's run
    games: Count = 10
    limit: Count = 27_000  # steps of a game at most
    horizon: Count = 20  # steps of a dream
    samples: Count = 64  # sequences of actions an iteration
    iterations: Count = 2  # of the cross-entropy method; 1: random shooting
    hold: Count = 1  # steps for which an action is kept
    discount: Share = 0.99  # of rewards, per step
    seed: Whole = 1  # of the games and the sequences
    device: str = "cpu"
    threads: Whole = 0  # of torch; 0: as many as cores are free
    out: Path = Path("planning.json")  # where the record goes, and as .md the page


def load(folder: Path, device: torch.device) -> tuple[program.Config, WorldModel, envs.World]:
    """The config of a world model's run, its best weights, and its world with one game."""
    trained, parts = saved.trained(program.Config, folder, program.PROGRAM)
    world = envs.make(trained.env, 1, device=device, evaluation=True)
    shape = (world.observation_shape[0] // world.stack, *world.observation_shape[1:])
    model = program.build(trained, shape, world.actions).to(device)
    model.fit_pixels(torch.zeros(1, *shape, dtype=torch.uint8, device=device))  # replaced by the saved ones
    model.load_state_dict(parts["model"])
    return trained, model, world


def play(policy: evaluation.Policy, name: str, config: Config, device: torch.device) -> dict[str, object]:
    """Scores of whole games, and agent steps per second, all games together."""
    world = envs.make(name, min(config.games, 16), seed=WATCH_SEED + config.seed, device=device, evaluation=True)
    try:
        began = time.monotonic()
        found = evaluation.play(policy, world, config.games, config.limit)
        seconds = time.monotonic() - began
    finally:
        world.close()
    mean = sum(found["return"]) / len(found["return"])
    rate = sum(found["length"]) / seconds
    return {"return": found["return"], "mean": mean, "cut": len(found["cut"]), "steps_per_second": rate}


def main(config: Config) -> dict[str, dict[str, object]]:
    """Play, compare, print and write. Returns scores and speed by player."""
    device = runs.prepare(config.device, config.seed, config.threads)
    trained, model, world = load(config.run, device)
    world.close()
    generator = torch.Generator().manual_seed(config.seed)

    def at_random(observation: Tensor, transition: envs.Transition | None = None) -> Tensor:
        return torch.randint(model.actions, (len(observation),), generator=generator).to(device)

    planner = Planner(
        model, config.horizon, config.samples, config.iterations, config.hold, config.discount, config.seed
    )
    players: dict[str, evaluation.Policy] = {"random": at_random, "planning in the dream": planner}
    if trained.agent and trained.agent.is_dir():
        players["recorded agent"] = agents.load(trained.agent, device=device, seed=config.seed)
    found = {name: play(policy, trained.env, config, device) for name, policy in players.items()}
    head = ["player", "mean score", "games", "steps/s"]
    rows = [
        [name, f"{each['mean']:.2f}", str(len(each["return"])), f"{each['steps_per_second']:,.0f}"]
        for name, each in found.items()
    ]
    title = f"Planning in the dream of {trained.env}: {config.run.name}"
    study_report.show(title, head, rows)
    note = (
        f"Of {config.samples} sequences of actions in each of {config.iterations} iterations, {config.horizon} steps "
        f"long, each action held for {config.hold}, the first action of that with the highest expected reward in the "
        "dream. Scores of whole games, the same for all players; steps of all games together per second."
    )
    trials = [{"player": name} | each for name, each in found.items()]
    study_report.write(config.out, PROGRAM, device, printable(title), head, rows, note, trials)
    return found


if __name__ == "__main__":
    runs.launch(main, Config, None, PROGRAM, __doc__)
