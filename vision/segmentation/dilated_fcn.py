"""FCN with a dilated backbone: torchvision's fcn_resnet50, on any backbone whose strides are convolutions'.

Long et al. 2015, arXiv 1411.4038, with the dilation of Yu & Koltun 2015, arXiv 1511.07122, in the place of the last
strides: maps of stride 8, a 3x3 convolution to a quarter of the channels, scores, bilinear interpolation. On resnet50
it has 32,957,013 weights for 21 classes, and 35,322,218 with its auxiliary head, torchvision's counts. Published
files load: torchvision_weights.py.
"""

from __future__ import annotations

from torch import Tensor, nn

from vision.backbones import Backbone
from vision.segmentation.dilation import dilate
from vision.segmentation.segmenter import Segmenter, levels, pixel_loss, resized

STRIDE = 8  # pixels
AUXILIARY = 0.5  # weight of the auxiliary head's loss, torchvision's


class DilatedFCN(Segmenter):
    """A dilated backbone and a head on its last map; in training another one on the map before (auxiliary).

    (B, C, H, W) images -> (B, classes, H, W) logits.
    """

    def __init__(self, backbone: Backbone, classes: int, auxiliary: bool = False) -> None:
        super().__init__(dilate(backbone, STRIDE))
        levels(backbone)
        self.classifier = head(backbone.channels[-1], classes)
        self.aux_classifier = head(backbone.channels[-2], classes) if auxiliary else None

    def forward(self, images: Tensor) -> Tensor:
        with self.autocast():
            logits = self.classifier(self.backbone(images)[-1])
        return resized(logits.float(), images.shape[-2:])

    def losses(self, images: Tensor, semantic: Tensor, weights: Tensor | None = None) -> dict[str, Tensor]:
        if self.aux_classifier is None:
            return super().losses(images, semantic, weights)
        size = images.shape[-2:]
        with self.autocast():
            maps = self.backbone(images)
            logits, early = self.classifier(maps[-1]), self.aux_classifier(maps[-2])
        return {
            "loss/pixels": pixel_loss(resized(logits.float(), size), semantic, weights),
            "loss/auxiliary": AUXILIARY * pixel_loss(resized(early.float(), size), semantic, weights),
        }


def head(channels: int, classes: int) -> nn.Sequential:
    """3x3 convolution to a quarter of the channels, norm, ReLU, dropout 0.1, scores: (B, channels, H, W) -> (B,
    classes, H, W)."""
    narrow = max(1, channels // 4)
    convolution = nn.Conv2d(channels, narrow, 3, padding=1, bias=False)
    return nn.Sequential(
        convolution, nn.BatchNorm2d(narrow), nn.ReLU(), nn.Dropout(0.1), nn.Conv2d(narrow, classes, 1)
    )
