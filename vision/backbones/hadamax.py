"""The Hadamax encoder: products of two activated convolutions, and max pooling instead of strides."""

import math
from collections.abc import Sequence

import torch
from torch import Tensor, nn

from vision.backbones.backbone import Backbone, widths
from vision.backbones.layers.activation import activation_layer, width_before
from vision.backbones.layers.normalization import norm_after
from vision.backbones.layers.pixel_conv import PixelConv2d
from vision.backbones.options import BackboneOptions


class HadamardProduct(nn.Module):
    """(B, 2 C, ...) -> (B, C, ...), the product of the first half of the channels with the second."""

    def forward(self, x: Tensor) -> Tensor:
        one, other = x.chunk(2, 1)
        return one * other


class Hadamax(Backbone):
    """Kooi et al. 2025, "Hadamax encoding: elevating performance in model-free Atari", arXiv 2505.15345.

    Each stage is a max pool of the product of two convolutions, each with its layer norm and GELU. The two are one
    convolution of twice the channels, calculated once; with norm="layer" each half has a layer norm of its own. The
    dense layer of 512 belongs to the agent's head, where --norm layer puts the paper's norm.

    At 84 x 84 the convolutions have 155,968 parameters and the norms 640, as in the authors' code for PQN
    (github.com/Jacobkooi/Hadamax, purejaxql/networks.py), and take 159 million multiply-adds. Padding is that of
    their PyTorch code for C51 (cleanrl/c51_hadamax.py), whose maps are as large, and which calculates every
    convolution twice. For PQN their norm is over channels alone; "layer" here is over channels and places.

    shape: (C, H, W); width: multiplies the channels 32, 64, 64; init, norm, activation: see options.py
    dropout: elementwise, on the input of each stage but the first
    stem: the first stage.
        atari     8x8 convolution, 4x4 / 4 max pool, as in the paper    84 -> 21, 11, 11
        cifar     4x4 convolution, 2x2 / 2 max pool, for small images   32 -> 16, 8, 8
        imagenet  8x8 / 4 convolution before the paper's pool           224 -> 14, 7, 7
    """

    OPTIONS = BackboneOptions(stem="atari", init="xavier", norm="layer", activation="gelu")

    def __init__(self, name: str, shape: Sequence[int], options: BackboneOptions) -> None:
        super().__init__(name, shape, options)
        self.between = nn.Dropout(options.dropout)
        kernel, pool = (4, 2) if options.stem == "cifar" else (8, 4)
        inputs = self.shape[0]
        for i, channels in enumerate(widths((32, 64, 64), options.width)):
            raw = 2 * width_before(options.activation, channels)
            size = (kernel, 4, 3)[i]
            stride = 4 if i == 0 and options.stem == "imagenet" else 1
            conv = (nn.Conv2d if i else PixelConv2d)(inputs, raw, size, stride, padding=size // 2)
            norm = [nn.GroupNorm(2, raw)] if options.norm == "layer" else norm_after(conv, options.norm)
            pooling = nn.MaxPool2d(3, 1, padding=1) if i == 2 else nn.MaxPool2d((pool, 2)[i])
            self.stages.append(
                nn.Sequential(conv, *norm, activation_layer(options.activation), HadamardProduct(), pooling)
            )
            inputs = channels
        self.finish()
        if options.init == "xavier":  # counts the outputs of each of the two convolutions, not of both
            for conv in (stage[0] for stage in self.stages):
                fan_in, fan_out = conv.weight[0].numel(), conv.weight[:, 0].numel()
                with torch.no_grad():
                    conv.weight *= math.sqrt((fan_in + fan_out) / (fan_in + fan_out / 2))
