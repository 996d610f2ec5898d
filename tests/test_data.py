"""Image sets: their files, what is said where they are missing or damaged, and shapes that are drawn."""

import gzip
import hashlib
import http.server
import io
import os
import pickle
import struct
import subprocess
import sys
import tarfile
import threading
import time
from pathlib import Path

import numpy as np
import pytest
import scipy.io
import torch
from PIL import Image
from torch import nn

from vision import data
from vision.data import __main__ as pictures
from vision.data import cifar, files, folders, image_files
from vision.data import mnist as mnist_reader
from vision.data import shapes as drawn_shapes
from vision.data import svhn as svhn_reader
from vision.training import augmentation

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
    with pytest.raises(ValueError, match="unknown image set or folder 'cifar': did you mean 'cifar1"):
        data.load("cifar")
    with pytest.raises(ValueError, match="there are shapes, mnist"):
        data.load("xyz")
    with pytest.raises(ValueError, match="cifar10 has images of its own size: size=64"):
        data.load("cifar10", size=64)
    with pytest.raises(ValueError, match="cifar10 fits into memory"):
        data.load("cifar10", stream=True)


# Files


class Server(http.server.BaseHTTPRequestHandler):
    """Sends `body`, and says that it is `announced` bytes."""

    body, announced = b"x" * 3_000_000, 3_000_000

    def do_GET(self):
        self.send_response(200 if self.path == "/file" else 404)
        self.send_header("Content-Length", str(self.announced))
        self.end_headers()
        self.wfile.write(self.body)

    def log_message(self, *_):
        pass


@pytest.fixture
def site():
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Server)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    yield f"http://127.0.0.1:{server.server_port}/"
    server.shutdown()
    server.server_close()
    thread.join()


def test_a_download_is_whole_or_not_there(tmp_path, site, monkeypatch):
    path, digest = tmp_path / "deep" / "file", md5(Server.body)
    with pytest.raises(ValueError, match="could not be fetched from .*404.*put it there by hand"):
        files.fetch(site + "else", path, digest)
    with pytest.raises(ValueError, match="something else .* MD5 of its 3,000,000 bytes is .* and should be 0000"):
        files.fetch(site + "file", path, "0000")
    monkeypatch.setattr(Server, "announced", 5_000_000)
    with pytest.raises(ValueError, match="it stopped after 3,000,000 of 5,000,000 bytes"):
        files.fetch(site + "file", path, digest)
    monkeypatch.undo()

    def stop(*_, **__):
        raise KeyboardInterrupt

    monkeypatch.setattr(files.Progress, "update", stop)
    with pytest.raises(KeyboardInterrupt):
        files.fetch(site + "file", path, digest)
    assert list(path.parent.iterdir()) == []
    monkeypatch.undo()
    assert files.read(path.parent, "file", site + "file", digest) == Server.body
    assert list(path.parent.iterdir()) == [path]


def test_what_a_killed_download_left_is_removed_and_what_a_living_one_writes_is_not(tmp_path, site):
    dead = subprocess.Popen([sys.executable, "-c", ""])
    dead.wait()
    parts = [tmp_path / f"file.{number}.part" for number in (dead.pid, os.getppid())]
    for part in parts:
        part.write_bytes(b"half")
    files.fetch(site + "file", tmp_path / "file", md5(Server.body))
    assert not parts[0].exists() and parts[1].exists()


# MNIST


def test_idx_by_hand():
    assert mnist_reader.idx(body((2, 3), range(6))).tolist() == [[0, 1, 2], [3, 4, 5]]
    with pytest.raises(ValueError, match="not an IDX file"):
        mnist_reader.idx(b"GIF89a")
    with pytest.raises(ValueError, match=r"shape \(2, 3\) holds 5 bytes"):
        mnist_reader.idx(body((2, 3), range(5)))


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
    monkeypatch.setitem(mnist_reader.MIRRORS, "mnist", folder.as_uri() + "/")


def test_missing_files_are_fetched_and_checked(tmp_path, monkeypatch):
    here = tmp_path / "here" / "mnist"
    shapes = {name: (6_000, 2, 2) if "images" in name else (6_000,) for name in mnist_reader.NAMES}
    files = {name: gzip.compress(body(shape, bytes(torch.Size(shape).numel()))) for name, shape in shapes.items()}
    serve(monkeypatch, tmp_path / "mirror", files)
    with pytest.raises(ValueError, match="something else than the published file"):
        data.load("mnist", here)
    assert not list(here.iterdir())
    monkeypatch.setitem(mnist_reader.MD5, "mnist", tuple(md5(content) for content in files.values()))
    monkeypatch.setenv("SACCADE_DATA", str(here.parent))
    assert data.load("mnist").train.images.shape == (1_000, 1, 2, 2)
    assert sorted(path.name for path in here.iterdir()) == sorted(files)
    (here / "t10k-labels-idx1-ubyte.gz").write_bytes(b"half")
    with pytest.raises(ValueError, match="t10k-labels-idx1-ubyte.gz is damaged or cut short.*4 bytes.*Delete it"):
        data.load("mnist")


def test_without_a_network_it_says_where_to_put_the_files(tmp_path, monkeypatch):
    monkeypatch.setitem(mnist_reader.MIRRORS, "mnist", (tmp_path / "none").as_uri() + "/")
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


@pytest.fixture
def tiny(monkeypatch):
    """A CIFAR-10 of 6 x 20 images: pixels (120, 3072), labels (120,), and the batches as they are pickled."""
    pixels = np.random.default_rng(0).integers(0, 256, (120, 3072), np.uint8)
    labels = np.arange(120) % 10
    monkeypatch.setattr(cifar, "VALIDATION", 30)
    batches = {
        name: pickle.dumps({b"data": pixels[20 * i :][:20], b"labels": labels[20 * i :][:20].tolist()}, protocol=2)
        for i, name in enumerate(cifar.BATCHES)
    }
    return pixels, labels, batches


def pack(path, members, folder):
    with tarfile.open(path, "w:gz") as archive:
        for name, content in members.items():
            entry = tarfile.TarInfo(f"{folder}/{name}")
            entry.size = len(content)
            archive.addfile(entry, io.BytesIO(content))


def write(folder, members):
    folder.mkdir(parents=True, exist_ok=True)
    for name, content in members.items():
        (folder / name).write_bytes(content)


def same(sets, pixels, labels):
    """The sets are the first 70, the next 30 and the last 20 of these."""
    assert [len(part.labels) for part in sets[:3]] == [70, 30, 20]
    found = torch.cat([part.images for part in sets[:3]]), torch.cat([part.labels for part in sets[:3]])
    assert torch.equal(found[0], torch.from_numpy(pixels).view(-1, 3, 32, 32)) and found[1].tolist() == list(labels)
    assert found[1].dtype == torch.int64 and found[0].is_contiguous()


@pytest.mark.parametrize("layout", ["python", "binary"])
def test_cifar10_from_its_archives(layout, tiny, tmp_path, monkeypatch):
    pixels, labels, batches = tiny
    name = f"cifar-10-{layout}.tar.gz"
    if layout == "binary":
        rows = np.concatenate([labels[:, None].astype(np.uint8), pixels], 1)
        batches = {f"{key}.bin": rows[20 * i :][:20].tobytes() for i, key in enumerate(batches)}
    pack(tmp_path / name, batches, "cifar-10-batches")
    with pytest.raises(ValueError, match=f"{name} is damaged or cut short"):
        data.load("cifar10", tmp_path)
    monkeypatch.setitem(cifar.ARCHIVES, name, md5((tmp_path / name).read_bytes()))
    same(data.load("cifar10", tmp_path), pixels, labels)
    if layout == "python":  # fetched where nothing is
        monkeypatch.setattr(cifar, "SITE", tmp_path.as_uri() + "/")
        same(data.load("cifar10", tmp_path / "new"), pixels, labels)
        assert [path.name for path in (tmp_path / "new").iterdir()] == [name]


def test_cifar10_from_its_folder(tiny, tmp_path, monkeypatch):
    pixels, labels, batches = tiny
    inside = tmp_path / "cifar-10-batches-py"
    write(inside, batches)
    with pytest.raises(ValueError, match="data_batch_1 is damaged or cut short"):
        data.load("cifar10", tmp_path)
    monkeypatch.setattr(cifar, "BATCHES", {name: md5(content) for name, content in batches.items()})
    for folder in (tmp_path, inside):
        same(data.load("cifar10", folder), pixels, labels)
    (inside / "data_batch_3").write_bytes(batches["data_batch_3"][:-1000])
    with pytest.raises(ValueError, match="data_batch_3 is damaged or cut short"):
        data.load("cifar10", tmp_path)
    (inside / "data_batch_2").unlink()
    with pytest.raises(ValueError, match="cifar-10-batches-py has no data_batch_2: complete it"):
        data.load("cifar10", tmp_path)


def interleaved(monkeypatch, pixels):
    digests = {
        name: hashlib.sha256(np.ascontiguousarray(rows.reshape(-1, 3, 32, 32).transpose(0, 2, 3, 1))).hexdigest()
        for name, rows in (("train", pixels[:100]), ("test", pixels[100:]))
    }
    monkeypatch.setattr(cifar, "INTERLEAVED", digests)


def test_cifar10_from_batches_that_were_packed_anew(tiny, tmp_path, monkeypatch):
    """Known by their pixels; a label that is wrong is seen too."""
    pixels, labels, batches = tiny
    interleaved(monkeypatch, pixels)
    write(tmp_path / "cifar-10-batches-py", batches)
    same(data.load("cifar10", tmp_path), pixels, labels)
    wrong = {b"data": pixels[:20], b"labels": [1] * 20}
    write(tmp_path / "cifar-10-batches-py", {"data_batch_1": pickle.dumps(wrong)})
    with pytest.raises(ValueError, match="data_batch_1 is damaged"):
        data.load("cifar10", tmp_path)


def test_cifar10_from_strips(tiny, tmp_path, monkeypatch):
    pixels, labels, _ = tiny
    monkeypatch.setattr(cifar, "STRIPS", {"train": 2, "test": 1})
    columns = pixels.reshape(-1, 3, 32, 32).transpose(0, 2, 3, 1).reshape(-1, 32, 3)
    for name, rows in {"train_000": (0, 50), "train_001": (50, 100), "test_000": (100, 120)}.items():
        strip = Image.fromarray(columns[32 * rows[0] : 32 * rows[1]])
        strip.save(tmp_path / f"{name}.webp", lossless=True, exact=True)
    np.savez(tmp_path / "labels.npz", train_labels=labels[:100], test_labels=labels[100:])
    with pytest.raises(ValueError, match=r"train_\*.webp .* are not CIFAR-10"):
        data.load("cifar10", tmp_path)
    interleaved(monkeypatch, pixels)
    same(data.load("cifar10", tmp_path), pixels, labels)
    strip = tmp_path / "train_001.webp"
    strip.write_bytes(strip.read_bytes()[:5_000])
    with pytest.raises(ValueError, match="train_001.webp is missing, damaged or cut short"):
        data.load("cifar10", tmp_path)


def test_a_pickle_cannot_call_anything(tmp_path):
    class Evil:
        def __reduce__(self):
            return os.system, (f"touch {tmp_path / 'owned'}",)

    write(tmp_path / "cifar-10-batches-py", {name: pickle.dumps({b"data": Evil()}) for name in cifar.BATCHES})
    with pytest.raises(ValueError, match="data_batch_1 is damaged"):
        data.load("cifar10", tmp_path)
    assert not (tmp_path / "owned").exists()


def test_cifar100(tmp_path, monkeypatch):
    monkeypatch.setattr(cifar, "VALIDATION", 3)
    pixels = np.arange(10 * 3072).astype(np.uint8).reshape(10, 3072)
    record = {b"data": pixels, b"fine_labels": list(range(10)), b"coarse_labels": [0] * 10}
    members = {
        "train": pickle.dumps(record, protocol=2),
        "test": pickle.dumps({**record, b"data": pixels[::-1]}, protocol=2),
        "meta": pickle.dumps({b"fine_label_names": [b"apple", b"aquarium_fish"]}, protocol=2),
    }
    write(tmp_path / "cifar-100-python", members)
    with pytest.raises(ValueError, match="train is damaged or cut short"):
        data.load("cifar100", tmp_path)
    monkeypatch.setattr(cifar, "HUNDRED", {name: md5(content) for name, content in members.items()})
    sets = data.load("cifar100", tmp_path)
    assert sets.classes == ("apple", "aquarium_fish") and sets.validation.labels.tolist() == [7, 8, 9]
    assert torch.equal(sets.test.images.flatten(1), torch.from_numpy(pixels[::-1].copy()))
    archive = tmp_path / "b" / "cifar-100-python.tar.gz"
    archive.parent.mkdir()
    pack(archive, members, "cifar-100-python")
    monkeypatch.setitem(cifar.ARCHIVES, archive.name, md5(archive.read_bytes()))
    assert torch.equal(data.load("cifar100", archive.parent).train.images, sets.train.images)


# Fashion-MNIST, SVHN


def test_fashion_mnist_has_files_of_its_own(tmp_path, monkeypatch):
    shapes = {name: (6_000, 2, 2) if "images" in name else (6_000,) for name in mnist_reader.NAMES}
    write(tmp_path, {name: gzip.compress(body(shape, bytes(int(np.prod(shape))))) for name, shape in shapes.items()})
    with pytest.raises(ValueError, match="train-images-idx3-ubyte.gz is damaged.*8d4fb7e6c68d591d4c3dfef9ec88bf0d"):
        data.load("fashion_mnist", tmp_path)
    digests = tuple(md5((tmp_path / name).read_bytes()) for name in mnist_reader.NAMES)
    monkeypatch.setitem(mnist_reader.MD5, "fashion_mnist", digests)
    assert data.load("fashion_mnist", tmp_path).classes[9] == "Ankle boot"


def test_svhn(tmp_path, monkeypatch):
    monkeypatch.setattr(svhn_reader, "VALIDATION", 2)
    pixels = np.random.default_rng(0).integers(0, 256, (32, 32, 3, 5), np.uint8)
    for name in svhn_reader.MD5:
        scipy.io.savemat(tmp_path / name, {"X": pixels, "y": np.array([[1], [10], [3], [9], [10]], np.uint8)})
    with pytest.raises(ValueError, match="train_32x32.mat is damaged"):
        data.load("svhn", tmp_path)
    monkeypatch.setattr(svhn_reader, "MD5", {name: md5((tmp_path / name).read_bytes()) for name in svhn_reader.MD5})
    sets = data.load("svhn", tmp_path)
    assert sets.train.labels.tolist() == [1, 0, 3] and sets.validation.labels.tolist() == [9, 0]
    assert torch.equal(sets.test.images[4, 2], torch.from_numpy(pixels[:, :, 2, 4]))


# Folders


def photographs(root, parts, count=10, classes=("cat", "dog")):
    """count images of 40 x 20 in each class of each part; their red is the class, their green their number."""
    for part in parts:
        for label, name in enumerate(classes):
            (root / part / name).mkdir(parents=True)
            for number in range(count):
                Image.new("RGB", (40, 20), (100 * label, 5 * number, 0)).save(root / part / name / f"{number:03}.png")
    return root


@pytest.mark.parametrize(
    "parts, sizes",
    [
        (("train", "val", "test"), (20, 20, 20)),
        (("train", "val"), (18, 2, 20)),  # val is what is tested on
        (("train", "test"), (18, 2, 20)),
        (("train",), (16, 2, 2)),
        (("",), (16, 2, 2)),
    ],
)
def test_parts_of_a_folder(parts, sizes, tmp_path):
    sets = data.load(photographs(tmp_path, parts), size=8)
    assert tuple(len(part.labels) for part in sets[:3]) == sizes and sets.classes == ("cat", "dog")
    for images, labels in sets[:3]:
        assert images.shape[1:] == (3, 8, 8) and (images[:, 0, 4, 4] == 100 * labels).all()
        assert labels.bincount().tolist() == [len(labels) // 2] * 2
    again = data.load(tmp_path, size=8)
    assert all(torch.equal(one.images, two.images) for one, two in zip(sets[:3], again[:3], strict=True))
    if parts == ("train",):
        numbers = [set((part.labels * 1000 + part.images[:, 1, 4, 4]).tolist()) for part in sets[:3]]
        assert len(set.union(*numbers)) == 20  # each image is in one part


def test_a_picture_is_scaled_and_cut_to_its_middle(tmp_path):
    pixels = np.zeros((20, 40, 3), np.uint8)
    pixels[:, 10:30, 1] = 200
    Image.fromarray(pixels).save(tmp_path / "a.png")
    half = np.asarray(Image.fromarray(pixels).resize((20, 10), Image.Resampling.BILINEAR))
    assert np.array_equal(image_files.read_image(tmp_path / "a.png", 10), half[:, 5:15].transpose(2, 0, 1))
    for mode in ("L", "RGBA", "P"):
        Image.fromarray(pixels).convert(mode).save(tmp_path / "b.png")
        assert image_files.read_image(tmp_path / "b.png", 4).shape == (3, 4, 4)
    wave = 127 + 120 * np.sin(np.arange(640)[:, None, None] / 40 + np.arange(640)[:, None] / 60 + np.arange(3))
    large = Image.fromarray(wave.astype(np.uint8))
    large.save(tmp_path / "c.jpg", quality=95)
    whole = np.asarray(large.resize((32, 32), Image.Resampling.BILINEAR)).transpose(2, 0, 1)
    assert np.abs(image_files.read_image(tmp_path / "c.jpg", 32).numpy().astype(int) - whole).mean() < 2


def test_what_is_wrong_with_a_folder(tmp_path, monkeypatch):
    with pytest.raises(ValueError, match="there is no folder"):
        data.listing(tmp_path / "none")
    with pytest.raises(ValueError, match="has no folders of images, one for each class"):
        data.load(tmp_path)
    photographs(tmp_path / "a", ["val"])
    with pytest.raises(ValueError, match="has val/ but no train/"):
        data.load(tmp_path / "a")
    photographs(tmp_path / "b", ["train"])
    photographs(tmp_path / "b", ["val"], classes=("cats",))
    with pytest.raises(ValueError, match="cats is of a class that no training image has: did you mean 'cat'"):
        data.load(tmp_path / "b")
    with pytest.raises(ValueError, match="class 'cat' has 1 image to train on: too few"):
        data.load(photographs(tmp_path / "c", ["train"], count=1))
    photographs(tmp_path / "d", ["train"])
    with pytest.raises(ValueError, match="is a folder itself: leave out"):
        data.load(tmp_path / "d", tmp_path)
    with monkeypatch.context() as patch:
        patch.setattr(folders, "LARGEST", 1_000)
        with pytest.raises(ValueError, match="the 20 images of .* stream them"):
            data.load(tmp_path / "d", size=32)
    broken = tmp_path / "d" / "train" / "dog" / "004.png"
    broken.write_bytes(broken.read_bytes()[:60])
    with pytest.raises(ValueError, match="dog/004.png cannot be read as an image"):
        data.load(tmp_path / "d", size=8)


# Streams


def test_a_stream_shows_every_image_once_in_an_order_of_its_own(tmp_path):
    listed = data.listing(photographs(tmp_path, ["train", "val", "test"], count=25))
    stream = data.Stream(listed.train, size=8, batch=16, seed=1, workers=3)

    def epoch(stream, number):
        batches = list(stream.epoch(number))
        assert [len(batch.labels) for batch in batches] == [16, 16, 16, 2] and len(stream) == 4
        assert all(batch.images.dtype == torch.uint8 and batch.images.shape[1:] == (3, 8, 8) for batch in batches)
        images, labels = (torch.cat(parts) for parts in zip(*batches, strict=True))
        assert (images[:, 0, 0, 0] == 100 * labels).all()
        return (labels * 1000 + images[:, 1, 0, 0] // 5).tolist()

    first, second = epoch(stream, 0), epoch(stream, 1)
    assert sorted(first) == sorted(second) == [1000 * label + number for label in (0, 1) for number in range(25)]
    assert first != second
    assert epoch(data.Stream(listed.train, 8, 16, seed=1, workers=1, ahead=5), 0) == first
    assert epoch(data.Stream(listed.train, 8, 16, seed=2), 0) != first
    assert epoch(data.Stream(listed.train, 8, 16), 3) == sorted(first)
    with pytest.raises(ValueError, match="0 files, batches of 16"):
        data.Stream(folders.ImageFiles([], torch.tensor([])), 8, 16)


def test_a_stream_reads_ahead_and_not_further(tmp_path, monkeypatch):
    listed = data.listing(photographs(tmp_path, ["train", "val", "test"], count=20))
    read, picture = [], image_files.read_image
    monkeypatch.setattr("vision.data.stream.read_image", lambda *given: read.append(given) or picture(*given))
    running = data.Stream(listed.train, 8, 4, ahead=2).epoch()
    next(running)
    end = time.time() + 300
    while len(read) < 12 and time.time() < end:
        time.sleep(0.01)
    time.sleep(0.05)
    assert len(read) == 12  # the batch that is out, and two ahead
    running.close()
    assert not [thread for thread in threading.enumerate() if thread.name.startswith("decode")]


def test_a_stream_names_the_file_that_it_cannot_read(tmp_path):
    listed = data.listing(photographs(tmp_path, ["train", "val", "test"]))
    listed.train.paths[13].write_bytes(b"GIF89a")
    shown = []
    with pytest.raises(ValueError, match="dog/003.png cannot be read as an image"):
        for batch in data.Stream(listed.train, 8, 4).epoch():
            shown.append(batch)
    assert len(shown) == 3
    assert not [thread for thread in threading.enumerate() if thread.name.startswith("decode")]


# Drawn shapes


def test_shapes_are_the_same_every_time_and_each_class_as_often():
    first, again, other = (drawn_shapes.draw(200, seed=seed) for seed in (1, 1, 2))
    assert torch.equal(first.images, again.images) and torch.equal(first.labels, again.labels)
    assert not torch.equal(first.images, other.images)
    assert first.labels.bincount().tolist() == [20] * 10
    assert first.images.shape == (200, 3, 32, 32) and first.images.dtype == torch.uint8
    with pytest.raises(ValueError, match="shapes are drawn, not read"):
        data.load("shapes", "somewhere")


def test_shapes_need_more_than_a_linear_classifier():
    train, test = drawn_shapes.draw(5_000, seed=0), drawn_shapes.draw(1_000, seed=1)
    normal = augmentation.Normalization.of(train.images)
    given, asked = normal(train.images), normal(test.images)
    torch.manual_seed(0)
    linear = nn.Sequential(nn.Flatten(), nn.Linear(3072, 10))
    convolutional = nn.Sequential()
    for channels, more in ((3, 8), (8, 16), (16, 32)):
        convolutional.extend(
            [nn.Conv2d(channels, more, 3, padding=1), nn.BatchNorm2d(more), nn.ReLU(), nn.MaxPool2d(2)]
        )
    convolutional.extend([nn.Flatten(), nn.Linear(512, 10)])
    right = []
    for model in (linear, convolutional):
        optimizer = torch.optim.Adam(model.parameters(), 3e-3)
        for _ in range(3):
            for rows in torch.randperm(len(given)).split(50):
                loss = nn.functional.cross_entropy(model(given[rows]), train.labels[rows])
                optimizer.zero_grad()
                loss.backward()
                optimizer.step()
        with torch.no_grad():
            right.append((model.eval()(asked).argmax(1) == test.labels).float().mean().item())
    assert right[0] < 0.2 and right[1] > 0.35, right


# As a picture


def test_a_set_is_drawn(tmp_path, capsys):
    root = photographs(tmp_path / "pets", ["train", "val"])
    pictures.main(pictures.Config(str(root), size=16, augment="flip,jitter", rows=2, out=tmp_path / "sheet.png"))
    assert "18 train, 2 validation, 20 test, 2 classes" in capsys.readouterr().out
    assert Image.open(tmp_path / "sheet.png").size[0] > 100
    sets = data.load(root, size=16)
    assert pictures.sheet(sets, "none", 3, 0).shape == (3, 2, 3, 16, 16)
    assert pictures.sheet(sets, "crop", 3, 0).shape == (6, 2, 3, 16, 16)
    with pytest.raises(ValueError, match="class 'cat' has 9 training images, which is less than 10 rows"):
        pictures.sheet(sets, "none", 10, 0)
