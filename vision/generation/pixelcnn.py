"""PixelCNN and Gated PixelCNN: autoregressive models of images by masked convolutions.

    python -m vision.generation --model pixelcnn --data mnist
    python -m vision.generation --model pixelcnn --data mnist --gated --conditional

PixelCNN: van den Oord et al. 2016, "Pixel recurrent neural networks", arXiv 1601.06759, figure 5: a 7x7 convolution
with mask A, residual blocks of 3x3 with mask B between 1x1, two 1x1. Gated: van den Oord et al. 2016, "Conditional
image generation with PixelCNN decoders", arXiv 1606.05328: a vertical and a horizontal stack, so that every pixel
before is seen, gates tanh(a) sigmoid(b), and labels as biases of all layers. With --kernel 3 --layers 15 PixelCNN has
the 53,569 weights with which pytorch-generative reports 81.45 nats of dynamically binarized MNIST.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from vision.generation.autoregressive import Autoregressive, Sampler
from vision.generation.masked import CachedConv, CachedRowConv, MaskedConv2d, RowConv2d, groups

FIRST = 7  # pixels, side of the first convolution (1601.06759, table 1)


class Linear:
    """A masked 1x1 convolution of single pixels, (B, inputs) to (B, outputs)."""

    def __init__(self, conv: MaskedConv2d) -> None:
        self.weight, self.bias = conv.masked()[:, :, 0, 0].detach().t().contiguous(), conv.bias.detach()

    def __call__(self, x: Tensor) -> Tensor:
        """Outputs (B, outputs) of inputs (B, inputs)."""
        return torch.addmm(self.bias, x, self.weight)


class Head(nn.Sequential):
    """ReLU, 1x1, ReLU, 1x1: (B, features, H, W) to (B, outputs * C, H, W)."""

    def __init__(self, features: Tensor, width: int, channels: int, outputs: int) -> None:
        inner = groups(width, channels)
        last = torch.arange(channels).repeat(outputs)
        super().__init__(nn.ReLU(), MaskedConv2d(features, inner, 1), nn.ReLU(), MaskedConv2d(inner, last, 1))

    def pixel(self) -> tuple[Linear, Linear]:
        """Its two layers for single pixels."""
        return Linear(self[1]), Linear(self[3])


class Block(nn.Module):
    """1x1 to half of the features, 3x3 with mask B, 1x1 back, a ReLU before each, added to x (B, features, H, W).

    classes: of a label, one-hot (B, classes), which adds a bias to the 3x3 convolution.
    """

    def __init__(self, features: Tensor, inner: Tensor, kernel: int, classes: int) -> None:
        super().__init__()
        self.down, self.up = MaskedConv2d(features, inner, 1), MaskedConv2d(inner, features, 1)
        self.conv = MaskedConv2d(inner, inner, kernel)
        self.label = nn.Linear(classes, len(inner), bias=False) if classes else None

    def forward(self, x: Tensor, condition: Tensor) -> Tensor:
        y = self.conv(self.down(x.relu()).relu())
        if self.label is not None:
            y = y + self.label(condition)[:, :, None, None]
        return x + self.up(y.relu())


class PixelCNN(Autoregressive):
    """PixelCNN for images (B, C, H, W). features: between blocks, half as many in them. width: of the head."""

    memory_format = torch.channels_last  # 371 against 257 images/s of one core (AMD EPYC) in bfloat16

    def __init__(
        self, shape: Sequence[int], levels: int, classes: int, features: int, layers: int, kernel: int, width: int
    ) -> None:
        super().__init__(shape, levels, classes)
        channels = self.shape[0]
        outer, inner = groups(features, channels), groups(max(channels, features // 2), channels)
        self.first = MaskedConv2d(torch.arange(channels), outer, FIRST, "A")
        self.blocks = nn.ModuleList(Block(outer, inner, kernel, classes) for _ in range(layers))
        self.head = Head(outer, width, channels, self.pixels.outputs)

    def parameters_of(self, images: Tensor, labels: Tensor | None = None) -> Tensor:
        condition = self.condition(labels, len(images))
        x = self.first(images)
        for block in self.blocks:
            x = block(x, condition)
        return self.head(x)

    def sampler(self, count: int, labels: Tensor | None) -> Sampler:
        """For `count` images with labels (count,), with activations kept: a pixel costs its own column, and each row
        once what the rows above add to it."""
        condition, wide = self.condition(labels, count), self.shape[2]
        first = CachedConv(self.first, count, wide)
        blocks = [
            (
                Linear(block.down),
                CachedConv(block.conv, count, wide),
                Linear(block.up),
                None if block.label is None else block.label(condition),
            )
            for block in self.blocks
        ]
        one, other = self.head.pixel()
        caches = [first, *(block[1] for block in blocks)]

        def begin_row(images: Tensor, row: int) -> None:
            if row:  # the last pixel has all its channels now
                first.row[:, -1] = images[:, :, row - 1, -1]
            for cache in caches:
                cache.begin_row()

        def pixel(images: Tensor, row: int, column: int) -> Tensor:
            if column:  # the pixel to the left has all its channels now
                first.row[:, first.left + column - 1] = images[:, :, row, column - 1]
            x = first.at(column, images[:, :, row, column])
            for down, conv, up, bias in blocks:
                y = conv.at(column, down(x.relu()).relu_())
                x = x + up((y if bias is None else y + bias).relu_())
            return other(one(x.relu_()).relu_())

        return Sampler(begin_row, pixel)


class GatedLayer(nn.Module):
    """A layer of Gated PixelCNN: v, the vertical stack, and h, the horizontal one, (B, features, H, W) each, to both.

    first: of the image, with masks A: v sees the rows above alone, h the pixels to the left alone.
    inputs, features: the group of each feature. classes: of a label, one-hot (B, classes).
    """

    def __init__(self, inputs: Tensor, features: Tensor, kernel: int, classes: int, first: bool) -> None:
        super().__init__()
        count, twice = len(features), features.repeat(2)
        self.vertical = RowConv2d(len(inputs), 2 * count, kernel, own=not first)
        self.across = nn.Conv2d(2 * count, 2 * count, 1)
        self.horizontal = MaskedConv2d(inputs, twice, kernel, "A" if first else "B", rows=1)
        self.out = MaskedConv2d(features, features, 1)
        self.label = nn.Linear(classes, 4 * count, bias=False) if classes else None
        self.first = first

    def biases(self, condition: Tensor) -> tuple[Tensor, Tensor] | None:
        """What a label (B, classes) adds to the vertical and the horizontal stack, (B, 2 * features) each."""
        return None if self.label is None else self.label(condition).chunk(2, 1)

    def forward(self, v: Tensor, h: Tensor, condition: Tensor) -> tuple[Tensor, Tensor]:
        biases = self.biases(condition)
        down = self.vertical(v)
        along = self.horizontal(h) + self.across(down)
        if biases is not None:
            down, along = (x + bias[:, :, None, None] for x, bias in zip((down, along), biases, strict=True))
        out = self.out(gate(along))
        return gate(down), out if self.first else h + out


def gate(x: Tensor) -> Tensor:
    """tanh(a) sigmoid(b) of a and b, the halves of x (B, 2 * features, ...): 1606.05328, equation 2."""
    a, b = x.chunk(2, 1)
    return a.tanh() * b.sigmoid()


class GatedPixelCNN(Autoregressive):
    """Gated PixelCNN for images (B, C, H, W). features: of each stack. width: of the head."""

    memory_format = torch.channels_last

    def __init__(
        self, shape: Sequence[int], levels: int, classes: int, features: int, layers: int, kernel: int, width: int
    ) -> None:
        super().__init__(shape, levels, classes)
        channels = self.shape[0]
        kinds = groups(features, channels)
        self.layers = nn.ModuleList([GatedLayer(torch.arange(channels), kinds, FIRST, classes, True)])
        self.layers.extend(GatedLayer(kinds, kinds, kernel, classes, False) for _ in range(layers))
        self.head = Head(kinds, width, channels, self.pixels.outputs)

    def parameters_of(self, images: Tensor, labels: Tensor | None = None) -> Tensor:
        condition = self.condition(labels, len(images))
        v = h = images
        for layer in self.layers:
            v, h = layer(v, h, condition)
        return self.head(h)

    def sampler(self, count: int, labels: Tensor | None) -> Sampler:
        """For `count` images with labels (count,), with activations kept: the vertical stack once a row, the
        horizontal one a pixel at a time."""
        condition, wide = self.condition(labels, count), self.shape[2]
        layers = [
            (
                layer,
                CachedRowConv(layer.vertical, count, wide),
                CachedConv(layer.horizontal, count, wide),
                Linear(layer.out),
                layer.biases(condition),
            )
            for layer in self.layers
        ]
        first = layers[0][2]
        one, other = self.head.pixel()

        def begin_row(images: Tensor, row: int) -> None:
            """The vertical stack of a row, and what it adds to the horizontal one's pixels."""
            v = images[:, :, row - 1 : row] if row else torch.zeros_like(images[:, :, :1])
            for layer, vertical, horizontal, _, biases in layers:
                horizontal.begin_row()
                down = vertical(v)
                added = layer.across(down)
                if biases is not None:
                    down, added = (x + bias[:, :, None, None] for x, bias in zip((down, added), biases, strict=True))
                horizontal.base = (added[:, :, 0] + horizontal.bias[None, :, None]).permute(2, 0, 1).contiguous()
                v = gate(down)

        def pixel(images: Tensor, row: int, column: int) -> Tensor:
            if column:
                first.row[:, first.left + column - 1] = images[:, :, row, column - 1]
            h = images[:, :, row, column]
            for layer, _, horizontal, out, _ in layers:
                made = out(gate(horizontal.at(column, h)))
                h = made if layer.first else h + made
            return other(one(h.relu()).relu_())

        return Sampler(begin_row, pixel)
