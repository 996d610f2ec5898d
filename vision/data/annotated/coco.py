"""COCO's JSON: boxes, masks, keypoints and captions (cocodataset.org, "Data format").

One file for all images, or one a part: annotations/instances_train2017.json, train/_annotations.coco.json, val.json.
Images are looked for beside the file, in images/ and in folders named for the part. Entries that make no sense are
left out and named in `problems`; so are images in the same folders that no file lists.
"""

from __future__ import annotations

import dataclasses
import json
import math
import os
from collections import defaultdict
from pathlib import Path
from typing import Any

import numpy as np

from vision.data.annotated.images import Annotation, Object, note_unlisted, part_of
from vision.data.annotated.polygons import segment_of
from vision.data.annotated.problems import Problem

TRIED = 20  # images by which their folder is found
WRONG = (KeyError, TypeError, ValueError, ArithmeticError)  # what an entry that makes no sense raises


@dataclasses.dataclass
class Categories:
    """The classes of a file."""

    names: tuple[str, ...]  # in the order of labels
    labels: dict[Any, int]  # by category id
    points: dict[Any, int]  # keypoints of an object, by category id, where the file says it


def fits(folder: Path) -> bool:
    """Whether there is a JSON file that begins as COCO's may."""
    return any(_is_coco(path) for path in _files(folder))


def read(folder: Path, problems: list[Problem]) -> tuple[dict[str, list[Annotation]], tuple[str, ...]]:
    """The annotations of each part, and the names of the classes.

    Raises ValueError for a file that is not JSON, or for parts whose classes differ.
    """
    chosen: dict[str, tuple[Path, dict]] = {}
    captions: dict[str, list[dict]] = defaultdict(list)  # lines of files beside those with boxes
    listed: set[str] = set()  # names of images in any file
    others: dict[Path, str] = {}  # files that have more than captions, and their parts
    for path in _files(folder):
        content = _content(path)
        if content is None:
            continue
        listed |= {Path(name).name for name in _names(content["images"])}
        part = part_of(path.stem) or part_of(path.parent.name if path.parent != folder else "")
        if content["annotations"] and not _is_caption(_first(content)):
            others[path] = part
        if "segments_info" in _first(content) or not content["annotations"]:
            continue  # panoptic files, and those without annotations
        captions[part] += [line for line in content["annotations"] if isinstance(line, dict) and _is_caption(line)]
        if part not in chosen or _rank(path, content) > _rank(*chosen[part]):
            chosen[part] = (path, content)
    if not chosen:
        raise ValueError(f"{folder} has no .json with images and annotations")
    for path in sorted(others.keys() - {path for path, _ in chosen.values()}):
        words = f"{chosen[others[path]][0].name} is" if others[path] in chosen else "panoptic"
        problems.append(Problem("annotation file beside another", path.name, words))
    classes = None
    parts = {}
    for part, (path, content) in chosen.items():
        categories = _categories(path, content, problems, gaps=classes is None)
        if classes is not None and categories.names != classes:
            words = f"{categories.names} and {classes}"
            raise ValueError(f"{path} has other categories than the file of another part: {words}")
        classes = categories.names
        own = {id(line) for line in content["annotations"]}
        beside = [line for line in captions[part] if id(line) not in own]
        parts[part] = _read(path, content, categories, folder, problems, beside)
    used = [annotation.path for part in parts.values() for annotation in part]
    note_unlisted({path.parent for path in used}, used, problems, lambda path: path.name not in listed)
    return parts, classes


def _is_caption(line: dict) -> bool:
    return "caption" in line and "bbox" not in line


def _read(
    path: Path,
    content: dict,
    categories: Categories,
    folder: Path,
    problems: list[Problem],
    beside: list[dict],
) -> list[Annotation]:
    """The annotations of a file. beside: captions from other files of its part."""
    found = _images(path, content, _images_folder(path, content, folder), problems)
    captions: dict[Any, list[str]] = defaultdict(list)
    seen: dict[tuple, list[dict]] = defaultdict(list)  # annotations by image, class and box
    for row, line in enumerate((*content["annotations"], *beside)):
        known = isinstance(line, dict) and "id" in line
        name, image = f"annotation {line['id']}" if known else f"annotations[{row}]", None
        where = f"{path.name} {name}"
        try:
            if (key := line["image_id"]) not in found:
                problems.append(Problem("unknown image id", where, str(key)[:60]))
                continue
            annotation = found[key]
            image, where = annotation.path, f"{where} of {annotation.path.name}"
            if _is_caption(line):
                if not isinstance(line["caption"], str):
                    raise TypeError(f"its caption is {line['caption']!r}")
                captions[key].append(line["caption"])
                continue
            if (category := _number(line["category_id"])) not in categories.labels:
                problems.append(Problem("unknown class", where, str(line["category_id"])[:60], image))
                annotation.left_out += _boxes(line)
                continue
            alike = seen[key, category, tuple(line["bbox"])]
            if any(_same(line, other) for other in alike):
                problems.append(Problem("duplicate annotation", where, "", image))
                continue
            alike.append(line)
            said = [
                Problem(*each[:1], where, *each[1:], image) for each in _odd(line, categories.points.get(category))
            ]
            annotation.objects.append(_object(line, categories.labels[category], f"{name} of {image.name}", said))
            problems += said
        except WRONG as error:
            words = f"{error} is missing" if isinstance(error, KeyError) else str(error)
            problems.append(Problem("damaged annotation", where, words, image))
            if image is not None:
                annotation.left_out += _boxes(line)
    for key, lines in captions.items():
        found[key].captions = tuple(lines)
    return list(found.values())


def _images(path: Path, content: dict, where: Path, problems: list[Problem]) -> dict[Any, Annotation]:
    """The images of a file, by their ids."""
    found: dict[Any, Annotation] = {}
    for row, image in enumerate(content["images"]):
        try:
            name, key = image["file_name"], image["id"]
            hash(key)
            if not isinstance(name, str) or not name:
                raise TypeError(f"its file name is {name!r}")
        except WRONG as error:
            words = f"{error} is missing" if isinstance(error, KeyError) else str(error)
            problems.append(
                Problem("damaged annotation", f"{path.name} images[{row}]", f"{words}: {str(image)[:60]}")
            )
            continue
        if key in found:
            problems.append(Problem("duplicate image", name, f"id {key}", found[key].path))
            continue
        given = (image.get("height"), image.get("width"))
        size = tuple(int(side) for side in given) if all(_finite(side) and side >= 1 for side in given) else None
        if size is None and given != (None, None):
            words = "height {!r}, width {!r}".format(*given)
            problems.append(Problem("image size that makes no sense", name, words, where / name))
        found[key] = Annotation(where / name, path.name, [], size)
    return found


def _object(line: dict, label: int, name: str, odd: list[Problem]) -> Object:
    """An object of a line. odd: what is wrong with its parts, which are left out."""
    x, y, wide, tall = (float(value) for value in line["bbox"])
    kinds = {each.kind for each in odd}
    points = None if "damaged keypoints" in kinds else line.get("keypoints")
    area = None if "area that makes no sense" in kinds else line.get("area")
    return Object(
        (x, y, x + wide, y + tall),
        label,
        name,
        crowd=bool(line.get("iscrowd", 0)),
        area=None if area is None else float(area),
        segment=segment_of(line.get("segmentation")),
        keypoints=None if not points else np.array(points, dtype=np.float64).reshape(-1, 3),
    )


def _odd(line: dict, count: int | None) -> list[tuple[str, str]]:
    """Kinds and details of problems with an object's area and keypoints. count: of keypoints, where it is known."""
    found = []
    area, points = line.get("area"), line.get("keypoints")
    if area is not None and not (_finite(area) and area >= 0):
        found.append(("area that makes no sense", repr(area)[:60]))
    if not points:
        return found
    if not isinstance(points, list) or not all(map(_finite, points)):
        found.append(("damaged keypoints", "not a list of finite numbers"))
    elif len(points) % 3:
        found.append(("damaged keypoints", f"{len(points)} numbers, not three a keypoint"))
    elif count is not None and len(points) != 3 * count:
        found.append(("damaged keypoints", f"{len(points) // 3}, and its class has {count}"))
    return found


def _categories(path: Path, content: dict, problems: list[Problem], gaps: bool) -> Categories:
    """The classes, in the order of their ids. gaps: whether ids with gaps are named."""
    given = content.get("categories") or []
    named: dict[Any, tuple[str, int | None]] = {}
    if not isinstance(given, list):
        problems.append(Problem("damaged annotation", f"{path.name} categories", str(given)[:60]))
        given = []
    for row, category in enumerate(given):
        where = f"{path.name} categories[{row}]"
        try:
            key = _number(category["id"])
            if key is None or isinstance(key, float | bool) or key != key:
                raise TypeError(f"its id is {key!r}")
            hash(key)
        except WRONG as error:
            words = f"{error} is missing" if isinstance(error, KeyError) else str(error)
            problems.append(Problem("damaged annotation", where, f"{words}: {str(category)[:60]}"))
            continue
        name, points = category.get("name"), category.get("keypoints")
        if name is None or not str(name).strip():
            problems.append(Problem("class without a name", where, f"id {key}"))
            name = f"category {key}"
        if key in named:
            problems.append(
                Problem("class id of two classes", f"{path.name} id {key}", f"{named[key][0]} and {name}")
            )
            continue
        if isinstance(category["id"], str):
            problems.append(Problem("class id that is text", f"{path.name} {name}", repr(category["id"])))
        named[key] = (str(name), len(points) if isinstance(points, list) and points else None)
    ids = sorted(named, key=lambda key: (isinstance(key, str), key))
    names: dict[str, Any] = {}  # and the first id of each
    for key in ids:
        if names.setdefault(named[key][0], key) != key:
            words = f"ids {names[named[key][0]]} and {key}"
            problems.append(Problem("class name of two classes", f"{path.name} {named[key][0]}", words))
    whole = [key for key in ids if isinstance(key, int)]
    if gaps and whole and whole[-1] - whole[0] != len(whole) - 1:
        problems.append(Problem("class ids with gaps", path.name, f"{len(whole)} of {whole[0]} to {whole[-1]}"))
    order = {name: label for label, name in enumerate(names)}
    points = {key: count for key, (_, count) in named.items() if count is not None}
    return Categories(tuple(names), {key: order[name] for key, (name, _) in named.items()}, points)


def _number(key: Any) -> Any:
    """An id, as a whole number where its text, or a float, is one."""
    if isinstance(key, str) and key.strip().isascii() and key.strip().isdecimal():
        return int(key)
    return int(key) if isinstance(key, float) and key.is_integer() else key


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _finite(value: Any) -> bool:
    """Whether it is a number that a float can be."""
    return _is_number(value) and abs(value) < 1e300 and math.isfinite(value)


def _same(line: dict, other: dict) -> bool:
    """Whether annotations differ in their ids alone."""
    return {**line, "id": None} == {**other, "id": None}


def _boxes(line: Any) -> list[tuple[float, float, float, float]]:
    """The box of a line that is left out, or none where it has none."""
    box = line.get("bbox") if isinstance(line, dict) else None
    if not isinstance(box, list) or len(box) != 4 or not all(map(_finite, box)):
        return []
    return [(box[0], box[1], box[0] + box[2], box[1] + box[3])]


def _names(images: list) -> list[str]:
    names = (image.get("file_name") for image in images if isinstance(image, dict))
    return [name for name in names if isinstance(name, str)]


def _images_folder(path: Path, content: dict, folder: Path) -> Path:
    """The folder that most of the first images are in."""
    names = _names(content["images"])[:TRIED]
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
    return max(places, key=lambda place: sum(os.path.isfile(place / name) for name in names))


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


def _first(content: dict) -> dict:
    """The first annotation that is one, or an empty one."""
    return next((line for line in content["annotations"] if isinstance(line, dict)), {})


def _rank(path: Path, content: dict) -> tuple[bool, bool]:
    """Which of several files of a part is read: one with boxes, and of those instances."""
    return "bbox" in _first(content), "instances" in path.stem
