"""CIFAR-10 and CIFAR-100 (Krizhevsky 2009, "Learning multiple layers of features from tiny images")."""

from __future__ import annotations

import hashlib
import io
import tarfile
import zipfile
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from vision.data import files, pickled
from vision.data.sets import Labeled, Sets, cut

SITE = "https://www.cs.toronto.edu/~kriz/"
VALIDATION = 5_000  # the last of the 50,000 training images
CLASSES = ("airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck")

ARCHIVES = {  # MD5, as published with the files
    "cifar-10-python.tar.gz": "c58f30108f718f92721af3b95e74349a",
    "cifar-10-binary.tar.gz": "c32a1d4ab5d03f1284b67883e8d87530",
    "cifar-100-python.tar.gz": "eb9058c3a382ffc7106e4002c42a8d85",
}
BATCHES = {  # MD5 of what is in them
    "data_batch_1": "c99cafc152244af753f735de768cd75f",
    "data_batch_2": "d4bba439e000b95fd0a9bffe97cbabec",
    "data_batch_3": "54ebc095f3ab1f0389bbae665268c751",
    "data_batch_4": "634d18415352ddfa80567beed471001a",
    "data_batch_5": "482c414d41f54cd18b22e5b47cb7c3cb",
    "test_batch": "40351d587109b95175f43aff81a1287e",
}
HUNDRED = {
    "train": "16019d7e3df5f24257cddd939b257f8d",
    "test": "f0ef6b0ae62326f3e7ffdfab6717acfc",
    "meta": "7973b15100ade9c7d40fb424638fde48",
}
LARGEST = 1 << 26  # bytes of a batch that was packed anew; the published ones have 31 million
STRIPS = {"train": 100, "test": 20}  # files
STRIP = 500  # images in each
HEADER = 4_096  # bytes that an array's file may have besides its values
INTERLEAVED = {  # SHA-256 of the pixels (N, H, W, C) where the classes take turns, as in the strips of WebP
    "train": "f1d9f70419fa7f4b7cf44f4f3b76b525847383eae582da2f314d22ba54479d21",
    "test": "4decf0a21fb8d66bc7f1eede8a4610ea8ef8136c5aa4b06bcea69892ddc08897",
}


def cifar10(folder: str | Path | None = None) -> Sets:
    """CIFAR-10, (3, 32, 32): 45,000 images for training, 5,000 for validation, 10,000 for testing.

    folder: has cifar-10-batches-py/, or one of the archives cifar-10-python.tar.gz and cifar-10-binary.tar.gz, or
        the images as {train,test}_NNN.webp, 500 in one column each, with labels.npz; the first of these that is
        found is read. The archive is downloaded there if none is. None: see files.place.
    Raises ValueError when nothing is there and the archive cannot be fetched, or when the files are not CIFAR-10's.
    """
    folder = Path(folder) if folder else files.place("cifar10")
    batches = folder if (folder / "data_batch_1").exists() else folder / "cifar-10-batches-py"
    if batches.is_dir():
        train, test = _batches(batches)
    elif (folder / "cifar-10-binary.tar.gz").exists() and not (folder / "cifar-10-python.tar.gz").exists():
        train, test = _binary(_members(folder, "cifar-10-binary.tar.gz"))
    elif (folder / "labels.npz").exists() and not (folder / "cifar-10-python.tar.gz").exists():
        train, test = _strips(folder)
    else:
        members = _members(folder, "cifar-10-python.tar.gz")
        *parts, test = [_rows(members[name], b"labels") for name in BATCHES]
        train = _joined(parts)
    return Sets(*cut(train, VALIDATION), test, CLASSES)


def cifar100(folder: str | Path | None = None) -> Sets:
    """CIFAR-100, as CIFAR-10 with the 100 fine classes. folder: has cifar-100-python/ or its .tar.gz."""
    folder = Path(folder) if folder else files.place("cifar100")
    inside = folder / "cifar-100-python"
    if inside.is_dir():
        members = {name: files.checked(_there(inside / name), md5) for name, md5 in HUNDRED.items()}
    else:
        members = _members(folder, "cifar-100-python.tar.gz")
    classes = tuple(name.decode() for name in pickled.load(members["meta"])[b"fine_label_names"])
    train, test = (_rows(members[name], b"fine_labels") for name in ("train", "test"))
    return Sets(*cut(train, VALIDATION), test, classes)


def _members(folder: Path, name: str) -> dict[str, bytes]:
    """The files in a published archive, by their names without folders."""
    body = files.read(folder, name, SITE + name, ARCHIVES[name])
    with tarfile.open(fileobj=io.BytesIO(body), mode="r:gz") as archive:
        return {Path(entry.name).name: archive.extractfile(entry).read() for entry in archive if entry.isfile()}


def _there(path: Path) -> Path:
    if not path.exists():
        raise ValueError(f"{path.parent} has no {path.name}: complete it, or delete the folder to fetch the archive")
    return path


def _batches(folder: Path) -> tuple[Labeled, Labeled]:
    """Training and test set out of batches that are the published ones, or have the images of the strips."""
    bodies, strange = {}, {}
    for name, md5 in BATCHES.items():
        path = _there(folder / name)
        try:
            bodies[name] = files.checked(path, md5)
        except ValueError as error:
            if not path.is_file() or path.stat().st_size > LARGEST:
                raise
            strange[name] = error
            bodies[name] = path.read_bytes()
    try:
        *parts, test = [_rows(body, b"labels") for body in bodies.values()]
        train = _joined(parts)
        right = not strange or (_interleaved(train, "train") and _interleaved(test, "test"))
    except Exception:  # unpickling may raise anything
        if not strange:
            raise
        right = False
    if not right:
        raise next(iter(strange.values()))
    return train, test


def _binary(members: dict[str, bytes]) -> tuple[Labeled, Labeled]:
    """Rows of a byte for the class and 3,072 for the pixels."""

    def part(name: str) -> Labeled:
        rows = torch.from_numpy(np.frombuffer(members[name + ".bin"], np.uint8).reshape(-1, 3073).copy())
        return Labeled(rows[:, 1:].reshape(-1, 3, 32, 32).contiguous(), rows[:, 0].long())

    *parts, test = [part(name) for name in BATCHES]
    return _joined(parts), test


def _strips(folder: Path) -> tuple[Labeled, Labeled]:
    """Images from lossless WebP files of 500 in one column. Raises ValueError when they are not CIFAR-10's."""
    found = []
    for part, count in STRIPS.items():
        paths = [folder / f"{part}_{number:03}.webp" for number in range(count)]
        with ThreadPoolExecutor() as pool:
            columns = list(pool.map(_column, paths))
        images = torch.from_numpy(np.concatenate(columns).reshape(-1, 32, 32, 3).transpose(0, 3, 1, 2).copy())
        found.append(Labeled(images, _labels(folder / "labels.npz", f"{part}_labels", len(images))))
        if not _interleaved(found[-1], part):
            raise ValueError(f"the strips {part}_*.webp of {folder} are not CIFAR-10: their SHA-256 differs")
    return tuple(found)


def _column(path: Path) -> np.ndarray:
    try:
        with Image.open(path, formats=("WEBP",)) as image:
            if image.width != 32 or image.height % 32 or image.height > 32 * STRIP:
                raise ValueError(f"{image.width} x {image.height} pixels are no {STRIP} images below each other")
            return np.asarray(image.convert("RGB"))
    except (OSError, ValueError) as error:  # not all of which name the file
        raise ValueError(f"{path} is missing, damaged or cut short: {error}") from error


def _labels(path: Path, name: str, count: int) -> Tensor:
    """An array (count,) of integers in an .npz, which may be compressed: its size is checked before it is read."""
    try:
        with zipfile.ZipFile(path) as archive:
            entry = archive.getinfo(f"{name}.npy")
            if entry.file_size > 8 * count + HEADER:
                raise ValueError(f"its {name} takes {entry.file_size:,} bytes, too many for {count:,} labels")
            body = archive.read(entry)
        file = io.BytesIO(body)
        version = np.lib.format.read_magic(file)
        readers = {(1, 0): np.lib.format.read_array_header_1_0, (2, 0): np.lib.format.read_array_header_2_0}
        shape, _, dtype = readers[version](file)
        if shape != (count,) or dtype.kind not in "iu" or len(body) - file.tell() != count * dtype.itemsize:
            raise ValueError(f"its {name} are not {count:,} integers")
        return torch.from_numpy(np.frombuffer(body, dtype, offset=file.tell()).astype(np.int64))
    except Exception as error:  # zipfile and NumPy may raise anything
        raise ValueError(f"{path} is damaged, or is not CIFAR-10's labels: {error}") from error


def _interleaved(part: Labeled, name: str) -> bool:
    """Whether these are CIFAR-10's images in the order in which classes take turns."""
    pixels = np.ascontiguousarray(part.images.numpy().transpose(0, 2, 3, 1))
    turns = torch.arange(len(part.labels)) % len(CLASSES)
    return hashlib.sha256(pixels).hexdigest() == INTERLEAVED[name] and torch.equal(part.labels, turns)


def _joined(parts: list[Labeled]) -> Labeled:
    return Labeled(torch.cat([part.images for part in parts]), torch.cat([part.labels for part in parts]))


def _rows(body: bytes, key: bytes) -> Labeled:
    """Images and labels of a pickled batch. Raises ValueError where it holds anything else."""
    record = pickled.load(body)
    pixels, labels = record[b"data"], list(record[key])
    if not isinstance(pixels, np.ndarray) or pixels.dtype != np.uint8 or pixels.shape != (len(labels), 3072):
        raise ValueError("this batch has no rows of 3,072 pixels, one for each label")
    if not all(isinstance(label, int | np.integer) for label in labels):
        raise ValueError("the labels of this batch are not integers")
    return Labeled(torch.from_numpy(pixels.reshape(-1, 3, 32, 32).copy()), torch.tensor(labels, dtype=torch.int64))
