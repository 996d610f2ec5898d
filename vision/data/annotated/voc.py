"""Pascal VOC's XML: boxes, difficult objects and masks (Everingham et al. 2010).

Annotations/*.xml beside JPEGImages/ and ImageSets/Main/{train,val,test}.txt; or .xml files beside their images.
SegmentationObject/*.png, for some of the images, number the pixels of the objects, from 1 in the order of the .xml; 0
is background, 255 void.
Pixels are counted from 1 there, and the last one belongs to the box: (xmin, ymin, xmax, ymax) is (xmin - 1, ymin - 1,
xmax, ymax) here. Difficult objects are Target.crowd. Where there are no lists, images without an .xml are named; with
lists, what they do not name is not read.
"""

from __future__ import annotations

import os
from pathlib import Path
from xml.etree import ElementTree

import numpy as np

from vision.data import image_files
from vision.data.annotated.images import PARTS, Annotation, Object, note_unlisted, part_of
from vision.data.annotated.polygons import Segment, runs_of
from vision.data.annotated.problems import Problem
from vision.data.image_files import SUFFIXES

LARGEST = 1 << 24  # bytes of a file
VOID = 255  # number of the pixels of no object in particular: borders, and what is hard to tell


def fits(folder: Path) -> bool:
    """Whether there are XML files in Annotations/, or beside images."""
    return any(next(place.glob("*.xml"), None) is not None for place in _places(folder))


def read(folder: Path, problems: list[Problem]) -> tuple[dict[str, list[Annotation]], tuple[str, ...]]:
    """The annotations of each part, and the names of the classes in alphabetical order."""
    listed = _listed(folder)
    parts: dict[str, list[Annotation]] = {}
    raw: list[tuple[Annotation, list[tuple]]] = []
    names: set[str] = set()
    for place in _places(folder):
        for path in sorted(place.glob("*.xml")):
            try:
                annotation, objects = _read(path, folder)
            except (ElementTree.ParseError, ValueError, ArithmeticError, LookupError, OSError) as error:
                problems.append(Problem("damaged annotation", path.name, str(error)))
                continue
            part = listed.get(path.stem, None if listed else part_of(place.name if place != folder else ""))
            if part is None:
                continue  # in no list of ImageSets/Main
            parts.setdefault(part, []).append(annotation)
            raw.append((annotation, objects))
            names |= {name for name, *_ in objects if name}
    classes = tuple(sorted(names))
    for annotation, objects in raw:
        numbers = _numbered(annotation, len(objects), folder, problems)
        for number, (name, corners, difficult) in enumerate(objects, start=1):
            where = f"object {number}"
            if not name or corners is None:
                source = f"{annotation.source} {where}"
                problems.append(Problem("damaged annotation", source, "no name or no box", annotation.path))
                annotation.left_out += [corners] if corners else []
                continue
            left, top, right, bottom = corners
            degenerate = right <= left or bottom <= top  # one pixel by the rule, but nobody means that
            box = corners if degenerate else (left - 1, top - 1, right, bottom)
            segment = None
            if numbers is not None and (mask := numbers == number).any():
                segment = Segment(counts=runs_of(mask), size=mask.shape)
            elif numbers is not None:
                problems.append(Problem("object without a mask", f"{annotation.source} {where}", "", annotation.path))
            annotation.objects.append(Object(box, classes.index(name), where, crowd=difficult, segment=segment))
    for stem, part in sorted(listed.items()):
        if not any(annotation.path.stem == stem for annotation in parts.get(part, ())):
            if not any(os.path.isfile(place / f"{stem}.xml") for place in _places(folder)):
                problems.append(Problem("damaged annotation", f"{stem}.xml", f"named in {part}, and not there"))
    if not listed:
        used = [annotation.path for annotation, _ in raw]
        stems = {path.stem for place in _places(folder) for path in place.glob("*.xml")}
        beside = (folder / "JPEGImages", folder / "images", *_places(folder))
        note_unlisted({*beside, *(path.parent for path in used)}, used, problems, lambda path: path.stem not in stems)
    return parts, classes


def _numbered(annotation: Annotation, count: int, folder: Path, problems: list[Problem]) -> np.ndarray | None:
    """The objects' numbers (H, W) uint8 of an image's pixels, if it has a file of them. count: of objects."""
    path = folder / "SegmentationObject" / f"{annotation.path.stem}.png"
    if not os.path.isfile(path):
        return None
    try:
        numbers = image_files.read_mask(path).numpy()
    except ValueError as error:
        words = str(error.__cause__ or error)
        problems.append(Problem("unreadable mask of objects", path.name, words, annotation.path))
        return None
    if unknown := sorted(set(np.unique(numbers).tolist()) - {*range(count + 1), VOID}):
        words = f"{', '.join(map(str, unknown))}, and there are {count} objects"
        problems.append(Problem("mask of no object", path.name, words, annotation.path))
    return numbers


def _read(path: Path, folder: Path) -> tuple[Annotation, list[tuple]]:
    """One file: its image, and its objects as (name, corners, difficult)."""
    if path.stat().st_size > LARGEST:
        raise ValueError(f"{path.stat().st_size:,} bytes are not an annotation")
    text = path.read_bytes()
    if b"<!ENTITY" in text:
        raise ValueError("it declares entities")
    root = ElementTree.fromstring(text)
    size = tuple(_number(root.find(f"size/{side}")) for side in ("height", "width"))
    objects = []
    for each in root.iter("object"):
        corners = [_number(each.find(f"bndbox/{side}")) for side in ("xmin", "ymin", "xmax", "ymax")]
        difficult = bool(_number(each.find("difficult")))
        name = (each.findtext("name") or "").strip()
        objects.append((name, None if None in corners else tuple(corners), difficult))
    image = _image(path, (root.findtext("filename") or "").strip(), folder)
    known = None if None in size or 0 in size else tuple(int(side) for side in size)
    return Annotation(image, path.name, [], known), objects


def _image(path: Path, named: str, folder: Path) -> Path:
    """The image of an XML file: what it names, or what is called as itself."""
    places = [folder / "JPEGImages", folder / "images", path.parent]
    names = [Path(named).name] if named else []
    for place in places:
        for name in names:
            if os.path.isfile(place / name):  # Path.is_file raises for names that are too long
                return place / name
    for place in places:
        for suffix in sorted(SUFFIXES):
            if (place / f"{path.stem}{suffix}").is_file():
                return place / f"{path.stem}{suffix}"
    return places[0] / (names[0] if names else f"{path.stem}.jpg")


def _listed(folder: Path) -> dict[str, str]:
    """The part of each image, by ImageSets/Main."""
    found = {}
    for part, names in PARTS.items():
        for name in names:
            path = folder / "ImageSets" / "Main" / f"{name}.txt"
            if path.is_file():
                found |= {
                    line.split()[0]: part for line in path.read_text(errors="replace").splitlines() if line.strip()
                }
    return found


def _places(folder: Path) -> list[Path]:
    if (folder / "Annotations").is_dir():
        return [folder / "Annotations"]
    return [folder, *sorted(each for each in folder.iterdir() if each.is_dir() and part_of(each.name))]


def _number(element: ElementTree.Element | None) -> float | None:
    try:
        return float(element.text)
    except (AttributeError, TypeError, ValueError):
        return None
