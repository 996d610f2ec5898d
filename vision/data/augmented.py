"""Augmentations of one image: a film in which it goes through every transform, and a sheet of examples of each.

    python -m vision.data.augmented                                     # a drawn shape, boxed
    python -m vision.data.augmented --data cifar10 --index 7
    python -m vision.data.augmented --file photograph.jpg --size 224 --augment "flip,2of(rotate shear lens)"

Every transform of vision/training/augmentation.py by its name (or those of --augment alone), then all of them as a
random mix. A grid of lines and a box are drawn over the image by a transform's own targets: they move with it where
it is geometric, and stay where it changes colors. The film (.mp4) stays with each for --seconds.
"""

from __future__ import annotations

import dataclasses
from pathlib import Path

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

import runs
from runs import output
from runs.flag_types import Count, Positive, Whole
from runs.printing import printable
from vision import data
from vision.data.image_files import read_image
from vision.data.samples import Batch
from vision.training import augmentation

COLUMNS = 6  # examples of a transform on the sheet
SHOWN = 224  # pixels, side of an image in film and sheet
BOX = 0.15  # of the side, from the edge to the box
DOTS = 9  # key points along a side
GREEN, RED = (0, 255, 80), (255, 60, 0)


@dataclasses.dataclass(frozen=True)
class Config:
    data: str = "shapes"  # the image's set, or a folder of images
    data_folder: Path | None = None  # where a set's files lie; None: $SACCADE_DATA/<data> or ~/.cache/saccade/<data>
    index: Whole = 0  # of the image, in the training set
    file: Path | None = None  # an image of its own instead
    size: Count = 224  # pixels, side to which it is cut and scaled
    augment: str = ""  # as vision.classification has it; empty: all transforms, one by one, and a mix of them
    box: bool = True  # draw a box and key points, which move along
    seconds: Positive = 1.5  # of the film, a transform
    fps: Count = 12  # frames a second
    changes: Count = 3  # a second, of the random numbers
    seed: int = 0
    out: Path = Path("augmented.png")  # the sheet; the film lies beside it, .mp4


def names(config: Config) -> list[str]:
    """What is shown, one after the other."""
    if config.augment:
        return [config.augment]
    return [*augmentation.OPERATIONS, f"3of({' '.join(augmentation.OPERATIONS)})"]


def annotated(image: Tensor, count: int) -> Batch:
    """`count` copies of an image (C, H, W) with a box, and key points on a grid of the whole image."""
    tall, wide = image.shape[1:]
    box = torch.tensor([[wide * BOX, tall * BOX, wide * (1 - BOX), tall * (1 - BOX)]])
    y, x = (torch.linspace(side / DOTS / 2, side * (1 - 0.5 / DOTS), DOTS) for side in (tall, wide))
    dots = torch.stack([*torch.meshgrid(x, y, indexing="xy"), torch.full((DOTS, DOTS), 2.0)], 2).view(1, -1, 3)
    return Batch(
        image.expand(count, -1, -1, -1).contiguous(),
        image_index=torch.arange(count),
        boxes=box.repeat(count, 1),
        keypoints=dots.repeat(count, 1, 1),
    )


def picture(image: Tensor, boxes: Tensor, dots: Tensor, drawn: bool) -> np.ndarray:
    """(SHOWN, SHOWN, 3) uint8: an image (C, H, W) with boxes (K, 4) and key points (K, P, 3)."""
    scale = SHOWN / max(image.shape[1:])
    size = tuple(max(1, round(side * scale)) for side in image.shape[1:])
    shown = F.interpolate(image[None].float(), size, mode="nearest")[0].byte().expand(3, -1, -1)
    canvas = np.zeros((SHOWN, SHOWN, 3), np.uint8)
    canvas[: size[0], : size[1]] = shown.permute(1, 2, 0).numpy()
    if not drawn:
        return canvas
    for x, y, seen in (dots.view(-1, 3) * torch.tensor([scale, scale, 1])).tolist():
        if seen:
            column, row = (min(SHOWN - 3, max(1, round(place))) for place in (x, y))
            canvas[row - 1 : row + 2, column - 1 : column + 2] = RED
    for left, top, right, bottom in (boxes * scale).round().long().clamp(0, SHOWN - 2).tolist():
        for rows in (slice(top, top + 2), slice(bottom, bottom + 2)):
            canvas[rows, left : right + 2] = GREEN
        for columns in (slice(left, left + 2), slice(right, right + 2)):
            canvas[top : bottom + 2, columns] = GREEN
    return canvas


def examples(change: augmentation.Augmentation, image: Tensor, count: int, config: Config) -> list[np.ndarray]:
    """Pictures of `count` results of a transform of an image (C, H, W), with the transformed box and key points."""
    generator = torch.Generator().manual_seed(config.seed)
    batch = change(annotated(image, count), generator)
    found = []
    for number in range(count):
        own = batch.image_index == number
        found.append(picture(batch.images[number], batch.boxes[own], batch.keypoints[own], config.box))
    return found


def draw(rows: dict[str, list[np.ndarray]], path: Path) -> None:
    """The contact sheet: one row of pictures (H, W, 3) uint8 for each transform, with its name."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(1.35 * COLUMNS + 1.4, 1.4 * len(rows)), layout="constrained")
    panels = figure.subplots(len(rows), COLUMNS, squeeze=False)
    for (name, pictures), line in zip(rows.items(), panels, strict=True):
        for panel, shown in zip(line, pictures, strict=False):
            panel.imshow(shown)
            panel.set_xticks([])
            panel.set_yticks([])
        title = name if len(name) < 20 else f"{name.partition('of(')[0]} of them"
        line[0].set_ylabel(printable(title), fontsize=9, rotation=0, ha="right", va="center", parse_math=False)
    output.draw(path, figure, "--out", dpi=80)


def film(frames: list[np.ndarray], fps: int, path: Path) -> None:
    """Write frames (H, W, 3) uint8 as an .mp4."""
    import imageio.v3 as imageio

    with output.writing(path, "--out"):
        partial = path.with_name(f".{path.name}.partial.mp4")
        imageio.imwrite(partial, np.stack(frames), fps=fps, codec="libx264", macro_block_size=2)
        partial.replace(path)


def titled(frame: np.ndarray, name: str) -> np.ndarray:
    """A frame (H, W, 3) uint8 with the transform's name above it."""
    from PIL import Image, ImageDraw

    page = Image.new("RGB", (SHOWN, SHOWN + 24))
    page.paste(Image.fromarray(frame), (0, 24))
    ImageDraw.Draw(page).text((6, 6), name[:36], fill=(255, 255, 255))
    return np.asarray(page)


def main(config: Config) -> None:
    """Draw the sheet and the film. Raises ValueError for an index that the set does not have."""
    if config.file:
        image = read_image(config.file, config.size)
        known = image[None]
    else:
        known = data.load(config.data, config.data_folder).train.images
        if config.index >= len(known):
            raise ValueError(f"--index {config.index}: {config.data} has {len(known)} training images")
        image = known[config.index]
    rows, frames = {}, []
    still, drawn = round(config.fps / config.changes) or 1, max(COLUMNS, round(config.seconds * config.changes))
    for name in names(config):
        try:
            change = augmentation.Augmentation(name, known[:1_000])
            rows[name] = examples(change, image, drawn, config)
        except ValueError as error:  # as color jitter of images of two channels
            if config.augment:
                raise
            print(printable(f"{name} is left out: {error}"))
            continue
        shown = rows[name][: max(1, round(config.seconds * config.changes))]
        frames += [titled(frame, name) for frame in shown for _ in range(still)]
    draw(rows, config.out)
    film(frames, config.fps, config.out.with_suffix(".mp4"))
    print(printable(f"{len(rows)} transforms: {config.out}, and a film of {len(frames)} frames beside it"))


if __name__ == "__main__":
    runs.launch(main, Config, None, "vision.data.augmented", __doc__)
