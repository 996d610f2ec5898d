"""Image sets: the files of MNIST, what is said where they are missing or damaged."""

import gzip
import os
import struct
from pathlib import Path

import pytest
import torch

from vision import data

ROOTS = [Path(os.environ.get("SACCADE_DATA", "/nowhere")), Path(__file__).parents[2] / "shared" / "data"]
MNIST = next((root / "mnist" for root in ROOTS if (root / "mnist").is_dir()), None)


def body(shape, values):
    return b"\0\0\x08" + bytes([len(shape)]) + struct.pack(f">{len(shape)}I", *shape) + bytes(values)


def test_idx_by_hand():
    assert data.idx(body((2, 3), range(6))).tolist() == [[0, 1, 2], [3, 4, 5]]
    with pytest.raises(ValueError, match="not an IDX file"):
        data.idx(b"GIF89a")
    with pytest.raises(ValueError, match=r"shape \(2, 3\) holds 5 bytes"):
        data.idx(body((2, 3), range(5)))


@pytest.mark.skipif(MNIST is None, reason="no MNIST: name the folder above mnist/ in $SACCADE_DATA")
def test_mnist():
    sets = data.mnist(MNIST)
    assert [len(part.images) for part in sets] == [55_000, 5_000, 10_000]
    assert all(part.images.shape[1:] == (28, 28) and part.images.dtype == torch.uint8 for part in sets)
    assert sets.train.labels[:5].tolist() == [5, 0, 4, 1, 9]
    assert sets.test.labels.bincount().tolist() == [980, 1135, 1032, 1010, 982, 892, 958, 1028, 974, 1009]


def serve(monkeypatch, folder, files):
    """The mirror has these files, with these digests."""
    for name, content in files.items():
        (folder / name).write_bytes(content)
    monkeypatch.setattr(data, "MNIST_MIRROR", folder.as_uri() + "/")


def test_missing_files_are_fetched_and_checked(tmp_path, monkeypatch):
    mirror, here = tmp_path / "mirror", tmp_path / "here" / "mnist"
    mirror.mkdir()
    shapes = {name: (6_000, 2, 2) if "images" in name else (6_000,) for name in data.MNIST_FILES}
    files = {name: gzip.compress(body(shape, bytes(torch.Size(shape).numel()))) for name, shape in shapes.items()}
    serve(monkeypatch, mirror, files)
    with pytest.raises(ValueError, match="something else than the published file"):
        data.mnist(here)
    assert not here.exists()
    digests = {name: data.hashlib.md5(content).hexdigest() for name, content in files.items()}
    monkeypatch.setattr(data, "MNIST_FILES", digests)
    monkeypatch.setenv("SACCADE_DATA", str(here.parent))
    assert data.mnist().train.images.shape == (1_000, 2, 2)
    assert sorted(path.name for path in here.iterdir()) == sorted(files)
    (here / "t10k-labels-idx1-ubyte.gz").write_bytes(b"half")
    with pytest.raises(ValueError, match="t10k-labels-idx1-ubyte.gz is damaged.*Delete it"):
        data.mnist()


def test_without_a_network_it_says_where_to_put_the_files(tmp_path, monkeypatch):
    monkeypatch.setattr(data, "MNIST_MIRROR", (tmp_path / "none").as_uri() + "/")
    with pytest.raises(ValueError, match="name it with --data"):
        data.mnist(tmp_path)
