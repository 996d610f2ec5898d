"""Approximate posteriors q(z | x) of a VAE: diagonal Gaussian, and normalizing flows on top of it.

gaussian   Kingma & Welling 2013, arXiv 1312.6114, with the closed form of its KL to a standard normal
planar     Rezende & Mohamed 2015, arXiv 1505.05770, equations 10 to 12, its parameters computed from the image
iaf        inverse autoregressive flow: Kingma et al. 2016, arXiv 1606.04934, algorithm 1 and equations 13 and 14
"""

from __future__ import annotations

import math
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional as F

NAMES = ("gaussian", "planar", "iaf")


class Drawn(NamedTuple):
    """A sample of the posterior."""

    z: Tensor  # (B, latents)
    log_q: Tensor  # (B,), log-density at z
    kl: Tensor  # (B,), to a standard normal: exact without flows, else of this sample


def log_normal(z: Tensor, mean: Tensor | float = 0.0, log_variance: Tensor | float = 0.0) -> Tensor:
    """Log-density (B,) of z (B, D) under a Gaussian with diagonal covariance."""
    spread = torch.as_tensor(log_variance, device=z.device)
    return -0.5 * (math.log(2 * math.pi) + spread + (z - mean).square() * (-spread).exp()).sum(1)


def gaussian_kl(mean: Tensor, log_variance: Tensor) -> Tensor:
    """KL (B, D), a value for each dimension, of N(mean, exp(log_variance)) from a standard normal: Kingma & Welling
    2013, appendix B."""
    return 0.5 * (mean.square() + log_variance.exp() - 1 - log_variance)


class Posterior(nn.Module):
    """q(z | x) from an encoder's features (B, features): z (B, latents) with its log-density and KL.

    kind: of NAMES. flows: layers of a flow. width: hidden units of each autoregressive layer.
    Raises ValueError for another kind, and for autoregression over a single latent.
    """

    def __init__(self, kind: str, features: int, latents: int, flows: int = 2, width: int = 128) -> None:
        super().__init__()
        if kind not in NAMES:
            raise ValueError(f"unknown posterior {kind!r}: choose one of {', '.join(NAMES)}")
        if kind == "iaf" and latents < 2:
            raise ValueError("an autoregressive flow needs 2 latents or more")
        self.latents = latents
        self.to_mean = nn.Linear(features, latents)
        self.to_log_variance = nn.Linear(features, latents)
        layers = {
            "planar": lambda: Planar(features, latents),
            "iaf": lambda: AutoregressiveFlow(features, latents, width),
        }
        self.flows = nn.ModuleList(layers[kind]() for _ in range(flows if kind in layers else 0))
        nn.init.zeros_(self.to_log_variance.weight)
        nn.init.zeros_(self.to_log_variance.bias)

    def base(self, h: Tensor) -> tuple[Tensor, Tensor]:
        """Mean and log-variance (B, latents) of the Gaussian of features (B, features)."""
        kind = self.to_mean.weight.dtype  # not that of mixed precision
        return self.to_mean(h).to(kind), self.to_log_variance(h).to(kind).clamp(-12, 6)

    def forward(self, h: Tensor) -> Drawn:
        mean, log_variance = self.base(h)
        noise = torch.randn_like(mean)
        z = mean + (0.5 * log_variance).exp() * noise
        log_q = log_normal(z, mean, log_variance)
        if not self.flows:
            return Drawn(z, log_q, gaussian_kl(mean, log_variance).sum(1))
        for flow in self.flows:
            z, log_determinant = flow(z, h)
            log_q = log_q - log_determinant
        return Drawn(z, log_q, log_q - log_normal(z))

    def center(self, h: Tensor) -> Tensor:
        """The Gaussian's mean, carried through the flows: (B, latents) of features (B, features)."""
        z = self.base(h)[0]
        for flow in self.flows:
            z, _ = flow(z, h)
        return z


class Planar(nn.Module):
    """z + u tanh(w z + b): z (B, D) and features (B, F) to the new z and the log-determinant (B,).

    u is moved along w so that w u > -1, for which the layer is invertible (the paper's appendix A.1).
    """

    def __init__(self, features: int, latents: int) -> None:
        super().__init__()
        self.to_parameters = nn.Linear(features, 2 * latents + 1)
        nn.init.normal_(self.to_parameters.weight, std=0.01)
        nn.init.normal_(self.to_parameters.bias, std=0.1)

    def forward(self, z: Tensor, h: Tensor) -> tuple[Tensor, Tensor]:
        u, w, b = self.to_parameters(h).to(z.dtype).split([z.shape[1], z.shape[1], 1], 1)
        product = (w * u).sum(1, keepdim=True)
        u = u + (F.softplus(product) - 1 - product) * w / w.square().sum(1, keepdim=True).clamp(min=1e-8)
        inner = torch.tanh((w * z).sum(1, keepdim=True) + b)
        slope = (1 - inner.square()) * (w * u).sum(1, keepdim=True)
        return z + u * inner, torch.log1p(slope.clamp(min=-1 + 1e-6))[:, 0]


class MaskedLinear(nn.Linear):
    """A linear layer (B, inputs) to (B, outputs) with connections only where its mask (outputs, inputs) is 1."""

    def __init__(self, mask: Tensor) -> None:
        super().__init__(mask.shape[1], mask.shape[0])
        self.register_buffer("mask", mask, persistent=False)

    def forward(self, x: Tensor) -> Tensor:
        return F.linear(x, self.weight * self.mask, self.bias)


class AutoregressiveFlow(nn.Module):
    """A layer of inverse autoregressive flow: z (B, D) and features (B, F) to the new z and the log-determinant (B,).

    MADE (Germain et al. 2015, arXiv 1502.03509) with one hidden layer gives m and s, of which those of dimension i
    depend on the dimensions before it; z <- sigmoid(s) z + (1 - sigmoid(s)) m, and the order is then reversed.
    """

    def __init__(self, features: int, latents: int, width: int) -> None:
        super().__init__()
        inputs = torch.arange(latents)
        hidden = torch.arange(width) % (latents - 1)
        self.first = MaskedLinear((hidden[:, None] >= inputs[None]).float())
        self.context = nn.Linear(features, width)
        self.second = MaskedLinear((inputs.repeat(2)[:, None] > hidden[None]).float())
        with torch.no_grad():
            self.second.weight.mul_(0.1)
            self.second.bias.zero_()
            self.second.bias[latents:] = 2.0  # at first nearly the identity, as the paper has it

    def forward(self, z: Tensor, h: Tensor) -> tuple[Tensor, Tensor]:
        hidden = F.elu(self.first(z) + self.context(h))
        m, s = self.second(hidden).to(z.dtype).chunk(2, 1)
        gate = s.sigmoid()
        return (gate * z + (1 - gate) * m).flip(1), F.logsigmoid(s).sum(1)
