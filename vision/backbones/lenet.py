"""LeNets: networks for handwritten digits (LeCun et al. 1998), in the original and in Caffe's version."""

import dataclasses
from collections.abc import Sequence
from typing import NamedTuple

from torch import nn

from vision.backbones.backbone import widths
from vision.backbones.chain import Chain, Dense, dense
from vision.backbones.layers.activation import activation_layer, width_before
from vision.backbones.layers.normalization import norm_after
from vision.backbones.layers.partial_conv import PartialConv2d, table
from vision.backbones.layers.pooling import LearnedAvgPool2d, Window
from vision.backbones.layers.rbf import RBF
from vision.backbones.options import BackboneOptions


class Variant(NamedTuple):
    """The sizes of a LeNet."""

    channels: tuple[int, int]
    features: tuple[int, ...]  # of the head's dense layers
    pool: type[nn.Module]
    activation: str
    original: bool = False  # learned pools, a table of connections, radial basis functions


LENETS = {
    "lenet5": Variant((20, 50), (500,), nn.MaxPool2d, "relu"),
    "lenet5_1998": Variant((6, 16), (120, 84), nn.AvgPool2d, "tanh"),
    "lenet5_1998_rbf": Variant((6, 16), (120, 84), LearnedAvgPool2d, "scaled_tanh", original=True),
}


class LeNet5(Chain):
    """LeCun et al. 1998, "Gradient-based learning applied to document recognition", doi 10.1109/5.726791, figure 2.

    name: a key of LENETS.
        lenet5       as in Caffe's examples, for images of 28 x 28: 20 and 50 channels, 500 units, max pools. Caffe
                     has a ReLU after the 500 alone, here it is after the convolutions too
        lenet5_1998  the paper's sizes, for 32 x 32: 6 and 16 channels, 120 and 84 units, mean pools and tanh, but
                     the second convolution sees all channels, pools learn nothing, and the last layer is linear
        lenet5_1998_rbf  all of the paper: mean pools with a learned coefficient and bias and then the activation, a
                     second convolution with the connections of table I, 1.7159 tanh(2 x / 3), and an output of
                     radial basis functions with fixed codes: 60,000 weights learn, as the paper counts them. Its
                     inputs count white as 1.175 and black as -0.1; here a pixel counts as x / 255
    shape: (C, H, W); width: multiplies channels and units; init, norm: see options.py
    activation: see options.py (default: the variant's)
    dropout: elementwise, after each pool but the last; the head has its own
    stem: the first convolution.
        imagenet  8x8 / 8                   224 -> 28, 10, 5
        cifar     5x5 / 1, as in the paper  28 -> 24, 8, 4 (32 -> 28, 10, 5)
        atari     8x8 / 4                   84 -> 20, 6, 3
    """

    OPTIONS = BackboneOptions(stem="cifar", norm="none")

    @classmethod
    def defaults(cls, name: str) -> BackboneOptions:
        return dataclasses.replace(cls.OPTIONS, activation=LENETS[name].activation)

    def __init__(self, name: str, shape: Sequence[int], options: BackboneOptions) -> None:
        super().__init__(name, shape, options)
        variant = LENETS[name]
        one, two = widths(variant.channels, options.width)
        kernel, stride = {"imagenet": (8, 8), "cifar": (5, 1), "atari": (8, 4)}[options.stem]
        self.convolve(one, kernel, stride)
        if not variant.original:
            self.features.append(variant.pool(2))
            self.convolve(two, 5)
            self.features.append(variant.pool(2))
            self.finish()
            return
        activation = [] if options.activation == "maxout" else [options.activation]  # which would halve the channels
        squash, again = ([activation_layer(name) for name in activation] for _ in range(2))
        conv = PartialConv2d(one, table(one, width_before(options.activation, two)), 5)
        self.features.extend([variant.pool(one, Window(2, 2)), *squash])
        self.features.extend([conv, *norm_after(conv, options.norm), activation_layer(options.activation)])
        self.features.extend([variant.pool(two, Window(2, 2)), *again])
        self.finish()
        if options.init not in ("small", "zeros", "torch"):
            conv.rescale()

    def head(self, classes: int, dropout: float | None = None) -> nn.Module:
        """Dense layers on the last map as it is for images of the backbone's shape, dropout (none) before the last.

        Larger and smaller images fit too: their last map is averaged to that size.
        """
        height, width = self.imagine(self.shape)[-1].shape[-2:]
        layers, inputs = [], self.output_size()
        for features in widths(LENETS[self.spec["name"]].features, self.options.width):
            layers += dense(inputs, features, self.options.activation)
            inputs = features
        last = RBF(inputs, classes) if LENETS[self.spec["name"]].original else nn.Linear(inputs, classes)
        return Dense((height, width), [*layers, nn.Dropout(dropout or 0.0), last])
