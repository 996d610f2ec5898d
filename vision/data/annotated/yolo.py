"""YOLO's text files: a line an object, its class and its box (center, width, height), in parts of the image's sides.

Lines of more than five numbers are polygons. images/ and labels/ with the same names below both, in folders train/,
val/ and test/ or not; the classes' names are in a .yaml file (`names:`) or in classes.txt.
"""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np

from vision.data.annotated.images import Annotation, Object, part_of
from vision.data.annotated.polygons import Segment
from vision.data.annotated.problems import Problem
from vision.data.image_files import SUFFIXES

CLASSES = 100_000  # at most: a larger number is no class


def fits(folder: Path) -> bool:
    """Whether there are labels beside images."""
    return any(next(labels.rglob("*.txt"), None) is not None for _, labels, _ in _places(folder))


def read(folder: Path, problems: list[Problem]) -> tuple[dict[str, list[Annotation]], tuple[str, ...]]:
    """The annotations of each part, and the names of the classes."""
    names = _names(folder)
    parts: dict[str, list[Annotation]] = {}
    largest = -1
    for images, labels, part in _places(folder):
        seen = set()
        for path in sorted(images.rglob("*")):
            if path.suffix.lower() not in SUFFIXES:
                continue
            text = labels / path.relative_to(images).with_suffix(".txt")
            seen.add(text)
            annotation = Annotation(path, text.name, _objects(text, path, problems, names), relative=True)
            largest = max([largest, *(each.label for each in annotation.objects)])
            parts.setdefault(part or part_of(path.parent.name), []).append(annotation)
        for text in sorted(labels.rglob("*.txt")):
            if text not in seen and text.name != "classes.txt":
                problems.append(Problem("missing image", text.name, "of a text file without an image"))
    return parts, names or tuple(str(label) for label in range(largest + 1))


def _objects(path: Path, image: Path, problems: list[Problem], names: tuple[str, ...]) -> list[Object]:
    found = []
    for number, line in enumerate(path.read_text(errors="replace").splitlines() if path.is_file() else (), start=1):
        if not line.strip():
            continue
        where = f"{path.name} line {number}"
        try:
            label, *values = (float(word) for word in line.split())
            if (
                label != int(label)
                or not 0 <= label < CLASSES
                or len(values) < 4
                or (len(values) > 5 and len(values) % 2)
            ):
                raise ValueError
        except (ValueError, OverflowError):
            problems.append(Problem("damaged annotation", where, line[:60], image))
            continue
        if names and label >= len(names):
            problems.append(Problem("unknown class", where, f"{label:g} of {len(names)}", image))
            continue
        segment = None
        if len(values) > 5:
            polygon = np.array(values).reshape(-1, 2)
            box, segment = (*polygon.min(0).tolist(), *polygon.max(0).tolist()), Segment((polygon,))
        else:
            x, y, wide, tall = values[:4]
            box = (x - wide / 2, y - tall / 2, x + wide / 2, y + tall / 2)
        found.append(Object(box, int(label), f"line {number}", segment=segment))
    return found


def _places(folder: Path) -> list[tuple[Path, Path, str]]:
    """Folders of images and of their labels, and the part that they are of, "" where folders inside say it."""
    if (folder / "images").is_dir() and (folder / "labels").is_dir():
        inside = sorted(each for each in (folder / "images").iterdir() if each.is_dir() and part_of(each.name))
        if inside:
            return [(each, folder / "labels" / each.name, part_of(each.name)) for each in inside]
        return [(folder / "images", folder / "labels", "")]
    parts = sorted(each for each in folder.iterdir() if each.is_dir() and part_of(each.name))
    return [(each / "images", each / "labels", part_of(each.name)) for each in parts if (each / "labels").is_dir()]


def _names(folder: Path) -> tuple[str, ...]:
    """The classes' names, or none: of `names:` in a .yaml file, as a list or by their numbers, or of classes.txt."""
    for path in sorted([*folder.glob("*.yaml"), *folder.glob("*.yml")]):
        text = path.read_text(errors="replace")
        if inline := re.search(r"^names:\s*\[(.*?)\]", text, re.MULTILINE | re.DOTALL):
            return tuple(word.strip().strip("'\"") for word in inline[1].split(",") if word.strip())
        if block := re.search(r"^names:\s*(?:#.*)?\n((?:[ \t-].*\n?|\s*\n)+)", text, re.MULTILINE):
            found = {}
            for line in block[1].splitlines():
                if match := re.match(r"\s*(?:-|(\d+):)\s*(.+?)\s*(?:#.*)?$", line):
                    found[int(match[1]) if match[1] else len(found)] = match[2].strip("'\"")
            if found:
                return tuple(found.get(label, str(label)) for label in range(max(found) + 1))
    for path in (folder / "classes.txt", folder / "labels" / "classes.txt"):
        if path.is_file():
            return tuple(line.strip() for line in path.read_text().splitlines() if line.strip())
    return ()
