"""Upsampling in a network: nearest neighbor, bed of nails, max-unpooling, transposed convolution.

nearest       every value becomes a block of `factor` x `factor`
bed_of_nails  it goes into the block's upper left corner, the others are 0 (CS231n, lecture 11)
max_unpool    into the place where the maximum was: Zeiler & Fergus 2013, arXiv 1311.2901; SegNet, arXiv 1511.00561
bilinear      transposed convolution with a fixed kernel, bilinear interpolation: Long et al. 2015, arXiv 1411.4038
learned       the same kernel at first, which then learns

Long et al. found that fixed and learned kernels segment equally well (section 4.3 and their later reference code,
where kernels are fixed). upsampling_picture.py draws all of them.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

KINDS = ("bilinear", "learned", "nearest", "bed_of_nails")  # that need no indices


def nearest(x: Tensor, factor: int) -> Tensor:
    """Nearest neighbor: (B, C, H, W) -> (B, C, factor H, factor W)."""
    return x.repeat_interleave(factor, 2).repeat_interleave(factor, 3)


def bed_of_nails(x: Tensor, factor: int) -> Tensor:
    """Bed of nails: (B, C, H, W) -> (B, C, factor H, factor W), into the upper left corners of blocks of zeros."""
    found = x.new_zeros(*x.shape[:2], factor * x.shape[2], factor * x.shape[3])
    found[:, :, ::factor, ::factor] = x
    return found


def max_pool(x: Tensor, factor: int) -> tuple[Tensor, Tensor]:
    """Max pooling of maps (B, C, H, W), rounded up: values (B, C, h, w), and their places in H x W."""
    return F.max_pool2d(x, factor, factor, ceil_mode=True, return_indices=True)


def max_unpool(x: Tensor, places: Tensor, size: tuple[int, int]) -> Tensor:
    """Max-unpooling: values (B, C, h, w) to their places (B, C, h, w), flat indices of a map (B, C, *size), 0 else.

    Where windows overlap, and so give one place twice, the values are not added.
    """
    found = x.new_zeros(*x.shape[:2], size[0] * size[1])
    return found.scatter(2, places.flatten(2), x.flatten(2)).unflatten(2, size)


def bilinear_kernel(factor: int) -> Tensor:
    """The kernel (side, side) of bilinear interpolation as a transposed convolution, float32.

    side: 2 factor - factor % 2.
    """
    side = 2 * factor - factor % 2
    middle = (side - 1) / 2
    line = 1 - (torch.arange(side) - middle).abs() / factor
    return line[:, None] * line[None, :]


class TransposedConvolution(nn.ConvTranspose2d):
    """Transposed convolution, (B, C, H, W) -> (B, C, factor H, factor W), that begins as bilinear interpolation.

    learned: whether its kernel is trained.
    """

    def __init__(self, channels: int, factor: int, learned: bool = True) -> None:
        kernel = bilinear_kernel(factor)
        side, padding = len(kernel), (factor - factor % 2) // 2
        # Fixed kernels treat each channel alike, learned ones may mix them, as in the paper.
        super().__init__(channels, channels, side, factor, padding, groups=1 if learned else channels, bias=False)
        with torch.no_grad():
            self.weight.zero_()
            for channel in range(channels):
                self.weight[channel, channel if learned else 0] = kernel
        self.weight.requires_grad_(learned)


class Upsample(nn.Module):
    """Upsampling (B, C, H, W) -> (B, C, factor H, factor W) by one of KINDS; nothing where factor is 1."""

    def __init__(self, kind: str, channels: int, factor: int) -> None:
        super().__init__()
        self.kind, self.factor = kind, factor
        transposed = kind in ("bilinear", "learned") and factor > 1
        self.layer = TransposedConvolution(channels, factor, kind == "learned") if transposed else None

    def forward(self, x: Tensor) -> Tensor:
        if self.factor == 1:
            return x
        if self.layer is not None:
            return self.layer(x)
        return nearest(x, self.factor) if self.kind == "nearest" else bed_of_nails(x, self.factor)
