"""Problems of annotated images: what is wrong with a file or a box, and what was done about it."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import NamedTuple

SHOWN = 3  # names a kind in the summary

KINDS = {  # what each is called, and what is done about it
    "missing image": "left out",
    "unreadable image": "left out",
    "missing mask": "left out",
    "unreadable mask": "left out",
    "mask with pixels of an unknown class": "left out",
    "mask of another size than its image": "left out",
    "damaged annotation": "left out",
    "duplicate annotation": "left out",
    "unknown image id": "left out",
    "unknown class": "left out",
    "box without area": "left out",
    "box outside of its image": "left out",
    "box partly outside of its image": "cut",
    "polygon outside of its image": "its box is the mask",
    "run lengths of another size than the image": "its box is the mask",
    "unreadable mask of objects": "their boxes are the masks",
    "mask of no object": "ignored",
    "object without a mask": "its box is the mask",
    "damaged keypoints": "object without keypoints",
    "keypoints outside of their image": "object without keypoints",
    "area that makes no sense": "computed",
    "image size that makes no sense": "that of the file is taken",
    "image of another size than annotated": "boxes kept as they are",
    "duplicate image": "annotations joined",
    "image turned by EXIF": "turned upright",
    "image turned by EXIF, annotated as stored": "not turned",
    "16-bit image": "read as 8 bits",
    "palette image": "read in its colors",
    "crowd region": "neither learned nor scored",
    "class without a name": "named by its id",
    "class id of two classes": "the first one's name is kept",
    "class name of two classes": "one class",
    "class id that is text": "read all the same",
    "class ids with gaps": "numbered from 0",
    "image that no file lists": "not read",
    "annotation file beside another": "not read",
    "image without objects": "kept",
    "class without objects": "kept",
}
NOTES = frozenset(  # nothing is wrong with these
    (
        *("16-bit image", "palette image", "crowd region", "class ids with gaps", "image that no file lists"),
        *("annotation file beside another", "image without objects"),
    )
)


class Problem(NamedTuple):
    """One thing that is wrong, or worth knowing."""

    kind: str  # of KINDS
    where: str  # the file, and the object
    detail: str = ""
    image: Path | None = None  # that it is about, where it is known


def count(problems: Iterable[Problem]) -> dict[str, int]:
    """How many there are of each kind, in the order of KINDS."""
    found = [problem.kind for problem in problems]
    return {kind: found.count(kind) for kind in KINDS if kind in found}


def summary(problems: Iterable[Problem], shown: int = SHOWN) -> list[str]:
    """A sentence a kind: "2 x box without area (left out): a.xml object 3 (504, 337, 504, 337), ..."."""
    problems, lines = list(problems), []
    for kind, number in count(problems).items():
        named = [problem for problem in problems if problem.kind == kind][:shown]
        words = ", ".join(f"{each.where} ({each.detail})" if each.detail else each.where for each in named)
        lines.append(f"{number:,} x {kind} ({KINDS[kind]}): {words}" + ", ..." * (number > shown))
    return lines
