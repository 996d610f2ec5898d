"""The agent of a run, for use from Python.

agent = agents.load("results/CartPole/dqn-1")
agent.env, agent.step, agent.config             # its world, its training steps, its config
world = agent.world(count=4)                    # its world, as in its evaluations
action = agent(world.observation)               # (4,) from observations (4, ...)
transition = world.step(action)
action = agent(world.observation, transition)   # recurrent agents need the step that led there

agents.play("results/CartPole/dqn-1", games=10)     # {"return": [...], "length": [...]}
"""

from __future__ import annotations

import dataclasses
import importlib
import importlib.util
import re
import sys
from pathlib import Path
from types import ModuleType
from typing import Literal

import numpy as np
import torch
from torch import Tensor

import envs
import runs
from agents import evaluation, loading
from runs import machine
from runs import saved as saved_run
from runs.printing import printable


@dataclasses.dataclass(frozen=True)
class Agent:
    """The policy that a run has learned: agent(observation, transition) -> action."""

    folder: Path  # the run's
    config: object  # what it was trained with
    env: str  # the world's name, as envs.make takes it
    options: dict[str, object]  # of envs.make, besides the name
    step: int  # of the run, when the weights were saved
    which: str  # "best" or "last"
    device: torch.device  # where observations and actions are
    policy: evaluation.Policy

    @torch.inference_mode()
    def __call__(self, observation: Tensor | np.ndarray, transition: envs.Transition | None = None) -> Tensor:
        """Actions (N, ...) for observations (N, ...), as a world of `world` gives them.

        transition: the step that led to the observation; None at the start, where recurrent states are reset.
        """
        return self.policy(torch.as_tensor(observation, device=self.device), transition)

    def world(self, count: int = 1, seed: int = 1, **options: object) -> envs.World:
        """Its world with `count` whole games side by side, with seeds that training and evaluation do not use.

        options: of envs.make, beside those it was trained with.
        """
        seed = loading.WATCH_SEED + seed
        options = {"evaluation": True} | self.options | options
        return envs.make(self.env, count, seed=seed, device=self.device, **options)


def load(
    folder: str | Path,
    checkpoint: Literal["best", "last"] = "best",
    device: str | torch.device = "auto",
    seed: int = 1,
    greedy: bool = False,
    import_world: bool = False,
) -> Agent:
    """The agent of a run's folder.

    checkpoint: best by evaluation, or the latest saved. device: auto, cpu, cuda, mps. seed: of exploration. greedy:
    always the most probable or best action, whatever the run's own evaluations do. import_world: import the package
    of a world "package:Id", which executes its code; no other code from the folder is executed.
    Raises RunError where there is no run, none with a checkpoint, or none of an agent that plays a world.
    """
    folder = Path(folder)
    program, trained = load_config(folder, import_world)
    if not hasattr(program, "load"):
        raise runs.RunError(
            f"{folder} has learned from images and plays no world: {evaluation.WATCH_COMMAND} shows what it does"
        )
    if greedy:
        trained = without_exploration(trained, folder)
    state, chosen, options = (
        load_checkpoint(folder, checkpoint),
        machine.choose(str(device)),
        program.world_options(trained),
    )
    world = envs.make(trained.env, 1, seed=seed, device=chosen, evaluation=True, **options)
    try:
        policy = program.load(trained, folder, state["parts"], world, seed)
    finally:
        world.close()
    return Agent(folder, trained, trained.env, options, state["step"], state["which"], chosen, policy)


def play(agent: Agent | str | Path, games: int = 30, seed: int = 1) -> dict[str, list[float]]:
    """Play whole games with an agent, or that of a run's folder: {"return": [...], "length": [...]}, `games` each.

    They are the games that agents.watch plays with the same seed.
    """
    agent = agent if isinstance(agent, Agent) else load(agent, seed=seed)
    world = agent.world(min(games, 16), seed)
    try:
        return evaluation.play(agent, world, games, getattr(agent.config, "evaluate_steps", 0))
    finally:
        world.close()


WATCH_SEED = 2_000_000  # added to a seed: games that no evaluation in training played


def load_config(folder: Path, import_world: bool = False) -> tuple[ModuleType, object]:
    """The program that plays a run's agent, and the config that it was trained with.

    Only programs of this project are imported, and the package of a world "package:Id" only with import_world.

    Raises RunError where there is no run, or none that plays.
    """
    if not (folder / "config.json").exists():
        runs_here = {path.parent.parent for path in Path("results").glob("*/*/checkpoint/*.pt")}
        known = sorted(printable(path) for path in runs_here if (path / "config.json").exists())
        raise runs.RunError(
            f"{folder} is not a run's folder. "
            + ("Runs here: " + ", ".join(known[:8]) if known else "There are none in results/ yet.")
        )
    about = saved_run.about(folder)
    name = about.get("player", about["program"])
    program = own_program(name) if isinstance(name, str) else None
    if program is None:
        raise runs.RunError(
            f"{folder / 'config.json'} names {printable(repr(name))[:60]} as what plays its agent, and that is no "
            "program of this project's agents: nothing of it is imported"
        )
    trained = saved_run.config(program.Config, folder, about)
    world = getattr(trained, "env", "")
    if ":" in world and not import_world:
        package = printable(world.partition(":")[0])
        raise runs.RunError(
            f"the world of this run, {printable(world)}, comes from the package {package!r}, and to import it is to "
            "run its code: --import-world does (from Python import_world=True), if you trust the folder"
        )
    place = about["world"].get("package_folder") if isinstance(about.get("world"), dict) else None
    if ":" in world and isinstance(place, str):
        sys.path.append(place)  # where the run found the package
    return program, trained


def own_program(name: str) -> ModuleType | None:
    """The program of that name, "agents.dqn", if it is one of this project's that can play an agent; else None."""
    if not re.fullmatch(r"agents(\.[a-z0-9_]+)+", name):
        return None
    here = Path(__file__).resolve().parent
    try:
        found = importlib.util.find_spec(name)
    except ModuleNotFoundError:
        return None
    if found is None or not found.origin or here not in Path(found.origin).resolve().parents:
        return None
    program = importlib.import_module(name)
    plays = hasattr(program, "Config") and (hasattr(program, "load") or hasattr(program, "watch"))
    return program if plays else None


def without_exploration(trained: object, folder: Path) -> object:
    """A run's config with greedy actions. Raises RunError where it has no flag for that."""
    usual = {"evaluate_greedy": True, "evaluate_epsilon": 0.0}  # of policy gradients, of Q-learning
    known = {key: value for key, value in usual.items() if hasattr(trained, key)}
    if not known:
        raise runs.RunError(f"{folder} always plays greedily: leave --greedy out")
    return dataclasses.replace(trained, **known)


def load_checkpoint(folder: Path, which: str) -> dict:
    """The best or the last checkpoint of a run, see runs.saved.state. Raises RunError."""
    return saved_run.state(folder, which)
