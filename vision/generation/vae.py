"""Variational autoencoder: a decoder of latents, learned by the evidence lower bound (ELBO).

    python -m vision.generation --model vae --data mnist
    python -m vision.generation --model vae --data mnist --conditional --posterior iaf

Kingma & Welling 2013, "Auto-encoding variational Bayes", arXiv 1312.6114. ELBO = E_q log p(x | z) - KL(q(z | x) |
p(z)), with one sample of z an image in learning; log_prob is this bound. `importance_log_prob` is the tighter one of
Burda et al. 2015, arXiv 1509.00519, equation 8. With --conditional encoder and decoder get the label (Sohn et al.
2015). posteriors.py has the posteriors, --kl-weight is that of Higgins et al. 2017's beta-VAE.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from vision import backbones
from vision.generation.coders import Encoder, build_decoder
from vision.generation.generator import Generator, bits_per_dim
from vision.generation.likelihoods import Bernoulli, DiscretizedLogistic
from vision.generation.posteriors import Drawn, Posterior, log_normal

COMPLETING = 100  # rounds of the chain that completes images


class VAE(Generator):
    """Encoder, posterior, decoder of images (B, C, H, W). Pixels are Bernoulli for 2 levels, else discretized
    logistic.

    kl_weight: of the KL in the loss. blocks: residual blocks of the decoder at each of its sizes.
    """

    likelihood = "bound"

    def __init__(
        self,
        backbone: backbones.Backbone,
        levels: int,
        classes: int,
        latents: int,
        hidden: int,
        blocks: int,
        posterior: str,
        flows: int,
        kl_weight: float,
    ) -> None:
        super().__init__(backbone.shape, levels, classes)
        self.latents, self.kl_weight = latents, kl_weight
        self.pixels = Bernoulli() if levels == 2 else DiscretizedLogistic(levels)
        self.encoder = Encoder(backbone, hidden)
        self.posterior = Posterior(posterior, self.encoder.features + classes, latents, flows)
        outputs = self.pixels.outputs * self.shape[0]
        self.decoder = build_decoder(backbone, latents + classes, hidden, outputs, blocks)

    @property
    def backbone(self) -> backbones.Backbone:
        """The encoder's, which a run saves for other tasks."""
        return self.encoder.backbone

    def features(self, images: Tensor, labels: Tensor | None = None) -> Tensor:
        """What the posterior is computed from, (B, features), of images (B, C, H, W)."""
        return torch.cat([self.encoder(images), self.condition(labels, len(images))], 1)

    def parameters_of(self, z: Tensor, labels: Tensor | None = None) -> Tensor:
        """The parameters of p(x | z) (B, outputs, H, W) of latents z (B, latents)."""
        return self.decoder(torch.cat([z, self.condition(labels, len(z))], 1))

    def terms(
        self, images: Tensor, labels: Tensor | None = None, features: Tensor | None = None
    ) -> tuple[Tensor, Drawn]:
        """log p(x | z) (B,) of images (B, C, H, W) at a drawn z, and what was drawn. features: of these images."""
        drawn = self.posterior(self.features(images, labels) if features is None else features)
        found = self.pixels.log_prob(self.parameters_of(drawn.z, labels), images)
        return found.sum((1, 2, 3)), drawn

    def losses(self, images: Tensor, labels: Tensor) -> dict[str, Tensor]:
        likelihood, drawn = self.terms(images, labels)
        reconstruction, kl = -likelihood.mean(), drawn.kl.mean()
        found = {"loss/reconstruction": reconstruction, "loss/kl": self.kl_weight * kl}
        return found | {"train/nats": reconstruction + kl}

    def scores(self, images: Tensor, labels: Tensor) -> dict[str, Tensor]:
        likelihood, drawn = self.terms(images, labels)
        found = drawn.kl - likelihood
        return {"nats": found, "bits_per_dim": bits_per_dim(found, images), "kl": drawn.kl}

    def log_prob(self, images: Tensor, labels: Tensor | None = None) -> Tensor:
        likelihood, drawn = self.terms(images, labels)
        return likelihood - drawn.kl

    def importance_log_prob(self, images: Tensor, labels: Tensor | None = None, count: int = 100) -> Tensor:
        """Importance-weighted bound (B,) in nats of log p(x) of images (B, C, H, W), by `count` samples of z each.

        log 1/K sum_k p(x, z_k) / q(z_k | x), Burda et al. 2015, equation 8: it rises with K towards log p(x).
        """
        h = self.features(images, labels)
        found = []
        for _ in range(count):  # one after the other: a batch of all does not fit into a cache
            likelihood, drawn = self.terms(images, labels, h)
            found.append(likelihood + log_normal(drawn.z) - drawn.log_q)
        return torch.stack(found).logsumexp(0) - math.log(count)

    def encode(self, images: Tensor, labels: Tensor | None = None) -> Tensor:
        """The middle of the posterior, (B, latents), of images (B, C, H, W)."""
        return self.posterior.center(self.features(images, labels))

    def decode(self, codes: Tensor, labels: Tensor | None = None) -> Tensor:
        """Mean images (B, C, H, W) from 0 to 1 of latents (B, latents)."""
        return self.pixels.mean(self.parameters_of(codes, labels))

    def sample(self, count: int, labels: Tensor | None = None) -> Tensor:
        """Mean images (count, C, H, W) of latents drawn from the prior; the pixels' own noise is left out."""
        z = torch.randn(count, self.latents, device=self.device)
        return self.decode(z, self.drawn_labels(count, labels))

    def complete(
        self, images: Tensor, known: Tensor, labels: Tensor | None = None, rounds: int = COMPLETING
    ) -> Tensor:
        """In-painting by a Markov chain: latents drawn given the image as it is, then its unknown pixels given those.

        Rezende et al. 2014, arXiv 1401.4082, appendix F. The unknown pixels begin as noise, and are means at the end.
        images: (B, C, H, W). known: (H, W) or (B, H, W) bool. rounds: of the chain.
        """
        known = known.expand(len(images), *images.shape[2:])[:, None]
        found = torch.where(known, images, torch.rand_like(images).round())
        for number in range(rounds):
            drawn = self.posterior(self.features(found, labels))
            parameters = self.parameters_of(drawn.z, labels)
            last = number == rounds - 1
            found = torch.where(
                known, images, self.pixels.mean(parameters) if last else self.pixels.sample(parameters)
            )
        return found

    def reconstruct(self, images: Tensor, labels: Tensor | None = None) -> Tensor:
        return self.decode(self.encode(images, labels), labels)
