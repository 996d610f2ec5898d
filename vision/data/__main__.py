"""Contact sheet of a data set: training images of its first classes, and below them augmented versions of one.

python -m vision.data shapes
python -m vision.data cifar10 --augment flip,crop,cutout --out cifar10.png
python -m vision.data path/to/imagenette2 --size 64
python -m vision.data check path/to/bccd       # what is wrong with annotations or masks: annotated/check.py
python -m vision.data export                   # drawn scenes as files in COCO's format: annotated/export.py
"""

from __future__ import annotations

import dataclasses
import sys
from pathlib import Path
from typing import Annotated

import torch
import tyro
from torch import Tensor

import runs
from runs import output
from runs.flag_types import Count
from runs.printing import printable
from vision import data
from vision.data.annotated import check, export
from vision.training import augmentation

COLUMNS = 10  # classes, at most


@dataclasses.dataclass(frozen=True)
class Config:
    name: Annotated[str, tyro.conf.Positional] = "shapes"  # of a set, or a folder's path
    folder: Path | None = None  # of a named set's files; None: $SACCADE_DATA/<name> or ~/.cache/saccade/<name>
    size: Count | None = None  # pixels, side of the images read from a folder
    augment: str = "flip,crop,jitter"  # of the lower rows, or none
    rows: Count = 5  # of images, and of augmented ones
    seed: int = 0
    out: Path = Path("sheet.png")  # where the picture goes


def sheet(sets: data.Sets, augment: str, rows: int, seed: int) -> Tensor:
    """Images of each class and, in further rows, augmented versions of the first: (R, classes, C, H, W) uint8.

    Raises ValueError when a class has fewer images.
    """
    images, labels = sets.train
    chosen = []
    for label, name in list(enumerate(sets.classes))[:COLUMNS]:
        found = (labels == label).nonzero().squeeze(1)[:rows]
        if len(found) < rows:
            raise ValueError(f"class {name!r} has {len(found)} training images, which is less than {rows} rows")
        chosen.append(images[found])
    plain = torch.stack(chosen, 1)
    change = augmentation.Augmentation(augment, images)
    if not change.steps:
        return plain
    generator = torch.Generator().manual_seed(seed)
    return torch.cat([plain, torch.stack([change(plain[0], generator) for _ in range(rows)])])


def draw(grid: Tensor, sets: data.Sets, title: str, path: Path) -> None:
    """Draw a grid of images (R, classes, C, H, W) as a picture."""
    from matplotlib.figure import Figure

    down, across, _, tall, wide = grid.shape
    picture = grid.permute(0, 3, 1, 4, 2).reshape(down * tall, across * wide, -1).numpy()
    figure = Figure(figsize=(across, (down * tall / wide) + 0.6), layout="constrained")
    panel = figure.subplots()
    panel.imshow(picture.squeeze(2) if picture.shape[2] == 1 else picture, cmap="gray", interpolation="nearest")
    places, names = [(column + 0.5) * wide for column in range(across)], map(printable, sets.classes[:across])
    panel.set_xticks(places, list(names), fontsize=8, parse_math=False)  # names are not formulas
    panel.xaxis.tick_top()
    panel.set_yticks([])
    panel.set_title(printable(title), fontsize=10, parse_math=False)
    output.draw(path, figure, "--out", dpi=130)


def main(config: Config) -> None:
    sets = data.load(config.name, config.folder, config.size)
    grid = sheet(sets, config.augment, config.rows, config.seed)
    parts = ", ".join(f"{len(part.images):,} {name}" for name, part in zip(sets._fields, sets[:3], strict=False))
    draw(grid, sets, f"{config.name}: {parts}; below: {config.augment}", config.out)
    normal = augmentation.Normalization.of(sets.train.images)
    print(printable(f"{parts}, {len(sets.classes)} classes, normal {normal}; drawn in {config.out}"))


if __name__ == "__main__":
    commands = {"check": check, "export": export}
    if sys.argv[1:2] and sys.argv[1] in commands:
        commands[sys.argv.pop(1)].launch()
    else:
        runs.launch(main, Config, None, "vision.data", __doc__)
