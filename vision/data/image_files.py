"""Image files as tensors: which suffixes are images, and decoding to upright pixels of eight bits a channel.

image_files.read_image("dog.jpg", 224)   # (3, 224, 224) uint8
image_files.read_whole("dog.jpg")        # (3, H, W), at its own size
"""

from __future__ import annotations

import importlib.util
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from PIL import Image
from torch import Tensor

# Formats are named wherever a file is opened: by itself Pillow tries all that it knows, and for one of them (EPS) it
# starts a program that interprets the file. What a file's name ends in does not decide: PNGs called .jpg are common.
AVIF = ("AVIF",) if importlib.util.find_spec("PIL._avif") else ()  # not in every build of Pillow
FORMATS = ("JPEG", "PNG", "WEBP", "BMP", "GIF", "PPM", "TIFF", *AVIF)
SUFFIXES = frozenset(
    f".{suffix}"
    for suffix in "jpg jpeg jpe jfif png webp bmp gif tif tiff ppm pgm pbm pnm".split() + ["avif"] * len(AVIF)
)
LARGEST = 1 << 28  # bytes of an image's pixels: a file of some kilobytes can ask for gigabytes
UPRIGHT = {  # what turns an image upright, by the orientation that its EXIF data give
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}
ORIENTATION, BITS, PHOTOMETRIC = 274, 258, 262  # tags of EXIF and TIFF


def read_image(path: str | Path, size: int) -> Tensor:
    """An image file as (3, size, size) uint8: scaled until its shorter side is `size`, and cut to its middle.

    It is turned as its EXIF data say. 16-bit gray is reduced to its upper eight bits, and of several
    frames or pages the first is read; an alpha channel is ignored, as in torchvision.
    Raises ValueError, which names the file, when it is not an image, is truncated, takes more than LARGEST bytes, or
    has pixels whose white is not defined (floats, 32-bit integers).
    """
    try:
        with Image.open(path, formats=FORMATS) as image:
            image.draft("RGB", (2 * size, 2 * size))  # a JPEG is decoded no larger than it has to be
            image = _in_color(image)
        width, height = image.size
        side = min(width, height)
        box = ((width - side) / 2, (height - side) / 2, (width + side) / 2, (height + side) / 2)
        pixels = np.asarray(image.resize((size, size), Image.Resampling.BILINEAR, box))
    except Exception as error:  # Pillow's plugins may raise anything
        raise ValueError(f"{path} cannot be read as an image: {error}") from error
    return torch.from_numpy(pixels.transpose(2, 0, 1).copy())


def read_whole(path: str | Path, upright: bool = True) -> Tensor:
    """An image file as (3, H, W) uint8, at its own size; otherwise as read_image, and raises as that.

    upright: False leaves it as it is stored, whatever its EXIF data say.
    """
    try:
        with Image.open(path, formats=FORMATS) as image:
            pixels = np.asarray(_in_color(image, upright))
    except Exception as error:  # as above
        raise ValueError(f"{path} cannot be read as an image: {error}") from error
    return torch.from_numpy(pixels.transpose(2, 0, 1).copy())


def read_mask(path: str | Path) -> Tensor:
    """The numbers (H, W) uint8 of a mask's pixels, of classes or objects, gray or of a palette.

    Raises ValueError that names the file for other images.
    """
    try:
        with Image.open(path, formats=FORMATS) as image:
            check_size(image)
            if image.mode not in ("P", "L", "1"):
                raise ValueError(f"its pixels are {image.mode}, not gray or of a palette, which numbers are")
            return torch.from_numpy(np.array(image).astype(np.uint8))
    except Exception as error:  # as above
        raise ValueError(f"{path} cannot be read as a mask: {error}") from error


class Inspection(NamedTuple):
    """What an image file says of itself."""

    size: tuple[int, int]  # (height, width), as stored
    turns: bool  # whether its EXIF data turn it by a quarter, or mirror it along a diagonal
    depth: str  # "16-bit", "palette", or "" for what is common


def inspect(path: str | Path, whole: bool = False) -> Inspection:
    """Size, orientation and depth of an image file, from its first bytes.

    whole: decode it. Else that is done only where the end of the file is not that of its format, which most files
    that were cut short show. Raises ValueError that names the file, as read_image.
    """
    try:
        with Image.open(path, formats=FORMATS) as image:
            check_size(image)
            known = image.format not in ("TIFF", "PNG") or "exif" in image.info  # else a PNG would be decoded
            turns = known and image.getexif().get(ORIENTATION) in (5, 6, 7, 8)
            sixteen = image.mode.startswith("I")
            found = Inspection(
                (image.height, image.width), turns, "16-bit" if sixteen else "palette" if image.mode == "P" else ""
            )
            if whole or not _ends_well(Path(path), image.format):
                _in_color(image)
    except Exception as error:  # as above
        raise ValueError(f"{path} cannot be read as an image: {error}") from error
    return found


def _ends_well(path: Path, format: str | None) -> bool:
    """Whether a file ends as its format has it: JPEG and PNG alone, others are not known to."""
    ends = {"JPEG": b"\xff\xd9", "PNG": b"IEND\xaeB`\x82"}
    if format not in ends:
        return False
    with open(path, "rb") as file:
        file.seek(-min(path.stat().st_size, 16), 2)
        return file.read().endswith(ends[format])


def _in_color(image: Image.Image, upright: bool = True) -> Image.Image:
    """An opened image, decoded: upright, eight bits, in red, green and blue."""
    check_size(image)
    image.load()
    image = _upright(image) if upright else image
    image = _eight_bits(image) if image.mode[0] in "IF" else image
    image = image.convert("RGBA") if "transparency" in image.info else image
    return image.convert("RGB")


def check_size(image: Image.Image) -> None:
    """Raises ValueError for an image, not yet decoded, of more than LARGEST bytes."""
    space = image.width * image.height * 3
    if space > LARGEST:
        raise ValueError(
            f"its {image.width} x {image.height} pixels take {space:,} bytes, at most {LARGEST:,} are read"
        )


def _upright(image: Image.Image) -> Image.Image:
    """A decoded image, turned as its EXIF data say. Damaged EXIF data are ignored, as in torchvision."""
    try:
        turn = UPRIGHT.get(image.getexif().get(ORIENTATION))
    except Exception:  # as above
        turn = None
    if turn is None:  # as of TIFFs, which Pillow has turned when it decoded them
        return image
    turned = image.transpose(turn)
    turned.format = image.format
    return turned


def _eight_bits(image: Image.Image) -> Image.Image:
    """Gray of up to 16 bits as gray of eight, the upper ones. Raises ValueError where white is not defined."""
    tags = image.tag_v2 if image.format == "TIFF" else {}
    if not (image.mode.startswith("I;16") or (image.mode == "I" and image.format in ("PPM", "PNG"))):
        kind = "floats" if image.mode.startswith("F") else "integers of 32 bits"
        raise ValueError(f"its pixels are {kind}, whose white is not defined: save it with 8 or 16 bits")
    bits = tags.get(BITS, (16,))[0]
    values = np.asarray(image).astype(np.int32) >> (bits - 8)
    if tags.get(PHOTOMETRIC) == 0:  # 0 is white; Pillow sees to it for eight bits alone
        values = 255 - values
    return Image.fromarray(values.clip(0, 255).astype(np.uint8))
