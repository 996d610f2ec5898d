"""DCGAN: convolutional generator and discriminator. Radford, Metz & Chintala 2015, arXiv 1511.06434, section 3.

Its five guidelines:
1. no pooling: strided convolutions in the discriminator, transposed ones in the generator;
2. batch normalization in both, but for the generator's output and the discriminator's input;
3. no fully connected hidden layers: the noise is projected to the coarsest map, one convolution reads the last one;
4. ReLU in the generator, tanh at its output;
5. leaky ReLU in the discriminator, of slope 0.2.

Weights start normally distributed with a deviation of 0.02. Conditional versions read one-hot labels: beside the
noise, and as maps beside the image.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from vision.generation.mlp_gan import SLOPE, conditioned

DEVIATION = 0.02  # of initial weights: Radford et al. 2015, section 4
COARSEST = range(4, 8)  # sides of the coarsest map


def doublings(side: int) -> int:
    """How often a map of 4 to 7 places a side is doubled to an image's side. Raises ValueError where none fits."""
    for count in range(1, 12):
        if side % 2**count == 0 and side // 2**count in COARSEST:
            return count
    raise ValueError(f"images of {side} pixels a side are no 4, 5, 6 or 7 times a power of two: choose others")


def coarsest(shape: Sequence[int]) -> tuple[int, int]:
    """(side, doublings) of the coarsest map for square images (C, H, W). Raises ValueError for other images."""
    _, tall, wide = shape
    if tall != wide:
        raise ValueError(f"images are to be square, and these are {tall} x {wide}")
    count = doublings(tall)
    return tall // 2**count, count


def initialize(module: nn.Module) -> None:
    """DCGAN's initial weights, in place: N(0, 0.02) of convolutions, N(1, 0.02) and biases of 0 of norms.

    The paper has N(0, 0.02) of all weights; norms around 1 are those of its published code. The biases of the
    convolutions without a norm are as torch draws them.
    """
    for layer in module.modules():
        if isinstance(layer, nn.Conv2d | nn.ConvTranspose2d):
            nn.init.normal_(layer.weight, 0.0, DEVIATION)
        elif isinstance(layer, nn.BatchNorm2d):
            nn.init.normal_(layer.weight, 1.0, DEVIATION)
            nn.init.zeros_(layer.bias)


class DCGANGenerator(nn.Module):
    """Noise (B, latent) and labels (B,) or None -> images (B, C, H, W) from -1 to 1.

    width: channels of the finest map; each coarser one has twice as many.
    """

    def __init__(self, latent: int, shape: Sequence[int], width: int, classes: int = 0) -> None:
        super().__init__()
        self.latent, self.classes = latent, classes
        side, count = coarsest(shape)
        channels = [width * 2 ** (count - 1 - level) for level in range(count)]
        layers: list[nn.Module] = [nn.ConvTranspose2d(latent + classes, channels[0], side, bias=False)]
        for level in range(count):
            layers += [nn.BatchNorm2d(channels[level]), nn.ReLU()]
            last = level == count - 1
            outputs = shape[0] if last else channels[level + 1]
            layers.append(nn.ConvTranspose2d(channels[level], outputs, 4, 2, 1, bias=last))
        self.layers = nn.Sequential(*layers, nn.Tanh())
        initialize(self)

    def forward(self, noise: Tensor, labels: Tensor | None = None) -> Tensor:
        return self.layers(conditioned(noise, labels, self.classes)[:, :, None, None])


class DCGANDiscriminator(nn.Module):
    """Images (B, C, H, W) from -1 to 1 and labels (B,) or None -> logits (B,).

    width: channels of the finest map. norm: batch normalization; without it a sample's logit depends on no other
    sample, which the gradient penalties need.
    """

    def __init__(self, shape: Sequence[int], width: int, classes: int = 0, norm: bool = True) -> None:
        super().__init__()
        self.classes = classes
        side, count = coarsest(shape)
        channels = [width * 2**level for level in range(count)]
        layers: list[nn.Module] = []
        for level, outputs in enumerate(channels):
            inputs = channels[level - 1] if level else shape[0] + classes
            normed = norm and level > 0
            layers.append(nn.Conv2d(inputs, outputs, 4, 2, 1, bias=not normed))
            layers += [nn.BatchNorm2d(outputs)] * normed + [nn.LeakyReLU(SLOPE)]
        self.layers = nn.Sequential(*layers, nn.Conv2d(channels[-1], 1, side))
        initialize(self)

    def forward(self, images: Tensor, labels: Tensor | None = None) -> Tensor:
        known = conditioned(images.new_zeros(len(images), 0), labels, self.classes)
        if self.classes:
            images = torch.cat([images, known[:, :, None, None].expand(-1, -1, *images.shape[2:])], 1)
        return self.layers(images).flatten()
