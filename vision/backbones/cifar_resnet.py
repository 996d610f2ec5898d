"""The thin residual networks made for CIFAR-10: three stages of 16, 32 and 64 channels, shortcuts without weights."""

from collections.abc import Sequence

from torch import Tensor, nn
from torch.nn import functional as F

from vision.backbones.backbone import Backbone, widths
from vision.backbones.layers.activation import activation_layer, width_before
from vision.backbones.layers.normalization import norm_layer
from vision.backbones.layers.pixel_conv import PixelConv2d
from vision.backbones.options import BackboneOptions

CIFAR_RESNETS: dict[str, int] = {  # blocks in each stage, n of 6 n + 2 layers
    "resnet20": 3,
    "resnet32": 5,
    "resnet44": 7,
    "resnet56": 9,
    "resnet110": 18,
}


class CifarResNet(Backbone):
    """He et al. 2015, "Deep residual learning for image recognition", arXiv 1512.03385, section 4.2.

    shape: (C, H, W); name: a key of CIFAR_RESNETS; width: multiplies all channels
    init, norm, activation: see options.py
    dropout: elementwise, before the last convolution of each block, where wide residual networks have theirs
    stem: the first convolution.
        cifar     3x3, as in the paper                                         32 -> 32, 16, 8
        imagenet  7x7 / 2, then a 3x3 / 2 max pool                             224 -> 112, 56, 28, 14
        atari     5x5 / 4                                                      84 -> 21, 11, 6
    The stem's output is a map only where a pool follows: otherwise the first stage's map has its size.
    """

    OPTIONS = BackboneOptions(stem="cifar")

    def __init__(self, name: str, shape: Sequence[int], options: BackboneOptions) -> None:
        super().__init__(name, shape, options)
        inputs, *channels = widths((16, 16, 32, 64), options.width)
        raw = width_before(options.activation, inputs)
        kernel, stride = {"imagenet": (7, 2), "cifar": (3, 1), "atari": (5, 4)}[options.stem]
        first = PixelConv2d(self.shape[0], raw, kernel, stride, kernel // 2, bias=options.norm == "none")
        stage = [first, norm_layer(raw, options.norm), activation_layer(options.activation)]
        if options.stem == "imagenet":
            self.stages.append(nn.Sequential(*stage))
            stage = [nn.MaxPool2d(3, 2, padding=1)]
        for i, planes in enumerate(channels):
            for j in range(CIFAR_RESNETS[name]):
                stage.append(
                    Block(
                        inputs,
                        planes,
                        2 if i > 0 and j == 0 else 1,
                        options.norm,
                        options.activation,
                        options.dropout,
                    )
                )
                inputs = planes
            self.stages.append(nn.Sequential(*stage))
            stage = []
        self.finish()


class Block(nn.Module):
    """Residual block, (B, C, H, W) -> (B, outputs, H / stride, W / stride): two 3x3 convolutions beside a shortcut of
    option A, which subsamples and pads with zero channels."""

    def __init__(self, inputs: int, outputs: int, stride: int, norm: str, activation: str, dropout: float) -> None:
        super().__init__()
        bias = norm == "none"
        raw = width_before(activation, outputs)
        self.conv1 = nn.Conv2d(inputs, raw, 3, stride, padding=1, bias=bias)
        self.norm1 = norm_layer(raw, norm)
        self.relu1 = activation_layer(activation)
        self.dropout = nn.Dropout(dropout)
        self.conv2 = nn.Conv2d(outputs, raw, 3, padding=1, bias=bias)
        self.norm2 = norm_layer(raw, norm)
        self.relu2 = activation_layer(activation)
        self.stride = stride
        self.new = raw - inputs  # channels

    def forward(self, x: Tensor) -> Tensor:
        inner = self.dropout(self.relu1(self.norm1(self.conv1(x))))
        inner = self.norm2(self.conv2(inner))
        shortcut = x[:, :, :: self.stride, :: self.stride]
        if self.new > 0:
            shortcut = F.pad(shortcut, (0, 0, 0, 0, 0, self.new))
        return self.relu2(inner + shortcut)
