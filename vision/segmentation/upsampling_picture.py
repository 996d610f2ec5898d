"""Ways of upsampling side by side: an image, reduced by max pooling and brought back by each of them.

    python -m vision.segmentation.upsampling_picture                          # a drawn scene
    python -m vision.segmentation.upsampling_picture --image photo.jpg --factor 8 --out upsampling.png

Nearest neighbor, bed of nails, max-unpooling, transposed convolution with a fixed bilinear kernel and with one that
some steps of Adam have fitted to the picture: see upsampling.py. Their squared errors to the image are beside them.
"""

from __future__ import annotations

import dataclasses
from pathlib import Path

import torch
from torch import Tensor

import runs
from runs import output
from runs.flag_types import Count
from vision.data import scenes
from vision.data.image_files import read_whole
from vision.segmentation import upsampling

STEPS = 200  # of Adam, for the learned kernel


def restored(image: Tensor, factor: int) -> dict[str, Tensor]:
    """An image (C, H, W) in [0, 1], max-pooled and upsampled in every way: by their names, (C, H', W') each.

    H and W are cut to multiples of `factor`.
    """
    size = tuple(side // factor * factor for side in image.shape[1:])
    image = image[None, :, : size[0], : size[1]]
    small, places = upsampling.max_pool(image, factor)
    channels = image.shape[1]
    found = {"image": image, "max-pooled": small, "nearest": upsampling.nearest(small, factor)}
    found["bed of nails"] = upsampling.bed_of_nails(small, factor)
    found["max-unpooling"] = upsampling.max_unpool(small, places, size)
    found["transposed convolution, bilinear"] = upsampling.TransposedConvolution(channels, factor, False)(small)
    learned = upsampling.TransposedConvolution(channels, factor)
    optimizer = torch.optim.Adam(learned.parameters(), 1e-3)
    for _ in range(STEPS):
        optimizer.zero_grad()
        (learned(small) - image).square().mean().backward()
        optimizer.step()
    found["transposed convolution, learned"] = learned(small)
    return {name: each[0].detach().clamp(0, 1) for name, each in found.items()}


def draw(found: dict[str, Tensor], path: Path) -> None:
    """Draw images (C, H, W) in [0, 1] beside each other, with their names and their squared error to the first."""
    from matplotlib.figure import Figure

    columns = (len(found) + 1) // 2
    figure = Figure(figsize=(3.2 * columns, 7), layout="constrained")
    axes = figure.subplots(2, columns, squeeze=False).flatten()
    image = found["image"]
    for axis in axes:
        axis.axis("off")
    for axis, (name, each) in zip(axes, found.items(), strict=False):
        axis.imshow(each.permute(1, 2, 0).numpy(), interpolation="nearest")
        same = name != "image" and each.shape == image.shape
        error = f"\nsquared error {(each - image).square().mean():.4f}" if same else ""
        axis.set_title(f"{name}{error}", fontsize=9)
    output.draw(path, figure, "--out", dpi=100)


@dataclasses.dataclass(frozen=True)
class Config:
    image: Path | None = None  # a file; None: a drawn scene
    factor: Count = 4  # pixels of a side that become one
    seed: int = 1  # of the scene
    out: Path = Path("upsampling.png")  # where the picture goes


def main(config: Config) -> None:
    torch.manual_seed(config.seed)
    image = read_whole(config.image) if config.image else scenes.Scenes(1, config.seed)[0].image
    if min(image.shape[1:]) < 2 * config.factor:
        raise ValueError(f"--factor {config.factor} is too large for an image of {tuple(image.shape[1:])} pixels")
    draw(restored(image / 255, config.factor), config.out)
    print(f"drawn in {config.out}")


if __name__ == "__main__":
    runs.launch(main, Config, None, "vision.segmentation.upsampling_picture", __doc__)
