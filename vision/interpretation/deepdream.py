"""DeepDream: a picture in which a network's maps are amplified, from coarse to fine octaves.

    python -m vision.interpretation.deepdream results/cifar10/classification-1 clouds.jpg --stage 2
    python -m vision.interpretation.deepdream results/Pong/dqn-1 observations/frame-0000.png --stage 1    # an agent
    python -m vision.interpretation.deepdream googlenet:imagenet clouds.jpg --octaves 6 --film

Mordvintsev, Olah & Tyka 2015, "Inceptionism: going deeper into neural networks", and their notebook: gradient ascent
on half the squared length of a stage's map, with gradients of mean magnitude 1 and random shifts (jitter). It begins
on the picture made small; from octave to octave it is enlarged, and what the ascent has added is carried along.
--film goes on from the result, enlarged a little each time.
"""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Annotated

import numpy as np
import torch
import tyro
from torch import Tensor
from torch.nn import functional as F

import runs
from runs import output
from runs.flag_types import Count, Positive, Whole
from runs.printing import printable
from vision import backbones
from vision.interpretation import features, pictures
from vision.interpretation.gradient_ascent import gradient_of, mean_magnitude

FPS = 15  # frames a second of the film


@dataclasses.dataclass(frozen=True)
class Config(features.FeatureFlags):
    backbone: Annotated[str, tyro.conf.Positional] = ""  # a run's folder, or name:weights
    picture: Annotated[Path | None, tyro.conf.Positional] = None  # an image file; None: noise
    stage: int = -1  # whose map is amplified, from 0 or from the end
    channel: int | None = None  # this one of its channels alone
    octaves: Count = 4  # sizes of the picture
    octave_factor: Positive = 1.4  # between two of them
    ascent_steps: Count = 10  # an octave
    step_size: Positive = 0.006  # of pixels from 0 to 1, for a gradient of mean magnitude 1: 1.5 of 255
    jitter: Whole = 16  # pixels, by which the picture is shifted at random before each step, at most
    film: Whole = 0  # frames of a zoom into the dream; 0: no film
    zoom: Positive = 1.04  # enlargement from frame to frame
    out: Path = Path("deepdream.png")  # where the picture goes; the film lies beside it as .mp4


def dream(backbone: backbones.Backbone, picture: Tensor, config: Config, generator: torch.Generator) -> Tensor:
    """A picture (1, C, H, W), floats from 0 to 1, with a stage's map amplified in every octave.

    Octaves of sizes that the backbone does not take are left out.
    """
    (stage,) = features.stages((config.stage,), backbone)

    def score(images: Tensor) -> Tensor:
        map = backbone(images)[stage]
        map = map if config.channel is None else map[:, config.channel : config.channel + 1]
        return map.square().sum((1, 2, 3)) / 2

    full, detail = picture, None
    for octave in reversed(range(config.octaves)):
        size = [round(side / config.octave_factor**octave) for side in full.shape[2:]]
        if min(size) < backbone.smallest or (backbone.one_size and octave):
            continue
        base = resized(full, size)
        image = base if detail is None else (base + resized(detail, size)).clamp(0, 1)
        for _ in range(config.ascent_steps):
            reach = min(config.jitter, min(size) // 4)
            shift = torch.randint(-reach, reach + 1, (2,), generator=generator).tolist()
            image = image.roll(shift, (2, 3))
            gradient = gradient_of(score, image)
            image = (image + config.step_size * gradient / mean_magnitude(gradient)).clamp(0, 1)
            image = image.roll([-each for each in shift], (2, 3))
        detail = image - base
    if detail is None:
        raise ValueError(
            f"a picture of {tuple(full.shape[2:])} is smaller than {backbone.smallest}: choose a larger --size"
        )
    return image


def resized(picture: Tensor, size: list[int]) -> Tensor:
    """A picture (B, C, H, W) of (B, C, *size), bilinear, averaged where it becomes smaller."""
    return F.interpolate(picture, size, mode="bilinear", antialias=True)


def zoomed(picture: Tensor, factor: float) -> Tensor:
    """The middle of a picture (B, C, H, W), enlarged by a factor to its size."""
    size = list(picture.shape[2:])
    inner = [max(round(side / factor), 1) for side in size]
    top, left = ((side - small) // 2 for side, small in zip(size, inner, strict=True))
    return resized(picture[:, :, top : top + inner[0], left : left + inner[1]], size)


def main(config: Config) -> None:
    if not config.backbone:
        raise ValueError("name the folder of a run, or published weights as googlenet:imagenet")
    backbone, device = features.load(config)
    generator = torch.Generator().manual_seed(config.seed)
    if config.picture:
        picture = features.read(config.picture, config, backbone)
    else:
        size = backbone.shape[1:] if backbone.one_size else (config.size, config.size)
        noise = torch.rand(1, backbone.shape[0], *size, generator=generator)
        picture = (0.5 + 0.2 * (noise - 0.5)).to(device)
    (stage,) = features.stages((config.stage,), backbone)
    if config.channel is not None and not 0 <= config.channel < backbone.channels[stage]:
        raise ValueError(f"stage {stage} has no --channel {config.channel}: from 0 to {backbone.channels[stage] - 1}")
    found = dream(backbone, picture, config, generator)
    pictures.save(found[0], config.out)
    print(printable(f"written to {config.out}"))
    if config.film:
        import imageio.v3 as imageio

        frames = []
        for _ in range(config.film):
            frames.append(pictures.in_color(found[0]))
            found = dream(backbone, zoomed(found, config.zoom), config, generator)
        path = config.out.with_suffix(".mp4")
        even = np.stack([frame[: len(frame) // 2 * 2, : frame.shape[1] // 2 * 2] for frame in frames])
        with output.writing(path, "--out"):
            imageio.imwrite(path, even, fps=FPS, codec="libx264", macro_block_size=2)
        print(printable(f"written to {path}"))


if __name__ == "__main__":
    runs.launch(main, Config, None, "vision.interpretation.deepdream", __doc__)
