"""Files that say more than they hold: pickles that call, archives and headers that ask for gigabytes."""

import gzip
import io
import os
import pickle
import struct
import tracemalloc
import zipfile
from pathlib import Path

import numpy as np
import pytest
import scipy.io

from vision import data
from vision.data import cifar, pickled
from vision.data import mnist as mnist_reader
from vision.data import svhn as svhn_reader

PIXELS = np.arange(6 * 4, dtype=np.uint8).reshape(6, 4)


@pytest.mark.parametrize("protocol", range(2, 6))
@pytest.mark.parametrize(
    "values", [PIXELS, PIXELS.T, PIXELS.astype(">i8"), PIXELS[:0]], ids=["u1", "F", ">i8", "empty"]
)
def test_arrays_and_plain_values_come_back(protocol, values):
    record = {b"data": values, b"labels": [3, 1, 2**70], b"names": [b"a", "b", ("c", None, 1.5, True)]}
    found = pickled.load(pickle.dumps(record, protocol))
    assert found[b"data"].dtype == values.dtype and np.array_equal(found.pop(b"data"), values)
    assert found == {key: value for key, value in record.items() if key != b"data"}


def test_strings_of_python_2_are_bytes():
    """As in the published files: protocol 2, the array's bytes a string."""
    array = (
        b"cnumpy.core.multiarray\n_reconstruct\nq\1cnumpy\nndarray\nq\2K\0\x85U\1b\x87Rq\3"
        b"(K\1K\2K\3\x86cnumpy\ndtype\nq\4U\2u1K\0K\1\x87Rq\5(K\3U\1|NNNJ\xff\xff\xff\xffJ\xff\xff\xff\xffK\0tb"
        b"\x89U\6abcdeftb"
    )
    found = pickled.load(b"\x80\2}q\0(U\4data" + array + b"U\6labels]q\6(K\7K\10eu.")
    assert found[b"data"].tobytes() == b"abcdef" and found[b"data"].shape == (2, 3) and found[b"labels"] == [7, 8]


def reduced(function, *arguments, state=None):
    class Reduced:
        def __reduce__(self):
            return (function, arguments) if state is None else (function, arguments, state)

    return Reduced()


def named(module: str, name: str) -> bytes:
    return b"\x80\2}(U\4data" + f"c{module}\n{name}\n".encode() + b")Ru."


OBJECTS = pickle.dumps({b"data": np.array([1, None, "x"], object)}, 2)
DTYPE = b"cnumpy\ndtype\nU\2u1K\0K\1\x87R"
MADE = b"cnumpy.core.multiarray\n_reconstruct\ncnumpy\nndarray\nK\0\x85U\1b\x87R"
EVIL = {
    "system": pickle.dumps({b"data": reduced(os.system, "exit 1")}),
    "numpy's own": named("numpy.f2py.__main__", "main"),
    "named like numpy": named("numpyevil", "dtype"),
    "another file of numpy's": named("numpy.core.multiarray_evil", "_reconstruct"),
    "eval": named("builtins", "eval"),
    "objects": OBJECTS,
    # an array of objects whose pointers are in the file
    "pointers": b"\x80\2}(U\4data" + MADE + b"(K\1K\1\x85cnumpy\ndtype\nU\2O8K\0K\1\x87R\x89U\x08ABCDEFGHtbu.",
    "pointers by another way": pickle.dumps({b"data": reduced(np.frombuffer, b"ABCDEFGH", "O")}),
    "the class itself": b"\x80\2}(U\4datacnumpy\nndarray\n)Ru.",
    "a new object": b"\x80\2}(U\4datacnumpy\nndarray\n)\x81u.",
    "attributes": b"\x80\2}(U\4datacnumpy\ndtype\n}U\4callK\0sbu.",
    "attributes by setattr": b"\x80\2}(U\4datacnumpy\ndtype\nN}U\4callK\0s\x86bu.",
    "a subarray as order": b"\x80\2}(U\4data" + DTYPE + b"(K\3U\x0b(99999999,)NNNJ\xff\xff\xff\xffK\0K\0tbu.",
    "more than it has": b"\x80\2}(U\4data" + MADE + b"(K\1J\xff\xff\xff\x7f\x85" + DTYPE + b"\x89U\4abcdtbu.",
    "negative": b"\x80\2}(U\4data" + MADE + b"(K\1J\xff\xff\xff\xffJ\xff\xff\xff\xff\x86" + DTYPE + b"\x89U\1atbu.",
    "a list": pickle.dumps([1, 2]),
    "a byte array without bytes": b"\x80\5}(U\4data\x96" + struct.pack("<Q", 1 << 40) + b"u.",
    "bytes without bytes": b"\x80\5}(U\4data\x8e" + struct.pack("<Q", 1 << 40) + b"u.",
    "a large memo": b"\x80\2}r\xff\xff\xff\x7f(U\4dataK\1",
    "nothing": b"",
    "half": pickle.dumps({b"data": PIXELS})[:40],
}


@pytest.mark.parametrize("kind", EVIL)
def test_a_pickle_calls_nothing_and_takes_no_memory(kind):
    tracemalloc.start()
    with pytest.raises(Exception) as caught:
        pickled.load(EVIL[kind])
    assert tracemalloc.get_traced_memory()[1] < 1 << 20
    tracemalloc.stop()
    assert not isinstance(caught.value, AssertionError | MemoryError)


@pytest.mark.parametrize("kind", EVIL)
def test_a_batch_that_is_not_the_published_one_is_named(kind, tmp_path):
    inside = tmp_path / "cifar-10-batches-py"
    inside.mkdir()
    for name in cifar.BATCHES:
        (inside / name).write_bytes(EVIL[kind])
    with pytest.raises(ValueError, match="data_batch_1 is damaged or cut short: the MD5"):
        data.load("cifar10", tmp_path)


def test_labels_that_unfold_are_no_labels(tmp_path):
    """Each list twice in the next one: 2^40 numbers, if they were laid out."""
    nested = [1]
    for _ in range(40):
        nested = [nested, nested]
    body = pickle.dumps({b"data": np.zeros((2, 3072), np.uint8), b"labels": nested})
    with pytest.raises(ValueError, match="not integers"):
        cifar._rows(body, b"labels")


def test_hashes_come_before_pickles(tmp_path, monkeypatch):
    monkeypatch.setattr(pickled, "load", lambda body: pytest.fail("read before it was checked"))
    inside = tmp_path / "cifar-100-python"
    inside.mkdir()
    for name in cifar.HUNDRED:
        (inside / name).write_bytes(EVIL["system"])
    with pytest.raises(ValueError, match="train is damaged or cut short"):
        data.load("cifar100", tmp_path)
    (tmp_path / "cifar-10-python.tar.gz").write_bytes(b"\x1f\x8b")
    with pytest.raises(ValueError, match="cifar-10-python.tar.gz is damaged or cut short"):
        data.load("cifar10", tmp_path)
    monkeypatch.setattr(cifar, "LARGEST", 100)
    big = tmp_path / "big" / "cifar-10-batches-py"
    big.mkdir(parents=True)
    for name in cifar.BATCHES:
        (big / name).write_bytes(bytes(101))
    with pytest.raises(ValueError, match="data_batch_1 is damaged"):
        data.load("cifar10", big.parent)


def header(shape: tuple[int, ...], descr: str) -> bytes:
    file = io.BytesIO()
    np.lib.format.write_array_header_1_0(file, {"descr": descr, "fortran_order": False, "shape": shape})
    return file.getvalue()


def test_an_npz_that_asks_for_gigabytes(tmp_path):
    """By its header alone; by zeros that were packed a thousandfold; by objects; or with another file's length."""
    zeros = bytes(3_000_000)
    bodies = {
        "header": header((1_500_000_000,), "<i8"),
        "zeros": header((len(zeros),), "|u1") + zeros,
        "objects": header((10,), "|O") + pickle.dumps([None] * 10),
        "text": header((10,), "<U1") + bytes(40),
        "many": header((10, 1 << 40), "|u1"),
        "none": b"",
    }
    for kind, body in bodies.items():
        with zipfile.ZipFile(tmp_path / "labels.npz", "w", zipfile.ZIP_DEFLATED) as archive:
            archive.writestr("train_labels.npy", body)
        tracemalloc.start()
        with pytest.raises(ValueError, match="labels.npz is damaged, or is not CIFAR-10's labels"):
            cifar._labels(tmp_path / "labels.npz", "train_labels", 10)
        assert tracemalloc.get_traced_memory()[1] < 1 << 20, kind
        tracemalloc.stop()
    for body in (b"", b"PK\3\4", b"\x93NUMPY"):
        (tmp_path / "labels.npz").write_bytes(body)
        with pytest.raises(ValueError, match="labels.npz is damaged"):
            cifar._labels(tmp_path / "labels.npz", "train_labels", 10)
    np.savez_compressed(tmp_path / "labels.npz", train_labels=np.arange(10, dtype=np.uint8))
    assert cifar._labels(tmp_path / "labels.npz", "train_labels", 10).tolist() == list(range(10))


def grown(path: Path, length: int) -> Path:
    """A file of so many bytes of nothing, which takes no place on the disk."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("wb") as file:
        file.truncate(length)
    return path


def test_published_archives_are_checked_before_they_are_unpacked(tmp_path):
    bomb = gzip.compress(b"\0\0\x08\3" + struct.pack(">3I", 1, 1 << 13, 1 << 13) + bytes(1 << 26))
    assert len(bomb) < 100_000
    (tmp_path / mnist_reader.NAMES[0]).write_bytes(bomb)
    scipy.io.savemat(tmp_path / "train_32x32.mat", {"X": np.zeros((1 << 24,), np.uint8)}, do_compression=True)
    grown(tmp_path / "cifar-100-python.tar.gz", 1 << 26)
    tracemalloc.start()
    for name in ("mnist", "svhn", "cifar100"):
        with pytest.raises(ValueError, match="is damaged or cut short"):
            data.load(name, tmp_path)
    assert tracemalloc.get_traced_memory()[1] < 1 << 22
    tracemalloc.stop()
    (tmp_path / "test_32x32.mat").mkdir()
    assert set(svhn_reader.MD5) == {"train_32x32.mat", "test_32x32.mat"}
