"""Autoencoder: images encoded as a code and decoded, fully connected or convolutional; its encoder is a backbone.

    python -m vision.generation --model autoencoder --data mnist                    # convolutional
    python -m vision.generation --model autoencoder --data mnist --backbone mlp     # fully connected
    python -m vision.classification --data mnist --shots 100 --backbone results/mnist/autoencoder-1

Hinton & Salakhutdinov 2006, "Reducing the dimensionality of data with neural networks", doi 10.1126/science.1127647:
cross-entropy of pixels between 0 and 1. The score is the squared error of an image, summed over its pixels, as there.

It is no model of a distribution: `sample` decodes codes drawn from a Gaussian with the mean and covariance of the
codes of training images, which `codes_mean` and `codes_square` estimate by moving averages.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from vision import backbones
from vision.generation.coders import Encoder, build_decoder
from vision.generation.generator import ERROR, Generator
from vision.generation.likelihoods import Bernoulli

KEPT = 0.99  # of the codes' mean and second moment, an update


class Autoencoder(Generator):
    """Encoder, code of `latents` numbers, decoder: images (B, C, H, W) to images.

    noise: deviation of Gaussian noise on the inputs, for a denoising autoencoder (Vincent et al. 2008).
    """

    score = ERROR

    def __init__(
        self,
        backbone: backbones.Backbone,
        levels: int,
        classes: int,
        latents: int,
        hidden: int,
        blocks: int,
        noise: float,
    ) -> None:
        super().__init__(backbone.shape, levels, classes)
        self.noise, self.latents, self.pixels = noise, latents, Bernoulli()
        self.encoder = Encoder(backbone, hidden)
        self.to_code = nn.Linear(self.encoder.features, latents)
        self.decoder = build_decoder(backbone, latents + classes, hidden, self.shape[0], blocks)
        self.register_buffer("codes_mean", torch.zeros(latents))
        self.register_buffer("codes_square", torch.eye(latents))  # mean of outer products

    @property
    def backbone(self) -> backbones.Backbone:
        """The encoder's, which a run saves for other tasks."""
        return self.encoder.backbone

    def encode(self, images: Tensor, labels: Tensor | None = None) -> Tensor:
        """Codes (B, latents) of images (B, C, H, W), whatever their labels are."""
        return self.to_code(self.encoder(images))

    def decode(self, codes: Tensor, labels: Tensor | None = None) -> Tensor:
        """Images (B, C, H, W) from 0 to 1 of codes (B, latents)."""
        return self.pixels.mean(self._logits(codes, labels))

    def _logits(self, codes: Tensor, labels: Tensor | None) -> Tensor:
        return self.decoder(torch.cat([codes, self.condition(labels, len(codes))], 1))

    def losses(self, images: Tensor, labels: Tensor) -> dict[str, Tensor]:
        inputs = images + self.noise * torch.randn_like(images) if self.noise else images
        codes = self.encode(inputs)
        logits = self._logits(codes, labels)
        with torch.no_grad():
            seen = codes.float()
            self.codes_mean.lerp_(seen.mean(0), 1 - KEPT)
            self.codes_square.lerp_((seen[:, :, None] * seen[:, None]).mean(0), 1 - KEPT)  # not in bfloat16
            error = (self.pixels.mean(logits) - images).square().sum((1, 2, 3)).mean()
        loss = -self.pixels.log_prob(logits, images).sum((1, 2, 3)).mean()
        return {"loss/reconstruction": loss, "train/squared_error": error}

    def scores(self, images: Tensor, labels: Tensor) -> dict[str, Tensor]:
        logits = self._logits(self.encode(images), labels)
        error = (self.pixels.mean(logits) - images).square().sum((1, 2, 3))
        return {"squared_error": error, "cross_entropy": -self.pixels.log_prob(logits, images).sum((1, 2, 3))}

    def sample(self, count: int, labels: Tensor | None = None) -> Tensor:
        covariance = self.codes_square - torch.outer(self.codes_mean, self.codes_mean)
        values, vectors = torch.linalg.eigh(covariance)
        noise = torch.randn(count, self.latents, device=self.device)
        codes = self.codes_mean + noise * values.clamp(min=0).sqrt() @ vectors.T
        return self.decode(codes, self.drawn_labels(count, labels))

    def reconstruct(self, images: Tensor, labels: Tensor | None = None) -> Tensor:
        return self.decode(self.encode(images), labels)


def latent_line(one: Tensor, other: Tensor, count: int) -> Tensor:
    """Codes (count, latents) on the straight line between two codes (latents,), both included."""
    share = torch.linspace(0, 1, count, device=one.device)[:, None]
    return (1 - share) * one + share * other


def traversal(code: Tensor, which: Tensor, values: Tensor) -> Tensor:
    """A code (latents,) with one number of it at a time, those of `which` (K,), set to each of its values (K, N):
    (K, N, latents)."""
    found = code.repeat(*values.shape, 1)
    rows = torch.arange(len(which), device=code.device)
    found[rows, :, which] = values.to(found)
    return found
