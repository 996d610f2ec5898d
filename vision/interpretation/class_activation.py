"""Class activation maps: CAM, Grad-CAM, HiResCAM and guided Grad-CAM.

    map = grad_cam(model, images, classes)                  # (B, H, W), where in the image a class is

Zhou et al. 2015 (arXiv 1512.04150), Selvaraju et al. 2016 (arXiv 1610.02391), Draelos & Carin 2020 (arXiv
2011.08891). A model, its images and classes are those of gradients.py. `layer` is a module, or the number of the
backbone's map: -1, the coarsest, unless given.
"""

from __future__ import annotations

import json

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from vision.backbones.backbone import Backbone, PooledHead
from vision.interpretation.attribution import guided_backpropagation
from vision.interpretation.gradients import (
    Classes,
    Layer,
    Model,
    as_floats,
    chosen_classes,
    evaluation_mode,
    layer_gradients,
    recorded,
)
from vision.interpretation.receptive_field import ReceptiveField, receptive_fields

_FIELDS: dict[str, list[ReceptiveField]] = {}  # by architecture


def cam(model: nn.Module, images: Tensor, classes: Classes = None) -> Tensor:
    """Class activation map (B, h, w) of the last map: its channels, weighted by the class's row of the last layer.

    Zhou et al. 2015, equation 2: its mean over places is the class's logit without the bias (with global max pooling,
    its maximum is). Signed, at the map's own resolution: `enlarge` brings it to that of the images. Raises ValueError
    for a model whose head is not global pooling and one linear layer.
    """
    head = getattr(model, "head", None)
    if not isinstance(head, PooledHead):
        raise ValueError("CAM needs global average pooling before one linear layer, as in resnet18: use Grad-CAM")
    with evaluation_mode(model), torch.no_grad(), recorded(model, -1) as maps:
        scores = model(as_floats(images))
        weight = head.get_submodule(head.last).weight[chosen_classes(scores, classes)]  # (B, N)
        return torch.einsum("bn,bnhw->bhw", weight, maps[0])


def grad_cam_map(model: Model, images: Tensor, classes: Classes = None, layer: Layer = -1) -> Tensor:
    """Gradient-weighted class activation map (B, h, w), signed, at the layer's resolution, of images (B, C, H, W).

    Selvaraju et al. 2016, equations 1 and 2, before its ReLU: channels weighted by the mean over places of the
    gradient of the class score. Raises ValueError for a layer whose output has no places.
    """
    output, gradient = _places(model, images, classes, layer)
    return (output * gradient.mean((2, 3), keepdim=True)).sum(1)


def grad_cam(model: Model, images: Tensor, classes: Classes = None, layer: Layer = -1) -> Tensor:
    """Grad-CAM (B, H, W), not negative, enlarged to the images (B, C, H, W)."""
    return enlarge(grad_cam_map(model, images, classes, layer).clamp(min=0), images.shape[2:], model, layer)


def hires_cam_map(model: Model, images: Tensor, classes: Classes = None, layer: Layer = -1) -> Tensor:
    """HiResCAM (B, h, w), signed, at the layer's resolution, of images (B, C, H, W).

    Draelos & Carin 2020: the layer's output times the gradient of the class score, place by place, summed over
    channels. Where one linear layer follows the map, its sum is the score without the bias. With global average
    pooling it equals Grad-CAM, whose mean over places loses what a layer with weights for each place has learned.
    Raises ValueError for a layer whose output has no places.
    """
    output, gradient = _places(model, images, classes, layer)
    return (output * gradient).sum(1)


def hires_cam(model: Model, images: Tensor, classes: Classes = None, layer: Layer = -1) -> Tensor:
    """HiResCAM (B, H, W), not negative, enlarged to the images (B, C, H, W)."""
    return enlarge(hires_cam_map(model, images, classes, layer).clamp(min=0), images.shape[2:], model, layer)


def guided_grad_cam(
    model: Model, images: Tensor, classes: Classes = None, layer: Layer = -1, mode: str = "bilinear"
) -> Tensor:
    """Guided Grad-CAM (B, C, H, W): guided backpropagation times Grad-CAM.

    mode: of the enlargement (Captum: nearest).

    Raises ValueError for a model without ReLU modules.
    """
    where = grad_cam_map(model, images, classes, layer).clamp(min=0)
    return guided_backpropagation(model, images, classes) * resize(where, images.shape[2:], mode)[:, None]


def enlarge(maps: Tensor, size: tuple[int, int] | torch.Size, model: Model, layer: Layer = -1) -> Tensor:
    """A layer's maps (B, h, w) at its images' size, (B, *size): each value in the middle of its receptive field.

    Between these middles the values are linear, and beyond the outer ones they fall to zero within a step. Stretching
    a map to the image, as `resize` does, moves values of networks without borders towards the image's edges: those of
    the Nature DQN's last map, 7 x 7 of 84 x 84, by up to 12 pixels. Where a receptive field is not known, because it
    is the whole image or the layer is a module, maps are stretched.
    """
    backbone = getattr(model, "backbone", model)
    field = fields_of(backbone)[layer] if isinstance(layer, int) and isinstance(backbone, Backbone) else None
    if field is None or field.size is None:
        return resize(maps, size)
    down, across = (_linear(short, side, field).to(maps) for short, side in zip(maps.shape[1:], size, strict=True))
    return torch.einsum("yh,bhw,xw->byx", down, maps, across)


def fields_of(backbone: Backbone) -> list[ReceptiveField]:
    """The receptive field of each map of a backbone, calculated once for an architecture."""
    architecture = json.dumps(backbone.spec)
    if architecture not in _FIELDS:
        with torch.inference_mode(False):
            _FIELDS[architecture] = receptive_fields(backbone)
    return _FIELDS[architecture]


def _linear(count: int, side: int, field: ReceptiveField) -> Tensor:
    """Weights (side, count) by which the values of `count` places are interpolated at each pixel of a side."""
    places = (torch.arange(side) - field.first - (field.size - 1) / 2) / field.step
    return (1 - (places[:, None] - torch.arange(count)).abs()).clamp(min=0)


def resize(maps: Tensor, size: tuple[int, int] | torch.Size, mode: str = "bilinear") -> Tensor:
    """Maps (B, h, w) enlarged to (B, *size)."""
    options = {} if mode == "nearest" else {"align_corners": False}
    return F.interpolate(maps[:, None], tuple(size), mode=mode, **options)[:, 0]


def _places(model: Model, images: Tensor, classes: Classes, layer: Layer) -> tuple[Tensor, Tensor]:
    """A layer's output (B, N, h, w), and the gradient of each class score by it."""
    output, gradient = layer_gradients(model, images, classes, layer)
    if output.dim() != 4:
        raise ValueError(f"the layer's output {tuple(output.shape)} has no places: choose a convolutional layer")
    return output, gradient
