"""What the contests of learning from rollouts have in common: their numbers, our programs, CleanRL's worlds."""

import re
from collections.abc import Callable

from ale_py.vector_env import AtariVectorEnv
from gymnasium.vector import AutoresetMode
from paired import Scene, program
from torch import nn

WORLDS, ROLLOUT, EPOCHS, MINIBATCHES = 8, 128, 4, 4  # CleanRL's, and those of our recipes
STEPS = 10_000_000  # over which the learning rate falls and, in a tenth, PQN's exploration
LEARNING = dict(rollout=ROLLOUT, epochs=EPOCHS, minibatches=MINIBATCHES)
WARM_UP = 2 * WORLDS * ROLLOUT  # agent steps before the first window


def saccade(module: str) -> Callable[[Scene], None]:
    """One of our programs with those numbers."""

    def train(scene: Scene) -> None:
        program(module, scene, WARM_UP, worlds=WORLDS, steps=STEPS, **LEARNING)

    return train


def cleanrl_worlds(scene: Scene) -> AtariVectorEnv:
    """Games as CleanRL's programs have them, by ALE's own vector environment instead of EnvPool."""
    return AtariVectorEnv(
        game=re.sub(r"(?<!^)(?=[A-Z])", "_", scene.game).lower(),
        num_envs=WORLDS,
        episodic_life=True,
        reward_clipping=True,
        autoreset_mode=AutoresetMode.SAME_STEP,
    )


def begun(layer: nn.Conv2d | nn.Linear, gain: float = 2**0.5) -> nn.Conv2d | nn.Linear:
    """A layer initialized as CleanRL does."""
    nn.init.orthogonal_(layer.weight, gain)
    nn.init.zeros_(layer.bias)
    return layer
