"""Questions about the described scenes, with their answers: counts, colors, shapes, what is there, relations.

    how many red objects are there        2            what color is the star            blue
    what shape is the red object          disc         is there a green ring             no
    is the red disc above the blue star   yes          what shape is to the left of the blue star   ring

What is asked has one answer: "the star" is the only one. Half of the questions of yes and no are answered with yes.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from typing import NamedTuple

from vision.captioning.scenes import COLORS, GRID, KINDS

PLURALS = {"cross": "crosses"}
ANSWERS = ("yes", "no", "0", "1", "2", "3", *COLORS, *KINDS)
TRIES = 20  # draws of a question of one type, before another type is taken


class Thing(NamedTuple):
    """An object of a scene: its color, its shape, and its cell."""

    color: str
    kind: str
    cell: int  # row times GRID plus column

    @property
    def name(self) -> str:
        """What it is called: "red disc"."""
        return f"{self.color} {self.kind}"


class Question(NamedTuple):
    """A question, its answer, and its type."""

    text: str
    answer: str
    kind: str


def plural(kind: str) -> str:
    """Several of a shape: "stars", "crosses"."""
    return PLURALS.get(kind, f"{kind}s")


def count(things: Sequence[Thing], draw: random.Random) -> Question | None:
    """How many objects there are, of a color, of a shape, or at all."""
    asked = draw.choice(("objects", "color", "kind"))
    if asked == "objects":
        return Question("how many objects are there", str(len(things)), "count")
    if asked == "color":
        color = draw.choice((draw.choice(things).color, draw.choice(list(COLORS))))
        return Question(
            f"how many {color} objects are there", str(sum(each.color == color for each in things)), "count"
        )
    kind = draw.choice((draw.choice(things).kind, draw.choice(KINDS)))
    return Question(f"how many {plural(kind)} are there", str(sum(each.kind == kind for each in things)), "count")


def color_of(things: Sequence[Thing], draw: random.Random) -> Question | None:
    """What color the only object of a shape has."""
    thing = draw.choice(things)
    if sum(each.kind == thing.kind for each in things) > 1:
        return None
    return Question(f"what color is the {thing.kind}", thing.color, "color")


def shape_of(things: Sequence[Thing], draw: random.Random) -> Question | None:
    """What shape the only object of a color has."""
    thing = draw.choice(things)
    if sum(each.color == thing.color for each in things) > 1:
        return None
    return Question(f"what shape is the {thing.color} object", thing.kind, "shape")


def exists(things: Sequence[Thing], draw: random.Random) -> Question | None:
    """Whether there is an object; those that are not share a color or a shape with one that is."""
    thing = draw.choice(things)
    if draw.random() < 0.5:
        return Question(f"is there a {thing.name}", "yes", "exists")
    color, kind = draw.choice(((thing.color, draw.choice(KINDS)), (draw.choice(list(COLORS)), thing.kind)))
    if f"{color} {kind}" in [each.name for each in things]:
        return None
    return Question(f"is there a {color} {kind}", "no", "exists")


def is_left(one: Thing, other: Thing) -> bool:
    """Whether one object stands in a column to the left of another."""
    return one.cell % GRID < other.cell % GRID


def is_above(one: Thing, other: Thing) -> bool:
    """Whether one object stands in a row above another."""
    return one.cell // GRID < other.cell // GRID


RELATIONS: dict[str, Callable[[Thing, Thing], bool]] = {
    "to the left of": is_left,
    "to the right of": lambda one, other: is_left(other, one),
    "above": is_above,
    "below": lambda one, other: is_above(other, one),
}


def relation(things: Sequence[Thing], draw: random.Random) -> Question | None:
    """Whether one object stands to the left of another, above it and so on, where it is one or the opposite."""
    if len(things) < 2:
        return None
    one, other = draw.sample(list(things), 2)
    words = draw.choice(list(RELATIONS))
    holds = RELATIONS[words](one, other)
    if not holds and not RELATIONS[words](other, one):
        return None
    return Question(f"is the {one.name} {words} the {other.name}", "yes" if holds else "no", "relation")


def related_shape(things: Sequence[Thing], draw: random.Random) -> Question | None:
    """What shape the only object has that stands to the left of another, above it and so on."""
    other, words = draw.choice(things), draw.choice(list(RELATIONS))
    found = [each for each in things if each is not other and RELATIONS[words](each, other)]
    if len(found) != 1:
        return None
    return Question(f"what shape is {words} the {other.name}", found[0].kind, "related shape")


KINDS_OF_QUESTIONS = (count, color_of, shape_of, exists, relation, related_shape)


def ask(things: Sequence[Thing], draw: random.Random) -> Question:
    """A question about a scene, of a type drawn evenly from those that can be asked about it."""
    while True:
        kind = draw.choice(KINDS_OF_QUESTIONS)
        for _ in range(TRIES):
            if (found := kind(things, draw)) is not None:
                return found


def words() -> tuple[str, ...]:
    """All words of questions, in alphabetical order."""
    fixed = "how many objects are there what color shape is the object a to left right of above below".split()
    return tuple(sorted({*fixed, *COLORS, *KINDS, *map(plural, KINDS)}))
