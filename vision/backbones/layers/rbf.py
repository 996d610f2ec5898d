"""Radial basis functions: an output layer of distances to a fixed code of each class (LeCun et al. 1998).

The codes of the ten digits are drawn on 7 x 12 pixels, as in the paper's figure 3: similar digits have similar codes.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

DIGITS = """
.......  .......  .......  .......  .......  .......  .......  .......  .......  .......
..###..  ...#...  .#####.  .#####.  ....#..  ######.  ..####.  #######  .#####.  .#####.
.#...#.  ..##...  #.....#  #.....#  ...##..  #......  .#.....  .....#.  #.....#  #.....#
#.....#  .###...  ......#  ......#  ..#.#..  #......  #......  .....#.  #.....#  #.....#
#.....#  ...#...  ......#  ......#  .#..#..  #......  #......  ....#..  .#...#.  #.....#
#.....#  ...#...  .....#.  ..####.  #...#..  #####..  #.###..  ....#..  ..###..  .######
#.....#  ...#...  ....#..  ......#  #######  .....#.  ##...#.  ...#...  .#...#.  ......#
#.....#  ...#...  ...#...  ......#  ....#..  ......#  #.....#  ...#...  #.....#  ......#
#.....#  ...#...  ..#....  ......#  ....#..  ......#  #.....#  ..#....  #.....#  ......#
.#...#.  ...#...  .#.....  #.....#  ....#..  #....#.  .#...#.  ..#....  #.....#  .....#.
..###..  .#####.  #######  .#####.  ....#..  .####..  ..###..  ..#....  .#####.  .####..
.......  .......  .......  .......  .......  .......  .......  .......  .......  .......
"""


class RBF(nn.Module):
    """x (B, features) -> minus the squared distances to the codes of the classes, (B, classes): as logits.

    LeCun et al. 1998, equation 7. With cross-entropy the loss is their equation 9 without its constant for what is no
    class. Codes of -1 and +1 are fixed: for ten classes and 84 features those of DIGITS, else drawn, each number with
    equal probability, as the paper suggests for classes without a shape.
    """

    def __init__(self, features: int, classes: int) -> None:
        super().__init__()
        if (features, classes) == (84, 10):
            codes = digit_codes()
        else:
            codes = torch.randint(2, (classes, features), generator=torch.Generator().manual_seed(0)) * 2.0 - 1
        self.register_buffer("codes", codes.to(torch.get_default_device()))

    def forward(self, x: Tensor) -> Tensor:
        squares = x.square().sum(1, keepdim=True) + self.codes.square().sum(1)
        return 2 * x @ self.codes.T - squares

    def extra_repr(self) -> str:
        return f"{self.codes.shape[1]}, {self.codes.shape[0]}"


def digit_codes() -> Tensor:
    """The codes (10, 84) of the digits: +1 where they are drawn, -1 elsewhere."""
    rows = [line.split() for line in DIGITS.strip().splitlines()]
    return torch.tensor([[1.0 if c == "#" else -1.0 for row in rows for c in row[digit]] for digit in range(10)])
