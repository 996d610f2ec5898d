"""Annotated images: COCO's JSON, Pascal VOC's XML and YOLO's text files, read as samples with targets.

    sets = annotated.load("bccd")                   # the format is found out
    sets.train[0]                                     # a Sample: image (3, H, W) and its Target
    sets.classes, problems.summary(sets.problems)

images.py     what an annotated image is, and sets of them; problems.py: what is wrong with files, named and counted
coco.py, voc.py, yolo.py   the formats; polygons.py: masks of polygons and of COCO's run lengths
check.py      `python -m vision.data check FOLDER`: all that is wrong, with a picture

Files that are damaged and entries that make no sense are left out and listed in `problems`; images that COCO's files,
or VOC's without lists of parts, do not name are listed too. Errors end the reading where a whole file of annotations
is not JSON, where parts have different classes, and where too few images are left. Damage that a decoder does not
notice, such as wrong colors within a JPEG, is not found.
"""

from __future__ import annotations

from pathlib import Path

from runs import suggestions
from vision.data.annotated import coco, voc, yolo
from vision.data.annotated.images import AnnotatedImages, AnnotatedSets, Annotation, assemble
from vision.data.annotated.problems import Problem, summary

__all__ = [
    "FORMATS",
    "RECORDING",
    "SHAPES",
    "AnnotatedImages",
    "AnnotatedSets",
    "Annotation",
    "Problem",
    "format_of",
    "load",
    "recipe_key",
    "summary",
]

FORMATS = {"coco": coco, "voc": voc, "yolo": yolo}
SHAPES = "shapes"  # the name of drawn scenes (vision/data/scenes.py) among the folders
RECORDING = "recording.json"  # in a folder of recorded frames of a game


def recipe_key(data: str | Path) -> str:
    """The key of the recipe of a --data: "shapes", "recording" (a game, by agents.studies.export_coco), "folder"."""
    if data == SHAPES:
        return SHAPES
    return "recording" if (Path(data) / RECORDING).is_file() else "folder"


def format_of(folder: str | Path, format: str = "auto") -> str:
    """coco, voc or yolo: `format` itself, or for auto the first that the folder looks like.

    Raises ValueError where there is no such folder or format, or the folder looks like none.
    """
    folder = Path(folder)
    if not folder.is_dir():
        raise ValueError(f"there is no folder {folder}")
    if format == "auto":
        format = next((name for name, reader in FORMATS.items() if reader.fits(folder)), "")
        if not format:
            raise ValueError(
                f"{folder} has no annotations in a known format: COCO is a .json with images and annotations, VOC a "
                "folder Annotations/ of .xml, YOLO folders images/ and labels/"
            )
    if format not in FORMATS:
        raise ValueError(f"unknown format {format!r}: {suggestions.one_of(format, FORMATS)}")
    return format


def load(folder: str | Path, format: str = "auto", whole: bool | None = None) -> AnnotatedSets:
    """The annotated images of a folder, in three parts.

    Parts are those that files or folders are named for (train, val, valid, test). Without a test part the validation
    images are the test, and a tenth of the training images, drawn by a fixed seed, is cut for validation; without any
    parts a tenth each.
    format: coco, voc, yolo, or auto, which takes the first that the folder looks like.
    whole: decode every image before, as `check` does; False: only those whose last bytes are not as they should be.
    None: every image where there are at most 5,000. Of more, one that is damaged in its middle alone is found when
    training asks for it, which ends with an error that names it.
    Raises ValueError where there is no such folder, format, or nothing to learn from.
    """
    folder, format = Path(folder), format_of(folder, format)
    problems: list[Problem] = []
    parts, classes = FORMATS[format].read(folder, problems)
    return assemble(folder, parts, classes, problems, whole)
