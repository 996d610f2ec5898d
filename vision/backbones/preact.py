"""The residual network whose shortcuts nothing touches: norm and activation come before each convolution."""

from collections.abc import Sequence

from torch import Tensor, nn

from vision.backbones.backbone import Backbone, widths
from vision.backbones.layers.activation import activation_layer, width_before
from vision.backbones.layers.normalization import norm_layer
from vision.backbones.layers.pixel_conv import PixelConv2d
from vision.backbones.options import BackboneOptions

PREACTS: dict[str, tuple[int, int, int, int]] = {"preact_resnet18": (2, 2, 2, 2)}  # blocks in each stage


class PreactResNet(Backbone):
    """He et al. 2016, "Identity mappings in deep residual networks", arXiv 1603.05027, figure 1 b and appendix.

    A block that changes the shape reads an activated map, by its shortcut too, and so that map ends the stage before.

    shape: (C, H, W); name: a key of PREACTS; width: multiplies all channels; init, norm, activation: see options.py
    dropout: of single numbers, before each block's second convolution, as in wide residual networks
    stem: what comes before the four stages.
        imagenet  7x7 / 2, norm, activation, then a 3x3 / 2 max pool           224 -> 112, 56, 28, 14, 7
        cifar     a bare 3x3, no pool; the last map comes as the blocks leave
                  it, without norm and activation (both as in
                  github.com/kuangliu/pytorch-cifar)                           32 -> 32, 16, 8, 4
        atari     3x3 / 2, norm, activation, no pool                           84 -> 42, 21, 11, 6
    Only before a pool is the stem's output a map: else the first stage's has its size.
    """

    def __init__(self, name: str, shape: Sequence[int], options: BackboneOptions) -> None:
        super().__init__(name, shape, options)
        inputs, *channels = widths((64, 64, 128, 256, 512), options.width)
        raw = width_before(options.activation, inputs)
        kernel, stride = {"imagenet": (7, 2), "cifar": (3, 1), "atari": (3, 2)}[options.stem]
        stage = [PixelConv2d(self.shape[0], raw, kernel, stride, kernel // 2, bias=options.norm == "none")]
        if options.stem != "cifar":
            stage += [norm_layer(raw, options.norm), activation_layer(options.activation)]
        if options.stem == "imagenet":
            self.stages.append(nn.Sequential(*stage))
            stage = [nn.MaxPool2d(3, 2, padding=1)]
        for i, (count, planes) in enumerate(zip(PREACTS[name], channels, strict=True)):
            for j in range(count):
                activated = j == 0 and (i > 0 or options.stem != "cifar")
                stride = 2 if i > 0 and j == 0 else 1
                stage.append(
                    Block(inputs, planes, stride, options.norm, options.activation, activated, options.dropout)
                )
                inputs = planes
            if i < 3 or options.stem != "cifar":
                stage += [
                    norm_layer(width_before(options.activation, planes), options.norm),
                    activation_layer(options.activation),
                ]
            self.stages.append(nn.Sequential(*stage))
            stage = []
        self.finish()


class Block(nn.Module):
    """norm, activation, 3x3, norm, activation, dropout, 3x3 beside a shortcut: inputs -> outputs channels.

    activated: what comes in is so already: the block has no norm and activation of its own before its first
        convolution, and its shortcut reads the same. Only such a block may change the shape, by a 1x1 convolution.
    """

    def __init__(
        self,
        inputs: int,
        outputs: int,
        stride: int,
        norm: str,
        activation: str,
        activated: bool,
        dropout: float = 0.0,
    ) -> None:
        super().__init__()
        bias = norm == "none"
        raw = width_before(activation, outputs)  # what the convolutions put out, and the shortcut with them
        self.norm1 = nn.Identity() if activated else norm_layer(raw, norm)
        self.relu1 = nn.Identity() if activated else activation_layer(activation)
        self.conv1 = nn.Conv2d(inputs, raw, 3, stride, padding=1, bias=bias)
        self.norm2 = norm_layer(raw, norm)
        self.relu2 = activation_layer(activation)
        self.dropout = nn.Dropout(dropout)
        self.conv2 = nn.Conv2d(outputs, raw, 3, padding=1, bias=bias)
        alike = not activated or (stride == 1 and inputs == raw)
        self.shortcut = nn.Identity() if alike else nn.Conv2d(inputs, raw, 1, stride, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        inner = self.conv1(self.relu1(self.norm1(x)))
        inner = self.conv2(self.dropout(self.relu2(self.norm2(inner))))
        return inner + self.shortcut(x)
