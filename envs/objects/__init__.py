"""Objects of Atari games from console memory: boxes and masks of every object on the screen, without a detector.

    found = objects.read("Breakout", ram)                  # 128 bytes -> objects: class, box, colors
    seen, holds = objects.appearances(found, screen)       # their pixels on the screen (210, 160, 3)

One file a game, with the addresses that were compared with the screen; scene.py has what they share.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from envs.objects import boxing, breakout, freeway, frostbite, ms_pacman, pong, seaquest, space_invaders
from envs.objects.scene import HEIGHT, WIDTH, Appearance, Game, Object, appearances

__all__ = ["GAMES", "HEIGHT", "WIDTH", "Appearance", "Game", "Object", "appearances", "read"]

GAMES: dict[str, Game] = {
    "Pong": pong.GAME,
    "Breakout": breakout.GAME,
    "Freeway": freeway.GAME,
    "Boxing": boxing.GAME,
    "Seaquest": seaquest.GAME,
    "MsPacman": ms_pacman.GAME,
    "Frostbite": frostbite.GAME,
    "SpaceInvaders": space_invaders.GAME,
}


def read(game: str, ram: np.ndarray | Sequence[int]) -> list[Object]:
    """The objects of a game by its memory (128,) uint8, those in front first. Raises KeyError for another game."""
    return GAMES[game].read(np.asarray(ram).tolist())  # Python's integers: bytes wrap around below 0
