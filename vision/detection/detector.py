"""Detector: the contract of all detection networks, and which of a backbone's maps they read."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Mapping, Sequence
from typing import Any, ClassVar, NamedTuple, Self

from torch import Tensor, nn
from torch.nn import functional as F

from vision.backbones import Backbone
from vision.data.samples import Sample, Target
from vision.detection.detections import Detections

Size = tuple[int, int]  # height, width
SMALL = dict(batch=4, learning_rate=1e-3, evaluate_every=4_000, log_every=400, steps=16_000)  # of drawn scenes

RECORDED = dict(  # of recorded games: few colors, objects of some pixels, always upright; DQN's network
    backbone="nature", batch=4, learning_rate=1e-3, augment="none", steps=4_000, evaluate_every=4_000,
    evaluate_images=100, log_every=200,
)  # fmt: skip


class Objects(NamedTuple):
    """What objects there are in a data set."""

    classes: int  # without background
    keypoints: int = 0  # of an object
    masks: bool = False  # whether objects have masks


class Alignment(NamedTuple):
    """What makes a backbone's maps grids over its image."""

    border: tuple[int, int, int, int]  # zeros around the image: left, right, top, bottom
    parts: list[tuple[slice, slice]]  # rows and columns of each map that are kept


class Detector(nn.Module):
    """A network that finds objects: losses(images, sizes, targets), and detect(images, sizes).

    images: (B, C, H, W), uint8 or floats in [0, 1], padded at the right and bottom; sizes: theirs before that.
    targets: boxes in pixels and labels of each. `backbone` is a Backbone; `autocast` the context in which maps are
    calculated, in bfloat16 where the device is fast at it; everything about boxes is float32.

    A class says what the program needs to know of it: `of` builds it from the program's flags, `recipes` are the
    flags that it is trained with on drawn scenes ("shapes"), recorded games ("recording") and others ("folder").
    """

    fixed_size: ClassVar[bool] = False  # whether images are stretched to one size
    native: ClassVar[int] = 800  # pixels that images are resized to where nothing else is asked for
    keeps_scenes: ClassVar[bool] = False  # whether drawn scenes are taken as they are
    kind: ClassVar[str] = "boxes"  # what is scored: boxes, masks or keypoints
    recipes: ClassVar[Mapping[str, Mapping[str, Any]]] = {}
    fitted = 0  # training samples that finish reads

    def __init__(self, backbone: Backbone) -> None:
        super().__init__()
        self.backbone = backbone
        self.autocast: Callable[[], contextlib.AbstractContextManager] = contextlib.nullcontext
        self._alignments: dict[Size, Alignment | None] = {}  # by the size of images

    def features(self, images: Tensor) -> list[Tensor]:
        """The backbone's maps of images (B, C, H, W), each a grid over the image: place (i, j) sees what is around
        the pixel stride * (i + 1/2), stride * (j + 1/2), to within half a stride, the same everywhere.
        """
        size = tuple(int(side) for side in images.shape[-2:])
        if size not in self._alignments:
            self._alignments[size] = align(self.backbone, size)
        alignment = self._alignments[size]
        if alignment is None:
            return self.backbone(images)
        maps = self.backbone(F.pad(images, alignment.border))
        return [each[..., down, along] for each, (down, along) in zip(maps, alignment.parts, strict=True)]

    @classmethod
    def of(cls, config: Any, backbone: Backbone, objects: Objects, size: int) -> Self:
        """The detector of a Config of train.py, for images of `size` pixels."""
        raise NotImplementedError

    def prepare(self, samples: Sequence[Sample]) -> None:
        """Called once with the training samples, before training: for what is counted, not learned by gradients."""

    def finish(self, samples: Sequence[Sample], resize: Callable[[Sample], Sample]) -> None:
        """Called before each evaluation: for what is fitted to the features of the first `fitted` training samples.

        resize: makes samples of the size of training.
        """

    def asked(self, target: Target) -> Target:
        """The target with objects that the detector does not predict marked as crowds, which are not scored."""
        return target

    def losses(self, images: Tensor, sizes: Sequence[Size], targets: Sequence[Target]) -> dict[str, Tensor]:
        """Losses by their names, each a scalar: their sum is minimized."""
        raise NotImplementedError

    def detect(self, images: Tensor, sizes: Sequence[Size]) -> list[Detections]:
        """The detections of each image (B, C, H, W): boxes (N, 4) in its pixels, the highest score first."""
        raise NotImplementedError

    def forward(self, images: Tensor) -> list[Detections]:
        return self.detect(images, [tuple(images.shape[-2:])] * len(images))


def pyramid_maps(backbone: Backbone, finest: int = 4, coarsest: int = 64) -> list[int]:
    """Indices of the maps that a pyramid is built on: the last of each stride between two, in pixels.

    Raises ValueError for a backbone without maps of images.
    """
    maps = backbone.imagine(backbone.shape)
    if all(len(features.shape) < 4 or max(features.shape[-2:]) == 1 for features in maps):
        raise ValueError(f"{backbone.spec['name']} gives no maps of images: choose a convolutional backbone")
    last = {stride: index for index, stride in enumerate(backbone.strides)}
    chosen = [index for stride, index in sorted(last.items()) if finest <= stride <= coarsest]
    return chosen or [len(backbone.strides) - 1]


def align(backbone: Backbone, size: Size) -> Alignment | None:
    """The border and the parts of maps with which a backbone's maps of images of `size` have one place a stride, or
    None where they have, or where it does not take such images.

    Convolutions without padding (DQN's network, AlexNet's first) leave out places at the edges, so that the grid of a
    map is denser than its strides say: read as one over the whole image, each place is displaced, by more the further
    it is from the middle, and by several pixels more than small objects have.
    """
    if backbone.one_size or min(size) < backbone.smallest:
        return None
    shapes = [tuple(each.shape[-2:]) for each in backbone.imagine((backbone.shape[0], *size))]
    wanted = [tuple(max(1, side // stride) for side in size) for stride in backbone.strides]
    places = list(zip(shapes, wanted, backbone.strides, strict=True))
    tall, wide = (max(0, *((want[axis] - own[axis]) * stride for own, want, stride in places)) for axis in (0, 1))
    if not tall and not wide:
        return None
    border = (wide // 2, wide - wide // 2, tall // 2, tall - tall // 2)
    padded = backbone.imagine((backbone.shape[0], size[0] + tall, size[1] + wide))
    parts = []
    for each, want in zip(padded, wanted, strict=True):
        begins = [(own - side) // 2 for own, side in zip(each.shape[-2:], want, strict=True)]
        parts.append(tuple(slice(begin, begin + side) for begin, side in zip(begins, want, strict=True)))
    return Alignment(border, parts)


def fix_norms(backbone: Backbone) -> None:
    """Fix batch norms: running statistics and affine weights stay as they are, as pretrained detectors have it."""
    backbone.fix_mode()
    for module in backbone.modules():
        if isinstance(module, nn.modules.batchnorm._BatchNorm):
            module.requires_grad_(False)
