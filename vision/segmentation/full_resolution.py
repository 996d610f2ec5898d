"""Full-resolution segmentation: a backbone without any downsampling, at the cost that CS231n warns of.

The first fully convolutional design of CS231n's lecture 11: convolutions that keep the image's size, all pixels
scored at once. Strides become dilation (dilation.py), so that a pixel's surroundings are as wide as on the backbone
itself, and each layer takes as many times the multiply-adds as its stride squared.
"""

from __future__ import annotations

from torch import Tensor, nn

from vision.backbones import Backbone
from vision.segmentation.dilation import dilate
from vision.segmentation.segmenter import Segmenter, levels, resized


class FullResolution(Segmenter):
    """A backbone dilated to a stride of 1, and scores of its last map: (B, C, H, W) -> (B, classes, H, W)."""

    def __init__(self, backbone: Backbone, classes: int) -> None:
        super().__init__(dilate(backbone, 1))
        levels(backbone)
        self.score = nn.Conv2d(backbone.channels[-1], classes, 1)

    def forward(self, images: Tensor) -> Tensor:
        with self.autocast():
            logits = self.score(self.backbone(images)[-1])
        return resized(logits.float(), images.shape[-2:])
