"""Image data: named image sets, or any folder of image files; resized, cropped and batched in the seed's order."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

import torch
from torch import Tensor

from vision import data
from vision.data import image_files
from vision.data.folders import LEFT, PARTS, SEED, TENTH
from vision.data.loader import Loader
from vision.data.transforms import Compose, Flip, RandomCrop, Resize, Transform


class Pictures(NamedTuple):
    """Pictures (3, H, W) uint8, each of its own size, in three parts."""

    train: Sequence[Tensor]
    validation: Sequence[Tensor]
    test: Sequence[Tensor]


class Files(Sequence):
    """N image files as pictures (3, H, W) uint8, decoded when asked for, their shorter side `size` pixels.

    size: 0 leaves them as they are. Raises ValueError that names a file that cannot be read.
    """

    def __init__(self, paths: Sequence[Path], size: int) -> None:
        self.paths, self.size = list(paths), size

    def __len__(self) -> int:
        return len(self.paths)

    def __getitem__(self, index: int) -> Tensor:
        return read(self.paths[index], self.size)


class InColor(Sequence):
    """Images (N, C, H, W) uint8, in gray or color, as pictures (3, H, W) uint8."""

    def __init__(self, images: Tensor) -> None:
        self.images = images

    def __len__(self) -> int:
        return len(self.images)

    def __getitem__(self, index: int) -> Tensor:
        return self.images[index].expand(3, -1, -1)


def read(path: Path, size: int) -> Tensor:
    """An image file as (3, H, W) uint8, its shorter side `size` pixels, 0: as it is.

    Raises ValueError that names a file that cannot be read.
    """
    return resized(image_files.read_whole(path), size)


def resized(picture: Tensor, size: int) -> Tensor:
    """A picture (3, H, W) uint8, its shorter side `size` pixels, 0: as it is."""
    return Resize(size)(picture[None])[0] if size else picture


def load(name: str, size: int = 0, folder: str | None = None) -> Pictures:
    """The pictures of a named set (see vision.data), or of a folder of image files and the folders below it.

    With train/, val/ and test/ in it these are the parts; a part that is missing is cut from the training pictures,
    a tenth, always the same. folder: of a named set's files.
    Raises ValueError where there are too few, and for a folder of parts without train/.
    """
    if name in data.SETS:
        sets = data.load(name, folder)
        return Pictures(*(InColor(part.images) for part in sets[:3]))
    root = Path(name)
    if not root.is_dir():
        raise ValueError(f"unknown data {name!r}: a folder of image files, or one of {', '.join(data.SETS)}")
    places = {part: [root / each for each in names if (root / each).is_dir()] for part, names in PARTS.items()}
    found = {part: found_below(folders[0]) for part, folders in places.items() if folders}
    if "train" not in found:
        if found:
            raise ValueError(f"{root} has {', '.join(f'{places[part][0].name}/' for part in found)} but no train/")
        found = {"train": found_below(root)}
    for part in ("test", "validation"):
        if part not in found:
            found["train"], found[part] = _split(found["train"])
    if empty := [part for part in PARTS if not found[part]]:
        raise ValueError(f"{root} has no image files for {empty[0]}: there are too few")
    return Pictures(*(Files(found[part], size) for part in ("train", "validation", "test")))


def found_below(folder: Path) -> list[Path]:
    """The image files of a folder and of those below it, in the order of their paths; hidden ones are left out."""
    return sorted(
        path
        for path in folder.rglob("*")
        if path.suffix.lower() in image_files.SUFFIXES
        and not any(part.startswith(".") or part in LEFT for part in path.relative_to(folder).parts)
        and path.is_file()
    )


def _split(paths: list[Path]) -> tuple[list[Path], list[Path]]:
    """All but a tenth of some files, and that tenth, one at least."""
    away = torch.randperm(len(paths), generator=torch.Generator().manual_seed(SEED))[: max(1, len(paths) // TENTH)]
    chosen = set(away.tolist())
    return [path for row, path in enumerate(paths) if row not in chosen], [paths[row] for row in sorted(chosen)]


class Batches:
    """Training batches, read ahead of time: random squares of pictures, half of them mirrored.

    crop: pixels, side of the square; 0: whole pictures, which are of one size then.
    """

    def __init__(self, pictures: Sequence[Tensor], crop: int, batch: int, seed: int, device: torch.device) -> None:
        self.pictures, self.device = pictures, device
        steps: list[Transform] = [RandomCrop(0, (crop, crop))] if crop else []
        self.change = Compose([*steps, Flip()])
        self._loader = Loader(len(pictures), batch, seed, self._make)
        self.close = self._loader.close

    def at(self, step: int) -> Tensor:
        """The batch at a step, counted in pictures: (B, 3, H, W) floats from 0 to 1."""
        return self._loader.at(step).to(self.device).float() / 255

    def _make(self, rows: list[int], generator: torch.Generator) -> Tensor:
        made = [self.change(self.pictures[row][None], generator) for row in rows]
        if len(sizes := {each.shape for each in made}) > 1:
            raise ValueError(f"pictures of one batch have one size, and these have {len(sizes)}: choose a --crop")
        return torch.cat(made)


def stacked(pictures: Sequence[Tensor], count: int, batch: int) -> Iterator[Tensor]:
    """The first `count` pictures (3, H, W) uint8 in order, as many at a time as have one size, at most `batch`:
    (B, 3, H, W) floats from 0 to 1."""
    waiting: list[Tensor] = []
    for row in range(count):
        picture = pictures[row]
        if waiting and (len(waiting) == batch or picture.shape != waiting[0].shape):
            yield torch.stack(waiting).float() / 255
            waiting = []
        waiting.append(picture)
    if waiting:
        yield torch.stack(waiting).float() / 255


def squares(pictures: Sequence[Tensor], count: int, multiple: int) -> Tensor:
    """Center crops of the first pictures, squares of one size (count, 3, H, H), floats from 0 to 1.

    multiple: the side is a multiple of it.
    """
    chosen = [pictures[row] for row in range(min(count, len(pictures)))]
    side = min(min(each.shape[1:]) for each in chosen) // multiple * multiple
    corners = [[(length - side) // 2 for length in each.shape[1:]] for each in chosen]
    cut = [each[:, y : y + side, x : x + side] for each, (y, x) in zip(chosen, corners, strict=True)]
    return torch.stack(cut).float() / 255
