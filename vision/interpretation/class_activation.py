"""Class activation maps: CAM, Grad-CAM, HiResCAM and guided Grad-CAM.

    map = grad_cam(model, images, classes)                  # (B, H, W), where in the image a class is

Zhou et al. 2015 (arXiv 1512.04150), Selvaraju et al. 2016 (arXiv 1610.02391), Draelos & Carin 2020 (arXiv
2011.08891). A model, its images and classes are those of gradients.py. `layer` is a module, or the number of the
backbone's map: -1, the coarsest, unless given.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from vision.backbones.backbone import PooledHead
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


def cam(model: nn.Module, images: Tensor, classes: Classes = None) -> Tensor:
    """Class activation map (B, h, w) of the last map: its channels, weighted by the class's row of the last layer.

    Zhou et al. 2015, equation 2: its mean over places is the class's logit without the bias (with global max pooling,
    its maximum is). Signed, at the map's own resolution: `resize` enlarges it. Raises ValueError for a model whose head is not global average pooling and one
    linear layer.
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
    return resize(grad_cam_map(model, images, classes, layer).clamp(min=0), images.shape[2:])


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
    return resize(hires_cam_map(model, images, classes, layer).clamp(min=0), images.shape[2:])


def guided_grad_cam(
    model: Model, images: Tensor, classes: Classes = None, layer: Layer = -1, mode: str = "bilinear"
) -> Tensor:
    """Guided Grad-CAM (B, C, H, W): guided backpropagation times Grad-CAM.

    mode: of the enlargement (Captum: nearest).

    Raises ValueError for a model without ReLU modules.
    """
    where = grad_cam_map(model, images, classes, layer).clamp(min=0)
    return guided_backpropagation(model, images, classes) * resize(where, images.shape[2:], mode)[:, None]


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
