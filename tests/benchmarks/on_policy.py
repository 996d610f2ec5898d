"""What the contests of learning from rollouts have in common: their numbers, our programs, CleanRL's games."""

import re
from collections.abc import Callable

import numpy as np
from ale_py.vector_env import AtariVectorEnv
from gymnasium.vector import AutoresetMode
from paired import Scene, program
from torch import nn

WORLDS, ROLLOUT, EPOCHS, MINIBATCHES = 8, 128, 4, 4  # CleanRL's
STEPS = 10_000_000  # over which the learning rate falls and, in a tenth, PQN's exploration
LEARNING = dict(rollout=ROLLOUT, epochs=EPOCHS, minibatches=MINIBATCHES)
WARM_UP = 2 * WORLDS * ROLLOUT  # agent steps before the first window


def saccade(module: str, norm: str) -> Callable[[Scene], None]:
    """One of our programs with those numbers, and the Nature network in full width."""

    def train(scene: Scene) -> None:
        program(module, scene, WARM_UP, worlds=WORLDS, steps=STEPS, width=1.0, norm=norm, **LEARNING)

    return train


class Games(AtariVectorEnv):
    """Games as CleanRL's programs have them, by ALE's own vector environment instead of EnvPool: a lost life ends an
    episode and the game goes on; rewards are signs. Unclipped returns of whole games go to the scene's `played`."""

    def __init__(self, scene: Scene) -> None:
        super().__init__(
            game=re.sub(r"(?<!^)(?=[A-Z])", "_", scene.game).lower(),
            num_envs=WORLDS,
            life_loss_info=True,
            reward_clipping=False,
            autoreset_mode=AutoresetMode.SAME_STEP,
        )
        self.scene, self.returns, self.frames = scene, np.zeros(WORLDS), np.zeros(WORLDS)

    def step(self, actions: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray, dict]:
        """As AtariVectorEnv's, with the signs of the rewards."""
        observation, reward, terminated, truncated, info = super().step(actions)
        self.returns += reward
        frames = info["episode_frame_number"]
        for game in np.flatnonzero(frames < self.frames):  # another game has begun
            self.scene.played(float(self.returns[game]))
            self.returns[game] = 0.0
        self.frames = frames.copy()
        return observation, np.sign(reward), terminated, truncated, info


def begun(layer: nn.Conv2d | nn.Linear, gain: float = 2**0.5) -> nn.Conv2d | nn.Linear:
    """A layer initialized as CleanRL does."""
    nn.init.orthogonal_(layer.weight, gain)
    nn.init.zeros_(layer.bias)
    return layer
