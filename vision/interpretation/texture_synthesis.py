"""Texture synthesis: a larger piece of a texture from a small one, by neighborhoods or by Gram matrices.

    python -m vision.interpretation.texture_synthesis --sample bricks.jpg                            # Efros & Leung
    python -m vision.interpretation.texture_synthesis --sample bricks.jpg --method gram --backbone vgg19:imagenet

Efros & Leung 1999, "Texture synthesis by non-parametric sampling": pixels are grown around a seed; each is the middle
of one of the sample's windows that are nearly as similar to its known neighbors as the most similar one. Gatys et al.
2015 (arXiv 1505.07376): from noise, a picture with the sample's Gram matrices in every stage of a network.
"""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Literal

import torch
from rich.console import Console
from rich.progress import Progress
from torch import Tensor
from torch.nn import functional as F

import runs
from runs.flag_types import Count, NonNegative
from runs.printing import printable
from vision import backbones
from vision.data.image_files import read_image
from vision.interpretation import features, gram, pictures

TOLERANCE = 0.1  # of the best window's error, that a window may have more: the authors' ErrThreshold
SEED_SIDE = 3  # pixels, of the piece of the sample that growth begins with


@dataclasses.dataclass(frozen=True)
class Config(features.FeatureFlags):
    backbone: str = ""  # of --method gram: a run's folder, or name:weights
    size: Count = 48  # pixels, side of the sample
    sample: Path | None = None  # the picture of the texture; None: drawn bricks
    method: Literal["neighbors", "gram"] = "neighbors"  # Efros & Leung, or Gatys et al.
    output_side: Count = 72  # pixels, of what is synthesized
    window: Count = 11  # pixels, of a neighborhood, odd: as large as the texture's elements
    stages: tuple[int, ...] = ()  # of the backbone; none: all of them
    evaluations: Count = 400  # of the loss and its gradient
    tolerance: NonNegative = TOLERANCE  # of the best window's error
    out: Path = Path("texture.png")  # where the picture goes


def grow(
    sample: Tensor,
    side: int,
    window: int,
    generator: torch.Generator,
    tolerance: float = TOLERANCE,
    progress: bool = False,
) -> Tensor:
    """A texture (C, side, side) grown from a sample (C, h, w), floats from 0 to 1. Efros & Leung 1999, section 2.

    Every pixel is one of the sample's. The error of a window is the sum over known pixels of squared differences,
    weighted by a Gaussian of deviation window / 6.4.
    Raises ValueError for an even window, or one larger than the sample.
    """
    channels, half = len(sample), window // 2
    if window % 2 == 0 or window > min(sample.shape[1:]):
        raise ValueError(
            f"a window of {window} pixels is to be odd, and at most the sample's {min(sample.shape[1:])}"
        )
    windows = F.unfold(sample[None], window)[0].T.contiguous()  # (n, C * window^2)
    squares = windows.square()
    middles = windows.view(len(windows), channels, -1)[:, :, window * window // 2]
    steps = (torch.arange(window) - half).float()
    weight = torch.exp(-0.5 * (steps / (window / 6.4)).square())
    weight = (weight[:, None] * weight).to(sample)
    padded = sample.new_zeros(channels, side + 2 * half, side + 2 * half)
    known = sample.new_zeros(side + 2 * half, side + 2 * half)
    begin = half + side // 2 - SEED_SIDE // 2
    top, left = (int(torch.randint(0, long - SEED_SIDE + 1, (), generator=generator)) for long in sample.shape[1:])
    seed = (slice(begin, begin + SEED_SIDE),) * 2
    padded[:, *seed] = sample[:, top : top + SEED_SIDE, left : left + SEED_SIDE]
    known[seed] = 1
    inside = torch.zeros_like(known)
    inside[half : half + side, half : half + side] = 1
    with Progress(transient=True, disable=not (progress and Console().is_terminal)) as bar:
        task = bar.add_task("texture", total=side * side)
        while ((known == 0) & (inside > 0)).any():
            for row, column in _frontier(known, inside, generator):
                place = (slice(row - half, row + half + 1), slice(column - half, column + half + 1))
                weights = (weight * known[place]).flatten().repeat(channels)
                about = padded[:, *place].flatten()
                errors = squares @ weights - 2 * (windows @ (weights * about)) + (weights * about.square()).sum()
                errors = errors / weights.sum()
                near = (errors <= errors.min().clamp(min=0) * (1 + tolerance) + 1e-9).nonzero()[:, 0]
                chosen = near[int(torch.randint(0, len(near), (), generator=generator))]
                padded[:, row, column] = middles[chosen]
                known[row, column] = 1
                bar.advance(task)
    return padded[:, half : half + side, half : half + side]


def _frontier(known: Tensor, inside: Tensor, generator: torch.Generator) -> list[list[int]]:
    """The unknown places that touch known ones, those with the most known neighbors first, equals in random order."""
    neighbors = F.conv2d(known[None, None], torch.ones(1, 1, 3, 3).to(known), padding=1)[0, 0]
    places = ((neighbors > 0) & (known == 0) & (inside > 0)).nonzero()
    places = places[torch.randperm(len(places), generator=generator).to(places.device)]
    order = neighbors[places[:, 0], places[:, 1]].argsort(descending=True, stable=True)
    return places[order].tolist()


def from_gram(
    backbone: backbones.Backbone, sample: Tensor, side: int, stages: tuple[int, ...], evaluations: int, seed: int
) -> tuple[Tensor, float]:
    """A texture (1, C, side, side) with the Gram matrices of a sample (1, C, h, w), and the part of noise's loss
    left.

    Each stage's loss is divided by that of the noise from which it starts.
    """
    wanted = gram.textures(backbone, sample, stages)
    generator = torch.Generator().manual_seed(seed)
    noise = torch.rand(1, sample.shape[1], side, side, generator=generator).to(sample)

    def each(picture: Tensor) -> list[Tensor]:
        maps = backbone(picture)
        return [gram.style_loss(maps[s], target).sum() for s, target in zip(stages, wanted, strict=True)]

    with torch.no_grad():
        first = [max(loss.item(), 1e-12) for loss in each(noise)]

    def mean(picture: Tensor) -> Tensor:
        return sum(loss / start for loss, start in zip(each(picture), first, strict=True)) / len(first)

    found, _ = gram.optimize(mean, noise, evaluations)
    with torch.no_grad():
        return found, mean(found).item()


def bricks(side: int, seed: int) -> Tensor:
    """A drawn wall of bricks (3, side, side), floats from 0 to 1."""
    generator = torch.Generator().manual_seed(seed)
    rows, columns = torch.arange(side)[:, None], torch.arange(side)[None]
    course = rows // 6
    shifted = columns + 5 * (course % 2)
    joint = (rows % 6 == 0) | (shifted % 10 == 0)
    tint = torch.rand(side // 6 + 2, side // 10 + 3, generator=generator)[course, shifted // 10]
    color = torch.stack([0.55 + 0.25 * tint, 0.25 + 0.15 * tint, 0.18 + 0.1 * tint])
    picture = torch.where(joint, torch.tensor(0.75), color)
    return (picture + 0.03 * torch.randn(3, side, side, generator=generator)).clamp(0, 1)


def main(config: Config) -> None:
    if config.method == "gram":
        if not config.backbone:
            raise ValueError(
                "--method gram compares features: name a --backbone, as vgg19:imagenet or a run's folder"
            )
        backbone, device = features.load(config)
        sample = bricks(config.size, config.seed)[None].to(device)
        sample = sample.mean(1, keepdim=True) if backbone.shape[0] == 1 else sample
        if config.sample:
            sample = features.read(config.sample, config, backbone, square=True)
        stages = features.stages(config.stages, backbone)
        found, left = from_gram(backbone, sample, config.output_side, stages, config.evaluations, config.seed)
        found, sample, said = found[0], sample[0], f"Gram matrices: {100 * left:.2f}% of noise's loss left"
    else:
        runs.prepare("cpu", config.seed, config.threads)
        sample = read_image(config.sample, config.size) / 255 if config.sample else bricks(config.size, config.seed)
        generator = torch.Generator().manual_seed(config.seed)
        found = grow(sample, config.output_side, config.window, generator, config.tolerance, progress=True)
        said = f"neighborhoods of {config.window} x {config.window}"
    pictures.draw_sheet([[sample, found]], [["sample", said]], config.out, side=3)
    print(printable(f"{said}; written to {config.out}"))


if __name__ == "__main__":
    runs.launch(main, Config, None, "vision.interpretation.texture_synthesis", __doc__)
