"""Captions of Atari screens: one sentence that says where the important objects are, and counts the others."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

from envs.objects.scene import HEIGHT, WIDTH, Appearance, Box, Game

NUMBERS = ("no", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten", "eleven", "twelve")
PLURALS = {
    "bricks": "stretches of bricks",
    "enemy torpedo": "enemy torpedoes",
    "torpedo": "torpedoes",
    "fish": "fish",
}
SINGULARS = {"bricks": "stretch of bricks"}


def sentence(game: Game, seen: Sequence[Appearance]) -> str:
    """A caption: "The ball is at the top left, the paddle at the bottom, with six stretches of bricks."."""
    placed = []
    for name in game.places:
        places = sorted({place(each.box) for each in seen if each.name == name})
        if places:
            placed.append(f"the {name} {'at' if placed else 'is at'} the {' and the '.join(places)}")
    numbers = Counter(each.name for each in seen if each.name not in game.places)
    counts = [counted(name, numbers[name]) for name in game.classes if numbers[name]]
    if not placed and not counts:
        return "Nothing is on the screen."
    words = f"{', '.join(placed)}, with {joined(counts)}" if placed and counts else ", ".join(placed)
    words = words or f"there {'is' if sum(numbers.values()) == 1 else 'are'} {joined(counts)}"
    return f"{words[0].upper()}{words[1:]}."


def place(box: Box) -> str:
    """Where the middle of a box is, in thirds of the screen: "top left", "left", "center"."""
    x, y = (box[0] + box[2]) / 2 / WIDTH, (box[1] + box[3]) / 2 / HEIGHT
    column = "left" if x < 1 / 3 else "right" if x >= 2 / 3 else ""
    row = "top" if y < 1 / 3 else "bottom" if y >= 2 / 3 else ""
    return f"{row} {column}".strip() or "center"


def counted(name: str, count: int) -> str:
    """A number of objects in words: "three ghosts", and "many" of more than twelve."""
    if count == 1:
        return f"one {SINGULARS.get(name, name)}"
    number = NUMBERS[count] if count < len(NUMBERS) else "many"
    return f"{number} {PLURALS.get(name, f'{name}s')}"


def joined(words: Sequence[str]) -> str:
    """Words with commas and a last "and"."""
    return " and ".join(filter(None, [", ".join(words[:-1]), words[-1]]))
