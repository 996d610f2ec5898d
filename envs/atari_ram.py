"""One Atari console whose memory can be read: what the pictures of a game show, as numbers.

The pictures are those that AtariWorld's agents see (protocol classic, whole games), whose emulators have no memory to
ask for. So frames come with labels that nobody had to draw:

    console = Console("Pong", seed=1)
    console.step(action)
    console.observation, console.memory[VARIABLES["Pong"]["ball_x"]]

Source of VARIABLES: Anand et al. 2019, "Unsupervised state representation learning in Atari" (arXiv 1906.08226), who
read them off commented disassemblies; they list more games than those whose places were compared with pictures here.
"""

from __future__ import annotations

import ale_py.roms
import numpy as np
import torch
from ale_py import ALEInterface, LoggerMode
from torch import Tensor

from envs.atari import ROMS

VARIABLES: dict[str, dict[str, int]] = {  # byte of the console's 128 in which a game keeps what
    "Boxing": dict(player_x=32, player_y=34, enemy_x=33, enemy_y=35, clock=17, player_score=18, enemy_score=19),
    "Breakout": dict(ball_x=99, ball_y=101, player_x=72, blocks_hit_count=77, score=84),
    "Pong": dict(
        player_x=46, player_y=51, enemy_x=45, enemy_y=50, ball_x=49, ball_y=54, player_score=14, enemy_score=13
    ),
}


class AtariConsole:
    """One game of an Atari ROM, seen as AtariWorld shows it: 84 x 84 gray, the larger of the last two of four frames.

    A step after the end begins the next game, with up to 30 no-ops.

    observation: (stack, 84, 84) uint8, newest frame last, black before the first
    memory: (128,) uint8, after the newest frame
    over: the game has ended
    actions: number of those that the game uses, in AtariWorld's order
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
        self._down, self._across = shares(height, 84), shares(width, 84)
        self.observation = torch.zeros(stack, 84, 84, dtype=torch.uint8)
        self.reset()

    @property
    def memory(self) -> Tensor:
        return torch.from_numpy(self._ale.getRAM().copy())

    @property
    def over(self) -> bool:
        return self._ale.game_over()

    def reset(self) -> None:
        """Begin a game."""
        self._ale.reset_game()
        for _ in range(self._random.integers(self._noops + 1)):
            self._ale.act(0)
        self.observation = torch.zeros_like(self.observation)
        self._see(self._ale.getScreenGrayscale())

    def step(self, action: int) -> float:
        """Hold an action for four frames, or begin the next game if this one is over. Returns the reward."""
        if self.over:
            self.reset()
            return 0.0
        reward = sum(self._ale.act(self._buttons[action]) for _ in range(3))
        before = self._ale.getScreenGrayscale()
        reward += self._ale.act(self._buttons[action])
        self._see(np.maximum(before, self._ale.getScreenGrayscale()))
        return float(reward)

    def _see(self, screen: np.ndarray) -> None:
        small = self._down @ torch.from_numpy(screen).float() @ self._across.T
        self.observation = torch.cat([self.observation[1:], small.round().to(torch.uint8)[None]])


def shares(long: int, short: int) -> Tensor:
    """What part of each of `long` pixels falls into each of `short` larger ones, (short, long), rows of sum 1.

    Resizing by area, which OpenCV calls INTER_AREA.
    """
    edges = torch.arange(short + 1, dtype=torch.float64) * (long / short)
    pixel = torch.arange(long, dtype=torch.float64)
    high = torch.minimum(edges[1:, None], pixel + 1)
    low = torch.maximum(edges[:-1, None], pixel)
    return ((high - low).clamp(min=0) * (short / long)).float()
