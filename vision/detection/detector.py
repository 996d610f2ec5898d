"""Detector: the contract of all detection networks, and which of a backbone's maps they read."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Mapping, Sequence
from typing import Any, ClassVar, NamedTuple, Self

import torch
from torch import Tensor, nn

from vision.backbones import Backbone
from vision.data.samples import Sample, Target
from vision.detection.detections import Detections

Size = tuple[int, int]  # height, width
SMALL = dict(batch=4, learning_rate=1e-3, evaluate_every=4_000, log_every=400, steps=16_000)  # of drawn scenes

RECORDED = dict(  # of recorded games: few colors, objects of some pixels, always upright; DQN's network
    backbone="nature", batch=4, learning_rate=1e-3, augment="none", steps=8_000, evaluate_every=4_000,
    evaluate_images=100, log_every=200,
)  # fmt: skip


class Objects(NamedTuple):
    """What objects there are in a data set."""

    classes: int  # without background
    keypoints: int = 0  # of an object
    masks: bool = False  # whether objects have masks


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


def fix_norms(backbone: Backbone) -> None:
    """Fix batch norms: running statistics and affine weights stay as they are, as pretrained detectors have it."""
    backbone.fix_mode()
    for module in backbone.modules():
        if isinstance(module, nn.modules.batchnorm._BatchNorm):
            module.requires_grad_(False)


@torch.no_grad()
def parameters(model: nn.Module) -> int:
    """Number of weights, without those of batch norms that are fixed, as torchvision counts them."""
    return sum(weight.numel() for weight in model.parameters() if weight.requires_grad)
