"""Masks of regions: cut from masks of images for the loss of Mask R-CNN, and pasted back into images."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F

from vision.ops import roi

CHUNK = 1 << 24  # pixels that are pasted together


def crop(masks: Tensor, boxes: Tensor, whose: Tensor, side: int) -> Tensor:
    """The parts (N, side, side) of masks (K, H, W), 0 or 1, that lie in boxes (N, 4); whose: (N,) the mask of each.

    By RoIAlign, as the paper's authors' (He et al. 2017, section 3.1: the intersection of a region and its object's
    mask), so that values lie between.
    """
    return roi.roi_align(masks[:, None].to(boxes.dtype), boxes, whose, (side, side), samples=0, aligned=True)[:, 0]


def paste(masks: Tensor, boxes: Tensor, size: tuple[int, int], threshold: float = 0.5) -> Tensor:
    """Masks (K, H, W) bool of an image of `size` (height, width), from probabilities (K, M, M) in boxes (K, 4).

    A pixel belongs to an object where the bilinear interpolation at its center reaches the threshold; pixels whose
    center lies outside of the box do not (He et al. 2017, appendix A, aligned: M steps span the box exactly).
    """
    found = torch.zeros(len(masks), *size, dtype=torch.bool, device=masks.device)
    x = torch.arange(size[1], device=masks.device, dtype=torch.float32) + 0.5
    y = torch.arange(size[0], device=masks.device, dtype=torch.float32) + 0.5
    for rows in torch.arange(len(masks), device=masks.device).split(max(1, CHUNK // (size[0] * size[1]))):
        own = boxes[rows].float()
        along = (x - own[:, 0, None]) / (own[:, 2] - own[:, 0]).clamp(min=1e-6)[:, None] * 2 - 1  # (K, W), -1 to 1
        down = (y - own[:, 1, None]) / (own[:, 3] - own[:, 1]).clamp(min=1e-6)[:, None] * 2 - 1
        places = torch.stack([along[:, None].expand(-1, size[0], -1), down[:, :, None].expand(-1, -1, size[1])], 3)
        value = F.grid_sample(masks[rows, None].float(), places, padding_mode="border", align_corners=False)[:, 0]
        found[rows] = (value >= threshold) & (places.abs() <= 1).all(3)
    return found
