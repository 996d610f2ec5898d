"""Pictures of glimpses: a film, and a sheet of them side by side.

Both take a rollout over B images: images (B, C, H, W) in [0, 1], locations (T, B, 2) in [-1, 1], the answers
(B, digits) and the true labels (B, digits).
"""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from envs import glimpse
from runs import files

SIDE = 112  # pixels, about, of an image in a picture
GAP = 6  # pixels between two
SECOND = 1_000  # milliseconds
GRAY = 200  # between them
PATH, RIGHT, WRONG = (255, 200, 0), (40, 160, 70), (210, 50, 40)  # colors


def film(
    path: Path, images: Tensor, locations: Tensor, answers: Tensor, labels: Tensor, retina: glimpse.Retina
) -> None:
    """Write a gif of B images: a glimpse every half second, then right answers framed in green, wrong ones in red.

    images: (B, C, H, W) in [0, 1]. locations: (T, B, 2). answers, labels: (B, digits)."""
    import imageio.v3 as imageio

    columns = math.ceil(math.sqrt(len(images)))
    frames = []
    for t in range(len(locations) + 1):
        stills = [_still(image, places, t, retina) for image, places in zip(images, locations.unbind(1), strict=True)]
        if t == len(locations):
            stills = [_bordered(s, ok) for s, ok in zip(stills, (answers == labels).all(1).tolist(), strict=True)]
        frames.append(_grid(stills, columns))
    path.parent.parent.mkdir(parents=True, exist_ok=True)
    files.new(path)
    durations = [SECOND // 2] * len(locations) + [3 * SECOND // 2]
    imageio.imwrite(path, np.stack(frames), duration=durations, loop=0)


def sheet(
    path: Path, images: Tensor, locations: Tensor, answers: Tensor, labels: Tensor, retina: glimpse.Retina
) -> None:
    """Write a png with a row for each image: its glimpses from left to right, and below each its patches.

    images: (B, C, H, W) in [0, 1]. locations: (T, B, 2). answers, labels: (B, digits)."""
    from matplotlib.figure import Figure

    seen = torch.stack([retina.extract(retina.prepare(images), place) for place in locations])  # (T, B, S * C, s, s)
    rows = []
    for b in range(len(images)):
        stills = [_still(images[b], locations[:, b], t, retina) for t in range(len(locations))]
        patches = [_patches(patch, retina, stills[0].shape[1]) for patch in seen[:, b]]
        rows.append(np.concatenate([_grid(stills, len(stills)), _grid(patches, len(patches))]))
    picture = _grid(rows, 1)
    height, width = picture.shape[:2]
    figure = Figure(figsize=(width / 100 + 1.6, height / 100 + 0.4), layout="constrained")
    axes = figure.add_subplot()
    axes.imshow(picture)
    axes.axis("off")
    for b, (answer, label) in enumerate(zip(answers.tolist(), labels.tolist(), strict=True)):
        color = np.array(RIGHT if answer == label else WRONG) / 255
        said, truth = (" ".join(map(str, names)) for names in (answer, label))
        text = f"answer {said}" + ("" if answer == label else f", true {truth}")
        axes.text(width + GAP, (b + 0.5) * height / len(images), text, color=color, va="center")
    for t in range(len(locations)):
        axes.text((t + 0.5) * width / len(locations), -GAP, f"glimpse {t + 1}", ha="center", fontsize=8)
    path.parent.parent.mkdir(parents=True, exist_ok=True)
    files.new(path)
    figure.savefig(path, dpi=100)


def _still(image: Tensor, places: Tensor, step: int, retina: glimpse.Retina) -> np.ndarray:
    """An image (h, w, 3) uint8 with the windows of a glimpse and the way that led there; at the end, only the way."""
    pixels = (image * 255).byte().cpu().numpy()
    zoom = max(1, round(SIDE / pixels.shape[2]))
    places = places.cpu().numpy()
    if step < len(places):
        picture = glimpse.framed(pixels, places[step], retina.size, retina.scales, zoom)
    else:
        picture = glimpse.framed(pixels, places[-1], 0, 0, zoom)
    height, width = picture.shape[:2]
    points = (places[: step + 1] + 1) / 2 * (width - 1, height - 1)
    for begin, end in zip(points[:-1], points[1:], strict=True):
        x, y = np.rint(np.linspace(begin, end, 2 * max(height, width))).astype(int).T
        picture[y, x] = PATH
    for x, y in np.rint(points).astype(int):
        picture[max(y - 2, 0) : y + 2, max(x - 2, 0) : x + 2] = PATH
    return picture


def _patches(seen: Tensor, retina: glimpse.Retina, width: int) -> np.ndarray:
    """What the retina saw (S * C, s, s), its scales side by side in a strip (h, width, 3) uint8."""
    each = (width - GAP * (retina.scales - 1)) // retina.scales
    zoom = max(1, min(each, SIDE // 2) // retina.size)
    strip = np.full((zoom * retina.size, width, 3), GRAY, np.uint8)
    left = (width - retina.scales * (zoom * retina.size + GAP) + GAP) // 2
    for patch in (seen.clamp(0, 1) * 255).byte().cpu().numpy().reshape(retina.scales, -1, retina.size, retina.size):
        pixels = np.broadcast_to(patch, (3, *patch.shape[1:])).transpose(1, 2, 0).repeat(zoom, 0).repeat(zoom, 1)
        strip[:, left : left + pixels.shape[1]] = pixels
        left += pixels.shape[1] + GAP
    return strip


def _bordered(picture: np.ndarray, right: bool) -> np.ndarray:
    """The picture with a border, green or red."""
    picture = picture.copy()
    for edge in (np.s_[:4], np.s_[-4:], np.s_[:, :4], np.s_[:, -4:]):
        picture[edge] = RIGHT if right else WRONG
    return picture


def _grid(pictures: list[np.ndarray], columns: int) -> np.ndarray:
    """Pictures of one size, row by row on gray."""
    height, width = pictures[0].shape[:2]
    rows = -(-len(pictures) // columns)
    canvas = np.full((rows * (height + GAP) - GAP, columns * (width + GAP) - GAP, 3), GRAY, np.uint8)
    for n, picture in enumerate(pictures):
        top, left = n // columns * (height + GAP), n % columns * (width + GAP)
        canvas[top : top + height, left : left + width] = picture
    return canvas
