"""Films, frame by frame: which way something moves, which no single frame shows.

Drawn films, a ball that bounces about, need no download. Any folder of annotated images, as games recorded in COCO's
format are, can take their place: its images in the order of their names are films, and the class of each frame is the
way that the object of one class went since the frame before.

    python -m vision.sequences --task films --data path/to/pong-coco --track ball
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path

import torch
from torch import Tensor
from torch.nn import functional as F

from runs import suggestions
from vision.data import annotated
from vision.sequences.network import SequenceNetwork
from vision.sequences.tasks.task import IGNORE, Batch, Task

SIDE = 32  # pixels of a drawn frame
RADIUS = 3.0  # pixels, of the ball
SPEED = (1.0, 3.0)  # pixels a frame, along and down each
HELD_OUT = 200  # films of a part
NOISE = 0.1  # standard deviation of pixels, where white is 1
DRAWN = "drawn"
WAYS = ("up left", "up right", "down left", "down right")
STILL = "still or gone"


class DrawnFilms(Task):
    """Films of a ball that bounces off the walls, and its direction in each frame but the first.

    length: frames of a film.
    """

    shape = "many_to_many"
    inputs = (1, SIDE, SIDE)
    outputs = WAYS

    def __init__(self, length: int, batch: int, seed: int) -> None:
        self.length, self.count, self.seed = length, batch, seed

    def training(self, step: int) -> Batch:
        return self._draw(self.count, torch.Generator().manual_seed(self.seed * 1_000_003 + step))

    def held_out(self, part: str) -> Iterator[Batch]:
        yield self._draw(HELD_OUT, torch.Generator().manual_seed(-1 if part == "validation" else -2))

    def _draw(self, count: int, generator: torch.Generator) -> Batch:
        def uniform(low: float, high: float) -> Tensor:
            return low + (high - low) * torch.rand(count, 2, generator=generator)

        low, high = RADIUS, SIDE - RADIUS
        place, speed = uniform(low, high), uniform(*SPEED)
        speed *= 2 * torch.randint(0, 2, (count, 2), generator=generator) - 1
        grid = torch.arange(SIDE) + 0.5
        frames, classes = [], []
        for _ in range(self.length):
            distance = torch.hypot(grid[None, :, None] - place[:, 1, None, None], grid - place[:, :1, None])
            frames.append((RADIUS - distance + 0.5).clamp(0, 1))
            before, place = place, place + speed
            out = (place < low) | (place > high)
            speed = torch.where(out, -speed, speed)
            place = torch.where(place < low, 2 * low - place, torch.where(place > high, 2 * high - place, place))
            classes.append(way(place - before))
        noise = NOISE * torch.randn(count, self.length, SIDE, SIDE, generator=generator)
        films = ((torch.stack(frames, 1) + noise).clamp(0, 1) * 255).byte()[:, :, None]
        moved = torch.stack(classes, 1)
        targets = torch.cat([torch.full((count, 1), IGNORE), moved[:, :-1]], 1)
        return Batch(films, targets)

    def show(self, network: SequenceNetwork, generator: torch.Generator) -> str:
        batch = self._draw(3, generator)
        return compared(network, batch, self.outputs)


class RecordedFilms(Task):
    """Films of a folder of annotated images: where the first object of the class `track` goes, in each frame.

    Images are read in the order of their names; a new film begins where what is left of a name without its last
    number changes. length: frames of a batch's films. size: pixels, sides that frames are stretched to.
    Raises ValueError for a class that the folder has not, and for films that are all shorter than `length`.
    """

    shape = "many_to_many"
    outputs = (*WAYS, STILL)

    def __init__(self, folder: Path, track: str | None, length: int, size: int, batch: int, seed: int) -> None:
        self.inputs = (3, size, size)
        sets = annotated.load(folder)
        if track is None and len(sets.classes) > 1 or track not in (None, *sets.classes):
            raise ValueError(f"--track {track}: {suggestions.one_of(str(track), sets.classes, 'choose one of')}")
        label = 0 if track is None else sets.classes.index(track)
        self.length, self.count, self.seed = length, batch, seed
        self.parts = {
            name: [part for film in films(images) for part in _cut(images, film, label, length, size)]
            for name, images in zip(("train", "validation", "test"), sets[:3], strict=True)
        }
        if not all(self.parts.values()):
            raise ValueError(f"{folder} has no films of {length} frames in every part: choose a shorter --length")

    def training(self, step: int) -> Batch:
        generator = torch.Generator().manual_seed(self.seed * 1_000_003 + step)
        known = self.parts["train"]
        rows = torch.randint(len(known), (self.count,), generator=generator).tolist()
        return Batch(*(torch.stack(each) for each in zip(*(known[row] for row in rows), strict=True)))

    def held_out(self, part: str) -> Iterator[Batch]:
        for begin in range(0, len(self.parts[part]), HELD_OUT):
            rows = self.parts[part][begin : begin + HELD_OUT]
            yield Batch(*(torch.stack(each) for each in zip(*rows, strict=True)))

    def show(self, network: SequenceNetwork, generator: torch.Generator) -> str:
        known = self.parts["validation"]
        frames, targets = known[torch.randint(len(known), (), generator=generator)]
        return compared(network, Batch(frames[None], targets[None]), self.outputs)


def way(moved: Tensor) -> Tensor:
    """Directions (N,) int64, indices of WAYS, of displacements (N, 2) along and down, in pixels."""
    return 2 * (moved[:, 1] > 0).long() + (moved[:, 0] > 0).long()


def compared(network: SequenceNetwork, batch: Batch, outputs: tuple[str, ...]) -> str:
    """What the network says of each frame of films (B, T, C, H, W), with what is right where that differs."""
    found = network(batch.inputs.to(network.device))[0].argmax(2).cpu()
    lines = []
    for said, right in zip(found.tolist(), batch.targets.tolist(), strict=True):
        pairs = [(a, b) for a, b in zip(said, right, strict=True) if b != IGNORE]
        lines.append(", ".join(outputs[a] if a == b else f"{outputs[a]} (is {outputs[b]})" for a, b in pairs))
    return "\n".join(lines)


def films(images: annotated.AnnotatedImages) -> list[list[int]]:
    """Indices of the images of each film, in their order."""
    names = [str(each.path) for each in images.annotations]
    parsed = [re.fullmatch(r"(.*?)(\d+)(\D*)", name) for name in names]
    keys = [(found[1], int(found[2])) if found else (name, 0) for found, name in zip(parsed, names, strict=True)]
    order = sorted(range(len(names)), key=lambda row: keys[row])
    found = [[order[0]]] if order else []
    for before, row in pairwise(order):
        if keys[before][0] == keys[row][0]:
            found[-1].append(row)
        else:
            found.append([row])
    return found


def _cut(
    images: annotated.AnnotatedImages, film: list[int], label: int, length: int, size: int
) -> list[tuple[Tensor, Tensor]]:
    """Parts of a film, `length` frames each: frames (T, 3, size, size) uint8 and classes (T,)."""
    parts = []
    for begin in range(0, len(film) - length + 1, length):
        frames, centers = [], []
        for row in film[begin : begin + length]:
            sample = images[row]
            image = F.interpolate(sample.image[None].float(), (size, size), mode="area")[0]
            frames.append(image.round().byte())
            boxes = sample.target.boxes[sample.target.labels == label]
            centers.append((boxes[0, :2] + boxes[0, 2:]) / 2 if len(boxes) else None)
        classes = [IGNORE]
        for before, now in pairwise(centers):
            moved = None if before is None or now is None else now - before
            gone = moved is None or not moved.any()
            classes.append(len(WAYS) if gone else int(way(moved[None])))
        parts.append((torch.stack(frames), torch.tensor(classes)))
    return parts
