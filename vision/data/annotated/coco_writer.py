"""Writes images with boxes, masks, captions and classes of pixels as COCO, image by image.

    writer = CocoWriter(folder, ("ball", "paddle"))
    writer.add("train", "0001", image, objects, captions)     # writes its PNGs, and a line of frames.jsonl
    writer.finish()                                           # annotations/*.json

images/<part>/*.png, semantic/<part>/*.png (0 is background, 1 the first class), annotations/instances_<part>.json
with boxes and masks, and captions_<part>.json, as cocodataset.org describes them; classes.txt names the classes of
pixels. Memory does not grow with the images: frames.jsonl holds what is known of them, and is read again at the end.
"""

from __future__ import annotations

import contextlib
import json
import os
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple, TextIO

import numpy as np
from PIL import Image

from vision.data.annotated.polygons import encode, runs_of

PARTS = ("train", "val", "test")
FRAMES = "frames.jsonl"
COMPRESSION = 4  # of PNGs, zlib's level: above it they are hardly smaller
BACKGROUND = "background"


class Instance(NamedTuple):
    """One object of an image."""

    label: int  # index of its class
    box: tuple[int, int, int, int]  # left, top, right, bottom: around its mask
    mask: np.ndarray  # (bottom - top, right - left) bool: within its box


class CocoWriter:
    """A COCO data set that grows by one image at a time.

    offset: bytes of frames.jsonl that are kept.
    """

    def __init__(self, folder: Path, classes: Sequence[str], offset: int = 0) -> None:
        self.folder, self.classes = folder, tuple(classes)
        for kind in ("images", "semantic"):
            for part in PARTS:
                (folder / kind / part).mkdir(parents=True, exist_ok=True)
        (folder / "annotations").mkdir(exist_ok=True)
        (folder / "classes.txt").write_text("\n".join((BACKGROUND, *self.classes)) + "\n")
        self._palette = palette(len(self.classes) + 1)
        self._lines = open(folder / FRAMES, "a+b")
        self._lines.truncate(offset)
        self._lines.seek(0, os.SEEK_END)

    def add(
        self,
        part: str,
        name: str,
        image: np.ndarray,
        objects: Sequence[Instance],
        captions: Sequence[str] = (),
        about: dict[str, Any] | None = None,
    ) -> None:
        """Write an image (H, W, 3) uint8 of a part (train, val, test) with its objects, no two of which share pixels.

        about: what else is written into its line of frames.jsonl.
        """
        size = image.shape[:2]
        semantic = np.zeros(size, np.uint8)
        lines = []
        for label, (left, top, right, bottom), mask in objects:
            semantic[top:bottom, left:right][mask] = label + 1
            whole = np.zeros(size, bool)
            whole[top:bottom, left:right] = mask
            box = [left, top, right - left, bottom - top]
            lines.append([label, box, int(mask.sum()), encode(runs_of(whole))])
        file = f"{name}.png"
        Image.fromarray(image).save(self.folder / "images" / part / file, compress_level=COMPRESSION)
        picture = Image.fromarray(semantic, "P")
        picture.putpalette(self._palette)
        picture.save(self.folder / "semantic" / part / file, compress_level=COMPRESSION)
        line = {"part": part, "file": file, "size": list(size), "objects": lines, "captions": list(captions)}
        self.note(line | (about or {}))

    def note(self, line: dict[str, Any]) -> None:
        """Append a line to frames.jsonl; one without a "file" is not an image."""
        self._lines.write(json.dumps(line, separators=(",", ":")).encode() + b"\n")
        self._lines.flush()

    def finish(self) -> dict[str, tuple[int, int]]:
        """Write annotations/*.json. Returns the images and objects of each part."""
        self._lines.close()
        return {part: self._write(part) for part in PARTS}

    def _write(self, part: str) -> tuple[int, int]:
        """The JSON files of a part, whole or not at all."""
        categories = [
            {"id": number, "name": name, "supercategory": ""} for number, name in enumerate(self.classes, start=1)
        ]
        counted = [0, 0, 0]  # images, objects, captions

        def images(line: dict) -> Iterator[dict]:
            counted[0] += 1
            tall, wide = line["size"]
            yield {"id": counted[0], "file_name": line["file"], "height": tall, "width": wide}

        def instances(line: dict) -> Iterator[dict]:
            counted[0] += 1
            for label, box, area, text in line["objects"]:
                counted[1] += 1
                yield {
                    "id": counted[1], "image_id": counted[0], "category_id": label + 1, "bbox": box, "area": area,
                    "iscrowd": 0, "segmentation": {"size": line["size"], "counts": text},
                }  # fmt: skip

        def captions(line: dict) -> Iterator[dict]:
            counted[0] += 1
            for text in line["captions"]:
                counted[2] += 1
                yield {"id": counted[2], "image_id": counted[0], "caption": text}

        for kind, lines in (("instances", instances), ("captions", captions)):
            with self._replacing(self.folder / "annotations" / f"{kind}_{part}.json") as file:
                file.write('{"info":{"description":"Saccade"},"images":[')
                counted[0] = 0
                self._list(file, part, images)
                file.write('],"annotations":[')
                counted[0] = 0
                self._list(file, part, lines)
                file.write(f'],"categories":{json.dumps(categories if kind == "instances" else [])}}}\n')
        return counted[0], counted[1]

    def _list(self, file: TextIO, part: str, entries: Callable[[dict], Iterator[dict]]) -> None:
        begun = False
        for line in frames(self.folder):
            if line.get("part") != part or "file" not in line:
                continue
            for entry in entries(line):
                file.write(("," if begun else "") + "\n" + json.dumps(entry, separators=(",", ":")))
                begun = True

    @contextlib.contextmanager
    def _replacing(self, path: Path) -> Iterator[TextIO]:
        temporary = path.with_name(f".{path.name}.tmp")
        with open(temporary, "w", encoding="utf-8") as file:
            yield file
        os.replace(temporary, path)


def frames(folder: Path) -> Iterator[dict[str, Any]]:
    """The lines of a folder's frames.jsonl, one after the other; an unfinished last one is left out."""
    with open(folder / FRAMES, "rb") as file:
        for line in file:
            if line.endswith(b"\n"):
                yield json.loads(line)


def palette(count: int) -> bytes:
    """Colors of classes, red, green and blue of each: black, then distinct ones by the bits of their number, as
    Pascal VOC's pictures have them.
    """
    colors = bytearray()
    for number in range(count):
        channels = [0, 0, 0]
        for place in range(8):
            for channel in range(3):
                channels[channel] |= (number >> 3 * place + channel & 1) << 7 - place
        colors += bytes(channels)
    return bytes(colors)
