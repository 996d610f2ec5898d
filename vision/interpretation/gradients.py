"""Gradients of a class score with respect to pixels or a layer's output, batched, for the attribution methods.

A model is a module or a function: images (B, C, H, W) -> scores (B, K), the logits of classes or the values of
actions. Images are uint8, or floats from 0 to 1. A model is put into evaluation mode meanwhile, its weights get no
gradients (they may be frozen), and nothing of a graph is kept.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator

import torch
from torch import Tensor, nn

Model = Callable[[Tensor], Tensor]  # images (B, C, H, W) -> scores (B, K)
Classes = Tensor | int | None  # (B,) int64, one for all images, or None: the class with the highest score
Layer = nn.Module | int  # a module of the model, or the number of a map of its backbone: -1 is the coarsest


def as_floats(images: Tensor) -> Tensor:
    """A copy of images (B, C, H, W) as floats; uint8 pixels are divided by 255, as backbones count them."""
    return images.to(torch.float32) / 255 if images.dtype == torch.uint8 else images.detach().clone()


@contextlib.contextmanager
def evaluation_mode(model: Model) -> Iterator[None]:
    """A context in which a module and its submodules are in evaluation mode. A function is left as it is."""
    modes = {module: module.training for module in model.modules()} if isinstance(model, nn.Module) else {}
    for module in modes:
        module.training = False
    try:
        yield
    finally:
        for module, mode in modes.items():
            module.training = mode


@contextlib.contextmanager
def differentiable(model: Model) -> Iterator[None]:
    """A context of evaluation mode with gradients, also inside of torch.no_grad and torch.inference_mode."""
    with evaluation_mode(model), torch.inference_mode(False), torch.enable_grad():
        yield


def chosen_classes(scores: Tensor, classes: Classes) -> Tensor:
    """The classes (B,) int64 that are explained, of scores (B, K).

    Raises ValueError for scores of another rank, as many classes as there are no images, and classes beyond K.
    """
    if scores.dim() != 2:
        raise ValueError(f"a model is to give scores (B, K), and this one gave {tuple(scores.shape)}")
    if classes is None:
        return scores.argmax(1)
    found = torch.as_tensor(classes, device=scores.device).long()
    found = found.expand(len(scores)) if found.dim() == 0 else found
    if found.shape != scores.shape[:1]:
        raise ValueError(f"{len(scores)} images need one class or {len(scores)}, not {tuple(found.shape)}")
    if not ((found >= 0) & (found < scores.shape[1])).all():
        raise ValueError(f"there is no class {found.tolist()} among {scores.shape[1]}: they count from 0")
    return found.clone()  # which tensors of inference mode need before they can be saved for a gradient


def chosen_scores(scores: Tensor, classes: Classes) -> Tensor:
    """The score (B,) of each image's class, of scores (B, K). Raises ValueError as chosen_classes does."""
    return scores.gather(1, chosen_classes(scores, classes)[:, None])[:, 0]


def input_gradients(model: Model, images: Tensor, classes: Classes = None) -> Tensor:
    """The gradient (B, C, H, W) of each image's class score by its pixels, float32."""
    with differentiable(model):
        pixels = as_floats(images).requires_grad_()
        score = chosen_scores(model(pixels), classes).sum()  # of independent images: each gradient is its own
        return torch.autograd.grad(score, pixels)[0].detach()


@contextlib.contextmanager
def recorded(model: Model, layer: Layer) -> Iterator[list[Tensor]]:
    """A context in which a layer's outputs (B, ...) are recorded, an entry a call, with their graphs; then forgotten.

    layer: a module, or the number of a map that the model's `backbone` (or the model itself, a backbone) returns.
    Raises ValueError where the model has no such layer.
    """
    found: list[Tensor] = []
    if isinstance(layer, nn.Module):
        hook = layer.register_forward_hook(lambda module, inputs, output: found.append(output))
    else:
        backbone = getattr(model, "backbone", model)
        if not hasattr(backbone, "channels") or not -len(backbone.channels) <= layer < len(backbone.channels):
            count = len(getattr(backbone, "channels", ()))
            raise ValueError(f"there is no map {layer} among the {count} of its backbone: name a module")
        hook = backbone.register_forward_hook(lambda module, inputs, maps: found.append(maps[layer]))
    try:
        yield found
    finally:
        hook.remove()
        found.clear()


def layer_gradients(
    model: Model, images: Tensor, classes: Classes = None, layer: Layer = -1
) -> tuple[Tensor, Tensor]:
    """The output of a layer (B, N, h, w) for images (B, C, H, W), and the gradient of each class score by it.

    Raises ValueError where the score does not depend on the layer, or the layer is called more than once.
    """
    with differentiable(model), recorded(model, layer) as outputs:
        pixels = as_floats(images).requires_grad_()  # frozen weights alone would make no graph
        score = chosen_scores(model(pixels), classes).sum()
        if len(outputs) != 1:
            raise ValueError(f"the layer was called {len(outputs)} times for one batch: it is to be called once")
        output = outputs[0]
        (gradient,) = torch.autograd.grad(score, output, allow_unused=True)
        if gradient is None:
            raise ValueError("the score does not depend on this layer's output")
        return output.detach(), gradient.detach()
