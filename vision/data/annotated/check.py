"""Check of images with annotations or masks: what is wrong with a folder, named and counted, with a picture.

    python -m vision.data check path/to/folder
    python -m vision.data check path/to/folder --format voc --out bccd.png

Reads COCO's, VOC's and YOLO's formats and folders of images with masks of classes; a folder of both kinds is checked
as both. Every image and mask is decoded. The picture shows images with problems first; boxes that were left out are
dashed, and drawn at the image's border where they are outside of it. Ends with status 1 where something was left out.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import torch
import tyro

import runs
from runs import output
from runs.flag_types import Count
from runs.printing import printable
from vision.data import annotated, mask_folders
from vision.data.annotated import problems
from vision.data.annotated.coco_writer import palette
from vision.data.annotated.images import AnnotatedImages, AnnotatedSets
from vision.data.boxes_picture import panel
from vision.data.mask_folders import MaskedImages, MaskedSets

if TYPE_CHECKING:
    from matplotlib.axes import Axes

LEFT_OUT = "magenta"  # boxes


@dataclasses.dataclass(frozen=True)
class Config:
    folder: Annotated[Path, tyro.conf.Positional]  # of images with annotations or masks
    format: str = "auto"  # coco, voc, yolo or masks
    shown: Count = 10  # names of each problem
    images: Count = 8  # in the picture: those with problems first
    out: Path = Path("check.png")  # where the picture goes


def main(config: Config) -> None:
    found = read(config.folder, config.format)
    for sets in found:
        for name, part in zip(sets._fields, sets[:3], strict=False):
            print(f"{name}: {contents(part)}")
        print(printable(f"{len(sets.classes)} classes: {', '.join(sets.classes[:20])}"))
        for line in problems.summary(sets.problems, config.shown):
            print(printable(line))
    draw(found, config.images, config.out)
    wrong = [each for sets in found for each in sets.problems if each.kind not in problems.NOTES]
    print(printable(f"{len(wrong)} problems; pictures in {config.out}"))
    if any(problems.KINDS[each.kind] == "left out" for each in wrong):
        raise SystemExit(1)


def read(folder: Path, format: str) -> list[AnnotatedSets | MaskedSets]:
    """What a folder has: annotated images, images with masks, or both. Raises ValueError where there is neither."""
    found: list[AnnotatedSets | MaskedSets] = []
    masks = format == "masks" or (format == "auto" and folder.is_dir() and mask_folders.fits(folder))
    if format != "masks" and (not masks or any(each.fits(folder) for each in annotated.FORMATS.values())):
        found.append(annotated.load(folder, format, whole=True))
    if masks:
        found.append(mask_folders.read(folder, whole=True))
    return found


def contents(part: AnnotatedImages | MaskedImages) -> str:
    """How many images, objects, keypoints and captions there are, in words."""
    if isinstance(part, MaskedImages):
        return f"{len(part):,} images with masks of classes"
    objects = [each for annotation in part.annotations for each in annotation.objects]
    words = f"{len(part):,} images, {len(objects):,} objects"
    if count := sum(each.segment is not None for each in objects):
        words += f", {count:,} of them with masks"
    if count := sum(each.keypoints is not None for each in objects):
        words += f", {count:,} of them with keypoints"
    if count := sum(len(annotation.captions or ()) for annotation in part.annotations):
        words += f", {count:,} captions"
    return words


def draw(found: Sequence[AnnotatedSets | MaskedSets], count: int, path: Path) -> None:
    """Images with their boxes or classes, those with problems first."""
    from matplotlib.figure import Figure

    kinds: dict[Path, dict[str, None]] = {}
    for each in (each for sets in found for each in sets.problems):
        if each.kind not in problems.NOTES and each.image is not None:
            kinds.setdefault(each.image, {})[each.kind] = None
    places = [(sets, part, row) for sets in found for part in sets[:3] for row in range(len(part))]
    places.sort(key=lambda place: _path(*place[1:]) not in kinds)
    places = places[:count]
    columns = min(4, len(places))
    rows = -(-len(places) // columns)
    figure = Figure(figsize=(4 * columns, 3.4 * rows), layout="constrained")
    axes = figure.subplots(rows, columns, squeeze=False).flatten()
    for axis in axes:
        axis.axis("off")
    for axis, (sets, part, row) in zip(axes, places, strict=False):
        if isinstance(part, MaskedImages):
            _draw_classes(axis, part, row)
        else:
            _draw_objects(axis, part, row, sets.classes)
        image = _path(part, row)
        title = "\n".join([image.name, *kinds.get(image, ())][:4])
        axis.set_title(printable(title), fontsize=8, parse_math=False)
    output.draw(path, figure, "--out", dpi=100)


def _draw_objects(axis: Axes, part: AnnotatedImages, row: int, classes: Sequence[str]) -> None:
    from matplotlib.patches import Rectangle

    sample = part[row]
    target, (tall, wide) = sample.target, sample.image.shape[1:]
    panel(axis, sample.image, target.boxes, target.labels, [classes[label] for label in target.labels], target.masks)
    for box in part.annotations[row].left_out:
        if all(map(math.isfinite, box)):
            left, right = (min(max(side, 0), wide) for side in box[::2])
            top, bottom = (min(max(side, 0), tall) for side in box[1::2])
            style = {"edgecolor": LEFT_OUT, "linewidth": 1.5, "linestyle": "--", "fill": False}
            around = 1 + max(wide, tall) // 100  # pixels, so that boxes without area are seen
            corner = (left - around - 0.5, top - around - 0.5)
            size = (right - left + 2 * around, bottom - top + 2 * around)
            axis.add_patch(Rectangle(corner, *size, clip_on=False, **style))


def _draw_classes(axis: Axes, part: MaskedImages, row: int) -> None:
    sample = part[row]
    colors = torch.frombuffer(bytearray(palette(256)), dtype=torch.uint8).view(256, 3)
    colors = colors[sample.target.semantic].permute(2, 0, 1)
    picture = ((sample.image.int() + colors.int()) // 2).byte()
    panel(axis, picture, torch.zeros(0, 4), torch.zeros(0, dtype=torch.int64), [])


def _path(part: AnnotatedImages | MaskedImages, row: int) -> Path:
    return part.pairs[row][0] if isinstance(part, MaskedImages) else part.annotations[row].path


def launch() -> None:
    """Run the check with the flags of the command line."""
    runs.launch(main, Config, None, "vision.data check", __doc__)
