"""What an agent faces: worlds with a present (`observation`) and a verb (`step`), N side by side.

world.py    Transition, the record that flows through the house; World, what every world can do
atari.py    every bundled Atari ROM, protocols classic and sticky

world = envs.make("Breakout", count=16, seed=1, device="cuda", protocol="classic")
transition = world.step(action)     # or world.send(action) ... world.recv()
"""

import difflib

import torch

from envs import atari
from envs.world import Transition, World

__all__ = ["Transition", "World", "make"]


def make(
    name: str, count: int = 1, seed: int = 1, device: str | torch.device = "cpu", **options: object
) -> World:
    """Open `count` games of the world called `name`.

    Raises:
        ValueError: unknown name (the message has its near matches).
    """
    if game := atari.canonical(name):
        return atari.AtariWorld(game, count, seed, device, **options)
    near = difflib.get_close_matches(name, atari.ROMS, n=3)
    hint = f": did you mean {' or '.join(map(repr, near))}?" if near else ""
    raise ValueError(f"unknown world {name!r}{hint}")
