"""Noisy networks: learned noise on the weights of the dense layers explores, instead of epsilon.

Fortunato et al. 2018, "Noisy networks for exploration", factorized Gaussian noise.

    python -m agents.rainbow --only noisy --env Breakout

The training loop is loop.py, with this component only. Deviation from the paper: all
worlds have the same noise in a step, and all transitions of a batch.
"""

import math

import torch
from torch import Tensor, nn
from torch.nn import functional as F


class NoisyLinear(nn.Module):
    """y = (mu_w + sigma_w * e_w) x + mu_b + sigma_b * e_b, equation 9; new noise at every call in training, none in
    evaluation. (B, in_features) -> (B, out_features).

    sigma: the noise at the start is sigma / sqrt(in_features), section 3.2.
    """

    def __init__(self, in_features: int, out_features: int, sigma: float = 0.5) -> None:
        super().__init__()
        self.in_features, self.out_features = in_features, out_features
        self.weight = nn.Parameter(torch.empty(out_features, in_features))
        self.bias = nn.Parameter(torch.empty(out_features))
        self.weight_sigma = nn.Parameter(torch.empty(out_features, in_features))
        self.bias_sigma = nn.Parameter(torch.empty(out_features))
        bound = 1 / math.sqrt(in_features)
        for mean, deviation in ((self.weight, self.weight_sigma), (self.bias, self.bias_sigma)):
            nn.init.uniform_(mean, -bound, bound)
            nn.init.constant_(deviation, sigma * bound)

    def forward(self, x: Tensor) -> Tensor:
        if not self.training:
            return F.linear(x, self.weight, self.bias)
        noise_in, noise_out = (scaled(torch.randn(n, device=x.device)) for n in (self.in_features, self.out_features))
        weight = torch.addcmul(self.weight, self.weight_sigma, torch.outer(noise_out, noise_in))
        return F.linear(x, weight, self.bias + self.bias_sigma * noise_out)


def scaled(noise: Tensor) -> Tensor:
    """f(x) = sgn(x) sqrt(|x|), section 3 b. noise: of any shape."""
    return noise.sign() * noise.abs().sqrt()
