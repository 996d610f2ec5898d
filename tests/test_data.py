"""Image sets: their files, what is said where they are missing or damaged, and shapes that are drawn."""

import gzip
import hashlib
import os
import struct
from pathlib import Path

import pytest
import torch

from vision import data
from vision.data import drawn, idx

ROOTS = [Path(os.environ.get("SACCADE_DATA", "/nowhere")), Path(__file__).parents[2] / "shared" / "data"]
REAL = {name: next((root / name for root in ROOTS if (root / name).is_dir()), None) for name in ("mnist", "cifar10")}


def real(name):
    return pytest.mark.skipif(REAL[name] is None, reason=f"no {name}: name the folder above {name}/ in $SACCADE_DATA")


def body(shape, values):
    return b"\0\0\x08" + bytes([len(shape)]) + struct.pack(f">{len(shape)}I", *shape) + bytes(values)


def md5(content):
    return hashlib.md5(content).hexdigest()


# Names


def test_unknown_names_have_near_matches():
    with pytest.raises(ValueError, match="unknown image set 'cifar': did you mean 'cifar1"):
        data.load("cifar")
    with pytest.raises(ValueError, match="there are shapes, mnist"):
        data.load("xyz")


# MNIST


def test_idx_by_hand():
    assert idx.idx(body((2, 3), range(6))).tolist() == [[0, 1, 2], [3, 4, 5]]
    with pytest.raises(ValueError, match="not an IDX file"):
        idx.idx(b"GIF89a")
    with pytest.raises(ValueError, match=r"shape \(2, 3\) holds 5 bytes"):
        idx.idx(body((2, 3), range(5)))


@real("mnist")
def test_mnist():
    sets = data.load("mnist", REAL["mnist"])
    assert [len(part.images) for part in sets[:3]] == [55_000, 5_000, 10_000]
    assert all(part.images.shape[1:] == (1, 28, 28) and part.images.dtype == torch.uint8 for part in sets[:3])
    assert sets.train.labels[:5].tolist() == [5, 0, 4, 1, 9] and sets.classes[5] == "5"
    assert sets.test.labels.bincount().tolist() == [980, 1135, 1032, 1010, 982, 892, 958, 1028, 974, 1009]


def serve(monkeypatch, folder, files):
    """The mirror has these files."""
    folder.mkdir()
    for name, content in files.items():
        (folder / name).write_bytes(content)
    monkeypatch.setitem(idx.MIRRORS, "mnist", folder.as_uri() + "/")


def test_missing_files_are_fetched_and_checked(tmp_path, monkeypatch):
    here = tmp_path / "here" / "mnist"
    shapes = {name: (6_000, 2, 2) if "images" in name else (6_000,) for name in idx.NAMES}
    files = {name: gzip.compress(body(shape, bytes(torch.Size(shape).numel()))) for name, shape in shapes.items()}
    serve(monkeypatch, tmp_path / "mirror", files)
    with pytest.raises(ValueError, match="something else than the published file"):
        data.load("mnist", here)
    assert not list(here.iterdir())
    monkeypatch.setitem(idx.MD5, "mnist", tuple(md5(content) for content in files.values()))
    monkeypatch.setenv("SACCADE_DATA", str(here.parent))
    assert data.load("mnist").train.images.shape == (1_000, 1, 2, 2)
    assert sorted(path.name for path in here.iterdir()) == sorted(files)
    (here / "t10k-labels-idx1-ubyte.gz").write_bytes(b"half")
    with pytest.raises(ValueError, match="t10k-labels-idx1-ubyte.gz is damaged or cut short.*4 bytes.*Delete it"):
        data.load("mnist")


def test_without_a_network_it_says_where_to_put_the_files(tmp_path, monkeypatch):
    monkeypatch.setitem(idx.MIRRORS, "mnist", (tmp_path / "none").as_uri() + "/")
    with pytest.raises(ValueError, match="put it there by hand.*SACCADE_DATA"):
        data.load("mnist", tmp_path)


# CIFAR


@real("cifar10")
def test_cifar10():
    sets = data.load("cifar10", REAL["cifar10"])
    assert [part.images.shape for part in sets[:3]] == [(n, 3, 32, 32) for n in (45_000, 5_000, 10_000)]
    assert sets.classes[0] == "airplane" and sets.classes[9] == "truck"
    assert sets.train.labels.bincount().tolist() == [4_500] * 10
    mean = sets.test.images.float().mean((0, 2, 3)) / 255
    assert mean.tolist() == pytest.approx([0.4942, 0.4851, 0.4504], abs=1e-4)  # as published


# Drawn shapes


def test_shapes_are_the_same_every_time_and_each_class_as_often():
    first, again, other = (drawn.draw(200, seed=seed) for seed in (1, 1, 2))
    assert torch.equal(first.images, again.images) and torch.equal(first.labels, again.labels)
    assert not torch.equal(first.images, other.images)
    assert first.labels.bincount().tolist() == [20] * 10
    assert first.images.shape == (200, 3, 32, 32) and first.images.dtype == torch.uint8
