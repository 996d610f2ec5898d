"""Likelihoods of pixels given the output of a decoder: Bernoulli, discretized logistic, categorical.

Each has `outputs`, its parameters for a channel of a pixel, `log_prob`, `sample` and `mean`. Parameters are maps
(B, outputs * C, H, W), the first C of them of the first parameter.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F

SHARPEST = -7.0  # log of the logistic's least width, of pixels from 0 to 1: below it gradients explode


class Bernoulli:
    """Binary pixels; of values between 0 and 1 the cross-entropy, no likelihood. Parameters are logits."""

    outputs = 1

    def log_prob(self, parameters: Tensor, images: Tensor) -> Tensor:
        """Nats (B, C, H, W) of images from 0 to 1 (B, C, H, W)."""
        return -F.binary_cross_entropy_with_logits(parameters.float(), images, reduction="none")

    def sample(self, parameters: Tensor) -> Tensor:
        """Binary images (B, C, H, W), drawn."""
        return torch.bernoulli(self.mean(parameters))

    def draw(self, parameters: Tensor, uniform: Tensor) -> Tensor:
        """Values (B,) of parameters (B, 1) by uniform numbers (B,) from 0 to 1."""
        return (uniform < parameters[:, 0].float().sigmoid()).float()

    def mean(self, parameters: Tensor) -> Tensor:
        """The probability of a 1, (B, C, H, W)."""
        return parameters.float().sigmoid()


class DiscretizedLogistic:
    """Pixels of some levels: the mass of a logistic distribution in a bin around each; the ends have its tails.

    Kingma et al. 2016, arXiv 1606.04934, appendix C, and Salimans et al. 2017, arXiv 1701.05517, equation 2 with one
    component. The parameters of a channel are the logit of the mean and the log of the width.
    """

    outputs = 2

    def __init__(self, levels: int) -> None:
        self.levels = levels

    def _split(self, parameters: Tensor) -> tuple[Tensor, Tensor]:
        mean, width = parameters.float().chunk(2, 1)
        return mean.sigmoid(), (width - 2.0).clamp(SHARPEST, 3.0)

    def log_prob(self, parameters: Tensor, images: Tensor) -> Tensor:
        """Nats (B, C, H, W) of images of levels from 0 to 1 (B, C, H, W)."""
        mean, width = self._split(parameters)
        half, inverse = 0.5 / (self.levels - 1), (-width).exp()
        high, low = (images + half - mean) * inverse, (images - half - mean) * inverse
        # log(sigmoid(high) - sigmoid(low)), stable where both are close to 0 or to 1
        inner = F.logsigmoid(high) + F.logsigmoid(-low) + torch.log(-torch.expm1(low - high))
        found = torch.where(images > 1 - half, F.logsigmoid(-low), inner)
        return torch.where(images < half, F.logsigmoid(high), found)

    def sample(self, parameters: Tensor) -> Tensor:
        """Images of levels from 0 to 1 (B, C, H, W), drawn."""
        mean, width = self._split(parameters)
        uniform = torch.rand_like(mean).clamp(1e-5, 1 - 1e-5)
        return self._rounded(mean + width.exp() * torch.logit(uniform))

    def mean(self, parameters: Tensor) -> Tensor:
        """The middle of the distribution, (B, C, H, W) from 0 to 1."""
        return self._split(parameters)[0]

    def _rounded(self, images: Tensor) -> Tensor:
        return (images.clamp(0, 1) * (self.levels - 1)).round() / (self.levels - 1)


class Categorical:
    """Pixels of some levels, each with a probability of its own: van den Oord et al. 2016, arXiv 1601.06759,
    section 2.2."""

    def __init__(self, levels: int) -> None:
        self.levels = self.outputs = levels

    def _logits(self, parameters: Tensor) -> Tensor:
        return parameters.float().unflatten(1, (self.levels, -1))  # (B, levels, C, H, W)

    def log_prob(self, parameters: Tensor, images: Tensor) -> Tensor:
        """Nats (B, C, H, W) of images of levels from 0 to 1 (B, C, H, W)."""
        targets = (images * (self.levels - 1)).round().long()
        return -F.cross_entropy(self._logits(parameters), targets, reduction="none")

    def sample(self, parameters: Tensor) -> Tensor:
        """Images of levels from 0 to 1 (B, C, H, W), drawn."""
        shares = self._logits(parameters).softmax(1).movedim(1, -1)
        drawn = torch.multinomial(shares.flatten(0, -2), 1).view(shares.shape[:-1])
        return drawn / (self.levels - 1)

    def draw(self, parameters: Tensor, uniform: Tensor) -> Tensor:
        """Values (B,) of parameters (B, levels) by uniform numbers (B,) from 0 to 1, by the inverse of the cumulative
        distribution."""
        below = parameters.float().softmax(1).cumsum(1)[:, :-1] <= uniform[:, None]
        return below.sum(1) / (self.levels - 1)

    def mean(self, parameters: Tensor) -> Tensor:
        """The mean of the distribution, (B, C, H, W) from 0 to 1."""
        levels = torch.linspace(0, 1, self.levels, device=parameters.device)
        return torch.einsum("blchw,l->bchw", self._logits(parameters).softmax(1), levels)
