"""Check of annotated images: what is wrong with a folder in COCO's, VOC's or YOLO's format, with a picture.

    python -m vision.data check path/to/folder
    python -m vision.data check path/to/folder --format voc --out bccd.png

Every image is decoded. Ends with status 1 where something was left out.
"""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Annotated

import tyro

import runs
from runs import output
from runs.flag_types import Count
from runs.printing import printable
from vision.data import annotated
from vision.data.annotated import problems
from vision.data.boxes_picture import panel


@dataclasses.dataclass(frozen=True)
class Config:
    folder: Annotated[Path, tyro.conf.Positional]  # of annotated images
    format: str = "auto"  # coco, voc or yolo
    shown: Count = 10  # names of each problem
    images: Count = 8  # in the picture: those with problems first
    out: Path = Path("check.png")  # where the picture goes


def main(config: Config) -> None:
    sets = annotated.load(config.folder, config.format, whole=True)
    for name, part in zip(sets._fields, sets[:3], strict=False):
        objects = sum(len(each.objects) for each in part.annotations)
        print(f"{name}: {len(part):,} images, {objects:,} objects")
    print(printable(f"{len(sets.classes)} classes: {', '.join(sets.classes[:20])}"))
    for line in problems.summary(sets.problems, config.shown):
        print(printable(line))
    draw(sets, config.images, config.out)
    wrong = [each for each in sets.problems if each.kind not in problems.NOTES]
    print(printable(f"{len(wrong)} problems; pictures in {config.out}"))
    if any(problems.KINDS[each.kind] == "left out" for each in wrong):
        raise SystemExit(1)


def draw(sets: annotated.AnnotatedSets, count: int, path: Path) -> None:
    """Images with their boxes, those that problems name first."""
    from matplotlib.figure import Figure

    named = " ".join(each.where for each in sets.problems if each.kind not in problems.NOTES)
    places = [(part, row) for part in sets[:3] for row in range(len(part))]
    places.sort(key=lambda place: not _named(place[0].annotations[place[1]], named))
    places = places[:count]
    columns = min(4, len(places))
    rows = -(-len(places) // columns)
    figure = Figure(figsize=(4 * columns, 3.4 * rows), layout="constrained")
    axes = figure.subplots(rows, columns, squeeze=False).flatten()
    for axis in axes:
        axis.axis("off")
    for axis, (part, row) in zip(axes, places, strict=False):
        sample = part[row]
        names = [sets.classes[label] for label in sample.target.labels.tolist()]
        target = sample.target
        panel(axis, sample.image, target.boxes, target.labels, names, target.masks)
        axis.set_title(printable(part.annotations[row].path.name), fontsize=8, parse_math=False)
    output.draw(path, figure, "--out", dpi=100)


def _named(annotation: annotated.Annotation, named: str) -> bool:
    return annotation.path.name in named or (not annotation.source.endswith(".json") and annotation.source in named)


def launch() -> None:
    """Run the check with the flags of the command line."""
    runs.launch(main, Config, None, "vision.data check", __doc__)
