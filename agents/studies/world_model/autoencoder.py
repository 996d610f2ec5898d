"""Autoencoder of frames: an encoder that ends in a map of quantized latents, and its mirror image as decoder."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from vision import backbones

FEW = 1_000  # frames of which float copies are made at once
LEAST_DEVIATION = 0.05  # of a pixel from 0 to 1: that of a still background


class StandardizedPixels(nn.Module):
    """Gaussian likelihood of pixels, each with its own deviation over the recorded frames.

    A ball of two pixels, which is seldom where it is, then counts as much as a field. The parameter of a pixel is its
    mean, less that over the frames, in deviations.
    """

    mean_frame: Tensor  # (C, H, W)
    deviation: Tensor  # (C, H, W)

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

    def mean(self, parameters: Tensor) -> Tensor:
        """Frames (B, C, H, W) from 0 to 1."""
        return (self.mean_frame + self.deviation * parameters.float()).clamp(0, 1)


class FrameAutoencoder(nn.Module):
    """Autoencoder of frames (B, C, H, W) whose latents are a map (B, L, h, w), each one of a few levels.

    Where a small ball is stays where it is in the map; a dense layer would have to learn it place by place.

    encoder: a FrameEncoder with levels. width: channels of the decoder, as a multiple of the encoder's.
    """

    def __init__(self, encoder: backbones.FrameEncoder, width: int = 1) -> None:
        super().__init__()
        self.encoder, self.pixels = encoder, StandardizedPixels(encoder.shape)
        self.shape = tuple(encoder.imagine(encoder.shape)[-1].shape[1:])  # L, h, w
        self.decoder = build_decoder(encoder, width)

    def decode(self, z: Tensor) -> Tensor:
        """Frames (B, C, H, W) from 0 to 1 of latents (B, L, h, w)."""
        return self.pixels.mean(self.decoder(z))

    def losses(self, frames: Tensor, sparsity: float) -> dict[str, Tensor]:
        """Scalars of frames (B, C, H, W) uint8: the sum of those called loss/... is minimized.

        They are the negative log-likelihood of pixels, and `sparsity` times the sum of the latents' absolute values,
        so that latents are 0 where they are not needed: each cell sees more of a frame than it has to tell.
        """
        z = self.encoder(frames)[-1]
        found = self.pixels.log_prob(self.decoder(z), frames.float() / 255)
        size = z.abs().sum((1, 2, 3)).mean()
        return {
            "loss/reconstruction": -found.sum((1, 2, 3)).mean(),
            "loss/sparsity": sparsity * size,
            "train/latents_size": size,
        }


def build_decoder(encoder: backbones.FrameEncoder, width: int) -> nn.Sequential:
    """Layers from latents (B, L, h, w) back to (B, C, H, W): a transposed convolution for each map of the body.

    Kernel and padding are such that every size is met exactly: behind convolutions without padding they are the
    convolutions' own (Nature's 7 -> 9 -> 20 -> 84). Neither cropped nor stretched, a pixel is where it was.
    """
    body = encoder.body
    maps = [tuple(each.shape[1:]) for each in body.imagine(body.shape)]
    strides, sizes = [1, *body.strides], [body.shape[1:], *(each[1:] for each in maps)]
    widths = [body.shape[0], *(width * each[0] for each in maps)]
    layers: list[nn.Module] = [nn.Conv2d(encoder.channels[-1], widths[-1], 1), nn.ReLU()]
    for index in range(len(maps), 0, -1):
        stride = strides[index] // strides[index - 1]
        reached = [large - (small - 1) * stride for large, small in zip(sizes[index - 1], sizes[index], strict=True)]
        padding = [max(0, -(-(max(2 * stride, 3) - each) // 2)) for each in reached]
        kernel = [each + 2 * more for each, more in zip(reached, padding, strict=True)]
        layers += [nn.ConvTranspose2d(widths[index], widths[index - 1], kernel, stride, padding), nn.ReLU()]
    return nn.Sequential(*layers[:-1])
