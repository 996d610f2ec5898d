"""Finite scalar quantization: each number of a map is rounded to one of a few levels."""

import torch
from torch import Tensor, nn


class FiniteScalarQuantization(nn.Module):
    """Maps of any size and shape to numbers from -1 to 1, each one of `levels` equally spaced ones.

    Mentzer et al. 2023, "Finite scalar quantization: VQ-VAE made simple", arXiv 2309.15505, equation 1, for an odd
    number of levels: round((L - 1) / 2 tanh(x)), here divided by (L - 1) / 2. Gradients pass the rounding as they
    are (straight through, Bengio et al. 2013, arXiv 1308.3432). There is no codebook that could collapse.

    Raises ValueError for an even number of levels, or fewer than 3.
    """

    def __init__(self, levels: int) -> None:
        super().__init__()
        if levels < 3 or levels % 2 == 0:
            raise ValueError(f"levels of a quantized latent are an odd number from 3 on, got {levels}")
        self.levels, self.half = levels, (levels - 1) // 2

    def forward(self, x: Tensor) -> Tensor:
        bounded = torch.tanh(x.float())
        rounded = (bounded.detach() * self.half).round() / self.half
        return bounded + (rounded - bounded.detach())

    def index(self, values: Tensor) -> Tensor:
        """The level of each value (...), int64 from 0 to levels - 1."""
        return (values * self.half).round().long() + self.half

    def value(self, index: Tensor) -> Tensor:
        """The value (...) from -1 to 1 of each level's index (...)."""
        return (index - self.half).float() / self.half
