"""Gram matrices of feature maps as texture, and pictures optimized for given content and textures.

Gatys et al. 2015, "Texture synthesis using convolutional neural networks" (arXiv 1505.07376) and "A neural algorithm
of artistic style" (arXiv 1508.06576).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Tensor

ROUND = 50  # iterations of L-BFGS between two clamps of the pixels


def gram_matrix(maps: Tensor) -> Tensor:
    """Gram matrices (B, N, N) of maps (B, N, H, W): products of channels, summed over places."""
    flat = maps.flatten(2)
    return flat @ flat.transpose(1, 2)


def style_loss(maps: Tensor, target: Tensor) -> Tensor:
    """E_l (B,): squared differences of Gram matrices, each divided by its places, / (4 N^2). Equation 4, style.

    maps: (B, N, H, W). target: (B or 1, N, N), a Gram matrix divided by the places that it was summed over, so that
    pictures of other sizes can be compared; with equal sizes it is the paper's 1 / (4 N^2 M^2).
    """
    count, places = maps.shape[1], maps[0, 0].numel()
    return (gram_matrix(maps) / places - target).square().sum((1, 2)) / (4 * count**2)


def content_loss(maps: Tensor, target: Tensor) -> Tensor:
    """Half the squared distance (B,) of maps (B, N, H, W) to those of the content. Equation 1, style."""
    return (maps - target).square().sum((1, 2, 3)) / 2


def textures(backbone: Callable[[Tensor], Sequence[Tensor]], picture: Tensor, stages: Sequence[int]) -> list[Tensor]:
    """The targets (1, N, N) of style_loss for stages of a picture (1, C, H, W)."""
    with torch.no_grad():
        maps = backbone(picture)
        return [gram_matrix(maps[stage]) / maps[stage][0, 0].numel() for stage in stages]


def optimize(
    loss: Callable[[Tensor], Tensor], start: Tensor, steps: int, say: Callable[[int, float], None] = lambda *_: None
) -> tuple[Tensor, list[float]]:
    """A picture (1, C, H, W) from 0 to 1 that minimizes a loss, by L-BFGS, and the loss after each evaluation.

    Pixels are clamped after every ROUND iterations, when the optimizer begins anew: its memory does not survive it.
    loss: pictures (1, C, H, W) -> (). steps: evaluations, about. say: called with their number and the loss.
    """
    with torch.inference_mode(False), torch.enable_grad():
        picture, values = start.detach().clone().requires_grad_(), []
        while len(values) < steps:
            optimizer = torch.optim.LBFGS(
                [picture], max_iter=ROUND, history_size=ROUND, line_search_fn="strong_wolfe"
            )

            def closure(optimizer: torch.optim.LBFGS = optimizer) -> Tensor:
                optimizer.zero_grad()
                found = loss(picture)
                found.backward()
                values.append(found.item())
                return found

            before = len(values)
            optimizer.step(closure)
            with torch.no_grad():
                picture.clamp_(0, 1)
            say(len(values), values[-1])
            if len(values) - before < 2:  # the line search finds no descent
                break
        return picture.detach(), values
