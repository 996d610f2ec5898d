"""U-Net: a decoder that joins every resolution of the encoder, on any backbone.

Ronneberger, Fischer & Brox 2015, "U-Net: convolutional networks for biomedical image segmentation", arXiv 1505.04597.

Deviations: convolutions are padded, so that logits have the image's size, and have batch norm. Where the backbone's
finest map is smaller than the image, logits are interpolated.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from vision.backbones import Backbone
from vision.segmentation.segmenter import Segmenter, double_convolution, levels, resized


class UNet(Segmenter):
    """From the coarsest map upwards: up-convolution 2x2 with half of the channels, joined with the next finer map,
    two 3x3 convolutions: (B, C, H, W) -> (B, classes, H, W).

    width: channels of the decoder at the finest resolution; twice as many at each coarser one, as in the paper (64).
    """

    def __init__(self, backbone: Backbone, classes: int, width: int = 64) -> None:
        super().__init__(backbone)
        self.chosen = levels(backbone, 2)[::-1]  # coarse to fine
        strides = [backbone.strides[index] for index in self.chosen]
        inputs = backbone.channels[self.chosen[0]]
        self.up, self.join = nn.ModuleList(), nn.ModuleList()
        for number, index in enumerate(self.chosen[1:], start=1):
            outputs = width * 2 ** (len(self.chosen) - 1 - number)
            factor = max(1, round(strides[number - 1] / strides[number]))
            self.up.append(nn.ConvTranspose2d(inputs, outputs, factor, factor))
            self.join.append(double_convolution(outputs + backbone.channels[index], outputs))
            inputs = outputs
        self.score = nn.Conv2d(inputs, classes, 1)

    def forward(self, images: Tensor) -> Tensor:
        with self.autocast():
            maps = self.backbone(images)
            x = maps[self.chosen[0]]
            for up, join, index in zip(self.up, self.join, self.chosen[1:], strict=True):
                finer = maps[index]
                x = join(torch.cat([resized(up(x), finer.shape[-2:]), finer], 1))
            logits = self.score(x)
        return resized(logits.float(), images.shape[-2:])
