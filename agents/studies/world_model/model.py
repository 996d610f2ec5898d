"""WorldModel: frames as latents by a VAE, and an LSTM that predicts the next ones.

Ha & Schmidhuber 2018, "World models" (arXiv 1803.10122): z_t are latents of frame t, and an LSTM that reads z_t and
action a_t gives a mixture of Gaussians over z_t+1 for each latent (Graves 2013, arXiv 1308.0850, equations 21 to 25)
and, as in their game of Doom, whether the game ends. Here a share of z_t, which the LSTM chooses, is added to the
means, so that what stands still need not be learned, and the sign of the reward is predicted, too.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from vision import backbones
from vision.generation.coders import mirrored
from vision.generation.posteriors import gaussian_kl

FEW = 1_000  # frames of which float copies are made at once
LEAST_DEVIATION = 0.05  # of a pixel from 0 to 1: that of a still background
FIRST_LOG_VARIANCE = -4.0  # of a latent: with more noise the decoder learns to ignore it
NARROWEST = -5.0  # log of a component's least deviation; latents of the prior have 1


class Prediction(NamedTuple):
    """Of one step or several, (...): the mixture of each of L latents of the next frame, reward and end."""

    log_weight: Tensor  # (..., L, K), logs that sum to 1
    mean: Tensor  # (..., L, K)
    log_deviation: Tensor  # (..., L, K)
    reward: Tensor  # (..., 3), logits of a reward below, at and above 0
    end: Tensor  # (...), logit that the game ends

    def log_prob(self, z: Tensor) -> Tensor:
        """Log-density (...) of latents (..., L)."""
        scaled = (z.unsqueeze(-1) - self.mean) * (-self.log_deviation).exp()
        each = self.log_weight - self.log_deviation - 0.5 * (scaled.square() + math.log(2 * math.pi))
        return each.logsumexp(-1).sum(-1)

    def expected(self) -> Tensor:
        """The mixture's mean (..., L)."""
        return (self.log_weight.exp() * self.mean).sum(-1)

    def draw(self, temperature: float, generator: torch.Generator | None = None) -> Tensor:
        """Latents (..., L) drawn from the mixture; the expected ones at temperature 0.

        temperature: weights are raised to the power of its inverse, variances multiplied by it (Ha & Schmidhuber
        2018, appendix A).
        """
        if temperature == 0:
            return self.expected()
        weight = (self.log_weight / temperature).softmax(-1)
        component = torch.multinomial(weight.flatten(0, -2).cpu(), 1, generator=generator).to(weight.device)
        component = component.view(*weight.shape[:-1], 1)
        mean, deviation = self.mean.gather(-1, component), self.log_deviation.gather(-1, component).exp()
        noise = torch.randn(mean.shape, generator=generator).to(mean.device)
        return (mean + deviation * math.sqrt(temperature) * noise).squeeze(-1)


class StandardizedPixels(nn.Module):
    """Gaussian likelihood of pixels, each with its own deviation over the recorded frames.

    A ball of two pixels, which is seldom where it is, then counts as much as a field. Has the methods of
    vision/generation/likelihoods.py; the parameter of a pixel is its mean, less that over the frames, in deviations.
    """

    outputs = 1
    mean_frame: Tensor  # (1, 84, 84)
    deviation: Tensor  # (1, 84, 84)

    def __init__(self, shape: Sequence[int]) -> None:
        super().__init__()
        self.register_buffer("mean_frame", torch.zeros(*shape))
        self.register_buffer("deviation", torch.ones(*shape))

    def fit(self, frames: Tensor) -> None:
        """Take mean and deviation from frames (N, C, H, W) uint8."""
        count = len(frames)
        mean = sum(some.float().sum(0) for some in frames.split(FEW)) / count / 255
        square = sum((some.float() / 255 - mean).square().sum(0) for some in frames.split(FEW)) / count
        self.mean_frame.copy_(mean)
        self.deviation.copy_(square.sqrt().clamp(min=LEAST_DEVIATION))

    def log_prob(self, parameters: Tensor, images: Tensor) -> Tensor:
        """Log-density (B, C, H, W), less a constant, of images from 0 to 1 (B, C, H, W)."""
        return -0.5 * (parameters.float() - (images - self.mean_frame) / self.deviation).square()

    def sample(self, parameters: Tensor) -> Tensor:
        """The mean (B, C, H, W): pixels of a game have no noise of their own."""
        return self.mean(parameters)

    def mean(self, parameters: Tensor) -> Tensor:
        """Frames (B, C, H, W) from 0 to 1."""
        return (self.mean_frame + self.deviation * parameters.float()).clamp(0, 1)


class FrameVAE(nn.Module):
    """VAE of frames (B, 1, 84, 84) whose latents are a map (B, channels, h, w) behind a backbone's coarsest one.

    Where a small ball is stays where it is in the map; a dense layer would have to learn it place by place.
    """

    def __init__(self, backbone: backbones.Backbone, channels: int) -> None:
        super().__init__()
        self.backbone, self.pixels = backbone, StandardizedPixels(backbone.shape)
        features, *size = backbone.imagine(backbone.shape)[-1].shape[1:]
        self.shape = (channels, *size)
        self.to_latents = nn.Conv2d(features, 2 * channels, 1)
        with torch.no_grad():
            self.to_latents.bias[channels:] = FIRST_LOG_VARIANCE
        self.decoder = nn.Sequential(nn.Conv2d(channels, features, 1), nn.ReLU(), *mirrored(backbone, 1))

    def posterior(self, frames: Tensor) -> tuple[Tensor, Tensor]:
        """Mean and log-variance (B, channels, h, w) of the latents of frames (B, 1, 84, 84) uint8."""
        mean, log_variance = self.to_latents(self.backbone(frames)[-1]).float().chunk(2, 1)
        return mean, log_variance.clamp(-12, 6)

    def losses(self, frames: Tensor, kl_weight: float) -> dict[str, Tensor]:
        """Scalars of frames (B, 1, 84, 84) uint8: the sum of those called loss/... is minimized."""
        mean, log_variance = self.posterior(frames)
        parameters = self.decoder(mean + (0.5 * log_variance).exp() * torch.randn_like(mean))
        reconstruction = -self.pixels.log_prob(parameters, frames.float() / 255).sum((1, 2, 3)).mean()
        kl = gaussian_kl(mean, log_variance).sum((1, 2, 3)).mean()
        return {"loss/reconstruction": reconstruction, "loss/kl": kl_weight * kl, "train/kl": kl}


class WorldModel(nn.Module):
    """The VAE of frames and the LSTM of its latents.

    channels: of the map of latents, which has L numbers. components: Gaussians of a latent's mixture.
    """

    def __init__(
        self, backbone: backbones.Backbone, actions: int, channels: int = 8, hidden: int = 256, components: int = 3
    ) -> None:
        super().__init__()
        self.actions, self.components = actions, components
        self.vae = FrameVAE(backbone, channels)
        self.latents = math.prod(self.vae.shape)
        self.lstm = nn.LSTM(self.latents + actions, hidden, batch_first=True)
        self.mixture = nn.Linear(hidden, 3 * self.latents * components)
        self.kept = nn.Linear(hidden, self.latents)  # logit of the share of a latent that stays
        self.outcome = nn.Linear(hidden, 4)

    def fit_pixels(self, frames: Tensor) -> None:
        """Take pixels' means and deviations, and the picture that the encoder subtracts, from frames (N, 1, 84, 84)
        uint8."""
        self.vae.pixels.fit(frames)
        self.backbone.set_mean_observation((self.vae.pixels.mean_frame * 255).round())

    @property
    def backbone(self) -> backbones.Backbone:
        """The VAE's encoder, which agents take as --backbone."""
        return self.vae.backbone

    def encode(self, frames: Tensor) -> tuple[Tensor, Tensor]:
        """Mean and deviation (B, L) of the latents of frames (B, 1, 84, 84) uint8."""
        mean, log_variance = self.vae.posterior(frames)
        return mean.flatten(1), (0.5 * log_variance).exp().flatten(1)

    def decode(self, z: Tensor) -> Tensor:
        """Frames (B, 1, 84, 84) from 0 to 1 of latents (B, L)."""
        return self.vae.pixels.mean(self.vae.decoder(z.unflatten(1, self.vae.shape)))

    def predict(
        self, z: Tensor, action: Tensor, state: tuple[Tensor, Tensor] | None = None
    ) -> tuple[Prediction, tuple[Tensor, Tensor]]:
        """The predictions after each step, and the LSTM's state after the last one.

        Args:
            z: (B, T, L) of the frames before the steps.
            action: (B, T) int64.
            state: of the LSTM before the first; None at the start of a game.
        """
        inputs = torch.cat([z, F.one_hot(action, self.actions).to(z.dtype)], -1)
        outputs, state = self.lstm(inputs, state)
        weight, mean, log_deviation = self.mixture(outputs).float().view(*z.shape, 3, self.components).unbind(-2)
        outcome = self.outcome(outputs).float()
        found = Prediction(
            weight.log_softmax(-1),
            mean + (self.kept(outputs).float().sigmoid() * z.float()).unsqueeze(-1),
            log_deviation.clamp(NARROWEST, 2.0),
            outcome[..., :3],
            outcome[..., 3],
        )
        return found, state

    def dynamics_losses(self, z: Tensor, action: Tensor, reward: Tensor, last: Tensor) -> dict[str, Tensor]:
        """The LSTM's losses of latents z (B, T + 1, L), scalars: nats a latent, of the reward's sign and of the end.

        action, reward, last: (B, T); the frame after a step with which a game ended is another game's: not predicted.
        """
        found, _ = self.predict(z[:, :-1], action)
        going = ~last
        nats = -(found.log_prob(z[:, 1:]) * going).sum() / going.sum().clamp(min=1) / self.latents
        sign = (reward.sign() + 1).long()
        return {
            "loss/latent": nats,
            "loss/reward": F.cross_entropy(found.reward.flatten(0, 1), sign.flatten()),
            "loss/end": F.binary_cross_entropy_with_logits(found.end, last.float()),
        }
