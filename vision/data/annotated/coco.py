"""COCO's JSON: boxes, masks, keypoints and captions (cocodataset.org, "Data format").

One file for all images, or one a part: annotations/instances_train2017.json, train/_annotations.coco.json, val.json.
Images are looked for beside the file, in images/ and in folders named for the part.
"""

from __future__ import annotations

import json
from collections import defaultdict
from pathlib import Path
from typing import Any

import numpy as np

from vision.data.annotated.images import Annotation, Object, part_of
from vision.data.annotated.polygons import segment_of
from vision.data.annotated.problems import Problem

TRIED = 20  # images by which their folder is found


def fits(folder: Path) -> bool:
    """Whether there is a JSON file that begins as COCO's may."""
    return any(_is_coco(path) for path in _files(folder))


def read(folder: Path, problems: list[Problem]) -> tuple[dict[str, list[Annotation]], tuple[str, ...]]:
    """The annotations of each part, and the names of the classes.

    Raises ValueError for a file that is not JSON, or for parts whose classes differ.
    """
    chosen: dict[str, tuple[Path, dict]] = {}
    captions: dict[str, list[dict]] = defaultdict(list)  # lines of files beside those with boxes
    for path in _files(folder):
        content = _content(path)
        if content is None or not content["annotations"] or "segments_info" in content["annotations"][0]:
            continue  # panoptic files, and those without annotations
        part = part_of(path.stem) or part_of(path.parent.name if path.parent != folder else "")
        captions[part] += [line for line in content["annotations"] if isinstance(line, dict) and _is_caption(line)]
        if part not in chosen or _rank(path, content) > _rank(*chosen[part]):
            chosen[part] = (path, content)
    if not chosen:
        raise ValueError(f"{folder} has no .json with images and annotations")
    classes = None
    parts = {}
    for part, (path, content) in chosen.items():
        own = _classes(path, content, problems if classes is None else [])
        if classes is not None and own != classes:
            raise ValueError(f"{path} has other categories than the file of another part: {own} and {classes}")
        classes = own
        own = {id(line) for line in content["annotations"]}
        beside = [line for line in captions[part] if id(line) not in own]
        parts[part] = _read(path, content, folder, problems, beside)
    return parts, classes


def _is_caption(line: dict) -> bool:
    return "caption" in line and "bbox" not in line


def _read(path: Path, content: dict, folder: Path, problems: list[Problem], beside: list[dict]) -> list[Annotation]:
    """The annotations of a file. beside: captions from other files of its part."""
    where = _images_folder(path, content, folder)
    numbers = {category["id"]: row for row, category in enumerate(_sorted(content))}
    found: dict[Any, Annotation] = {}
    captions: dict[Any, list[str]] = defaultdict(list)
    for image in content["images"]:
        try:
            name, key = str(image["file_name"]), image["id"]
        except (KeyError, TypeError):
            problems.append(Problem("damaged annotation", f"{path.name} image", str(image)[:60]))
            continue
        if key in found:
            problems.append(Problem("duplicate image", name, f"id {key}"))
            continue
        size = (image.get("height"), image.get("width"))
        size = tuple(int(side) for side in size) if all(isinstance(side, int | float) for side in size) else None
        found[key] = Annotation(where / name, path.name, [], size)
    for line in (*content["annotations"], *beside):
        name = f"annotation {line.get('id')}" if isinstance(line, dict) else "annotation"
        try:
            key = line["image_id"]
            if key not in found:
                problems.append(Problem("unknown image id", f"{path.name} {name}", str(key)))
                continue
            if _is_caption(line):
                captions[key].append(str(line["caption"]))
                continue
            if line["category_id"] not in numbers:
                problems.append(Problem("unknown class", f"{path.name} {name}", str(line["category_id"])))
                continue
            found[key].objects.append(_object(line, numbers[line["category_id"]], name))
        except (KeyError, TypeError, ValueError) as error:
            problems.append(Problem("damaged annotation", f"{path.name} {name}", str(error)))
    for key, lines in captions.items():
        found[key].captions = tuple(lines)
    return list(found.values())


def _object(line: dict, label: int, name: str) -> Object:
    x, y, wide, tall = (float(value) for value in line["bbox"])
    points = line.get("keypoints")
    return Object(
        (x, y, x + wide, y + tall),
        label,
        name,
        crowd=bool(line.get("iscrowd", 0)),
        area=float(line["area"]) if "area" in line else None,
        segment=segment_of(line.get("segmentation")),
        keypoints=None if points is None else np.array(points, dtype=np.float64).reshape(-1, 3),
    )


def _classes(path: Path, content: dict, problems: list[Problem]) -> tuple[str, ...]:
    categories = _sorted(content)
    ids = [category["id"] for category in categories]
    if ids and ids[-1] - ids[0] != len(ids) - 1:
        problems.append(Problem("class ids with gaps", path.name, f"{len(ids)} of {ids[0]} to {ids[-1]}"))
    return tuple(str(category["name"]) for category in categories)


def _sorted(content: dict) -> list[dict]:
    return sorted(content.get("categories") or [], key=lambda category: category["id"])


def _images_folder(path: Path, content: dict, folder: Path) -> Path:
    """The folder that most of the first images are in."""
    names = [str(image.get("file_name", "")) for image in content["images"][:TRIED]]
    part, last = part_of(path.stem) or part_of(path.parent.name), path.stem.rpartition("_")[2]
    above = [path.parent, path.parent.parent] if path.parent != folder else [folder]
    inside = ["", "images", last, f"images/{last}", "JPEGImages"]
    if part:
        inside += [
            part,
            f"images/{part}",
            *(f"{each}{name}" for each in ("", "images/") for name in ("val", "valid")),
        ]
    places = [place / name for place in above for name in inside]
    return max(places, key=lambda place: sum((place / name).is_file() for name in names))


def _files(folder: Path) -> list[Path]:
    places = [folder, *sorted(each for each in folder.iterdir() if each.is_dir())]
    return [path for place in places for path in sorted(place.glob("*.json"))]


def _is_coco(path: Path) -> bool:
    """Whether a file may be COCO's: it is read whole, because keys come in any order."""
    try:
        return _content(path) is not None
    except ValueError:
        return path.stat().st_size > 0 and b'"annotations"' in path.read_bytes()[: 1 << 20]


def _content(path: Path) -> dict | None:
    """A file's content, or None where it holds no annotations. Raises ValueError where it is not JSON."""
    try:
        content = json.loads(path.read_bytes())
    except (ValueError, RecursionError) as error:
        raise ValueError(f"{path} is not JSON: {error}") from error
    known = isinstance(content, dict) and all(isinstance(content.get(key), list) for key in ("images", "annotations"))
    return content if known else None


def _rank(path: Path, content: dict) -> tuple[bool, bool]:
    """Which of several files of a part is read: one with boxes, and of those instances."""
    first = content["annotations"][0]
    return isinstance(first, dict) and "bbox" in first, "instances" in path.stem
