"""Annotated images: what readers of all formats give, checked against the images, and read as samples."""

from __future__ import annotations

import dataclasses
import os
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch

from vision.data import image_files
from vision.data.annotated.polygons import Segment, mask_of
from vision.data.annotated.problems import Problem, summary
from vision.data.samples import Sample, Target

PARTS = {"train": ("train", "training"), "validation": ("val", "valid", "validation"), "test": ("test", "testing")}
TENTH = 10  # one image of so many is cut
SEED = 0  # of what is cut
DECODED = 5_000  # images at most that are all decoded before training, which takes seconds
TOLERATED = 1.0  # pixels that a box may reach beyond its image without being named: annotations count from 0 or 1


class Object(NamedTuple):
    """One object as a reader found it."""

    box: tuple[float, float, float, float]  # left, top, right, bottom, in pixels
    label: int  # index of its class
    name: str  # that it is called by in messages
    crowd: bool = False
    area: float | None = None  # square pixels, as annotated
    segment: Segment | None = None
    keypoints: np.ndarray | None = None  # (P, 3)


@dataclasses.dataclass
class Annotation:
    """One image and what a reader found of it."""

    path: Path
    source: str  # the annotation file, for messages
    objects: list[Object]
    size: tuple[int, int] | None = None  # (height, width) as annotated; after reading as it is
    captions: tuple[str, ...] | None = None
    upright: bool = True  # whether the image is turned as its EXIF data say
    relative: bool = False  # boxes are in parts of the image's sides
    left_out: list[tuple[float, float, float, float]] = dataclasses.field(default_factory=list)  # boxes, for pictures


class AnnotatedImages(Sequence):
    """N annotated images as samples, decoded when asked for.

    masks: whether targets have masks; those of objects without one are their boxes. points: how many keypoints they
    have; those of objects without any are (0, 0, 0).
    """

    def __init__(self, annotations: Sequence[Annotation], masks: bool = False, points: int = 0) -> None:
        self.annotations, self.masks, self.points = list(annotations), masks, points

    def __len__(self) -> int:
        return len(self.annotations)

    def __getitem__(self, index: int) -> Sample:
        """Raises ValueError that names a file that cannot be read (any more)."""
        annotation = self.annotations[index]
        image = image_files.read_whole(annotation.path, annotation.upright)
        return Sample(image, self.target(index, tuple(image.shape[1:])))

    def __iter__(self) -> Iterator[Sample]:
        return (self[index] for index in range(len(self)))

    def target(self, index: int, size: tuple[int, int] | None = None) -> Target:
        """The target of an image, which is not decoded. size: of the image (height, width), which masks have."""
        annotation = self.annotations[index]
        objects, size = annotation.objects, size or annotation.size
        fields: dict[str, Any] = {
            "boxes": torch.tensor([each.box for each in objects], dtype=torch.float32).view(-1, 4),
            "labels": torch.tensor([each.label for each in objects], dtype=torch.int64),
            "crowd": torch.tensor([each.crowd for each in objects], dtype=torch.bool),
        }
        masks = [mask_of(each.segment, each.box, size) for each in objects] if self.masks else [None] * len(objects)
        if any(each.area is not None for each in objects):
            areas = [_area(each, mask) for each, mask in zip(objects, masks, strict=True)]
            fields["area"] = torch.tensor(areas, dtype=torch.float32)
        if self.masks:
            fields["masks"] = torch.from_numpy(np.stack(masks) if masks else np.zeros((0, *size), dtype=bool))
        if self.points:
            none = np.zeros((self.points, 3))
            points = [none if each.keypoints is None else each.keypoints for each in objects]
            fields["keypoints"] = torch.tensor(np.array(points), dtype=torch.float32).view(-1, self.points, 3)
        return Target(captions=annotation.captions, **fields)


class AnnotatedSets(NamedTuple):
    """Annotated images in three parts: train on `train`, select on `validation`, report `test` once."""

    train: AnnotatedImages
    validation: AnnotatedImages
    test: AnnotatedImages
    classes: tuple[str, ...]  # names, in the order of labels
    problems: list[Problem]


def assemble(
    folder: Path,
    parts: dict[str, list[Annotation]],
    classes: tuple[str, ...],
    problems: list[Problem],
    whole: bool | None = None,
) -> AnnotatedSets:
    """Check the annotations against their images, and cut what parts are missing.

    parts: train, validation, test, or "" where the format knows no parts. whole: whether every image is decoded;
    None: where there are at most DECODED. Raises ValueError where nothing is left.
    """
    everything = [annotation for part in parts.values() for annotation in part]
    whole = len(everything) <= DECODED if whole is None else whole
    with ThreadPoolExecutor(min(8, os.cpu_count() or 1)) as pool:
        fine = list(pool.map(lambda annotation: _check_image(annotation, whole), everything))
    kept = {id(annotation) for annotation, (good, _) in zip(everything, fine, strict=True) if good}
    for _, found in fine:
        problems += found
    parts = {name: [each for each in part if id(each) in kept] for name, part in parts.items()}
    for part in parts.values():
        for annotation in part:
            _check_objects(annotation, problems)
    if not any(parts.values()):
        named = "; ".join(summary(problems))
        raise ValueError(f"{folder} has no image that can be read{named and f': {named}'}")
    points = _check_keypoints([annotation for part in parts.values() for annotation in part], problems)
    objects = [each for part in parts.values() for annotation in part for each in annotation.objects]
    masks = any(each.segment is not None for each in objects)
    seen = {each.label for each in objects}
    problems += [Problem("class without objects", name) for label, name in enumerate(classes) if label not in seen]
    parts = _split(parts)
    for name in ("train", "validation"):
        if not parts[name]:
            named = "; ".join(summary(problems))
            raise ValueError(f"{folder} has no images left for {name}: there are too few{named and f' ({named})'}")
    made = (AnnotatedImages(parts[name], masks, points) for name in PARTS)
    return AnnotatedSets(*made, classes, problems)


def part_of(name: str) -> str:
    """The part that a file or folder is named for, "train2017" or "valid", or ""."""
    words = name.lower().replace("-", "_").replace(".", "_").split("_")
    for word in reversed(words):
        for part, names in PARTS.items():
            if word.rstrip("0123456789") in names:
                return part
    return ""


def note_unlisted(
    folders: Iterable[Path],
    used: Iterable[Path],
    problems: list[Problem],
    without: Callable[[Path], bool] = lambda path: True,
) -> None:
    """Name the images in those folders that are not among the used ones, and of which `without` holds."""
    known = set(used)
    for folder in sorted(folders):
        for path in sorted(folder.iterdir()) if folder.is_dir() else ():
            if path.suffix.lower() in image_files.SUFFIXES and path not in known and without(path):
                problems.append(Problem("image that no file lists", path.name, f"in {folder.name}/", path))


def _split(parts: dict[str, list[Annotation]]) -> dict[str, list[Annotation]]:
    """Three parts, of what parts there are."""
    found = {name: list(parts.get(name, ())) for name in PARTS}
    found["train"] += parts.get("", ())
    if not found["train"]:  # a folder with a single part of another name
        name = "validation" if found["validation"] else "test"
        found["train"], found[name] = found[name], []
    if not found["test"] and found["validation"]:
        found["test"], found["validation"] = found["validation"], []
    for name in ("test", "validation"):
        if not found[name]:
            found["train"], found[name] = _cut(found["train"])
    return found


def _cut(part: list[Annotation]) -> tuple[list[Annotation], list[Annotation]]:
    order = torch.randperm(len(part), generator=torch.Generator().manual_seed(SEED)).tolist()
    away = set(order[: max(1, len(part) // TENTH)] if len(part) > 1 else [])
    return [a for i, a in enumerate(part) if i not in away], [a for i, a in enumerate(part) if i in away]


def _check_image(annotation: Annotation, whole: bool) -> tuple[bool, list[Problem]]:
    """Whether an image can be read, and what is to be known of it."""
    name = annotation.path.name
    if not os.path.isfile(annotation.path):  # Path.is_file raises for names that are too long
        return False, [Problem("missing image", str(annotation.path), f"named in {annotation.source}")]
    try:
        found = image_files.inspect(annotation.path, whole)
    except ValueError as error:
        return False, [Problem("unreadable image", name, str(error.__cause__ or error))]
    problems = [Problem(f"{found.depth} image", name, "", annotation.path)] if found.depth else []
    upright = found.size[::-1] if found.turns else found.size
    if found.turns and annotation.size == found.size and annotation.size != upright:
        annotation.upright, upright = False, found.size
        problems.append(Problem("image turned by EXIF, annotated as stored", name, "", annotation.path))
    elif found.turns:
        problems.append(Problem("image turned by EXIF", name, "", annotation.path))
    if annotation.size not in (None, upright):
        words = "{1} x {0} pixels".format(*upright) + ", annotated as {1} x {0}".format(*annotation.size)
        problems.append(Problem("image of another size than annotated", name, words, annotation.path))
    annotation.size = upright
    if annotation.relative:
        tall, wide = upright
        annotation.objects = [_scaled(each, wide, tall) for each in annotation.objects]
    return True, problems


def _check_objects(annotation: Annotation, problems: list[Problem]) -> None:
    """Leave out objects without area or outside of the image, cut those that reach beyond it, and name them."""
    tall, wide = annotation.size
    kept = []
    for each in annotation.objects:
        left, top, right, bottom = each.box
        words = f"{left:g}, {top:g}, {right:g}, {bottom:g}"
        beyond = f"{words} of {wide} x {tall} pixels"
        cut = (max(left, 0.0), max(top, 0.0), min(right, float(wide)), min(bottom, float(tall)))
        wrong = None
        if not all(np.isfinite(each.box)):
            wrong = ("damaged annotation", words)
        elif right <= left or bottom <= top:
            wrong = ("box without area", words)
        elif cut[2] <= cut[0] or cut[3] <= cut[1]:
            wrong = ("box outside of its image", beyond)
        elif max(abs(a - b) for a, b in zip(cut, each.box, strict=True)) > TOLERATED:
            problems.append(_problem("box partly outside of its image", annotation, each, beyond))
        if wrong is not None:
            problems.append(_problem(wrong[0], annotation, each, wrong[1]))
            annotation.left_out.append(each.box)
            continue
        if each.crowd:
            problems.append(_problem("crowd region", annotation, each))
        if odd := _odd_segment(each.segment, tall, wide):
            problems.append(_problem(odd[0], annotation, each, odd[1]))
            each = each._replace(segment=None)
        if odd := _odd_keypoints(each.keypoints, tall, wide):
            problems.append(_problem(odd[0], annotation, each, odd[1]))
            each = each._replace(keypoints=None)
        kept.append(each._replace(box=cut))
    annotation.objects = kept
    if not kept:
        problems.append(Problem("image without objects", annotation.path.name, "", annotation.path))


def _check_keypoints(annotations: list[Annotation], problems: list[Problem]) -> int:
    """How many keypoints most objects have; those with another number lose theirs, and are named."""
    counts = Counter(
        len(each.keypoints) for found in annotations for each in found.objects if each.keypoints is not None
    )
    points = max(counts, key=lambda count: (counts[count], count), default=0)
    for annotation in annotations if len(counts) > 1 else ():
        for row, each in enumerate(annotation.objects):
            if each.keypoints is not None and len(each.keypoints) != points:
                words = f"{len(each.keypoints)}, and most have {points}"
                problems.append(_problem("damaged keypoints", annotation, each, words))
                annotation.objects[row] = each._replace(keypoints=None)
    return points


def _odd_segment(segment: Segment | None, tall: int, wide: int) -> tuple[str, str] | None:
    """What is wrong with a segment, kind and detail. Polygons may reach beyond an image by its sides, not more."""
    if segment is not None and segment.counts is not None and segment.size != (tall, wide):
        words = "{1} x {0} pixels".format(*segment.size) + f", its image {wide} x {tall}"
        return "run lengths of another size than the image", words
    sides = np.array([wide, tall])
    for polygon in segment.polygons if segment is not None else ():
        inside = (polygon >= -sides) & (polygon <= 2 * sides)  # false of NaN
        if not inside.all():
            x, y = polygon[~inside.all(1)][0]
            return "polygon outside of its image", f"{x:g}, {y:g} of {wide} x {tall} pixels"
    return None


def _odd_keypoints(points: np.ndarray | None, tall: int, wide: int) -> tuple[str, str] | None:
    """What is wrong with keypoints (P, 3), kind and detail."""
    if points is None:
        return None
    if not np.isfinite(points).all():
        return "damaged keypoints", "not finite"
    inside = (points[:, :2] >= -TOLERATED) & (points[:, :2] <= np.array([wide, tall]) + TOLERATED)
    outside = points[(points[:, 2] > 0) & ~inside.all(1)]
    if not len(outside):
        return None
    return "keypoints outside of their image", "{:g}, {:g}".format(*outside[0]) + f" of {wide} x {tall} pixels"


def _problem(kind: str, annotation: Annotation, each: Object, detail: str = "") -> Problem:
    return Problem(kind, f"{annotation.source} {each.name}", detail, annotation.path)


def _area(each: Object, mask: np.ndarray | None) -> float:
    """An object's area in square pixels: as annotated, else of its mask, else of its box."""
    if each.area is not None:
        return each.area
    left, top, right, bottom = each.box
    return (right - left) * (bottom - top) if mask is None else float(mask.sum())


def _scaled(each: Object, wide: int, tall: int) -> Object:
    factors = (wide, tall, wide, tall)
    box = tuple(value * factor for value, factor in zip(each.box, factors, strict=True))
    return each._replace(box=box, segment=None if each.segment is None else each.segment.scaled(wide, tall))
