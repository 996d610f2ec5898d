"""What the Q-learning programs share: epsilon-greedy policies and replay memories."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

import runs
from agents.evaluation import Policy
from envs import Transition, World
from replay import FrameReplay, Memory, RowReplay
from runs.machine import precision


def epsilon_at(config: Any, step: int) -> float:
    """Exploration at a step: 1 until learning starts, then linearly to config.epsilon in epsilon_steps."""
    fraction = min(max(step - config.learn_start, 0) / max(config.epsilon_steps, 1), 1.0)
    return 1.0 + fraction * (config.epsilon - 1.0)


def require_discrete_actions(world: World) -> None:
    """Raises ValueError where actions are not discrete."""
    if world.actions is None:
        raise ValueError(
            f"Q-learning needs discrete actions, and {world.name}'s are continuous (shape {world.action_shape}): "
            "python -m agents.ppo, agents.a2c and agents.reinforce take them"
        )


def epsilon_greedy(config: Any, network: nn.Module, epsilon: float, seed: int) -> Policy:
    """A policy to play with: observation -> action, random with probability epsilon, from its own generator."""
    device = next(network.parameters()).device
    generator = torch.Generator(device).manual_seed(seed)

    @torch.inference_mode()
    def policy(observation: Tensor, transition: Transition | None = None) -> Tensor:
        training = network.training
        network.eval()  # noise on the weights is for learning
        with precision(config, device):
            best = network(observation).argmax(1)
        network.train(training)
        shape = best.shape
        explore = torch.rand(shape, generator=generator, device=device) < epsilon
        return torch.where(explore, torch.randint(network.actions, shape, generator=generator, device=device), best)

    return policy


def build_memory(config: Any, world: World, run: runs.Run, steps: int = 1) -> Memory:
    """The memory that suits a world's observations: frames stored once, or rows.

    Raises ValueError where it is too small for `steps` in a row of each world.
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
