"""Attribution by gradients: saliency, gradient x input, guided backpropagation and the deconvolutional network.

    map = heat(guided_backpropagation(model, images, classes))      # (B, H, W), what pixels a class score depends on

Simonyan et al. 2013 (arXiv 1312.6034), Zeiler & Fergus 2013 (arXiv 1311.2901), Springenberg et al. 2014 (arXiv
1412.6806). A model, its images and classes are those of gradients.py; the values equal Captum's.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator

import torch
from torch import Tensor, nn

from vision.interpretation.gradients import Classes, Model, as_floats, input_gradients

RELUS = (nn.ReLU, nn.ReLU6)


def saliency(model: Model, images: Tensor, classes: Classes = None) -> Tensor:
    """The absolute gradient (B, C, H, W) of a class score by the pixels. Simonyan et al. 2013, section 3."""
    return input_gradients(model, images, classes).abs()


def gradient_times_input(model: Model, images: Tensor, classes: Classes = None) -> Tensor:
    """Gradient x input (B, C, H, W): Taylor's first-order terms of a score at black. Shrikumar et al. 2016."""
    return input_gradients(model, images, classes) * as_floats(images)


def guided_backpropagation(model: Model, images: Tensor, classes: Classes = None) -> Tensor:
    """Guided backpropagation (B, C, H, W): gradients pass a ReLU where its input and they themselves are positive.

    Springenberg et al. 2014, figure 1. Raises ValueError for a model without ReLU modules (see relu_backward).
    """
    with relu_backward(model, lambda gradient, active: gradient.clamp(min=0) * active):
        return input_gradients(model, images, classes)


def deconvnet(model: Model, images: Tensor, classes: Classes = None) -> Tensor:
    """The deconvolutional network's reconstruction (B, C, H, W): gradients pass a ReLU where they are positive.

    Max pools are undone by the places of their maxima. Zeiler & Fergus 2013, section 2.1. Raises ValueError for a
    model without ReLU modules.
    """
    with relu_backward(model, lambda gradient, active: gradient.clamp(min=0)):
        return input_gradients(model, images, classes)


def heat(attribution: Tensor) -> Tensor:
    """A map (B, H, W) of an attribution (B, C, H, W): the largest magnitude over channels, as Simonyan et al. do."""
    return attribution.abs().amax(1)


class _ReLU(torch.autograd.Function):
    """A ReLU's output, with another backward pass."""

    @staticmethod
    def forward(ctx, x: Tensor, y: Tensor, rule: Callable[[Tensor, Tensor], Tensor]) -> Tensor:
        ctx.save_for_backward((y > 0) & (x == y))
        ctx.rule = rule
        return y.clone()

    @staticmethod
    def backward(ctx, gradient: Tensor) -> tuple[Tensor, None, None]:
        return ctx.rule(gradient, ctx.saved_tensors[0]), None, None


@contextlib.contextmanager
def relu_backward(model: Model, rule: Callable[[Tensor, Tensor], Tensor]) -> Iterator[None]:
    """A context in which every ReLU of a model goes backward by a rule.

    rule: (gradient by its output, where the ReLU is active: bool), of the output's shape -> gradient by its input.
    Raises ValueError for a model without ReLU modules, or with ReLUs that overwrite their input, whose gradient
    cannot be replaced.
    """
    modules = [m for m in model.modules() if isinstance(m, RELUS)] if isinstance(model, nn.Module) else []
    if not modules:
        raise ValueError("this model has no ReLU modules, for which the rule is made: use saliency or Grad-CAM")
    if any(module.inplace for module in modules):
        raise ValueError("a ReLU of this model works in place: build it with inplace=False")
    hooks = [
        module.register_forward_hook(lambda _, inputs, output: _ReLU.apply(inputs[0], output.detach(), rule))
        for module in modules
    ]
    try:
        yield
    finally:
        for hook in hooks:
            hook.remove()
