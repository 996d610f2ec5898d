"""Image files and folders as people have them: turned, deep, hidden, damaged, enormous, and none at all."""

import struct
import sys
import warnings
import zlib
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image, ImageOps

import runs
from vision import data
from vision.data import __main__ as sheet
from vision.data import image_files

RAMP = np.linspace(0, 65535, 64).astype(np.uint16)[None].repeat(64, 0)  # 64 levels, from left to right


def pixels(path: Path, size: int = 64) -> np.ndarray:
    """(H, W, 3) int."""
    return image_files.read_image(path, size).permute(1, 2, 0).numpy().astype(int)


def save(path: Path, color=(10, 20, 30), size=(8, 8), **options) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", size, color).save(path, **options)
    return path


# One image


@pytest.mark.parametrize("suffix", ["jpg", "png", "webp", "tif"])
@pytest.mark.parametrize("orientation", range(1, 9))
def test_exif_turns_an_image_upright(suffix, orientation, tmp_path):
    stored = np.zeros((32, 32, 3), np.uint8)
    stored[:, :16, 0], stored[:8, :, 1] = 200, 100
    exif = Image.Exif()
    exif[image_files.ORIENTATION] = orientation
    path = tmp_path / f"a.{suffix}"
    Image.fromarray(stored).save(path, exif=exif, **({"quality": 95} if suffix in ("jpg", "webp") else {}))
    tagged = Image.fromarray(stored)
    tagged.getexif()[image_files.ORIENTATION] = orientation
    expected = np.asarray(ImageOps.exif_transpose(tagged)).astype(int)
    assert np.abs(pixels(path, 32) - expected).mean() < 4


def test_damaged_exif_says_nothing(tmp_path):
    path = save(tmp_path / "a.jpg", size=(8, 8), exif=b"Exif\0\0garbage that is not a TIFF")
    assert pixels(path, 8).shape == (8, 8, 3)


@pytest.mark.parametrize("suffix", ["png", "tif", "pgm"])
def test_sixteen_bits_keep_their_levels(suffix, tmp_path):
    Image.fromarray(RAMP).save(tmp_path / f"a.{suffix}")
    found = pixels(tmp_path / f"a.{suffix}")
    assert (found == (RAMP >> 8)[:, :, None]).all() and len(np.unique(found)) == 64


def tiff(path: Path, values: np.ndarray, bits: int, white: int, order: str = "<") -> Path:
    """A TIFF by hand: one uncompressed strip of gray, `white` the photometric tag (1: 0 is black)."""
    height, width = values.shape
    if bits == 12:
        flat = values.astype(int).reshape(-1, 2)
        body = np.stack([flat[:, 0] >> 4, (flat[:, 0] & 15) << 4 | flat[:, 1] >> 8, flat[:, 1] & 255], 1)
        body = body.astype(np.uint8).tobytes()
    else:
        body = values.astype(f"{order}u2").tobytes()
    entries = [(256, width), (257, height), (258, bits), (259, 1), (262, white), (273, 8), (277, 1), (278, height)]
    entries.append((279, len(body)))
    directory = struct.pack(f"{order}H", len(entries))
    for tag, value in entries:
        directory += struct.pack(f"{order}HHII", tag, 4, 1, value)
    header = (b"II*\0" if order == "<" else b"MM\0*") + struct.pack(f"{order}I", 8 + len(body))
    path.write_bytes(header + body + directory + b"\0\0\0\0")
    return path


def test_tiffs_of_other_bits_ends_and_whites(tmp_path):
    assert (pixels(tiff(tmp_path / "a.tif", RAMP, 16, 1, ">")) == (RAMP >> 8)[:, :, None]).all()
    assert (pixels(tiff(tmp_path / "b.tif", RAMP, 16, 0)) == 255 - (RAMP >> 8)[:, :, None]).all()
    assert (pixels(tiff(tmp_path / "c.tif", RAMP >> 4, 12, 1)) == (RAMP >> 8)[:, :, None]).all()


@pytest.mark.parametrize("kind", [np.float32, np.int32])
def test_numbers_without_a_white_are_refused(kind, tmp_path):
    Image.fromarray(RAMP.astype(kind)).save(tmp_path / "a.tif")
    with pytest.raises(ValueError, match="a.tif cannot be read as an image.*white is not defined: save it with 8"):
        image_files.read_image(tmp_path / "a.tif", 8)


def test_modes_of_color_become_rgb_without_a_warning(tmp_path):
    color = Image.new("RGB", (8, 8), (250, 120, 30))
    palette = color.quantize(4)
    palette.info["transparency"] = bytes([0, 255, 255, 255])
    palette.save(tmp_path / "palette.png")
    color.convert("RGBA").save(tmp_path / "alpha.png")
    color.convert("CMYK").save(tmp_path / "cmyk.jpg", quality=100)
    frames = [Image.new("RGB", (8, 8), c) for c in ((250, 120, 30), (0, 0, 255), (0, 255, 0))]
    frames[0].save(tmp_path / "film.gif", save_all=True, append_images=frames[1:], loop=0)
    frames[0].save(tmp_path / "film.webp", save_all=True, append_images=frames[1:], lossless=True)
    frames[0].save(tmp_path / "pages.tif", save_all=True, append_images=frames[1:])
    frames[0].save(tmp_path / "two.jpg", "MPO", save_all=True, append_images=frames[1:2], quality=100)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        for path in sorted(tmp_path.iterdir()):
            assert np.abs(pixels(path, 8) - (250, 120, 30)).max() < 12, path.name
    Image.new("1", (8, 8), 1).save(tmp_path / "bit.png")
    Image.new("LA", (8, 8), (77, 3)).save(tmp_path / "gray.png")
    assert (pixels(tmp_path / "bit.png", 8) == 255).all() and (pixels(tmp_path / "gray.png", 8) == 77).all()


@pytest.mark.parametrize("suffix", ["jpg", "png", "webp", "bmp", "gif", "ppm", "tif"])
def test_a_part_of_an_image_is_named(suffix, tmp_path):
    noise = np.random.default_rng(0).integers(0, 256, (64, 64, 3), np.uint8)
    path = tmp_path / f"a.{suffix}"
    Image.fromarray(noise).save(path)
    whole = path.read_bytes()
    for body in (whole[: len(whole) // 2], whole[:10], b""):
        path.write_bytes(body)
        with pytest.raises(ValueError, match=f"a.{suffix} cannot be read as an image"):
            image_files.read_image(path, 8)


def test_a_program_named_as_an_image_is_not_run(tmp_path, monkeypatch):
    """EPS is a language: Pillow gives it to ghostscript, here to what would leave a trace."""
    bin = tmp_path / "bin"
    bin.mkdir()
    (bin / "gs").write_text(f"#!/bin/sh\ntouch {tmp_path}/ran\n")
    (bin / "gs").chmod(0o755)
    monkeypatch.setenv("PATH", str(bin), prepend=":")
    path = tmp_path / "a.jpg"
    path.write_bytes(b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 10 10\n%%EndComments\nshowpage\n%%EOF\n")
    with pytest.raises(ValueError, match="a.jpg cannot be read as an image: cannot identify"):
        image_files.read_image(path, 8)
    assert not (tmp_path / "ran").exists()


def bomb(path: Path, side: int) -> Path:
    """A PNG of side x side white pixels, in some kilobytes."""

    def chunk(kind: bytes, body: bytes) -> bytes:
        return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))

    packer = zlib.compressobj(9)
    row = b"\0" + b"\xff" * (side * 3)
    body = b"".join(packer.compress(row) for _ in range(64)) + packer.flush()  # it need not be whole to be refused
    header = struct.pack(">IIBBBBB", side, side, 8, 2, 0, 0, 0)
    path.write_bytes(b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", body) + chunk(b"IEND", b""))
    return path


@pytest.mark.parametrize("side", [9_500, 30_000])
@pytest.mark.filterwarnings("ignore::PIL.Image.DecompressionBombWarning")
def test_a_small_file_of_a_huge_image_is_refused_before_memory_is_taken(side, tmp_path, monkeypatch):
    monkeypatch.setattr(Image.core, "new", None)  # what takes memory for pixels
    monkeypatch.setattr(Image.core, "fill", None)
    path = bomb(tmp_path / "a.png", side)
    assert path.stat().st_size < 20_000
    with pytest.raises(
        ValueError, match="a.png cannot be read as an image: (its 9500 x 9500 pixels take|Image size)"
    ):
        image_files.read_image(path, 8)


# Folders


def three(root: Path) -> Path:
    """train/ of three classes of three images."""
    for name in ("cat", "dog", "owl"):
        for number in range(3):
            save(root / "train" / name / f"{number}.png")
    return root


def test_what_systems_leave_is_passed_over_and_said(tmp_path, capsys):
    clean = data.load(three(tmp_path / "pets"), size=8)
    capsys.readouterr()
    root = tmp_path / "pets"
    save(root / "train" / ".ipynb_checkpoints" / "1-checkpoint.png")
    save(root / "train" / "__MACOSX" / "cat" / "1.png")
    save(root / "train" / "@eaDir" / "thumbnail.jpg")
    save(root / "train" / "dog" / ".ipynb_checkpoints" / "1-checkpoint.png")
    (root / "train" / "cat" / "._1.png").write_bytes(b"\0\5\x16\7 resource fork")
    (root / "train" / "cat" / "a.heic").write_bytes(b"x")
    (root / "train" / "owl" / "b.HEIC").write_bytes(b"x")
    save(root / "train" / "stray.png")
    again = data.load(root, size=8)
    assert again.classes == clean.classes == ("cat", "dog", "owl")
    assert all(
        torch.equal(*pair) for a, b in zip(again[:3], clean[:3], strict=True) for pair in zip(a, b, strict=True)
    )
    said = capsys.readouterr().err
    for words in (
        "1 x __MACOSX (train/__MACOSX)",
        "1 x ._* (train/cat/._1.png)",
        "2 x .ipynb_checkpoints",
        "1 x @eaDir",
        "2 x *.heic (train/cat/a.heic, train/owl/b.HEIC)",
        "1 x *.png (train/stray.png)",
    ):
        assert words in said, said
    assert data.load(three(tmp_path / "other"), size=8) and not capsys.readouterr().err


def test_deep_folders_and_rare_suffixes_are_read(tmp_path):
    for number in range(3):
        save(tmp_path / "train" / "cat" / f"{number}.jfif", format="JPEG")
        save(tmp_path / "train" / "dog" / "hounds" / "old" / f"{number}.png")
        save(tmp_path / "train" / "owl" / f"{number}.pgm")
    (tmp_path / "train" / "dog" / "hounds" / "again").symlink_to(tmp_path / "train" / "dog")  # round in a circle
    files = data.listing(tmp_path)
    assert files.classes == ("cat", "dog", "owl") and sum(len(part.paths) for part in files[:3]) == 9


def test_an_empty_class_is_refused(tmp_path):
    three(tmp_path)
    (tmp_path / "train" / "emu").mkdir()
    with pytest.raises(ValueError, match="class 'emu' has no images in .*emu or below it. Remove the folder, or put"):
        data.listing(tmp_path)
    (tmp_path / "train" / "emu" / "1.heic").write_bytes(b"x")
    with pytest.raises(ValueError, match=r"class 'emu' has no images in .*emu: it has 1 x \*.heic \(1.heic\)"):
        data.listing(tmp_path)


def test_a_class_that_is_not_tested_is_said(tmp_path):
    save(three(tmp_path) / "val" / "dog" / "1.png")
    assert data.listing(tmp_path).notes == (f"{tmp_path / 'val'} has no images of 2 classes: 'cat', 'owl'",)


def test_a_folder_above_the_right_one_is_no_set_of_one_class(tmp_path):
    three(tmp_path / "a" / "pets")
    with pytest.raises(ValueError, match="pets is not a class but an image set, with train: name that folder"):
        data.listing(tmp_path / "a")
    for name in ("cat", "dog"):
        save(tmp_path / "b" / "pets" / name / "1.png")
    with pytest.raises(
        ValueError, match="a single class, 'pets', whose images .* if the classes are these, cat, dog"
    ):
        data.listing(tmp_path / "b")


def test_names_do_not_command_the_terminal(tmp_path, capsys, monkeypatch):
    """Neither what is passed over, nor a file that is not an image, nor a class."""
    root = three(tmp_path / "pets")
    evil = "\x1b]0;owned\x07\x1b[31m\u202e"
    (root / "train" / "cat" / f"{evil}.txt").write_text("")
    (root / "train" / "owl" / "\udcff.txt").write_text("")  # a byte that is not UTF-8
    (root / "train" / "dog" / f"{evil}.png").write_text("no image")
    monkeypatch.setattr(runs.Run, "stepping", False)  # as in a process of its own
    monkeypatch.setattr(sys, "argv", ["", str(root), "--size", "8", "--out", str(tmp_path / "a.png")])
    with pytest.raises(SystemExit, match="2"):
        runs.launch(sheet.main, sheet.Config, None, "vision.data", None)
    said = "".join(capsys.readouterr())
    assert "\x1b]" not in said and "\x07" not in said and "\u202e" not in said and "\udcff" not in said
    assert r"\x1b]0;owned\x07\x1b[31m\u202e.txt" in said and r"\udcff.txt" in said
    assert "cannot be read as an image" in said


def test_a_class_may_be_called_as_a_formula(tmp_path, capsys):
    for name in ("a$_{b$", "c\x1bd"):
        for number in range(3):
            save(tmp_path / "set" / name / f"{number}.png")
    sheet.main(sheet.Config(str(tmp_path / "set"), size=8, rows=1, out=tmp_path / "sheet.png"))
    assert (tmp_path / "sheet.png").exists() and "\x1b" not in capsys.readouterr().out
