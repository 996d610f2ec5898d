"""Dilated backbones: strides replaced by dilation, so that maps stay fine (Yu & Koltun 2015, arXiv 1511.07122)."""

from __future__ import annotations

from typing import Any

import torch
from torch import nn

from vision.backbones import Backbone


def dilate(backbone: Backbone, stride: int) -> Backbone:
    """Replace the strides beyond `stride` pixels of a backbone's convolutions and max pools by dilation, in place; it
    keeps its weights. Its maps are then of that stride at most, and `strides` says so.

    A layer whose stride is taken away keeps the dilation of its input, and those behind it get the larger one, as in
    torchvision's dilated ResNets. Raises ValueError for a backbone that has other layers there.
    """
    name = backbone.spec["name"]
    probe = backbone.shape[0], 512, 512  # pixels, a multiple of every stride
    placed: dict[nn.Module, tuple[int, int]] = {}
    layers = [layer for layer in backbone.modules() if isinstance(getattr(layer, "stride", None), int | tuple)]

    def note(layer: nn.Module, inputs: Any, result: torch.Tensor) -> None:
        sides = inputs[0].shape[-1], result.shape[-1]
        placed[layer] = tuple(max(1, round(probe[-1] / max(side, 1))) for side in sides)

    hooks = [layer.register_forward_hook(note) for layer in layers]
    try:
        backbone.imagine(probe)
    finally:
        for hook in hooks:
            hook.remove()
    for layer, (before, after) in placed.items():
        if after <= stride:
            continue
        kind = type(layer).__name__
        if not isinstance(layer, nn.Conv2d | nn.MaxPool2d):
            raise ValueError(f"{name} downsamples by a {kind} beyond a stride of {stride}, which cannot dilate")
        kernel, padding = _pair(layer.kernel_size), _pair(layer.padding)
        if any(side % 2 == 0 or pad != side // 2 for side, pad in zip(kernel, padding, strict=True)):
            raise ValueError(f"{name} has a {kind} that is not padded to its input's size, which cannot dilate")
        factor = max(1, before // stride)
        layer.stride, layer.dilation = (1, 1), (factor, factor)
        layer.padding = tuple(factor * (side // 2) for side in kernel)
        if factor > 1 and isinstance(layer, nn.MaxPool2d):  # torch pads a pool by half of its kernel at most
            raise ValueError(f"{name} has a {kind} behind a stride that is taken away, which cannot dilate")
    found = backbone.imagine(probe)
    backbone.strides = [max(1, round(probe[-1] / features.shape[-1])) for features in found]
    return backbone


def _pair(number: int | tuple[int, int]) -> tuple[int, int]:
    return number if isinstance(number, tuple) else (number, number)
