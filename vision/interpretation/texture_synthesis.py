"""Texture synthesis: a larger piece of a texture from a small one, by neighborhoods or by Gram matrices.

    python -m vision.interpretation.texture_synthesis --sample bricks.jpg                       # Efros & Leung
    python -m vision.interpretation.texture_synthesis --sample bricks.jpg --method wei_levoy    # Wei & Levoy
    python -m vision.interpretation.texture_synthesis --sample bricks.jpg --method gram --backbone vgg19:imagenet

Efros & Leung 1999, "Texture synthesis by non-parametric sampling": pixels are grown around a seed; each is the middle
of one of the sample's windows that are nearly as similar to its known neighbors as the most similar one. Wei & Levoy
2000, "Fast texture synthesis using tree-structured vector quantization": row by row, and from coarse to fine, each
pixel is the one of the sample whose neighborhood in a Gaussian pyramid is nearest; the result can be tiled. Gatys et
al. 2015 (arXiv 1505.07376): from noise, a picture with the sample's Gram matrices in every stage of a network. Beside
the picture lie a page and a record, with the seconds it took and the losses of the Gram matrices.

Deviation from Wei & Levoy: the noise is of pixels of the sample, drawn at random, which makes the histograms equal.
"""

from __future__ import annotations

import dataclasses
import time
from pathlib import Path
from typing import Literal

import torch
from torch import Tensor

import runs
from runs import study_report
from runs.flag_types import Count, NonNegative
from runs.printing import printable
from vision import backbones
from vision.data.image_files import read_image
from vision.interpretation import features, gram, neighborhoods, pictures

PROGRAM = "vision.interpretation.texture_synthesis"
NOTE = "Sides are in pixels, seconds those of the processor for the synthesis. One sample, one seed."


@dataclasses.dataclass(frozen=True)
class Config(features.FeatureFlags):
    backbone: str = ""  # of --method gram: a run's folder, or name:weights
    size: Count = 48  # pixels, side of the sample
    sample: Path | None = None  # the picture of the texture; None: drawn bricks
    method: Literal["efros_leung", "wei_levoy", "gram"] = "efros_leung"
    output_side: Count = 72  # pixels, of what is synthesized
    window: Count = 11  # pixels, of a neighborhood, odd: as large as the texture's elements
    levels: Count = 2  # of wei_levoy: of the Gaussian pyramids
    tree: bool = False  # of wei_levoy: search a tree, which is faster for large samples and less exact
    stages: tuple[int, ...] = ()  # of gram: of the backbone; none: all of them
    evaluations: Count = 400  # of gram: of the loss and its gradient
    tolerance: NonNegative = neighborhoods.TOLERANCE  # of efros_leung: of the best window's error
    out: Path = Path("texture.png")  # where the picture goes


def from_gram(
    backbone: backbones.Backbone, sample: Tensor, side: int, stages: tuple[int, ...], evaluations: int, seed: int
) -> tuple[Tensor, dict[str, list[float]]]:
    """A texture (1, C, side, side) with the Gram matrices of a sample (1, C, h, w), and each stage's loss.

    The losses are those of gram.style_loss at the "start", of noise, and at the "end".

    What is minimized is the mean of the stages' losses, each divided by that of the noise.
    """
    wanted = gram.textures(backbone, sample, stages)
    generator = torch.Generator().manual_seed(seed)
    noise = torch.rand(1, sample.shape[1], side, side, generator=generator).to(sample)

    def each(picture: Tensor) -> Tensor:
        maps = backbone(picture)
        losses = [gram.style_loss(maps[s], target).sum() for s, target in zip(stages, wanted, strict=True)]
        return torch.stack(losses)

    with torch.no_grad():
        first = each(noise).clamp(min=1e-12)
    found, _ = gram.optimize(lambda picture: (each(picture) / first).mean(), noise, evaluations)
    with torch.no_grad():
        return found, {"start": first.tolist(), "end": each(found).tolist()}


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


def by_gram(config: Config) -> tuple[Tensor, Tensor, dict[str, object]]:
    """A sample (C, h, w), a texture with its Gram matrices (C, side, side), and the losses of each stage."""
    if not config.backbone:
        raise ValueError("--method gram compares features: name a --backbone, as vgg19:imagenet or a run's folder")
    backbone, device = features.load(config)
    if config.sample:
        sample = features.read(config.sample, config, backbone, square=True)
    else:
        sample = features.fitted(bricks(config.size, config.seed)[None], backbone).to(device)
    stages = features.stages(config.stages, backbone)
    found, losses = from_gram(backbone, sample, config.output_side, stages, config.evaluations, config.seed)
    return sample[0], found[0], {"backbone": backbone.spec["name"], "stages": stages, "losses": losses}


def by_neighborhoods(config: Config) -> tuple[Tensor, Tensor, dict[str, object]]:
    """A sample (3, h, w), and a texture of its pixels (3, side, side)."""
    sample = read_image(config.sample, config.size) / 255 if config.sample else bricks(config.size, config.seed)
    generator, given = torch.Generator().manual_seed(config.seed), (sample, config.output_side, config.window)
    if config.method == "efros_leung":
        found = neighborhoods.efros_leung(*given, generator, config.tolerance, progress=True)
        return sample, found, {"window": config.window, "tolerance": config.tolerance}
    found = neighborhoods.wei_levoy(*given, config.levels, generator, config.tree, progress=True)
    return sample, found, {"window": config.window, "levels": config.levels, "tree": config.tree}


def main(config: Config) -> None:
    device = runs.prepare(config.device if config.method == "gram" else "cpu", config.seed, config.threads)
    began = time.process_time()
    sample, found, about = (by_gram if config.method == "gram" else by_neighborhoods)(config)
    seconds = time.process_time() - began
    if config.method == "gram":
        start, end = (torch.tensor(about["losses"][when]) for when in ("start", "end"))
        said = f"Gram matrices: {100 * (end / start).mean():.2f}% of noise's loss left"
    else:
        said = f"{config.method}: neighborhoods of {config.window} x {config.window}"
    pictures.draw_sheet([[sample, found]], [["sample", said]], config.out, side=3)
    record = {"method": config.method, "sample": str(config.sample or "bricks"), "size": config.size}
    record |= {"output_side": config.output_side, "seed": config.seed, "seconds": round(seconds, 2)} | about
    rows = [[config.method, f"{config.size}", f"{config.output_side}", f"{seconds:.1f}", said]]
    head = ["method", "sample's side", "texture's side", "seconds", ""]
    study_report.write(
        config.out, PROGRAM, device, f"Texture synthesis by {config.method}", head, rows, NOTE, [record]
    )
    print(printable(f"{said}; {seconds:.1f} s; written to {config.out}"))


if __name__ == "__main__":
    runs.launch(main, Config, None, PROGRAM, __doc__)
