"""Convolution of uint8 pixels: the first layer of every backbone, without a conversion to floats in memory."""

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

WORDS = {1: torch.uint8, 2: torch.int16, 4: torch.int32, 8: torch.int64}  # as many pixels, moved as one


class PixelConv2d(nn.Conv2d):
    """nn.Conv2d for a backbone's first layer, which also takes uint8 pixels: they count as x / 255.

    The weights are divided by 255 instead, so that pixels stay integers, which bf16 represents exactly. Where the
    kernel is a multiple of the stride (8x8 / 4), patches of stride x stride pixels become channels (space to depth,
    Shi et al. 2016, arXiv 1609.05158) and the stride becomes 1: the same sums, in a shape that suits matrix units.

    mean_observation: (C, H, W) uint8, subtracted from x, or None. Differences of pixels are exact in bf16 as well.

    x: (B, C, H, W) uint8, or floats as nn.Conv2d takes them. Returns maps in channels_last, in autocast's dtype.
    """

    def __init__(self, *arguments: Any, **options: Any) -> None:
        super().__init__(*arguments, **options)
        self.register_buffer("mean_observation", None)

    def forward(self, x: Tensor) -> Tensor:
        if x.dtype != torch.uint8:
            return super().forward(
                x if self.mean_observation is None else x - self.mean_observation.to(x.dtype) / 255
            )
        device = x.device.type
        low = torch.get_autocast_dtype(device) if torch.is_autocast_enabled(device) else self.weight.dtype
        weight = self.weight / 255
        if not self._whole(x):
            x = x.to(low, memory_format=torch.channels_last)
            x = x if self.mean_observation is None else x - self.mean_observation.to(low)
            return F.conv2d(x, weight, self.bias, self.stride, self.padding, self.dilation, self.groups)
        patches = self._patches(x).to(low)
        if self.mean_observation is not None:
            patches -= self._patches(self.mean_observation[None]).to(low)
        channels, s = self.in_channels, self.stride[0]
        k = self.kernel_size[0] // s
        weight = weight.reshape(self.out_channels, channels, k, s, k, s).permute(0, 1, 3, 5, 2, 4)
        weight = weight.reshape(self.out_channels, channels * s * s, k, k)
        return F.conv2d(patches.permute(0, 3, 1, 2), weight, self.bias)

    def _patches(self, x: Tensor) -> Tensor:
        """Space to depth: (B, C, H, W) uint8 -> (B, H / s, W / s, C * s * s), where s is the stride."""
        (batch, channels, height, width), s = x.shape, self.stride[0]
        words = x.contiguous().view(WORDS[s]).view(batch, channels, height // s, s, width // s)
        patches = words.permute(0, 2, 4, 1, 3).contiguous().view(torch.uint8)  # (B, H / s, W / s, C, s * s)
        return patches.view(batch, height // s, width // s, channels * s * s)

    def _whole(self, x: Tensor) -> bool:
        """Whether x and the kernel consist of whole patches of stride x stride."""
        square = len({*self.stride}) == len({*self.kernel_size}) == self.groups == 1
        plain = not any(map(int, self.padding)) and {*self.dilation} == {1}
        s = self.stride[0]
        fits = s > 1 and s in WORDS and not any(n % s for n in (*self.kernel_size, *x.shape[2:]))
        return square and plain and fits
