"""What layers respond to: first-layer filters, activation maps, and the patches that activate channels most.

    python -m vision.interpretation.activations results/shapes/classification-1                    # three pictures
    python -m vision.interpretation.activations results/cifar10/classification-1 --stage 1 --patches 12
    python -m vision.interpretation.activations results/Pong/dqn-1 --files observations/observations.npy

filters.png has the weights of the first convolution (Krizhevsky et al. 2012, figure 3), maps.png every channel of a
stage for a few test images, patches.png the test images' patches that activate channels most (Zeiler & Fergus 2013,
figure 2; Girshick et al. 2014): a patch is what the place of the map reads, its receptive field, exactly. Any run
with a backbone will do, and any images: see vision/interpretation/examples.py.
"""

from __future__ import annotations

import dataclasses
import math
from pathlib import Path
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional as F

import runs
from runs.flag_types import Count, Whole
from runs.printing import printable
from vision import backbones
from vision.classification.plots import visible
from vision.interpretation import examples, pictures, receptive_field

CHUNK = 250  # images at a time
PATCH = 64  # pixels, side to which patches are enlarged
BORDER = 1  # pixels between tiles


@dataclasses.dataclass(frozen=True)
class Config(examples.ExampleFlags):
    stage: int = 0  # of the backbone, from 0 or from the end: -1 is the last
    channels: Count = 8  # rows of patches, the first channels
    patches: Count = 10  # of each channel
    searched: Whole = 2_000  # test images among which patches are found; 0: all
    images: Count = 3  # of which maps are shown
    folder: Path = Path("activations")  # where the pictures go


def first_layer_filters(model: nn.Module) -> Tensor:
    """The filters (N, C, h, w) of a network's first convolution. Raises ValueError where there is none."""
    first = next((module for module in model.modules() if isinstance(module, nn.Conv2d)), None)
    if first is None:
        raise ValueError("this network has no convolution")
    return first.weight.detach()


def filter_tiles(weight: Tensor) -> Tensor:
    """Filters (N, C, h, w) as one picture (3 or 1, H, W) from 0 to 1: in color for three channels.

    Otherwise every channel of a filter is a tile in gray. Each filter is stretched to its own smallest and largest.
    """
    shown = visible(weight)
    return tiled(shown if weight.shape[1] == 3 else shown.flatten(0, 1)[:, None])


def tiled(images: Tensor, columns: int = 0) -> Tensor:
    """Images (N, C, h, w) beside and below each other as one (C, H, W), with white lines between them.

    columns: 0: as many as make it about square.
    """
    count, channels, height, width = images.shape
    columns = columns or math.ceil(count**0.5)
    rows = math.ceil(count / columns)
    padded = F.pad(images, (0, BORDER, 0, BORDER), value=1.0)
    blank = padded.new_ones(rows * columns - count, *padded.shape[1:])
    grid = torch.cat([padded, blank]).unflatten(0, (rows, columns))
    return grid.permute(2, 0, 3, 1, 4).reshape(channels, rows * (height + BORDER), columns * (width + BORDER))


class Patch(NamedTuple):
    """The patch of an image that activates a channel."""

    image: int  # its index
    rows: tuple[int, int]  # first and last
    columns: tuple[int, int]
    activation: float


@torch.no_grad()
def strongest_patches(
    backbone: backbones.Backbone, images: Tensor, stage: int, channels: int, count: int
) -> list[list[Patch]]:
    """For each of a stage's first channels the `count` images (N, C, H, W) with its strongest places, strongest
    first.

    An image has one patch a channel: the receptive field of its strongest place.
    """
    device = next(backbone.parameters()).device
    best, places, width = [], [], 0
    for rows in images.split(CHUNK):
        map = backbone(rows.to(device))[stage][:, :channels]
        width = map.shape[3]
        value, place = map.flatten(2).max(2)
        best.append(value.float().cpu())
        places.append(place.cpu())
    values, where = torch.cat(best), torch.cat(places)  # (N, channels)
    down, across = receptive_field.spans(backbone, images.shape[1:])[stage]
    value, index = values.topk(min(count, len(images)), 0)
    found = []
    for channel in range(values.shape[1]):
        line = []
        for image, strength in zip(index[:, channel].tolist(), value[:, channel].tolist(), strict=True):
            row, column = divmod(int(where[image, channel]), width)
            line.append(Patch(image, tuple(down[row].tolist()), tuple(across[column].tolist()), strength))
        found.append(line)
    return found


def cut(images: Tensor, patch: Patch) -> Tensor:
    """The pixels (C, h, w) of a patch of images (N, C, H, W)."""
    (top, bottom), (left, right) = patch.rows, patch.columns
    return images[patch.image, :, top : bottom + 1, left : right + 1]


def main(config: Config) -> None:
    about = examples.load(config)
    backbone = about.backbone
    count = len(backbone.channels)
    if not -count <= config.stage < count:
        raise ValueError(f"there is no --stage {config.stage} of {count}: from 0 to {count - 1}, or -1, the last")
    stage = config.stage % count
    weight = first_layer_filters(backbone).float().cpu()
    title = f"{len(weight)} filters of {weight.shape[2]} x {weight.shape[3]}"
    pictures.draw_sheet([[filter_tiles(weight)]], [[title]], config.folder / "filters.png", "--folder", side=5)

    images = about.images[about.chosen(config.images)]
    with torch.no_grad():
        maps = backbone(images.to(about.device))[stage].float().cpu()
    flat = maps.flatten(2)
    low, high = flat.amin(2), flat.amax(2)
    shown = (maps - low[..., None, None]) / (high - low).clamp(min=1e-12)[..., None, None]
    rows = [[image, tiled(map[:, None])] for image, map in zip(images, shown, strict=True)]
    words = [["", f"stage {stage}: {maps.shape[1]} channels of {maps.shape[2]} x {maps.shape[3]}"]] * len(rows)
    pictures.draw_sheet(rows, words, config.folder / "maps.png", "--folder", side=3.5)

    searched = about.images[: config.searched or None]
    found = strongest_patches(backbone, searched, stage, config.channels, config.patches)
    rows = [
        [F.interpolate(cut(searched, each)[None] / 255, (PATCH, PATCH), mode="nearest")[0] for each in line]
        for line in found
    ]
    words = [
        [f"channel {channel}: {line[0].activation:.2f}", *(f"{each.activation:.2f}" for each in line[1:])]
        for channel, line in enumerate(found)
    ]
    pictures.draw_sheet(rows, words, config.folder / "patches.png", "--folder", side=0.9)
    field = receptive_field.receptive_fields(backbone)[stage]
    size = "the whole image" if field.size is None else f"{field.size} pixels"
    print(printable(f"stage {stage} sees {size}; pictures in {config.folder}"))


if __name__ == "__main__":
    runs.launch(main, Config, None, "vision.interpretation.activations", __doc__)
