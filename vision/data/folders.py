"""Images in folders, as ImageNet is laid out: root/train/<class>/*.jpg, and root/val and root/test like it.

    sets = data.load("imagenette2", size=128)        # all of it as bytes, if it fits
    files = data.listing("imagenette2")              # where the images are, for data.Stream

With train and val only, val is the test set, as is custom with ImageNet; with root/<class>/*.jpg only, all images are
for training. A part that is missing is split from the training images: a tenth of every class, always the same
images. Images in folders below a class's folder are of that class. Files of the operating system (names that begin
with a dot, __MACOSX, ...) and files without an image's suffix are skipped, and the listing's notes name them.
"""

from __future__ import annotations

import os
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import NamedTuple

import torch
from torch import Tensor

from runs import suggestions
from vision.data.image_files import SUFFIXES, read_image
from vision.data.sets import Labeled, Sets

PARTS = {"train": ("train", "training"), "validation": ("val", "valid", "validation"), "test": ("test", "testing")}
TENTH = 10  # one image in this many is split from the training set
SEED = 0  # of that split
LARGEST = 8 << 30  # bytes of images that are read whole
LEFT = frozenset(  # what operating systems and archivers leave in folders, besides names that begin with a dot
    ("__MACOSX", "@eaDir", "#recycle", "$RECYCLE.BIN", "System Volume Information", "lost+found")
)


class ImageFiles(NamedTuple):
    """Paths of images, which are not read yet, and their labels."""

    paths: list[Path]  # N
    labels: Tensor  # (N,) int64


class Listing(NamedTuple):
    """An image set's files in three parts, and what its classes are called: its folders, in alphabetical order."""

    train: ImageFiles
    validation: ImageFiles
    test: ImageFiles
    classes: tuple[str, ...]
    notes: tuple[str, ...] = ()  # sentences: which files were skipped, and which classes have no images


def listing(root: str | Path) -> Listing:
    """The images of an ImageNet-style folder.

    Raises ValueError when there are none, when a class has none, is only in val or test or has too few to split, or
    where the folders seem to be of another layout.
    """
    root = Path(root)
    if not root.is_dir():
        raise ValueError(f"there is no folder {root}")
    found = {
        part: next((root / name for name in names if (root / name).is_dir()), None) for part, names in PARTS.items()
    }
    if found["train"] is None and (strange := found["validation"] or found["test"]):
        raise ValueError(f"{root} has {strange.name}/ but no train/")
    passed: list[Path] = []
    own = {part: _classes(folder, passed) for part, folder in found.items() if folder}
    if found["train"] is None:
        own["train"] = _classes(root, passed)
        _check_layout(root, own["train"])
    classes = tuple(own["train"])
    notes = [f"passed over in {root}: {_counted(root, passed)}"] if passed else []
    if not classes:
        more = f" ({notes[0]})" if notes else ""
        raise ValueError(f"{found['train'] or root} has no folders of images, one for each class{more}")
    for part, folders in own.items():
        if not folders:
            raise ValueError(f"{found[part]} has no folders of images named as the classes of the training set")
        for name in folders:
            if name not in classes:
                hint = suggestions.did_you_mean(name, classes)
                place = found[part] / name
                raise ValueError(f"{place} is of a class that no training image has{hint and f': {hint}'}")
        if lacking := [repr(name) for name in classes if name not in folders]:
            notes.append(f"{found[part]} has no images of {len(lacking)} classes: {_some(lacking)}")
    parts = {part: _files(own[part], classes) if part in own else None for part in PARTS}
    if parts["test"] is None and parts["validation"] is not None:
        parts["test"], parts["validation"] = parts["validation"], None
    for part in ("test", "validation"):
        if parts[part] is None:
            parts["train"], parts[part] = _cut(parts["train"], classes)
    return Listing(parts["train"], parts["validation"], parts["test"], classes, tuple(notes))


def read(files: Listing, size: int = 224) -> Sets:
    """All images of a listing, (3, size, size) as image_files.read_image reads them.

    Raises ValueError for files that are not images, and when all would take more than 8 GiB.
    """
    count = sum(len(part.paths) for part in files[:3])
    if (space := count * 3 * size * size) > LARGEST:
        raise ValueError(
            f"the {count:,} images of {len(files.classes)} classes take {space / 2**30:.0f} GiB at {size} x {size}: "
            "choose a smaller size, or stream them (--stream, or stream=True)"
        )
    with ThreadPoolExecutor() as pool:
        whole = [
            Labeled(_stack(list(pool.map(lambda path: read_image(path, size), part.paths)), size), part.labels)
            for part in files[:3]
        ]
    return Sets(*whole, files.classes)


def _classes(folder: Path, passed: list[Path]) -> dict[str, list[Path]]:
    """The images of each class's folder, in alphabetical order both; what else there is goes to `passed`.

    Raises ValueError for a class without an image.
    """
    found = {}
    for entry in _entries(folder):
        if _left(entry.name) or not entry.is_dir():
            passed.append(folder / entry.name)
            continue
        others: list[Path] = []
        found[entry.name] = list(_walk(folder / entry.name, others))
        if not found[entry.name]:
            has = f": it has {_counted(folder / entry.name, others)}" if others else " or below it"
            raise ValueError(
                f"class {entry.name!r} has no images in {folder / entry.name}{has}. Remove the folder, or put images "
                f"there ({', '.join(sorted(SUFFIXES))})"
            )
        passed += others
    return found


def _walk(folder: Path, passed: list[Path], above: tuple[str, ...] = ()) -> Iterable[Path]:
    """All images in a folder and in those below it. A link to a folder that it lies in is not followed."""
    here = os.path.realpath(folder)
    if here in above:
        return
    for entry in _entries(folder):
        path = folder / entry.name
        if _left(entry.name):
            passed.append(path)
        elif entry.is_dir():
            yield from _walk(path, passed, (*above, here))
        elif os.path.splitext(entry.name)[1].lower() in SUFFIXES:
            yield path
        else:
            passed.append(path)


def _entries(folder: Path) -> list[os.DirEntry]:
    with os.scandir(folder) as entries:
        return sorted(entries, key=lambda entry: entry.name)


def _left(name: str) -> bool:
    return name.startswith(".") or name in LEFT


def _check_layout(root: Path, classes: dict[str, list[Path]]) -> None:
    """Raises ValueError where the folders of a root without train/ are not classes': it is too far up."""
    for name, images in classes.items():
        inside = {image.relative_to(root / name).parts[0] for image in images if image.parent != root / name}
        known = set().union(*PARTS.values())
        if inside & set(PARTS["train"]) and inside <= known:
            raise ValueError(
                f"{root / name} is not a class but an image set, with {_some(sorted(inside))}: name that folder"
            )
        if len(classes) == 1 and inside and all(image.parent != root / name for image in images):
            raise ValueError(
                f"{root} has a single class, {name!r}, whose images are in folders of their own: "
                f"name {root / name} if the classes are these, {_some(sorted(inside))}"
            )


def _counted(root: Path, paths: list[Path]) -> str:
    """ "2 x .ipynb_checkpoints, 12 x *.heic (a/1.heic, a/2.heic, a/3.heic, ...)": paths by what they are called."""
    kinds: dict[str, list[str]] = {}
    for path in paths:
        kind = "._*" if path.name.startswith("._") else path.name if _left(path.name) else f"*{path.suffix.lower()}"
        kinds.setdefault(kind, []).append(str(path.relative_to(root)))
    return ", ".join(f"{len(names)} x {kind} ({_some(names)})" for kind, names in kinds.items())


def _some(names: list[str]) -> str:
    return ", ".join(names[:3]) + ", ..." * (len(names) > 3)


def _files(images: dict[str, list[Path]], classes: tuple[str, ...]) -> ImageFiles:
    """All images, class by class."""
    paths = [path for name in classes for path in images.get(name, ())]
    labels = [label for label, name in enumerate(classes) for _ in images.get(name, ())]
    return ImageFiles(paths, torch.tensor(labels))


def _cut(part: ImageFiles, classes: tuple[str, ...]) -> tuple[ImageFiles, ImageFiles]:
    """All but a tenth of each class, and that tenth, which is one image at least."""
    generator = torch.Generator().manual_seed(SEED)
    away = torch.zeros(len(part.paths), dtype=torch.bool)
    for label, name in enumerate(classes):
        rows = (part.labels == label).nonzero().squeeze(1)
        if len(rows) < 2:
            raise ValueError(
                f"class {name!r} has {len(rows)} image to train on: too few to cut one for validation or test"
            )
        away[rows[torch.randperm(len(rows), generator=generator)[: max(1, len(rows) // TENTH)]]] = True
    return tuple(
        ImageFiles([part.paths[row] for row in chosen.nonzero().squeeze(1).tolist()], part.labels[chosen])
        for chosen in (~away, away)
    )


def _stack(pictures: list[Tensor], size: int) -> Tensor:
    return torch.stack(pictures) if pictures else torch.empty(0, 3, size, size, dtype=torch.uint8)
