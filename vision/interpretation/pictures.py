"""Pictures of attributions and of learned images: heat maps over images, and sheets of rows and columns."""

from __future__ import annotations

import io
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from runs import output
from runs.printing import printable

COVER = 0.6  # opacity of the largest value of a heat map
PERCENTILE = 99.5  # of a map's values, which is shown as the largest: single pixels do not darken all others


def as_bytes(images: Tensor) -> Tensor:
    """Images (..., C, H, W), floats from 0 to 1, as uint8; uint8 as it is."""
    return images if images.dtype == torch.uint8 else (images.detach().clamp(0, 1) * 255).round().byte()


def in_color(image: Tensor | np.ndarray) -> np.ndarray:
    """An image (C, H, W), uint8 or floats from 0 to 1, as (H, W, 3) uint8; of a stack of frames the last one."""
    pixels = as_bytes(torch.as_tensor(image)).cpu().movedim(0, -1).numpy()
    return pixels if pixels.shape[2] == 3 else pixels[:, :, -1:].repeat(3, 2)


def normalized(maps: Tensor) -> Tensor:
    """Maps (B, H, W), not negative, each divided by its 99.5th percentile, at most 1. Zeros stay zeros."""
    flat = maps.detach().float().flatten(1)
    top = torch.quantile(flat, PERCENTILE / 100, dim=1).clamp(min=0)
    top = torch.where(top > 0, top, flat.amax(1)).clamp(min=1e-30)
    return (maps / top[:, None, None]).clamp(0, 1)


def overlay(image: np.ndarray, map: np.ndarray) -> np.ndarray:
    """An image (H, W, 3) uint8 under a map (h, w) from 0 to 1 of any size, yellow to red where it is high."""
    from matplotlib import colormaps

    down, across = (np.arange(long) * short // long for long, short in zip(image.shape[:2], map.shape, strict=True))
    level = map[down[:, None], across]
    color = colormaps["inferno"](level)[:, :, :3] * 255
    cover = COVER * np.sqrt(level)[:, :, None]
    return (image * (1 - cover) + color * cover).astype(np.uint8)


def signed(attribution: Tensor) -> Tensor:
    """An attribution (B, C, H, W) as images around gray, each divided by its 99.5th percentile of magnitudes."""
    shape = attribution.shape
    top = normalized(attribution.abs().flatten(1)[:, None])[:, 0].view(shape)
    return 0.5 + 0.5 * top * attribution.sign()


def draw_sheet(
    rows: Sequence[Sequence[Tensor | np.ndarray]],
    titles: Sequence[Sequence[str]],
    path: Path,
    flag: str = "--out",
    title: str = "",
    side: float = 1.4,
) -> None:
    """Write a sheet of pictures: rows of images (C, H, W), or (H, W, 3) as arrays. side: inches of one.

    titles: of each picture of each row, by its place; "" for none. flag: of the program, for another place.
    """
    from matplotlib.figure import Figure

    columns = max(map(len, rows))
    size = (side * columns, (side + 0.22) * len(rows) + (0.35 if title else 0.05))
    figure = Figure(figsize=size, layout="constrained")
    panels = figure.subplots(len(rows), columns, squeeze=False)
    for panel in panels.flat:
        panel.axis("off")
    for line, pictures, words in zip(panels, rows, titles, strict=True):
        for panel, picture, text in zip(line, pictures, words, strict=False):
            panel.imshow(picture if isinstance(picture, np.ndarray) else in_color(picture), interpolation="nearest")
            panel.set_title(printable(text), fontsize=7, pad=2, parse_math=False)
    if title:
        figure.suptitle(printable(title), fontsize=9)
    output.draw(path, figure, flag, dpi=130)


def save(image: Tensor, path: Path, flag: str = "--out") -> None:
    """Write an image (C, H, W), uint8 or floats from 0 to 1, as a file. flag: of the program, for another place."""
    from PIL import Image

    file = io.BytesIO()
    Image.fromarray(in_color(image)).save(file, format=path.suffix.lstrip(".").replace("jpg", "jpeg") or "png")
    output.write(path, file.getvalue(), flag)
