"""Feature maps of a backbone for pictures of any size, and the flags that choose the backbone and its stages."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import torch
from torch import Tensor

import runs
from runs.flag_types import Count, Whole
from vision import backbones
from vision.classification import stage_features
from vision.data.image_files import read_image, read_whole


@dataclasses.dataclass(frozen=True)
class FeatureFlags:
    """The backbone whose features are compared, and where it is calculated."""

    backbone: str  # a run's folder, or name:weights, as vgg19:imagenet or vgg19:path/to/vgg19.pth
    size: Count = 128  # pixels: the shorter side of the picture
    device: str = "auto"  # auto, cpu, cuda, mps
    threads: Whole = 0  # of torch on the CPU; 0: as many as cores are free at the start
    seed: int = 1  # of random numbers


def load(config: FeatureFlags) -> tuple[backbones.Backbone, torch.device]:
    """The frozen backbone for pictures, in color, in gray or for stacks of frames as its weights are, and its device.

    Raises ValueError as `frozen`.
    """
    device = runs.prepare(config.device, config.seed, config.threads)
    return frozen(config.backbone).to(device), device


def frozen(name: str) -> backbones.Backbone:
    """The frozen backbone of a run's folder, or of name:weights, for pictures.

    Raises ValueError where dense layers in it fix the images' size, where it takes vectors, and for random weights.
    """
    if name in backbones.BACKBONES:
        raise ValueError(f"{name} has random weights: name a run's folder, or {name}:FILE")
    if Path(name).exists():
        backbone = backbones.load(name, frozen=True)
    else:
        backbone = stage_features.load(name, (3, 224, 224))
    if not backbone.any_size:
        raise ValueError(f"{backbone.spec['name']} takes images of {backbone.shape} only: choose a convolutional one")
    return backbone


def fitted(picture: Tensor, backbone: backbones.Backbone) -> Tensor:
    """A picture (B, 3, H, W) of floats with the channels that a backbone takes: their mean, repeated, unless it is 3.

    A stack of frames, as agents see them, is one in which nothing moves.
    """
    channels = backbone.shape[0]
    return picture if channels == 3 else picture.mean(1, keepdim=True).repeat(1, channels, 1, 1)


def read(path: Path, config: FeatureFlags, backbone: backbones.Backbone, square: bool = False) -> Tensor:
    """A picture file as floats (1, C, H, W) from 0 to 1, its shorter side `size` pixels.

    square: cut to its middle. Of a backbone that takes one size alone (Backbone.one_size) it has that size.
    Raises ValueError where it is no image, or smaller than the backbone needs.
    """
    if backbone.one_size:
        picture = read_whole(path)[None] / 255
        sides = list(backbone.shape[1:])
        picture = torch.nn.functional.interpolate(picture, sides, mode="bilinear", antialias=True)
    elif square:
        picture = read_image(path, config.size)[None] / 255
    else:
        picture = read_whole(path)[None] / 255
        least = config.size / min(picture.shape[2:])
        sides = [max(round(side * least), 1) for side in picture.shape[2:]]
        picture = torch.nn.functional.interpolate(picture, sides, mode="bilinear", antialias=True)
    if config.size < backbone.smallest and not backbone.one_size:
        raise ValueError(
            f"--size {config.size}: the smallest image of {backbone.spec['name']} is {backbone.smallest}"
        )
    return fitted(picture, backbone).to(next(backbone.parameters()).device)


def stages(chosen: tuple[int, ...], backbone: backbones.Backbone) -> tuple[int, ...]:
    """Stages from 0, of flags that may count from the end; none: all. Raises ValueError for one that is not there."""
    count = len(backbone.channels)
    if wrong := [stage for stage in chosen if not -count <= stage < count]:
        raise ValueError(f"there is no stage {wrong[0]} of {count}: from 0 to {count - 1}, or -1, the last")
    return tuple(stage % count for stage in chosen) or tuple(range(count))
