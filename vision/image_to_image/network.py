"""Image transformation networks: images in, images out, by residual blocks between down- and upsampling.

Johnson et al. 2016, arXiv 1603.08155, with their supplementary material's tables 1 and 2; instance normalization in
the place of batch normalization: Ulyanov et al. 2016, arXiv 1607.08022.

Deviations from the paper:
1. Upsampling repeats pixels and convolves, where the paper has transposed convolutions, whose overlaps leave a
   checkerboard (Odena et al. 2016).
2. Each convolution pads by reflection, where the paper pads the image by 40 pixels and leaves blocks unpadded. Images
   are padded by reflection to whole strides, and what is made of them is cut.
"""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor, nn
from torch.nn import functional as F

from vision.segmentation.upsampling import nearest

NORMS = ("instance", "batch", "none")
KERNEL = 9  # pixels, of the first and the last convolution


class InstanceNorm(nn.GroupNorm):
    """Instance normalization of maps (B, C, H, W): every channel of every image gets mean 0 and variance 1, then a
    learned scale and shift. Ulyanov et al. 2016, equation 3.

    Written as group normalization with a group a channel, whose kernel keeps channels_last on a CPU: with it the
    published network takes 0.6 of the time that it takes with the formula in single operations.
    """

    def __init__(self, channels: int) -> None:
        super().__init__(channels, channels)


def normalization(kind: str, channels: int) -> nn.Module:
    """One of NORMS for maps (B, channels, H, W)."""
    return {"instance": InstanceNorm, "batch": nn.BatchNorm2d, "none": lambda _: nn.Identity()}[kind](channels)


class Convolution(nn.Sequential):
    """Convolution padded by reflection, normalization, ReLU: (B, inputs, H, W) -> (B, outputs, H / stride, ...).

    factor: by which maps are upsampled before. relu: whether there is one.
    """

    def __init__(
        self, inputs: int, outputs: int, kernel: int, norm: str, stride: int = 1, factor: int = 1, relu: bool = True
    ) -> None:
        convolution = nn.Conv2d(
            inputs, outputs, kernel, stride, kernel // 2, padding_mode="reflect", bias=norm == "none"
        )
        nn.init.kaiming_normal_(convolution.weight, nonlinearity="relu" if relu else "linear")
        if convolution.bias is not None:
            nn.init.zeros_(convolution.bias)
        super().__init__(convolution, normalization(norm, outputs), nn.ReLU(inplace=True) if relu else nn.Identity())
        self.factor = factor

    def forward(self, x: Tensor) -> Tensor:
        return super().forward(nearest(x, self.factor) if self.factor > 1 else x)


class ResidualBlock(nn.Module):
    """Two 3x3 convolutions with normalization, added to their input, without a ReLU behind: (B, C, H, W) -> same.

    He et al. 2015 as Gross & Wilber 2016 have it; Johnson et al. 2016, supplementary material, figure 1.
    """

    def __init__(self, channels: int, norm: str) -> None:
        super().__init__()
        self.first = Convolution(channels, channels, 3, norm)
        self.second = Convolution(channels, channels, 3, norm, relu=False)
        if norm == "none":
            nn.init.zeros_(self.second[0].weight)  # begins as the identity: sums of blocks would grow otherwise

    def forward(self, x: Tensor) -> Tensor:
        return x + self.second(self.first(x))


class TransformationNetwork(nn.Module):
    """Image transformation network: (B, inputs, H, W) -> (B, outputs, factor H, factor W), unbounded.

    widths: channels at full resolution, and after each halving of it: (32, 64, 128) for style transfer. blocks:
    residual ones, at the lowest resolution. factor: a power of 2, by which the result is larger than the image.
    Raises ValueError for another factor, and for images smaller than `smallest`, which reflections would go beyond.
    """

    def __init__(
        self, inputs: int, outputs: int, widths: Sequence[int], blocks: int, norm: str, factor: int = 1
    ) -> None:
        super().__init__()
        if factor < 1 or factor & (factor - 1):
            raise ValueError(f"a factor of {factor}: images are enlarged by powers of 2, as 2, 4 and 8")
        self.factor, self.stride = factor, 2 ** (len(widths) - 1)
        self.smallest = max(KERNEL // 2 + 1, 2 * self.stride)  # pixels
        layers: list[nn.Module] = [Convolution(inputs, widths[0], KERNEL, norm)]
        for fine, coarse in zip(widths, widths[1:], strict=False):
            layers.append(Convolution(fine, coarse, 3, norm, stride=2))
        layers += [ResidualBlock(widths[-1], norm) for _ in range(blocks)]
        for coarse, fine in zip(widths[::-1], widths[-2::-1], strict=False):
            layers.append(Convolution(coarse, fine, 3, norm, factor=2))
        for _ in range(factor.bit_length() - 1):
            layers.append(Convolution(widths[0], widths[0], 3, norm, factor=2))
        layers.append(Convolution(widths[0], outputs, KERNEL, "none", relu=False))
        self.layers = nn.Sequential(*layers)

    def forward(self, x: Tensor) -> Tensor:
        tall, wide = x.shape[2:]
        if min(tall, wide) < self.smallest:
            raise ValueError(
                f"{tall} x {wide} pixels are too few: this network takes {self.smallest} and more a side"
            )
        beyond = [-side % self.stride for side in (wide, tall)]
        x = F.pad(x, (0, beyond[0], 0, beyond[1]), mode="reflect") if any(beyond) else x
        return self.layers(x)[:, :, : tall * self.factor, : wide * self.factor]
