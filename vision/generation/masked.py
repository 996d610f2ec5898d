"""Masked convolutions of autoregressive models: a pixel reads those above it and to its left, its channels in order.

van den Oord et al. 2016, arXiv 1601.06759, section 3.4. Within a pixel, a mask of type A, which is that of the
first layer, lets green read red, and blue read red and green; one of type B, that of all other layers, lets features
read those of their own color too. Features belong to a color by a group: 0 for red, 1 for green, 2 for blue, always 0
in gray images.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn
from torch.nn import functional as F


def groups(features: int, channels: int, parts: int = 1) -> Tensor:
    """The group (N,) of each of N = parts * features: as many of each channel, in order, in each part."""
    return (torch.arange(features) * channels // features).repeat(parts)


class MaskedConv2d(nn.Conv2d):
    """Masked convolution, of the pixels before in reading order alone: (B, inputs, H, W) to (B, outputs, H, W).

    inputs, outputs: the group of each feature. kind: A or B. rows: of the kernel; 1 for that of a single row.
    The weights under the mask are kept, as published counts have them, and neither read nor learned.
    """

    def __init__(
        self, inputs: Tensor, outputs: Tensor, kernel: int, kind: str = "B", rows: int | None = None
    ) -> None:
        rows = kernel if rows is None else rows
        super().__init__(len(inputs), len(outputs), (rows, kernel))
        self.above, self.left = rows // 2, kernel // 2
        mask = torch.ones(len(outputs), len(inputs), self.above + 1, kernel)
        mask[:, :, -1, self.left + 1 :] = 0
        one, other = inputs[None], outputs[:, None]
        mask[:, :, -1, self.left] = (one < other if kind == "A" else one <= other).float()
        self.register_buffer("mask", mask, persistent=False)
        seen = max(1.0, mask.sum((1, 2, 3)).mean().item())
        with torch.no_grad():
            self.weight.uniform_(-1, 1).mul_(1 / math.sqrt(seen))

    def masked(self) -> Tensor:
        """The weights that are read, (outputs, inputs, rows above and the pixel's own, kernel)."""
        return self.weight[:, :, : self.above + 1] * self.mask

    def forward(self, x: Tensor) -> Tensor:
        tall = x.shape[2]
        return F.conv2d(x, self.masked(), self.bias, padding=(self.above, self.left))[:, :, :tall]


class RowConv2d(nn.Conv2d):
    """Convolution of rows above, with `own` of the row itself too: (B, inputs, H, W) to (B, outputs, H, W).

    The vertical stack of Gated PixelCNN (van den Oord et al. 2016, arXiv 1606.05328, section 2.2). kernel: its width;
    it has kernel // 2 rows above.
    """

    def __init__(self, inputs: int, outputs: int, kernel: int, own: bool) -> None:
        self.above = max(1, kernel // 2)
        super().__init__(inputs, outputs, (self.above + own, kernel))
        self.left = kernel // 2

    def forward(self, x: Tensor) -> Tensor:
        tall = x.shape[2]
        return F.conv2d(x, self.weight, self.bias, padding=(self.above, self.left))[:, :, :tall]


class CachedConv:
    """A MaskedConv2d pixel by pixel: what the rows above add is computed once a row, and of a pixel only its column.

    batch: images side by side. width: pixels of a row.
    """

    def __init__(self, conv: MaskedConv2d, batch: int, width: int) -> None:
        weight, self.bias = conv.masked().detach(), conv.bias.detach()
        self.left, self.rows_above = conv.left, conv.above
        self.above = weight[:, :, :-1]
        # (left pixels and the pixel itself) * inputs, outputs
        self.weight = weight[:, :, -1, : self.left + 1].permute(2, 1, 0).flatten(0, 1).contiguous()
        inputs = weight.shape[1]
        self.rows = weight.new_zeros(batch, inputs, self.rows_above, width + 2 * self.left)
        self.row = weight.new_zeros(batch, width + self.left, inputs)
        self.base = self.bias.expand(width, batch, -1)
        self.begun = False

    def begin_row(self) -> None:
        """The row that was made is now above."""
        if self.begun and self.rows_above:
            pad = (self.left, self.left)
            made = F.pad(self.row[:, self.left :].transpose(1, 2), pad)
            self.rows = torch.cat([self.rows[:, :, 1:], made[:, :, None]], 2)
            found = F.conv2d(self.rows, self.above, self.bias)  # (batch, outputs, 1, width)
            self.base = found[:, :, 0].permute(2, 0, 1).contiguous()
        self.begun = True
        self.row.zero_()

    def at(self, column: int, x: Tensor) -> Tensor:
        """The outputs (batch, outputs) at a column of this row, where the inputs are x (batch, inputs)."""
        self.row[:, self.left + column] = x
        seen = self.row[:, column : column + self.left + 1].flatten(1)
        return torch.addmm(self.base[column], seen, self.weight)


class CachedRowConv:
    """A RowConv2d row by row. batch: images side by side. width: pixels of a row."""

    def __init__(self, conv: RowConv2d, batch: int, width: int) -> None:
        self.weight, self.bias = conv.weight.detach(), conv.bias.detach()
        self.left = conv.left
        self.rows = self.weight.new_zeros(batch, self.weight.shape[1], self.weight.shape[2], width + 2 * self.left)

    def __call__(self, row: Tensor) -> Tensor:
        """The outputs (batch, outputs, 1, width) of the row itself, whose inputs are `row` (batch, inputs, 1, width);
        without its own row, `row` is the one above."""
        self.rows = torch.cat([self.rows[:, :, 1:], F.pad(row, (self.left, self.left))], 2)
        return F.conv2d(self.rows, self.weight, self.bias)
