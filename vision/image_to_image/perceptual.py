"""Perceptual losses: distances between images in the feature maps of a frozen, trained network.

Johnson et al. 2016, arXiv 1603.08155, section 3.2: feature reconstruction (equation 2), style reconstruction by Gram
matrices (equations 3 and 4), total variation.

Deviations from the paper:
1. Any backbone's stages take the place of VGG-16's relu1_2, relu2_2, relu3_3 and relu4_3, which are the first four
   stages of `vgg16:imagenet`.
2. A stage's content loss is divided by that of maps of zeros, its style loss by that of photographs, both measured on
   training images before the first step: the same weights then suit every backbone.
"""

from __future__ import annotations

import contextlib
import copy
from collections.abc import Callable, Sequence

import torch
from torch import Tensor, nn

from vision import backbones
from vision.data.image_ops import GRAY
from vision.interpretation import features
from vision.interpretation.gradient_ascent import total_variation
from vision.interpretation.gram import gram_matrix

STAGES = 4  # of style, from the first, where none are named
LEAST = 1e-12  # a loss that others are divided by, at least


def feature_loss(maps: Tensor, target: Tensor) -> Tensor:
    """Feature reconstruction loss (B,): squared distance of maps (B, C, H, W) / (C H W). Equation 2."""
    return (maps - target).square().mean((1, 2, 3))


def gram(maps: Tensor) -> Tensor:
    """Gram matrices (B, C, C) of maps (B, C, H, W), divided by C H W. Equation 3."""
    return gram_matrix(maps) / maps[0].numel()


def style_loss(maps: Tensor, target: Tensor) -> Tensor:
    """Style reconstruction loss (B,): squared Frobenius distance of Gram matrices. Equation 4.

    maps: (B, C, H, W). target: a style's Gram matrix (B or 1, C, C), of a picture of any size.
    """
    return (gram(maps) - target).square().sum((1, 2))


class PerceptualLoss:
    """The losses of images by a frozen backbone: content, style and total variation, by name.

    content_stages, style_stages: of the backbone, from 0 or from the end; no style stages: the first four. styles:
    pictures (1, 3, h, w) from 0 to 1, whose Gram matrices are averaged; without any there is no style loss. autocast:
    the context in which the backbone is calculated; Gram matrices and losses are float32.
    """

    def __init__(
        self,
        backbone: backbones.Backbone,
        content_stages: Sequence[int],
        style_stages: Sequence[int] = (),
        styles: Sequence[Tensor] = (),
        autocast: Callable[[], contextlib.AbstractContextManager] = contextlib.nullcontext,
    ) -> None:
        self.autocast = autocast
        count = len(backbone.channels)
        self.at_content = features.stages(tuple(content_stages), backbone)
        self.at_style = features.stages(tuple(style_stages) or tuple(range(min(STAGES, count))), backbone)
        self.at_style = self.at_style if styles else ()
        self.backbone = upto(backbone, max(self.at_content + self.at_style))
        with torch.no_grad():
            every = [[gram(maps[stage]) for stage in self.at_style] for maps in map(self.maps, styles)]
        self.wanted = [sum(matrices) / len(styles) for matrices in zip(*every, strict=True)]
        self.sizes, self.firsts = [torch.ones(())] * len(self.at_content), [torch.ones(())] * len(self.at_style)

    def maps(self, images: Tensor) -> list[Tensor]:
        """The backbone's maps (B, C_i, H_i, W_i) of images (B, 3, H, W) from 0 to 1, float32."""
        if self.backbone.shape[0] == 1:
            weights = torch.tensor(GRAY, device=images.device, dtype=images.dtype)
            images = torch.einsum("bchw,c->bhw", images, weights)[:, None]
        with self.autocast():
            maps = self.backbone(images)
        return [each.float() for each in maps]

    @torch.no_grad()
    def measure(self, images: Tensor) -> None:
        """Measure what each stage's losses are divided by, on training images (B, 3, H, W) from 0 to 1."""
        maps = self.maps(images)
        empty = [feature_loss(maps[stage], torch.zeros_like(maps[stage])) for stage in self.at_content]
        self.sizes = [each.mean().clamp(min=LEAST) for each in empty]
        own = [style_loss(maps[stage], wanted) for stage, wanted in zip(self.at_style, self.wanted, strict=True)]
        self.firsts = [each.mean().clamp(min=LEAST) for each in own]

    def __call__(self, made: Tensor, true: Tensor) -> dict[str, Tensor]:
        """Content loss relative to maps of zeros and, with styles, style loss relative to photographs'; scalars.

        made, true: (B, 3, H, W) from 0 to 1.
        """
        maps = self.maps(made)
        with torch.no_grad():
            own = self.maps(true)
        content = [
            feature_loss(maps[stage], own[stage]).mean() / size
            for stage, size in zip(self.at_content, self.sizes, strict=True)
        ]
        found = {"content": sum(content) / len(content)}
        if self.at_style:
            style = [
                style_loss(maps[stage], wanted).mean() / first
                for stage, wanted, first in zip(self.at_style, self.wanted, self.firsts, strict=True)
            ]
            found["style"] = sum(style) / len(style)
        return found


def roughness(images: Tensor) -> Tensor:
    """Total variation, a scalar: the mean of a pixel's squared differences to its neighbors, images (B, C, H, W)."""
    return total_variation(images).sum() / images.numel()


def upto(backbone: backbones.Backbone, stage: int) -> backbones.Backbone:
    """The backbone without the stages after one, where they are a plain chain: those are not needed."""
    if type(backbone).maps is not backbones.Backbone.maps:
        return backbone
    shorter = copy.copy(backbone)
    shorter._modules = dict(backbone._modules) | {"stages": nn.ModuleList(list(backbone.stages)[: stage + 1])}
    return shorter
