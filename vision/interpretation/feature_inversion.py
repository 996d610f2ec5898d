"""Feature inversion: images with the same maps as a given one, for every stage of a network.

    python -m vision.interpretation.feature_inversion results/cifar10/classification-1 cat.jpg dog.jpg

Mahendran & Vedaldi 2014 (arXiv 1412.0035): from noise, the image whose map is that of the given one, by gradient
descent on the relative squared distance of the maps, plus total variation and a high power of the distance to gray,
which keeps pixels in their range. What an image looks like after a deep stage shows what the stage has kept of it.

Deviation from the paper: Adam takes the place of gradient descent with momentum, and pixels are clamped.
"""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Annotated

import torch
import tyro
from torch import Tensor

import runs
from runs.flag_types import Count, NonNegative, Positive
from runs.printing import printable
from vision import backbones
from vision.interpretation import features, pictures
from vision.interpretation.gradient_ascent import GRAY, total_variation

POWER = 6  # of the distance to gray: alpha of the paper


@dataclasses.dataclass(frozen=True)
class Config(features.FeatureFlags):
    backbone: Annotated[str, tyro.conf.Positional] = ""  # a run's folder, or name:weights
    files: Annotated[tuple[Path, ...], tyro.conf.Positional] = ()  # image files
    stages: tuple[int, ...] = ()  # from 0 or from the end; none: all of them
    updates: Count = 400  # of Adam
    learning_rate: Positive = 0.02
    variation: NonNegative = 0.5  # weight of the total variation, a pixel
    range_weight: NonNegative = 0.01  # of the mean of (2 x - 1)^6
    out: Path = Path("inversion.png")  # where the picture goes


def invert(backbone: backbones.Backbone, images: Tensor, stage: int, config: Config) -> tuple[Tensor, Tensor]:
    """Images (B, C, H, W) from 0 to 1 whose map of a stage is that of given ones, and the relative distance left
    (B,).

    images: (B, C, H, W) floats from 0 to 1. The distance is |map - wanted|^2 / |wanted|^2, equation 1's loss.
    """
    with torch.no_grad():
        wanted = backbone(images)[stage]
    size = wanted.square().sum((1, 2, 3)).clamp(min=1e-12)
    generator = torch.Generator().manual_seed(config.seed)
    noise = GRAY + 0.1 * torch.randn(images.shape, generator=generator)
    with torch.inference_mode(False), torch.enable_grad():
        found = noise.clamp(0, 1).to(images.device).requires_grad_()
        optimizer = torch.optim.Adam([found], config.learning_rate)
        for _ in range(config.updates):
            distance = (backbone(found)[stage] - wanted).square().sum((1, 2, 3)) / size
            rough = total_variation(found) / found[0, 0].numel()
            far = (2 * (found - GRAY)).pow(POWER).mean((1, 2, 3))
            loss = (distance + config.variation * rough + config.range_weight * far).sum()
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            with torch.no_grad():
                found.clamp_(0, 1)
        with torch.no_grad():
            distance = (backbone(found)[stage] - wanted).square().sum((1, 2, 3)) / size
    return found.detach(), distance.detach()


def main(config: Config) -> None:
    if not config.backbone or not config.files:
        raise ValueError("name the folder of a run (or published weights as vgg16:imagenet), and image files")
    backbone, _ = features.load(config)
    images = torch.cat([features.read(path, config, backbone, square=True) for path in config.files])
    columns, left = [list(images)], []
    stages = features.stages(config.stages, backbone)
    for stage in stages:
        found, distance = invert(backbone, images, stage, config)
        columns.append(list(found))
        left.append(distance.tolist())
        print(f"stage {stage}: {100 * distance.mean():.2f}% of the squared distance is left", flush=True)
    rows = [list(row) for row in zip(*columns, strict=True)]
    titles = [
        [path.stem, *(f"stage {stage}: {100 * each[row]:.1f}%" for stage, each in zip(stages, left, strict=True))]
        for row, path in enumerate(config.files)
    ]
    pictures.draw_sheet(rows, titles, config.out, side=1.8)
    print(printable(f"written to {config.out}"))


if __name__ == "__main__":
    runs.launch(main, Config, None, "vision.interpretation.feature_inversion", __doc__)
