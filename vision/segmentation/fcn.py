"""Fully convolutional networks: FCN-32s, FCN-16s, FCN-8s, on any backbone.

Long, Shelhamer & Darrell 2015, "Fully convolutional networks for semantic segmentation", arXiv 1411.4038. Scores of
the coarsest map are upsampled; FCN-16s adds those of the map before at twice the resolution, FCN-8s those of one
more. The names are strides of the finest scores on a backbone of stride 32, as the paper's VGG-16; on another one
they say how many maps are read: one, two, three.

Deviations: a 3x3 convolution with batch norm stands in the place of VGG's dense layers fc6 and fc7; maps keep their
size by padding, where the paper pads the image by 100 pixels and crops.
"""

from __future__ import annotations

import itertools

from torch import Tensor, nn

from vision.backbones import Backbone
from vision.segmentation.segmenter import Segmenter, levels, resized
from vision.segmentation.upsampling import Upsample


class FCN(Segmenter):
    """Scores of some of a backbone's maps, from coarse to fine, upsampled and added.

    (B, C, H, W) images -> (B, classes, H, W) logits.

    maps: how many of the coarsest strides are read, 1 to 3. hidden: channels of the convolution before the coarsest
    scores. upsampling: one of upsampling.KINDS.
    """

    def __init__(
        self, backbone: Backbone, classes: int, maps: int, hidden: int = 512, upsampling: str = "bilinear"
    ) -> None:
        super().__init__(backbone)
        self.chosen = levels(backbone, maps)[-maps:][::-1]  # coarse to fine
        coarsest = backbone.channels[self.chosen[0]]
        self.hidden = nn.Sequential(
            nn.Conv2d(coarsest, hidden, 3, padding=1, bias=False), nn.BatchNorm2d(hidden), nn.ReLU(), nn.Dropout(0.1)
        )
        self.scores = nn.ModuleList(
            nn.Conv2d(hidden if number == 0 else backbone.channels[index], classes, 1)
            for number, index in enumerate(self.chosen)
        )
        for layer in self.scores:
            nn.init.normal_(layer.weight, std=0.01)
            nn.init.zeros_(layer.bias)
        strides = [backbone.strides[index] for index in self.chosen]
        factors = [max(1, round(one / other)) for one, other in itertools.pairwise([*strides, 1])]
        self.upsample = nn.ModuleList(Upsample(upsampling, classes, factor) for factor in factors)

    def forward(self, images: Tensor) -> Tensor:
        with self.autocast():
            maps = self.backbone(images)
            total = self.scores[0](self.hidden(maps[self.chosen[0]]))
            for number, index in enumerate(self.chosen[1:], start=1):
                finer = self.scores[number](maps[index])
                total = fitted(self.upsample[number - 1](total), finer.shape[-2:]) + finer
            total = self.upsample[-1](total)
        return fitted(total.float(), images.shape[-2:])


def fitted(features: Tensor, size: tuple[int, int]) -> Tensor:
    """Maps (B, C, H, W) cut at the right and bottom to a size (h, w), as maps of odd sizes come out too large; where
    they are too small, interpolated."""
    features = features[..., : size[0], : size[1]]
    return resized(features, size)
