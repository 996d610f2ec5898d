"""Generative adversarial networks: fully connected (Goodfellow et al. 2014), DCGAN and R3GAN, with any loss.

    python -m vision.generation --model gan --data mnist
    python -m vision.generation --model dcgan --data mnist --classifier results/mnist/classification-1
    python -m vision.generation --model r3gan --data mnist --conditional
    python -m vision.generation --model dcgan --data mnist --loss wasserstein --discriminator-updates 3

The losses and their papers are in adversarial_losses.py; the networks in mlp_gan.py, dcgan.py and r3gan.py. They are
evaluated by samples, as many as there are images: with --classifier, a run of vision.classification, by FID (the
score), classifier score, confidence and class balance (classifier_metrics.py); without, by the Frechet distance of
coarse pixels. Losses of the two networks say nothing about how good samples are.

Deviation: with several discriminator updates each has a part of the batch, so that a batch is shown once.
"""

from __future__ import annotations

import contextlib
import dataclasses
from collections.abc import Iterable, Sequence
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any, ClassVar

import torch
from torch import Tensor, nn
from torch.optim import Optimizer

import runs
from runs import suggestions
from runs.flag_types import Count, NonNegative, Share
from vision.generation import classifier_metrics
from vision.generation.adversarial_losses import (
    LOSSES,
    Critic,
    check_penalty,
    discriminator_losses,
    generator_loss,
)
from vision.generation.dcgan import DCGANDiscriminator, DCGANGenerator
from vision.generation.generator import Generator
from vision.generation.mlp_gan import MLPDiscriminator, MLPGenerator
from vision.generation.r3gan import R3GANDiscriminator, R3GANGenerator
from vision.training.losses import total_loss

FID = runs.Score("eval/fid", "min")  # by a classifier of ours
DISTANCE = runs.Score("eval/pixel_distance", "min")  # without one
CHUNK = 500  # samples made at a time
DEFAULT_LOSS = "non_saturating"


@dataclasses.dataclass(frozen=True)
class AdversarialFlags:
    """GAN, DCGAN and R3GAN. --latents is the size of their noise, --hidden that of gan's layers; --blocks says how
    many residual blocks each of r3gan's maps has, at least one."""

    GROUP: ClassVar[str] = "adversarial"

    loss: str | None = None  # minimax, non_saturating, least_squares, wasserstein, relativistic; None: the recipe's
    smoothing: Share = 0.0  # one-sided label smoothing: real images count as 1 minus this
    penalty_weight: NonNegative = 0.0  # of the gradient penalty of wasserstein and relativistic; 0: none
    discriminator_updates: Count = 1  # for each of the generator
    beta_1: Share = 0.5  # of Adam
    beta_2: Share = 0.999
    channels: Count = 32  # dcgan, r3gan: of the finest map; twice as many at each coarser one
    depth: Count = 3  # gan: hidden layers of each network
    patch: Count = 2  # r3gan: pixels, side of the squares that are read and written as one place
    classifier: Path | None = None  # a run of vision.classification on such images, for FID and confidence

    def validate(self) -> None:
        """Raise ValueError for an unknown loss, a penalty that the loss lacks, and as the other flags do."""
        super().validate()
        if self.loss_name not in LOSSES:
            raise ValueError(f"unknown --loss {self.loss!r}: {suggestions.one_of(self.loss_name, LOSSES)}")
        check_penalty(self.loss_name, self.penalty_weight)

    @property
    def loss_name(self) -> str:
        """Of LOSSES; without a recipe that of the original GAN."""
        return self.loss or DEFAULT_LOSS


class GAN(Generator):
    """A generator and a discriminator that learn against each other.

    Args:
        shape: of an image (C, H, W); images are from 0 to 1, the networks' from -1 to 1.
        network: noise (B, latent), labels (B,) or None -> images.
        discriminator: images, labels (B,) or None -> logits (B,).
        flags: loss, penalty, optimizer and classifier.
    """

    def __init__(
        self, shape: Sequence[int], levels: int, classes: int, network: nn.Module, discriminator: nn.Module,
        flags: AdversarialFlags,
    ) -> None:  # fmt: skip
        super().__init__(shape, levels, classes)
        self.network, self.discriminator, self.flags = network, discriminator, flags
        self.loss = LOSSES[flags.loss_name]
        self.score = FID if flags.classifier else DISTANCE
        self._metrics: classifier_metrics.ClassifierMetrics | None = None
        self._penalized = penalized(flags)

    # ---- learning ---------------------------------------------------------------------------------------

    def optimizers(self, rate: float, name: str = "adam") -> dict[str, Optimizer]:
        if name != "adam":
            raise ValueError(f"--optimizer {name}: adversarial networks learn by adam, with --beta-1 and --beta-2")
        self.load_metrics()  # a classifier that is not there is named before anything is learned
        betas = (self.flags.beta_1, self.flags.beta_2)
        networks = {"generator_adam": self.network, "discriminator_adam": self.discriminator}
        return {name: torch.optim.Adam(each.parameters(), rate, betas) for name, each in networks.items()}

    def update(self, images: Tensor, labels: Tensor, optimizers: dict[str, Optimizer]) -> dict[str, Tensor]:
        """Learn from a batch, images (B, C, H, W) and labels (B,): the discriminator from a part of it in each of its
        updates, then the generator."""
        generator_adam, discriminator_adam = optimizers.values()
        flags, real = self.flags, 2 * images - 1
        parts = real.chunk(flags.discriminator_updates)
        conditions = labels.chunk(flags.discriminator_updates) if self.classes else [None] * len(parts)
        for part, condition in zip(parts, conditions, strict=True):
            with torch.no_grad(), self.precision():
                fake = self.network(self.noise(len(part)), condition)
            with self.precision():
                found = discriminator_losses(
                    self.loss, self.critic(condition), part, fake.float(), flags.penalty_weight, flags.smoothing
                )
            self.descend(total_loss(found), self.discriminator, discriminator_adam)
        count = len(part)
        condition = labels[:count] if self.classes else None
        with self.precision():
            fake = self.network(self.noise(count), condition)
            found["loss/generator"] = generator_loss(self.loss, self.critic(condition), real[:count], fake)
        self.descend(found["loss/generator"], self.network, generator_adam)
        return {name: value.detach() for name, value in found.items()}

    def precision(self) -> AbstractContextManager:
        """The context of both networks: that of `autocast`, but float32 where gradients are differentiated again."""
        return contextlib.nullcontext() if self._penalized else self.autocast()

    def critic(self, labels: Tensor | None) -> Critic:
        """The discriminator of images with these labels (B,), or None: images (B, C, H, W) -> logits (B,) float32."""
        return lambda images: self.discriminator(images, labels).float()

    def noise(self, count: int) -> Tensor:
        """Noise (count, latent), normally distributed."""
        return torch.randn(count, self.network.latent, device=self.device)

    # ---- evaluation --------------------------------------------------------------------------------------

    def load_metrics(self) -> classifier_metrics.ClassifierMetrics | None:
        """The metrics by the classifier of the flags; None without. Raises RunError where it is not there."""
        if self._metrics is None and self.flags.classifier:
            self._metrics = classifier_metrics.load(self.flags.classifier, self.shape, self.device)
        return self._metrics

    def measure(self, batches: Iterable[tuple[Tensor, Tensor]]) -> dict[str, float]:
        """Metrics of as many samples as there are images (B, C, H, W), for their labels (B,) if conditional."""
        parts = [(images.cpu(), labels.cpu()) for images, labels in batches]
        images, labels = (torch.cat(each) for each in zip(*parts, strict=True))
        asked = labels if self.classes else None
        samples = self.sample(len(images), asked).cpu()
        metrics = self.load_metrics()
        if metrics is None:
            return {"pixel_distance": classifier_metrics.pixel_distance(images, samples)}
        return metrics.measure(as_bytes(images), labels, as_bytes(samples), asked)

    # ---- what a trained model does ----------------------------------------------------------------------

    def sample(self, count: int, labels: Tensor | None = None) -> Tensor:
        asked = self.drawn_labels(count, labels) if self.classes else None
        parts = []
        for index in torch.arange(count, device=self.device).split(CHUNK):
            made = self.network(self.noise(len(index)), None if asked is None else asked[index])
            parts.append((made.float() / 2 + 0.5).clamp(0, 1))
        return torch.cat(parts)


def as_bytes(images: Tensor) -> Tensor:
    """Images (N, C, H, W) from 0 to 1 as uint8."""
    return (images * 255).round().byte()


def penalized(config: AdversarialFlags) -> bool:
    """Whether the loss of a config has a gradient penalty, which batch normalization would make wrong."""
    return config.penalty_weight > 0 and LOSSES[config.loss_name].penalty != "none"


def build_gan(config: Any, shape: Sequence[int], classes: int) -> GAN:
    """The fully connected GAN of a config for images (C, H, W)."""
    network = MLPGenerator(config.latents, shape, config.hidden, config.depth, classes)
    return GAN(
        shape, config.levels, classes, network, MLPDiscriminator(shape, config.hidden, config.depth, classes), config
    )


def build_dcgan(config: Any, shape: Sequence[int], classes: int) -> GAN:
    """The DCGAN of a config for images (C, H, W); its discriminator has no batch normalization under a penalty."""
    network = DCGANGenerator(config.latents, shape, config.channels, classes)
    discriminator = DCGANDiscriminator(shape, config.channels, classes, norm=not penalized(config))
    return GAN(shape, config.levels, classes, network, discriminator, config)


def build_r3gan(config: Any, shape: Sequence[int], classes: int) -> GAN:
    """The R3GAN of a config for images (C, H, W)."""
    size = (config.channels, max(1, config.blocks), config.patch, classes)
    return GAN(
        shape, config.levels, classes, R3GANGenerator(config.latents, shape, *size), R3GANDiscriminator(shape, *size),
        config,
    )  # fmt: skip
