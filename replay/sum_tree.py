"""A sum tree: draws of leaves in proportion to their priorities (Schaul et al. 2016, appendix B.2.1).

The tree is wide and shallow, so that a call is a few operations for the whole batch: a node is the sum of 32
children, and the topmost nodes, up to 32,768, are searched as one row. A million leaves are two levels, 33 million
three.

Priorities are stored as integer multiples of 2^-24. Integer sums are the same in any order and on any device, so that
they cannot drift, and a leaf of priority 0 is never drawn. Floating-point sums guarantee neither: a parallel prefix
sum may increase at a leaf of 0.
"""

from itertools import pairwise

import torch
from torch import Tensor

FAN = 32  # children of a node
TOP = 1 << 15  # nodes that are searched as one row
SCALE = 1 << 24  # units of a priority of 1
HALF = 31  # bits of each of the two random numbers that make one of 62


class SumTree:
    """`size` leaves, each of a priority from 0 to `highest`, all 0 at first.

    Raises ValueError for a size below 1.
    """

    def __init__(self, size: int, device: str | torch.device = "cpu") -> None:
        if size < 1:
            raise ValueError(f"{size} priorities: there must be at least 1")
        self.size = size
        self.device = torch.device(device)
        self._most = 1 << 62 - size.bit_length()  # units of a leaf, so that even the sum of all is an int64
        self._levels = []  # leaves first, each level (32 times the next one's nodes,), int64 units
        while not self._levels or size > TOP:
            parents = -(-size // FAN)
            self._levels.append(torch.zeros(parents * FAN, dtype=torch.int64, device=self.device))
            size = parents
        self._levels.append(torch.zeros(size, dtype=torch.int64, device=self.device))

    @property
    def highest(self) -> float:
        """The highest priority that a leaf can have, at least 2^37 / size; higher ones are clamped to it."""
        return self._most / SCALE

    @property
    def total(self) -> Tensor:
        """Sum of all priorities, a float64 scalar on the CPU: not every device has float64."""
        return self._levels[-1].sum().cpu().double() / SCALE

    @property
    def leaves(self) -> Tensor:
        """All leaves (size,), in whole units of 2^-24, int64. Call recount() after writing into them."""
        return self._levels[0][: self.size]

    @property
    def nbytes(self) -> int:
        """Bytes of all levels."""
        return sum(level.nbytes for level in self._levels)

    def get(self, index: Tensor) -> Tensor:
        """Priorities of leaves: (B,) int64 -> (B,) float64 on the CPU."""
        return self._levels[0].index_select(0, index).cpu().double() / SCALE

    def set(self, index: Tensor, value: Tensor) -> None:
        """Give leaves (B,) int64 the priorities (B,) float32 or float64, rounded up to units of 2^-24.

        Of several values for one leaf the highest counts. NaN and negative values count as 0.
        """
        units = (value * SCALE).ceil_().nan_to_num_(0.0).clamp_(0, self._most).long()
        self._levels[0].scatter_reduce_(0, index, units, "amax", include_self=False)
        if len(index) * FAN >= self.size:
            return self.recount()
        for below, above in pairwise(self._levels):
            index = index // FAN
            above.scatter_(0, index, below.view(-1, FAN).index_select(0, index).sum(1))  # duplicates write equal sums

    def recount(self) -> None:
        """Recompute all nodes from the leaves."""
        for below, above in pairwise(self._levels):
            above[: len(below) // FAN] = below.view(-1, FAN).sum(1)

    def draw(self, batch: int, generator: torch.Generator | None = None) -> Tensor:
        """Leaves (B,) int64, each with a chance in proportion to its priority, ascending.

        Stratified: the i-th is drawn from the i-th of B equal shares of the total, in integer units: float32 cannot
        represent a unit of a large total, and not every device has float64. Raises ValueError where the total is 0
        (on the CPU only, since checking it elsewhere would synchronize with the device).
        """
        ends = self._levels[-1].cumsum(0)
        total = ends[-1]
        if self.device.type == "cpu" and not total:
            raise ValueError(f"all of the {self.size} priorities are 0: there is nothing to draw")
        least = total // batch  # units of a share; the remainder is spread over all shares
        edges = torch.arange(batch + 1, device=self.device)
        edges = edges * least + edges * (total - least * batch) // batch  # (B + 1,) floor(i * total / B)
        chance = torch.randint(1 << HALF, (2, batch), generator=generator, device=self.device)
        left = edges[:-1] + scaled(chance, edges.diff())  # (B,) 0 <= left < total
        node = torch.searchsorted(ends, left, right=True)  # the first that ends above `left`: never one of 0
        before = ends.index_select(0, node) - self._levels[-1].index_select(0, node)  # what ends before it
        for level in self._levels[-2::-1]:
            left = (left - before).unsqueeze(1)
            children = level.view(-1, FAN).index_select(0, node)  # (B, 32)
            ends = children.cumsum(1)
            child = torch.searchsorted(ends, left, right=True)  # (B, 1)
            node = node * FAN + child.squeeze(1)
            if level is not self._levels[0]:
                before = (ends.gather(1, child) - children.gather(1, child)).squeeze(1)
                left = left.squeeze(1)
        return node


def scaled(chance: Tensor, width: Tensor) -> Tensor:
    """floor(width * u) for u = (chance[0] * 2^31 + chance[1]) / 2^62, exactly: products of halves fit into an int64.

    chance: (2, B) int64 in [0, 2^31). width: (B,) int64 in [0, 2^62). Returns (B,) int64 in [0, width).
    """
    high, low = width >> HALF, width & ((1 << HALF) - 1)
    middle = high * chance[1] + low * chance[0] + (low * chance[1] >> HALF)
    return high * chance[0] + (middle >> HALF)
