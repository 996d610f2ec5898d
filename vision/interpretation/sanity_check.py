"""Sanity check of attributions: do they change when the weights are replaced by random ones?

Adebayo et al. 2018 (arXiv 1810.03292), section 3: cascading randomization. Layers get new weights one after the
other, from the output to the input, and the map of the network with them is compared with the original one. A map
that stays the same explains the image and not the model; guided backpropagation is known for it.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator
from typing import NamedTuple

import torch
from torch import Tensor, nn

from vision.interpretation.gradients import as_floats, evaluation_mode


class Similarity(NamedTuple):
    """How similar the maps are to the original ones once a layer, and all after it, are randomized."""

    layer: str  # its name in the model
    rank_correlation: float  # Spearman's, of magnitudes, mean over images: 1 for equal maps
    class_changed: float  # share of the images whose class with the highest score is another one


def cascading_randomization(
    model: nn.Module,
    attribute: Callable[[nn.Module, Tensor, Tensor], Tensor],
    images: Tensor,
    classes: Tensor,
    seed: int = 0,
) -> Iterator[Similarity]:
    """Similarity of an attribution to the original, after each layer from the output to the input is randomized.

    attribute: of attribution.py, class_activation.py or occlusion.py: (model, images, classes) -> (B, C, H, W) or
    (B, H, W). images: (B, C, H, W). classes: (B,) that are explained. The model itself is not changed.

    Every weight gets a random permutation of its own numbers: the same distribution, and nothing learned.
    """
    original = attribute(model, images, classes).abs().flatten(1)
    randomized, generator = copy.deepcopy(model), torch.Generator().manual_seed(seed)
    with torch.no_grad():
        before = _predicted(model, images)
        for name, layer in reversed(list(randomized.named_modules())):
            weights = list(layer.parameters(recurse=False))
            if all(weight.numel() < 2 for weight in weights):
                continue
            for weight in weights:
                order = torch.randperm(weight.numel(), generator=generator).to(weight.device)
                weight.copy_(weight.flatten()[order].view(weight.shape))
            found = attribute(randomized, images, classes).abs().flatten(1)
            changed = (_predicted(randomized, images) != before).float().mean().item()
            yield Similarity(name, rank_correlation(original, found).mean().item(), changed)


def rank_correlation(one: Tensor, other: Tensor) -> Tensor:
    """Spearman's rank correlation (B,) of the rows of two tensors (B, N); equal values share their mean rank.

    Rows whose values are all equal have none: 0.
    """
    ranks = [_ranks(each) for each in (one, other)]
    a, b = (each - each.mean(1, keepdim=True) for each in ranks)
    return (a * b).sum(1) / (a.norm(dim=1) * b.norm(dim=1)).clamp(min=1e-12)


def _ranks(values: Tensor) -> Tensor:
    """The rank of each value in its row (B, N), from 0; of equal values their mean."""
    found = []
    for row in values.cpu().double():
        _, inverse, counts = row.unique(return_inverse=True, return_counts=True)
        ends = counts.cumsum(0)
        found.append((ends - (counts + 1) / 2)[inverse])
    return torch.stack(found)


def _predicted(model: nn.Module, images: Tensor) -> Tensor:
    with evaluation_mode(model):
        return model(as_floats(images)).argmax(1)
