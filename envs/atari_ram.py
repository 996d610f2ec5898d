"""One Atari game whose RAM can be read: observations with labels, such as the position of the ball.

The observations are those of AtariWorld (protocol classic, whole games), whose emulators do not give their RAM.

    game = AtariRAM("Pong", seed=1)
    game.step(action)
    game.observation, game.ram[VARIABLES["Pong"]["ball_x"]]

VARIABLES are from Anand et al. 2019, "Unsupervised state representation learning in Atari" (arXiv 1906.08226), who
took them from commented disassemblies of 22 games; here are those that were compared with pictures.
"""

from __future__ import annotations

import ale_py.roms
import numpy as np
import torch
from ale_py import ALEInterface, LoggerMode
from torch import Tensor

from envs.atari import ROMS

VARIABLES: dict[str, dict[str, int]] = {  # index in the 128 bytes of RAM
    "Boxing": dict(player_x=32, player_y=34, enemy_x=33, enemy_y=35, clock=17, player_score=18, enemy_score=19),
    "Breakout": dict(ball_x=99, ball_y=101, player_x=72, blocks_hit_count=77, score=84),
    "Pong": dict(
        player_x=46, player_y=51, enemy_x=45, enemy_y=50, ball_x=49, ball_y=54, player_score=14, enemy_score=13
    ),
}


class AtariRAM:
    """One game of an Atari ROM with the observations of AtariWorld: 84 x 84 gray, the maximum of the last two of four
    frames.

    A step after the end begins the next game, with up to 30 no-ops.

    observation: (stack, 84, 84) uint8, newest frame last, black before the first
    actions: number of actions that the game uses, in AtariWorld's order
    Raises ValueError for an unknown game.
    """

    def __init__(self, game: str, seed: int, stack: int = 4, noops: int = 30) -> None:
        if game not in ROMS:
            raise ValueError(f"unknown game {game!r}; envs.atari.ROMS lists them")
        ALEInterface.setLoggerMode(LoggerMode.Error)
        self._ale = ALEInterface()
        self._ale.setInt("random_seed", seed)
        self._ale.setFloat("repeat_action_probability", 0.0)
        self._ale.loadROM(ale_py.roms.get_rom_path(ROMS[game]))
        self._buttons = self._ale.getMinimalActionSet()
        self.actions = len(self._buttons)
        self._random, self._noops = np.random.default_rng(seed), noops
        height, width = self._ale.getScreenDims()
        self._down, self._across = area_weights(height, 84), area_weights(width, 84)
        self.observation = torch.zeros(stack, 84, 84, dtype=torch.uint8)
        self.reset()

    @property
    def ram(self) -> Tensor:
        """The RAM after the newest frame, (128,) uint8."""
        return torch.from_numpy(self._ale.getRAM().copy())

    @property
    def over(self) -> bool:
        """Whether the game has ended."""
        return self._ale.game_over()

    def reset(self) -> None:
        """Start a game, with 0 to `noops` random no-ops."""
        self._ale.reset_game()
        for _ in range(self._random.integers(self._noops + 1)):
            self._ale.act(0)
        self.observation = torch.zeros_like(self.observation)
        self._observe(self._ale.getScreenGrayscale())

    def step(self, action: int) -> float:
        """Repeat an action for four frames, or start the next game if this one is over. Returns the reward."""
        if self.over:
            self.reset()
            return 0.0
        reward = sum(self._ale.act(self._buttons[action]) for _ in range(3))
        before = self._ale.getScreenGrayscale()
        reward += self._ale.act(self._buttons[action])
        self._observe(np.maximum(before, self._ale.getScreenGrayscale()))
        return float(reward)

    def _observe(self, screen: np.ndarray) -> None:
        small = self._down @ torch.from_numpy(screen).float() @ self._across.T
        self.observation = torch.cat([self.observation[1:], small.round().to(torch.uint8)[None]])


def area_weights(long: int, short: int) -> Tensor:
    """Weights for resizing `long` pixels to `short` by area, (short, long) float32, rows of sum 1.

    OpenCV's INTER_AREA.
    """
    edges = torch.arange(short + 1, dtype=torch.float64) * (long / short)
    pixel = torch.arange(long, dtype=torch.float64)
    high = torch.minimum(edges[1:, None], pixel + 1)
    low = torch.maximum(edges[:-1, None], pixel)
    return ((high - low).clamp(min=0) * (short / long)).float()
