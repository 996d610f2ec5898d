"""MobileNets: depthwise separable convolutions (Howard et al. 2017, Sandler et al. 2018)."""

from collections.abc import Sequence

from torch import Tensor, nn

from vision.backbones.backbone import Backbone, widths
from vision.backbones.layers.activation import activation_layer, width_before
from vision.backbones.layers.initialization import initialize
from vision.backbones.layers.normalization import norm_layer
from vision.backbones.layers.pixel_conv import PixelConv2d
from vision.backbones.options import BackboneOptions

# channels and stride of each layer of version 1
SEPARABLE = ((64, 1), (128, 2), (128, 1), (256, 2), (256, 1), (512, 2), *[(512, 1)] * 5, (1024, 2), (1024, 1))
# expansion t, channels c, layers n and stride s of each row of version 2's table 2
INVERTED = (
    (1, 16, 1, 1),
    (6, 24, 2, 2),
    (6, 32, 3, 2),
    (6, 64, 4, 2),
    (6, 96, 3, 1),
    (6, 160, 3, 2),
    (6, 320, 1, 1),
)


class MobileNet(Backbone):
    """Base class of both versions: `features` is a chain, whose maps are the last outputs before each stride."""

    def add(self, module: nn.Module, stride: int) -> None:
        """Append a layer; `halves` notes whether a map ends before it."""
        self.halves.append(len(self.features) > 0 and stride > 1)
        self.features.append(module)

    def begin(self, channels: int, norm: str, activation: str) -> None:
        """Start the chain with the stem, of `channels` outputs."""
        self.features, self.halves = nn.Sequential(), []
        self.between = nn.Dropout(self.options.dropout)
        kernel, stride = (8, 4) if self.options.stem == "atari" else (3, 1 if self.options.stem == "cifar" else 2)
        padding = 0 if stride == 4 else 1
        conv = PixelConv2d(
            self.shape[0], width_before(activation, channels), kernel, stride, padding, bias=norm == "none"
        )
        self.add(nn.Sequential(conv, norm_layer(conv.out_channels, norm), activation_layer(activation)), stride)

    def maps(self, x: Tensor) -> list[Tensor]:
        maps = []
        for module, halves in zip(self.features, self.halves, strict=True):
            if halves:
                maps.append(x)
                x = self.between(x)
            x = module(x)
        return [*maps, x]


class MobileNetV1(MobileNet):
    """Howard et al. 2017, arXiv 1704.04861, table 1: a depthwise 3x3 and a 1x1 convolution in each layer.

    shape: (C, H, W); width: the paper's multiplier alpha; init, norm, activation: see options.py
    dropout: elementwise, on the input of the layer after each map but the last; the head has its own
    stem: the first convolution.
        imagenet  3x3 / 2                                 224 -> 112, 56, 28, 14, 7
        cifar     3x3                                     32 -> 32, 16, 8, 4, 2
        atari     8x8 / 4, and the first stride after 1   84 -> 20, 10, 5, 3
    """

    def __init__(self, name: str, shape: Sequence[int], options: BackboneOptions) -> None:
        super().__init__(name, shape, options)
        channels, *rest = widths((32, *(channels for channels, _ in SEPARABLE)), options.width)
        self.begin(channels, options.norm, options.activation)
        for i, (wide, (_, stride)) in enumerate(zip(rest, SEPARABLE, strict=True)):
            stride = 1 if options.stem == "atari" and i == 1 else stride
            depthwise = convolution(channels, channels, 3, stride, channels, options.norm, options.activation)
            self.add(
                nn.Sequential(*depthwise, *convolution(channels, wide, 1, 1, 1, options.norm, options.activation)),
                stride,
            )
            channels = wide
        self.finish()


class MobileNetV2(MobileNet):
    """Sandler et al. 2018, arXiv 1801.04381, table 2: inverted residuals with linear bottlenecks.

    shape: (C, H, W); width: the paper's multiplier, which leaves the last layer's 1280 channels where it is below 1;
        init, norm, activation: see options.py
    dropout: elementwise, on the input of the layer after each map but the last; the head has its own
    stem: the first convolution.
        imagenet  3x3 / 2                                 224 -> 112, 56, 28, 14, 7
        cifar     3x3, and the first stride after 1       32 -> 32, 16, 8, 4
        atari     8x8 / 4, and the first stride after 1   84 -> 20, 10, 5, 3
    """

    OPTIONS = BackboneOptions(activation="relu6")

    def __init__(self, name: str, shape: Sequence[int], options: BackboneOptions) -> None:
        super().__init__(name, shape, options)
        channels, *rest = widths((32, *(row[1] for row in INVERTED)), options.width)
        self.begin(channels, options.norm, options.activation)
        for wide, (expansion, _, layers, stride) in zip(rest, INVERTED, strict=True):
            for i in range(layers):
                early = len(self.features) == 2 and options.stem != "imagenet"
                step = 1 if i > 0 or early else stride
                self.add(Inverted(channels, wide, expansion, step, options.norm, options.activation), step)
                channels = wide
        (last,) = widths((1280,), max(1.0, options.width))
        self.add(nn.Sequential(*convolution(channels, last, 1, 1, 1, options.norm, options.activation)), 1)
        self.finish()

    def head(self, classes: int, dropout: float | None = None) -> nn.Module:
        return Dropped(self.channels[-1], classes, 0.2 if dropout is None else dropout)


class Inverted(nn.Module):
    """x (B, channels, H, W) -> (B, wide, H / stride, W / stride): inverted residual: expansion, depthwise
    convolution, linear projection.

    The input is added where the output has its shape."""

    def __init__(self, channels: int, wide: int, expansion: int, stride: int, norm: str, activation: str) -> None:
        super().__init__()
        inner = channels * expansion
        self.residual = stride == 1 and channels == wide
        self.conv = nn.Sequential()
        if expansion > 1:
            self.conv.append(nn.Sequential(*convolution(channels, inner, 1, 1, 1, norm, activation)))
        self.conv.append(nn.Sequential(*convolution(inner, inner, 3, stride, inner, norm, activation)))
        self.conv.append(nn.Conv2d(inner, wide, 1, bias=norm == "none"))
        self.conv.append(norm_layer(wide, norm))

    def forward(self, x: Tensor) -> Tensor:
        return x + self.conv(x) if self.residual else self.conv(x)


class Dropped(nn.Module):
    """PooledHead, maps -> logits (B, classes), with the published files' name of the layer, classifier.1."""

    def __init__(self, channels: int, classes: int, dropout: float) -> None:
        super().__init__()
        self.classifier = nn.Sequential(nn.Dropout(dropout), nn.Linear(channels, classes))
        initialize(self, "he")

    def forward(self, maps: list[Tensor]) -> Tensor:
        return self.classifier(maps[-1].mean((2, 3)))


def convolution(
    channels: int, wide: int, kernel: int, stride: int, groups: int, norm: str, activation: str
) -> list[nn.Module]:
    """A padded convolution with `wide` outputs, its norm and its activation."""
    out = width_before(activation, wide)
    conv = nn.Conv2d(channels, out, kernel, stride, kernel // 2, groups=groups, bias=norm == "none")
    return [conv, norm_layer(out, norm), activation_layer(activation)]
