"""The agent of a run, to be used from Python: no program.

agent = agents.load("results/CartPole/dqn-1")
agent.env, agent.step, agent.config             # what it plays, how long it has learned, and how
world = agent.world(count=4)                    # its world, as its evaluations open it
action = agent(world.observation)               # (4,) of observations (4, ...)
transition = world.step(action)
action = agent(world.observation, transition)   # what remembers needs the step that led there

agents.play("results/CartPole/dqn-1", games=10)     # {"return": [...], "length": [...]}
"""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Literal

import numpy as np
import torch
from torch import Tensor

import envs
import runs
from agents import watch
from runs import machine


@dataclasses.dataclass(frozen=True)
class Agent:
    """What a run has learned: agent(observation, transition) -> action."""

    folder: Path  # the run's
    config: object  # what it was trained with
    env: str  # the world's name, as envs.make takes it
    options: dict[str, object]  # of envs.make, besides the name
    step: int  # of the run, when the weights were saved
    which: str  # "best" or "last"
    device: torch.device  # where observations and actions are
    policy: watch.Policy

    @torch.inference_mode()
    def __call__(self, observation: Tensor | np.ndarray, transition: envs.Transition | None = None) -> Tensor:
        """Actions (N, ...) for observations (N, ...), as a world of `world` gives them.

        transition: the step that led there; None at the start of all games, where memories begin anew.
        """
        return self.policy(torch.as_tensor(observation, device=self.device), transition)

    def world(self, count: int = 1, seed: int = 1) -> envs.World:
        """`count` whole, unclipped games of its world side by side, which training and evaluation have not seen."""
        seed = watch.WATCH_SEED + seed
        return envs.make(self.env, count, seed=seed, device=self.device, evaluation=True, **self.options)


def load(
    folder: str | Path,
    checkpoint: Literal["best", "last"] = "best",
    device: str | torch.device = "auto",
    seed: int = 1,
    greedy: bool = False,
    import_world: bool = False,
) -> Agent:
    """The agent of a run's folder.

    checkpoint: best by evaluation, or the latest saved. device: auto, cpu, cuda, mps. seed: of what it draws. greedy:
    the likeliest or best action always, whatever the run's own evaluations do. import_world: import the package of a
    world "package:Id" that the folder names, which runs its code; nothing else of a folder is run.
    Raises RunError where there is no run, none with a checkpoint, or none of an agent that plays a world.
    """
    folder = Path(folder)
    program, trained = watch.described(folder, import_world)
    if not hasattr(program, "load"):
        raise runs.RunError(
            f"{folder} has learned from images and plays no world: {watch.COMMAND} shows what it does"
        )
    if greedy:
        trained = watch.without_chance(trained, folder)
    state, chosen, options = watch.saved(folder, checkpoint), machine.choose(str(device)), program.options(trained)
    world = envs.make(trained.env, 1, seed=seed, device=chosen, evaluation=True, **options)
    try:
        policy = program.load(trained, folder, state["parts"], world, seed)
    finally:
        world.close()
    return Agent(folder, trained, trained.env, options, state["step"], state["which"], chosen, policy)


def play(agent: Agent | str | Path, games: int = 30, seed: int = 1) -> dict[str, list[float]]:
    """Whole games of an agent, or of a run's folder: {"return": [...], "length": [...]}, `games` entries each.

    The same games as agents.watch plays by that seed.
    """
    agent = agent if isinstance(agent, Agent) else load(agent, seed=seed)
    world = agent.world(min(games, 16), seed)
    try:
        return watch.play(agent, world, games)
    finally:
        world.close()
