"""Assignment of objects to anchors or proposals by IoU, and random sampling of positives and negatives."""

from __future__ import annotations

import torch
from torch import Tensor

BACKGROUND, BETWEEN = -1, -2  # instead of an object's index: a negative; neither a positive nor a negative


def match(overlap: Tensor, high: float, low: float, best_too: bool = False) -> Tensor:
    """The object of each anchor (N,) int64: its index, BACKGROUND where all overlap less than `low`, else BETWEEN.

    overlap: IoU (G, N) of objects and anchors. high: the least IoU of a positive.
    best_too: the anchors that an object overlaps most are its own however little that is, if it is more than nothing
        (Ren et al. 2015, section 3.1.2, case i).
    """
    if not len(overlap):
        return overlap.new_full(overlap.shape[1:], BACKGROUND, dtype=torch.int64)
    value, index = overlap.max(0)
    found = torch.where(value >= high, index, torch.where(value < low, BACKGROUND, BETWEEN))
    if best_too:
        most = overlap.amax(1, keepdim=True)
        best = ((overlap == most) & (most > 0)).any(0)
        found = torch.where(best, index, found)
    return found


def best_of_each(overlap: Tensor, least: float) -> Tensor:
    """SSD's assignment (N,): each object gets its best anchor, and each other anchor the object that it overlaps
    most, if by `least` or more; BACKGROUND elsewhere (Liu et al. 2015, section 2.2, matching strategy).

    overlap: IoU (G, N). Where objects share their best anchor, the last of them has it.
    """
    found = match(overlap, least, least)
    if len(overlap):
        found[overlap.argmax(1)] = torch.arange(len(overlap), device=overlap.device)
    return found


def sample(
    matched: Tensor, count: int, positives: float, generator: torch.Generator | None = None
) -> tuple[Tensor, Tensor]:
    """Random indices of positives and negatives among what match gave (N,): `count` in all, where there are so many.

    positives: the share of positives, at most; negatives fill up.
    """
    places = [(matched >= 0).nonzero()[:, 0], (matched == BACKGROUND).nonzero()[:, 0]]
    most = min(len(places[0]), int(count * positives))
    counts = (most, min(len(places[1]), count - most))
    chosen = [
        place[torch.randperm(len(place), generator=generator, device=place.device)[:number]]
        for place, number in zip(places, counts, strict=True)
    ]
    return chosen[0], chosen[1]
