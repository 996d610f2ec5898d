"""SegNet: a decoder that unpools to the places of the encoder's maxima, on any backbone.

Badrinarayanan, Kendall & Cipolla 2015, "SegNet: a deep convolutional encoder-decoder architecture for image
segmentation", arXiv 1511.00561. On vgg16_bn the places are those of the network's own max pools, as in the paper. On
a backbone that downsamples in another way they are those of the maxima of its maps.

Deviation: two convolutions a resolution, where the paper mirrors VGG's two or three.
"""

from __future__ import annotations

from torch import Tensor, nn

from vision.backbones import Backbone
from vision.segmentation.segmenter import Segmenter, double_convolution, levels, resized
from vision.segmentation.upsampling import max_pool, max_unpool


class SegNet(Segmenter):
    """Encoder and decoder, (B, C, H, W) -> (B, classes, H, W): the decoder sees the coarsest of the encoder's maps,
    and of the others where maxima are.
    """

    def __init__(self, backbone: Backbone, classes: int) -> None:
        super().__init__(backbone)
        self.chosen = levels(backbone, 2)
        channels = [backbone.channels[index] for index in self.chosen]
        strides = [backbone.strides[index] for index in self.chosen]
        self.factors = [max(1, round(b / a)) for a, b in zip(strides, strides[1:], strict=False)]
        coarsest = channels[-1]
        self.first = double_convolution(coarsest, channels[-2])
        steps = [(channels[n], channels[max(n - 1, 0)]) for n in range(len(channels) - 2, -1, -1)]
        self.decoder = nn.ModuleList(double_convolution(*pair) for pair in steps)
        self.score = nn.Conv2d(channels[0], classes, 1)

    def forward(self, images: Tensor) -> Tensor:
        with self.autocast():
            maps = self.backbone(images)
            maps = [maps[index] for index in self.chosen]
            x = self.first(maps[-1])
            for number, convolutions in enumerate(self.decoder, start=2):
                finer = maps[-number]
                _, places = max_pool(finer.detach(), self.factors[-number + 1])
                x = convolutions(max_unpool(resized(x, places.shape[-2:]), places, tuple(finer.shape[-2:])))
            logits = self.score(x)
        return resized(logits.float(), images.shape[-2:])
