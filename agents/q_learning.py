"""Shared by the Q-learning programs: epsilon-greedy exploration and policies, replay memories, checks and notes."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

import torch
from torch import Tensor, nn

import runs
from agents.config import load_backbone
from agents.evaluation import Policy
from envs import Transition, World
from replay import FrameReplay, Memory, RowReplay
from runs.flag_types import Count, NonNegative, Share, Whole
from runs.machine import precision
from vision.interpretation.gradients import evaluation_mode

C = TypeVar("C")


@dataclasses.dataclass(frozen=True)
class ReplayFlags:
    """Flags of Q-learning from a replay memory: its length, exploration, the memory and the optimizer."""

    steps: Count = 10_000_000  # agent steps; in Atari each is four frames (--frame-skip)
    worlds: Count = 16  # games side by side
    capacity: Count = 1_000_000  # transitions in replay
    memory_on_disk: bool = False  # in mapped files in the run's folder instead of RAM
    learn_start: Whole = 20_000  # steps before the first update
    updates: Count = 1  # in one call, from batches that are drawn together
    anneal_lr: bool = False  # the learning rate falls linearly to 0 over the run
    adam_epsilon: NonNegative = 1e-6  # added to the root of squared gradients in Adam; far below them
    max_grad_norm: NonNegative = 0.0  # of the gradient, larger ones are scaled down; 0 for no limit
    clip_reward: bool = True  # learn from the sign of the reward
    epsilon: Share = 0.01  # exploration rate at the end
    epsilon_steps: Whole = 250_000  # steps in which it falls from 1 to that
    evaluate_first: Whole = 25_000  # step of an evaluation before all others; 0: none
    evaluate_epsilon: Share = 0.01  # exploration rate in evaluations

    @property
    def window(self) -> int:
        """Consecutive steps of every world that an update needs."""
        return 1

    def validate(self) -> None:
        """Raises ValueError for numbers of a replay memory that do not fit each other."""
        super().validate()
        check_replay(self)


def epsilon_at(step: int, start: int, length: float, end: float) -> float:
    """Exploration at a step: 1 up to `start`, then linearly to `end` in `length` steps."""
    fraction = min(max(step - start, 0) / max(length, 1), 1.0)
    return 1.0 + fraction * (end - 1.0)


def epsilon_greedy(
    best: Tensor, actions: int, epsilon: Tensor | float, generator: torch.Generator | None = None
) -> Tensor:
    """The best actions (N,) of `actions`, each replaced by a random one with probability epsilon."""
    options = {"device": best.device}
    if generator is not None:  # torch.compile takes no generator for shapes that vary, nor None as one
        options["generator"] = generator
    explore = torch.rand(best.shape, **options) < epsilon
    return torch.where(explore, torch.randint(actions, best.shape, **options), best)


def make_policy(config: Any, network: nn.Module, seed: int) -> Policy:
    """An epsilon-greedy policy for evaluation (config.evaluate_epsilon), with its own random generator."""
    device = next(network.parameters()).device
    generator = torch.Generator(device).manual_seed(seed)

    @torch.inference_mode()
    def policy(observation: Tensor, transition: Transition | None = None) -> Tensor:
        training = network.training
        network.eval()  # noisy layers without their noise
        with precision(config, device):
            best = network(observation).argmax(1)
        network.train(training)
        return epsilon_greedy(best, network.actions, config.evaluate_epsilon, generator)

    def scores(observation: Tensor) -> Tensor:
        with evaluation_mode(network):
            return network(observation)

    policy.network, policy.scores, policy.score_kind = network, scores, "values"
    return policy


def load(
    config: Any,
    folder: Path,
    parts: dict,
    world: World,
    seed: int,
    *,
    build: Callable[[Any, World], nn.Module],
    network: str = "online",
    make_policy: Callable[[Any, nn.Module, int], Policy] = make_policy,
) -> Policy:
    """The policy that a run's saved parts describe, for agents.watch. network: the name of the part that plays."""
    loaded = build(load_backbone(config, folder), world)
    loaded.load_state_dict(parts[network])
    return make_policy(config, loaded, seed)


def require_discrete_actions(world: World) -> None:
    """Raises ValueError where actions are not discrete."""
    if world.actions is None:
        raise ValueError(
            f"Q-learning needs discrete actions, and {world.name}'s are continuous (shape {world.action_shape}): "
            "python -m agents.ppo, agents.a2c and agents.reinforce take them"
        )


def check_replay(config: Any) -> None:
    """Raises ValueError where --capacity, or the steps before the first update, are too few for an update.

    config: with ReplayFlags, `learn_every` and `batch`.
    """
    if config.capacity < config.batch * config.updates:
        several = f" times --updates {config.updates}" if config.updates > 1 else ""
        raise ValueError(
            f"--capacity {config.capacity}: an update draws --batch {config.batch}{several} transitions, "
            f"so {config.batch * config.updates:,} or more"
        )
    start = -(-config.learn_start // config.worlds) * config.worlds
    every = config.learn_every * config.updates
    known = ((start // every + 1) * every - 1) // config.worlds  # steps of each world before the first update
    if known < config.window:
        raise ValueError(
            f"--learn-start {config.learn_start}: the first update needs {config.window} steps of each of "
            f"{config.worlds} worlds, so {config.window * config.worlds} or more"
        )


def shortened(config: C, asked: C) -> C:
    """A recipe with shorter exploration where --steps asks for a shorter run than the recipe's.

    Where the random steps and the annealing of epsilon take more than asked.steps, they become a tenth and half of
    them, so that a run of some thousand steps learns, too.
    """
    steps = config.steps if asked.steps == type(asked).steps else asked.steps
    if config.learn_start + config.epsilon_steps <= steps:
        return config
    worlds = config.worlds if asked.worlds == type(asked).worlds else asked.worlds
    least = -(-steps // 10 // worlds) * worlds
    return dataclasses.replace(
        config,
        learn_start=min(config.learn_start, max(least, config.window * worlds)),
        epsilon_steps=min(config.epsilon_steps, steps // 2),
    )


def phases(config: Any) -> str:
    """A note for the start of a run: the steps of random actions, of annealed exploration, and to the evaluation."""
    if config.learn_start >= config.steps:
        return (
            f"nothing will be learned: --steps {config.steps:,} end before --learn-start {config.learn_start:,}, and "
            "the actions are random until then"
        )
    said = [f"random actions up to step {config.learn_start:,}"]
    if not getattr(config, "noisy", False) or config.noisy_epsilon:
        said.append(f"exploration falls to {config.epsilon:g} by step {config.learn_start + config.epsilon_steps:,}")
    if config.evaluate_every:
        first = min(filter(None, (config.evaluate_first, config.evaluate_every)))
        words = "first evaluation" if first <= config.steps else "no evaluation: the first would be"
        said.append(f"{words} at step {first:,}")
    return ", ".join(said)


def build_memory(config: Any, world: World, run: runs.Run, steps: int = 1) -> Memory:
    """The replay memory for a world: FrameReplay for pictures, RowReplay for vectors.

    Raises ValueError where it is too small for sequences of `steps` in each world.
    """
    where = dict(device=world.device, seed=config.seed, path=run.folder / "memory" if config.memory_on_disk else None)
    if world.observation.dtype == torch.uint8:
        memory = FrameReplay(config.capacity, world.count, world.stack, **where)
    else:
        memory = RowReplay(config.capacity, world.count, **where)
    if steps > memory.least:
        raise ValueError(
            f"--capacity {config.capacity}: of each of {world.count} worlds it is certain to hold {memory.least} "
            f"steps in a row, and {steps} are drawn"
        )
    return memory
