"""How well a map finds an object whose pixels are known: pointing game, relevance mass and relevance rank accuracy.

Zhang et al. 2016 (arXiv 1608.00507); Arras et al. 2022 (arXiv 2003.07258), as Quantus defines them. Maps are not
negative: of a signed attribution take its magnitude (attribution.heat) or its positive part first.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F


def pointing_game(maps: Tensor, masks: Tensor) -> Tensor:
    """Whether a largest value of each map (B, H, W) lies inside of the mask (B, H, W) bool: (B,) bool.

    Of several equal maxima one is enough, as in Quantus: a map of zeros is a hit, if it is not left out first.
    """
    _check(maps, masks)
    top = maps == maps.amax((1, 2), keepdim=True)
    return (top & masks).flatten(1).any(1)


def relevance_mass_accuracy(maps: Tensor, masks: Tensor) -> Tensor:
    """The part of each map's sum that lies inside of the mask, (B,): equation 3 of Arras et al.

    maps: (B, H, W), not negative. masks: (B, H, W) bool. NaN for a map of zeros.
    """
    _check(maps, masks)
    return (maps * masks).sum((1, 2)) / maps.sum((1, 2))


def relevance_rank_accuracy(maps: Tensor, masks: Tensor) -> Tensor:
    """The part of the K largest values that lies inside of a mask of K pixels, (B,): equation 4 of Arras et al.

    maps: (B, H, W). masks: (B, H, W) bool. NaN for an empty mask. Among equal values the later pixels are taken.
    """
    _check(maps, masks)
    inside, size = masks.flatten(1), masks.sum((1, 2))
    order = maps.flatten(1).argsort(dim=1, stable=True).flip(1)
    taken = torch.arange(order.shape[1], device=maps.device) < size[:, None]
    return (inside.gather(1, order) & taken).sum(1) / size


def box_masks(boxes: Tensor, size: tuple[int, int]) -> Tensor:
    """Masks (B, H, W) bool of boxes (B, 4), x1, y1, x2, y2 in pixels: of the pixels whose middles are inside."""
    rows, columns = (torch.arange(side, device=boxes.device) + 0.5 for side in size)
    x1, y1, x2, y2 = boxes[:, :, None].unbind(1)
    tall, wide = (rows >= y1) & (rows < y2), (columns >= x1) & (columns < x2)
    return tall[:, :, None] & wide[:, None]


def widened(masks: Tensor, pixels: int) -> Tensor:
    """Masks (B, H, W) bool with all places that are at most so many rows and columns away from them.

    Zhang et al. 2016 count a hit within 15 pixels of an object, of photographs.
    """
    return F.max_pool2d(masks[:, None].float(), 2 * pixels + 1, 1, pixels)[:, 0] > 0


def _check(maps: Tensor, masks: Tensor) -> None:
    if maps.shape != masks.shape or maps.dim() != 3 or masks.dtype != torch.bool:
        raise ValueError(
            f"maps (B, H, W) need masks of their shape, bool: {tuple(maps.shape)} and {tuple(masks.shape)}"
            f" of {masks.dtype}"
        )
