"""Pictures of generated images: grids, and a film of the samples of a training."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

import runs

LEAST = 320  # pixels, shorter side of a picture: small images are enlarged by a whole factor
FPS = 4  # frames of a film a second


def grid(images: Tensor, columns: int = 0, gap: int = 2) -> np.ndarray:
    """A picture (H, W, 3) uint8 of images (N, C, H, W) from 0 to 1 in rows. columns: 0 for as many as rows."""
    count, channels, tall, wide = images.shape
    columns = columns or math.ceil(math.sqrt(count))
    rows = math.ceil(count / columns)
    page = torch.ones(3, rows * (tall + gap) + gap, columns * (wide + gap) + gap)
    shown = images.detach().float().cpu().clamp(0, 1)
    for index, image in enumerate(shown if channels == 3 else shown[:, -1:].expand(-1, 3, -1, -1)):
        row, column = divmod(index, columns)
        top, left = gap + row * (tall + gap), gap + column * (wide + gap)
        page[:, top : top + tall, left : left + wide] = image
    factor = max(1, math.ceil(LEAST / min(page.shape[1:])))
    pixels = (page * 255).round().byte().permute(1, 2, 0).numpy()
    return pixels.repeat(factor, 0).repeat(factor, 1)


def paired(images: Tensor, others: Tensor, columns: int = 10) -> np.ndarray:
    """A picture (H, W, 3) of images (N, C, H, W), each row above the row of what was made of them, of equal shape."""
    rows = []
    for some, made in zip(images.split(columns), others.split(columns), strict=True):
        blank = some.new_ones(columns - len(some), *some.shape[1:])
        rows += [some, blank, made, blank]
    return grid(torch.cat(rows), columns)


def write(picture: np.ndarray, path: Path) -> None:
    """Write a picture (H, W, 3) uint8 as a PNG file."""
    from PIL import Image

    Image.fromarray(picture).save(path, format="png")


def film_samples(run: runs.Run) -> None:
    """Write the pictures of all evaluations in a run's samples/ as a film in its videos/."""
    pictures = sorted((run.folder / "samples").glob("*.png"))
    if len(pictures) > 1:
        with run.side_task("film"), run.writing(f"videos/step-{run.step + run.stride}.mp4") as path:
            film(pictures, path)


def film(pictures: Sequence[Path], path: Path, fps: int = FPS) -> None:
    """Write pictures of equal size as an .mp4, the last of them for two seconds."""
    import imageio.v3 as imageio

    frames = [np.asarray(imageio.imread(each)) for each in pictures]
    frames += [frames[-1]] * (2 * fps)
    even = [frame[: frame.shape[0] // 2 * 2, : frame.shape[1] // 2 * 2] for frame in frames]
    imageio.imwrite(path, np.stack(even), extension=".mp4", fps=fps, codec="libx264", macro_block_size=2)
