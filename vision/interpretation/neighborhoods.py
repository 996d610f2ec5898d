"""Texture synthesis pixel by pixel: each pixel of a texture is one of the sample's, from a similar neighborhood.

Efros & Leung 1999, "Texture synthesis by non-parametric sampling", and Wei & Levoy 2000, "Fast texture synthesis
using tree-structured vector quantization". The former grows the texture around a seed, in an order that depends on
what is known; the latter goes through it row by row, level by level of a Gaussian pyramid, so that every pixel of a
level has a neighborhood of one form, which a tree can search.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import torch
from rich.console import Console
from rich.progress import Progress
from torch import Tensor
from torch.nn import functional as F

from vision.interpretation import tree_quantizer

TOLERANCE = 0.1  # of the best window's error, that a window may have more: the ErrThreshold of Efros & Leung
SEED_SIDE = 3  # pixels, of the piece of the sample that growth begins with
BINOMIAL = (1 / 16, 4 / 16, 6 / 16, 4 / 16, 1 / 16)  # Burt & Adelson 1983: the filter of a Gaussian pyramid


def efros_leung(
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
    with _bar(progress) as bar:
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


def wei_levoy(
    sample: Tensor,
    side: int,
    window: int,
    levels: int,
    generator: torch.Generator,
    tree: bool = False,
    progress: bool = False,
) -> Tensor:
    """A texture (C, side, side), which continues over its borders, from a sample (C, h, w) of floats. Wei & Levoy.

    Every pixel is one of the sample's: the one whose neighborhood, in the causal half of a window and in a full
    one of half its size one level coarser, has the smallest squared difference. The first rows of a level are
    compared with noise, which has the sample's colors. Neighborhoods of the sample that cross its border are left
    out.

    window: pixels of a side, odd. levels: of the Gaussian pyramids; 1: of the picture alone. tree: a tree-structured
    vector quantizer searches, and may miss the most similar neighborhood.
    Raises ValueError for an even window, and for a level of the sample in which no neighborhood fits.
    """
    if window % 2 == 0:
        raise ValueError(f"a window of {window} pixels is to be odd")
    samples = gaussian_pyramid(sample, levels, "reflect")
    chosen = torch.randint(0, sample[0].numel(), (side * side,), generator=generator).to(sample.device)
    noise = sample.flatten(1)[:, chosen].view(-1, side, side)
    textures = gaussian_pyramid(noise, levels, "circular")
    with _bar(progress) as bar:
        task = bar.add_task("texture", total=sum(level[0].numel() for level in textures))
        for level in reversed(range(levels)):
            coarse = (None, None) if level == levels - 1 else (samples[level + 1], textures[level + 1])
            known = neighborhoods(samples[level], coarse[0], window)
            if not len(known.centers):
                raise ValueError(
                    f"level {level} of the sample, {' x '.join(map(str, samples[level].shape[1:]))}, has no whole "
                    f"neighborhood of {window}: choose fewer --levels, a smaller --window or a larger sample"
                )
            colors = samples[level].flatten(1).T[known.centers]
            search = tree_quantizer.search(known.vectors) if tree else exhaustive(known.vectors)
            textures[level] = _synthesized(
                textures[level], coarse[1], window, colors, search, lambda: bar.advance(task)
            )
    return textures[0]


def gaussian_pyramid(picture: Tensor, levels: int, border: str) -> list[Tensor]:
    """Pictures (C, H, W), (C, H / 2, W / 2), ..., rounded up: each blurred, and every second pixel of it.

    border: reflect or circular, what is beyond the picture when it is blurred.
    """
    kernel = torch.tensor(BINOMIAL).to(picture)
    found = [picture]
    for _ in range(levels - 1):
        fine = found[-1][:, None]
        if min(fine.shape[2:]) < 3:
            raise ValueError(f"a picture of {picture.shape[1]} x {picture.shape[2]} has no {levels} levels")
        padded = F.pad(fine, (2, 2, 2, 2), mode=border)
        blurred = F.conv2d(F.conv2d(padded, kernel.view(1, 1, 5, 1)), kernel.view(1, 1, 1, 5))
        found.append(blurred[:, 0, ::2, ::2])
    return found


class Neighborhoods(NamedTuple):
    """The whole neighborhoods of a level."""

    vectors: Tensor  # (N, D) of D values
    centers: Tensor  # (N,) int64, the pixel of each, counted row by row


def causal_offsets(window: int) -> Tensor:
    """Steps (n, 2), down and across, to the pixels of a window before its middle, row by row: n = window^2 // 2."""
    steps = torch.arange(window) - window // 2
    return torch.cartesian_prod(steps, steps)[: window * window // 2]


def full_offsets(window: int) -> Tensor:
    """Steps (n, 2), down and across, to all pixels of a window: n = window^2."""
    steps = torch.arange(window) - window // 2
    return torch.cartesian_prod(steps, steps)


def coarse_window(window: int) -> int:
    """Pixels of a window's side one level coarser, odd: 3 for 5, 5 for 9."""
    return window // 4 * 2 + 1


def neighborhoods(level: Tensor, coarser: Tensor | None, window: int) -> Neighborhoods:
    """The neighborhoods (N, D) of a level (C, H, W) that lie in it, and in the coarser level (C, h, w), whole."""
    places, rows, columns = _places(level, causal_offsets(window))
    whole = ((rows >= 0) & (columns >= 0) & (columns < level.shape[2])).all(1)
    parts = [(level, rows, columns)]
    if coarser is not None:
        offsets = full_offsets(coarse_window(window)).to(places.device)
        down, across = (places[:, axis, None] // 2 + offsets[:, axis] for axis in (0, 1))
        whole &= ((down >= 0) & (down < coarser.shape[1]) & (across >= 0) & (across < coarser.shape[2])).all(1)
        parts.append((coarser, down, across))
    vectors = torch.cat([picture[:, r[whole], c[whole]].movedim(0, 1).flatten(1) for picture, r, c in parts], 1)
    return Neighborhoods(vectors, whole.nonzero()[:, 0])


def _places(level: Tensor, offsets: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """The places (N, 2) of a level (C, H, W), row by row, and rows and columns (N, n) of their neighbors."""
    places = torch.cartesian_prod(*(torch.arange(side, device=level.device) for side in level.shape[1:])).view(-1, 2)
    offsets = offsets.to(level.device)
    return places, places[:, :1] + offsets[:, 0], places[:, 1:] + offsets[:, 1]


Search = Callable[[Tensor], int]  # a neighborhood (D,) -> the index of a similar one


def exhaustive(vectors: Tensor) -> Search:
    """A search for the nearest of vectors (N, D), the first of several, that compares with all of them."""
    squares = vectors.square().sum(1)
    return lambda wanted: int(torch.addmv(squares, vectors, wanted, alpha=-2).argmin())


@torch.inference_mode()
def _synthesized(
    noise: Tensor,
    coarser: Tensor | None,
    window: int,
    colors: Tensor,
    search: Search,
    advance: Callable[[], None],
) -> Tensor:
    """A level (C, H, W), begun by noise, of the colors (N, C) whose neighborhoods are found; borders wrap around."""
    height, width = noise.shape[1:]
    found = noise.flatten(1).clone()
    places, rows, columns = _places(noise, causal_offsets(window))
    neighbors = rows % height * width + columns % width  # (H * W, n)
    above = noise.new_zeros(len(places), 0)
    if coarser is not None:
        offsets = full_offsets(coarse_window(window)).to(places.device)
        down = (places[:, :1] // 2 + offsets[:, 0]) % coarser.shape[1]
        across = (places[:, 1:] // 2 + offsets[:, 1]) % coarser.shape[2]
        above = coarser[:, down, across].movedim(0, 1).flatten(1)
    for place in range(height * width):
        wanted = torch.cat([found[:, neighbors[place]].flatten(), above[place]])
        found[:, place] = colors[search(wanted)]
        advance()
    return found.view(noise.shape)


def _bar(shown: bool) -> Progress:
    return Progress(transient=True, disable=not (shown and Console().is_terminal))
