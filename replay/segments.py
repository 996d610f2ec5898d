"""The file format of a save: what was added between two saves, compressed.

A segment is one line of JSON, {"spans": {ring: [start, stop]}}, and then for every ring in that order its
slots from start to stop, cut into blocks (at the ring's seam, and every 4 MiB). A block is its length (8
bytes, little endian) and that many bytes of zlib, level 1: measured on Atari frames, 400 to 700 MB/s a core
and 15 to 70 times smaller, so that saving costs under 1% of the time of a run of 500 steps a second.
Positions count from the first thing ever added; a ring of S slots keeps position p in slot p % S.
"""

import hashlib
import json
import os
import secrets
import zlib
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import NamedTuple

import torch
from torch import Tensor

BLOCK = 4 << 20  # bytes of a block before compression: small enough to share a save among cores


class Segment(NamedTuple):
    """A file of a saved memory."""

    name: str  # of the file, in its folder
    sha256: str  # of the file as it lies there, in hexadecimal
    spans: dict[str, tuple[int, int]]  # ring -> the positions [start, stop) it holds

    def alive(self, low: dict[str, int]) -> bool:
        """Whether it still holds positions that are in use. low: each ring's oldest position in use."""
        return any(stop > max(start, low[ring]) for ring, (start, stop) in self.spans.items())


def write(
    folder: Path,
    number: int,
    adds: int,
    rings: dict[str, Tensor],
    spans: dict[str, tuple[int, int]],
    kind: str = "memory",
) -> Segment:
    """Write the spans of the rings, each (S, ...), as a new file, which appears whole or not at all.

    The name holds part of the file's hash, so that no two contents ever share a name: a run that went back
    to an older checkpoint cannot overwrite what a newer one refers to. Raises OSError when the disk is full.
    """
    unfinished = folder / f".{kind}-{number:06d}-{adds}.{secrets.token_hex(4)}.tmp"
    digest = hashlib.sha256()
    try:
        with open(unfinished, "xb") as file:  # x: a new file, never what a link points to

            def put(data: bytes) -> None:
                digest.update(data)
                file.write(data)

            put(json.dumps({"spans": spans}).encode() + b"\n")
            cut = [block for ring, span in spans.items() for block in blocks(rings[ring], *span)]
            with ThreadPoolExecutor(os.cpu_count()) as pool:  # zlib lets go of the GIL
                for first in range(0, len(cut), 64):  # a few at a time, or all would wait in RAM
                    for packed in pool.map(_pack, cut[first : first + 64]):
                        put(len(packed).to_bytes(8, "little"))
                        put(packed)
            file.flush()
            os.fsync(file.fileno())
        name = f"{kind}-{number:06d}-{adds}-{digest.hexdigest()[:12]}.segment"
        os.replace(unfinished, folder / name)
    except BaseException:
        unfinished.unlink(missing_ok=True)  # frees the disk space
        raise
    if os.name == "posix":  # the new name itself must survive a power cut, too
        directory = os.open(folder, os.O_RDONLY)
        os.fsync(directory)
        os.close(directory)
    return Segment(name, digest.hexdigest(), spans)


def verify(file: Path, sha256: str) -> Segment:
    """The description of a segment, after verifying its checksum. Raises ValueError naming the file."""
    if not file.exists():
        raise ValueError(f"{file} is missing: this checkpoint's memory cannot be restored, use an older one")
    with open(file, "rb") as opened:
        found = hashlib.file_digest(opened, "sha256").hexdigest()
        if found != sha256:
            raise ValueError(
                f"{file} is damaged (sha256 {found[:12]}, not {sha256[:12]}; {file.stat().st_size} bytes): "
                "this checkpoint's memory cannot be restored, use an older one"
            )
        opened.seek(0)
        spans = json.loads(opened.readline())["spans"]
    return Segment(file.name, sha256, {ring: (start, stop) for ring, (start, stop) in spans.items()})


def read(file: Path, rings: dict[str, Tensor]) -> None:
    """Read a verified segment into rings (S, ...) of the same sizes as those from which it was written."""
    with open(file, "rb") as opened:
        for ring, span in json.loads(opened.readline())["spans"].items():
            for block in blocks(rings[ring], *span):
                size = int.from_bytes(opened.read(8), "little")
                unpack = zlib.decompressobj()
                data = bytearray(unpack.decompress(opened.read(size), block.nbytes))  # bounded: a file is data
                if len(data) != block.nbytes or not unpack.eof:
                    raise ValueError(f"{file} does not hold the {block.nbytes:,} bytes of {ring} that it should")
                block.copy_(torch.frombuffer(data, dtype=block.dtype).view(block.shape))


def adds(name: str) -> int:
    """The steps that had been added when the file of that name was written: it holds no later row."""
    return int(name.split("-")[2])


def blocks(ring: Tensor, start: int, stop: int) -> Iterator[Tensor]:
    """Positions [start, stop) as views of the ring (S, ...), cut at its seam and at BLOCK bytes."""
    size = len(ring)
    most = max(BLOCK // max(ring[0].nbytes, 1), 1)  # slots of a block
    while start < stop and ring.numel():
        slot = start % size
        count = min(stop - start, size - slot, most)
        yield ring[slot : slot + count]
        start += count


def _pack(block: Tensor) -> bytes:
    return zlib.compress(block.cpu().reshape(-1).view(torch.uint8).numpy(), 1)
