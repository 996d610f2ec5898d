"""Objects of an Atari screen: what console memory says of them, and which pixels of the screen are theirs."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np

HEIGHT, WIDTH = 210, 160  # pixels of a screen
BORDER = 8  # pixels: columns at the left that many games keep black, while sprites are moved

Color = tuple[int, int, int]
Box = tuple[int, int, int, int]  # left, top, right, bottom, in pixels of the screen
WHOLE: Box = (0, 0, WIDTH, HEIGHT)


class Object(NamedTuple):
    """One object as console memory has it: its class, where it is drawn, and its colors."""

    name: str  # of its class
    box: Box  # within its field
    colors: tuple[Color, ...]  # that its pixels may have
    field: Box = WHOLE  # beyond which nothing of it is seen
    reach: int = 0  # pixels beyond the box to which it may stretch, such as arms


class Pursuit(NamedTuple):
    """A player that follows an object along one axis."""

    own: str  # class of what is moved
    other: str  # of what is followed
    axis: int  # 0: x, 1: y
    back: int  # action towards 0
    forth: int  # and away from it


class Game(NamedTuple):
    """How to read a game: its classes, and a function from RAM to objects, those in front first."""

    classes: tuple[str, ...]
    read: Callable[[Sequence[int]], list[Object]]  # 128 ints -> objects
    places: tuple[str, ...]  # classes of which a caption says where they are; the others are counted
    lag: bool = False  # a screen shows what memory was one frame before: the game draws first, then moves
    pursuit: Pursuit | None = None  # how to meet more of the game than by random play


class Appearance(NamedTuple):
    """An object as the screen shows it."""

    name: str
    box: Box  # the smallest around its pixels
    mask: np.ndarray  # (bottom - top, right - left) bool: its pixels within the box


def object_at(
    name: str, left: int, top: int, width: int, height: int, *colors: Color, field: Box = WHOLE, reach: int = 0
) -> list[Object]:
    """A list with an object, or an empty one where nothing of it is in its field."""
    box = (
        max(left, field[0]),
        max(top, field[1]),
        min(left + width, field[2]),
        min(top + height, field[3]),
    )
    if box[0] >= box[2] or box[1] >= box[3]:
        return []
    return [Object(name, box, colors, field, reach)]


def colored(item: Object, screen: np.ndarray, reach: bool = True) -> tuple[np.ndarray, int, int]:
    """Which pixels (h, w) bool of an object's box have its color on a screen (210, 160, 3) uint8, and the window's
    left and top. reach: with the pixels beyond the box to which it may stretch.
    """
    beyond = item.reach if reach else 0
    left, top = max(item.box[0] - beyond, item.field[0]), max(item.box[1] - beyond, item.field[1])
    right, bottom = min(item.box[2] + beyond, item.field[2]), min(item.box[3] + beyond, item.field[3])
    window = screen[top:bottom, left:right]
    mask = np.zeros(window.shape[:2], bool)
    for color in item.colors:
        mask |= (window == np.array(color, np.uint8)).all(2)
    return mask, left, top


def appearances(objects: Sequence[Object], screen: np.ndarray) -> tuple[list[Appearance], list[bool]]:
    """What a screen (210, 160, 3) uint8 shows of objects, those in front first, and for each object whether its box
    holds its color at all.

    A pixel belongs to the first object that claims it. An object of which nothing is seen has no appearance.
    """
    taken = np.zeros(screen.shape[:2], bool)
    found, holds = [], []
    for item in objects:
        holds.append(bool(colored(item, screen, reach=False)[0].any()))
        mask, left, top = colored(item, screen)
        place = taken[top : top + mask.shape[0], left : left + mask.shape[1]]
        mask &= ~place
        if not mask.any():
            continue
        place |= mask
        rows, columns = np.flatnonzero(mask.any(1)), np.flatnonzero(mask.any(0))
        tight = mask[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1]
        x, y = left + int(columns[0]), top + int(rows[0])
        found.append(Appearance(item.name, (x, y, x + tight.shape[1], y + tight.shape[0]), tight))
    return found, holds
