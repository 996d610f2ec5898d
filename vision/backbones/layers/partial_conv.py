"""Convolution with a table of connections: each map sees only some of the maps before it (LeCun et al. 1998)."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

C3 = (  # LeCun et al. 1998, table I: for each of the 16 maps of C3, the maps of S2 that it sees
    *((0, 1, 2), (1, 2, 3), (2, 3, 4), (3, 4, 5), (0, 4, 5), (0, 1, 5)),
    *((0, 1, 2, 3), (1, 2, 3, 4), (2, 3, 4, 5), (0, 3, 4, 5), (0, 1, 4, 5), (0, 1, 2, 5)),
    *((0, 1, 3, 4), (1, 2, 4, 5), (0, 2, 3, 5)),
    (0, 1, 2, 3, 4, 5),
)


class PartialConv2d(nn.Conv2d):
    """A convolution of which map i sees the maps table[i] alone; weights exist for these connections only.

    LeCun et al. 1998, section II.B: it breaks the symmetry between maps, and has fewer weights. x (B, inputs, H, W)
    -> (B, len(table), ...). `weight` is (connections, 1, kernel, kernel), in the order of the table.
    """

    def __init__(self, inputs: int, table: tuple[tuple[int, ...], ...], kernel: int) -> None:
        super().__init__(inputs, len(table), kernel)
        rows = [output * inputs + seen for output, all_seen in enumerate(table) for seen in all_seen]
        self.fans = [len(seen) for seen in table for _ in seen]  # maps that each connection's output sees
        self.weight = nn.Parameter(torch.empty(len(rows), 1, kernel, kernel))
        self.register_buffer("rows", torch.tensor(rows), persistent=False)
        nn.init.kaiming_uniform_(self.weight, a=5**0.5)
        self.rescale()

    @torch.no_grad()
    def rescale(self) -> None:
        """Divide the weights, initialized as if a map saw one other, by the root of how many it sees."""
        self.weight /= torch.tensor(self.fans, device=self.weight.device).sqrt().view(-1, 1, 1, 1)

    def dense(self) -> Tensor:
        """The weight (outputs, inputs, kernel, kernel), zero where there is no connection."""
        whole = self.weight.new_zeros(self.out_channels * self.in_channels, *self.weight.shape[2:])
        return whole.index_copy(0, self.rows, self.weight[:, 0]).unflatten(0, (self.out_channels, self.in_channels))

    def forward(self, x: Tensor) -> Tensor:
        return F.conv2d(x, self.dense(), self.bias)


def table(inputs: int, outputs: int) -> tuple[tuple[int, ...], ...]:
    """C3's table for other numbers of maps: each of theirs stands for its share of the 6 and the 16."""
    return tuple(
        tuple(seen for seen in range(inputs) if seen * 6 // inputs in C3[output * 16 // outputs])
        or (output % inputs,)
        for output in range(outputs)
    )
