"""Sanity check of attributions: do they change when the weights are replaced by random ones?

    found = randomization_test(model, saliency, images, classes)    # {"output layer": Verdict, "all layers": Verdict}
    passes(found)

Adebayo et al. 2018 (arXiv 1810.03292), section 3. A map that stays the same explains the image and not the model;
guided backpropagation is known for it. The paper shows similarities and sets no limit. Here a method passes if the
rank correlation with its original maps is below 0.5 for certain, after the output layer alone got random weights and
after all layers did: the upper end of the 95% interval of the mean is below the limit. At 0.5 the ranks of two maps
share a quarter of their variance (0.5^2), so that three quarters depend on the weights that were learned. The output
layer alone is the harder test: all features are still there, and only which of them speak for a class is not. The
class or action that is explained stays the same one (Huber et al. 2022).

Methods that keep the positive part of a map only, as CAM and Grad-CAM, often give an empty map once weights are
random: the class's score is negative everywhere. Its correlation counts as 0, which says nothing of what the map
depends on. A method of which half of these maps or more are empty does not pass.
"""

from __future__ import annotations

import copy
import math
from collections.abc import Callable, Collection, Iterator
from typing import NamedTuple

import torch
from torch import Tensor, nn

LIMIT = 0.5  # rank correlation
LEVEL = 0.95  # of the interval, both sides together
EMPTY = 0.5  # share of maps
RULE = f"passes if both intervals end below {LIMIT}, and fewer than half of the maps are empty after either"


class Verdict(NamedTuple):
    """The rank correlation of maps with the original ones, once weights are random: mean and its 95% interval."""

    mean: float
    low: float
    high: float
    passes: bool  # the interval's upper end is below the limit, and the share of empty maps below EMPTY
    empty: float = 0.0  # share of the maps of random weights whose values are all the same


def randomization_test(
    model: nn.Module,
    attribute: Callable[[nn.Module, Tensor, Tensor], Tensor],
    images: Tensor,
    classes: Tensor,
    draws: int = 5,
    seed: int = 0,
    without: Collection[str] = (),
) -> dict[str, Verdict]:
    """Verdicts on an attribution after the output layer's weights are random, and after all layers' are.

    attribute: of attribution.py, class_activation.py or occlusion.py: (model, images, classes) -> (B, C, H, W) or
    (B, H, W). images: (B, C, H, W). classes: (B,) that are explained. draws: of random weights, at least two.
    without: as of `randomized`. The model itself is not changed.
    """
    original = attribute(model, images, classes).abs().flatten(1)
    kept = ~_constant(original)
    found: dict[str, list[Tensor]] = {"output layer": [], "all layers": []}
    empty: dict[str, list[Tensor]] = {name: [] for name in found}
    for draw in range(draws):
        changed = model
        for number, (_, changed) in enumerate(randomized(model, seed * draws + draw, without)):
            if number == 0:
                maps = attribute(changed, images, classes).abs().flatten(1)
                found["output layer"].append(rank_correlation(original, maps))
                empty["output layer"].append(_constant(maps))
        maps = attribute(changed, images, classes).abs().flatten(1)
        found["all layers"].append(rank_correlation(original, maps))
        empty["all layers"].append(_constant(maps))
    shares = {name: torch.stack(each)[:, kept].float().mean().item() for name, each in empty.items()}
    return {name: verdict(torch.stack(each)[:, kept], empty=shares[name]) for name, each in found.items()}


def passes(found: dict[str, Verdict]) -> bool:
    """Whether a method passes the sanity check: both verdicts of randomization_test."""
    return all(each.passes for each in found.values())


def check_draws(draws: int) -> None:
    """Raise ValueError for fewer than two draws of random weights."""
    if draws < 2:
        raise ValueError(f"{draws} draw of random weights has no interval: at least two are needed")


def verdict(correlations: Tensor, limit: float = LIMIT, empty: float = 0.0) -> Verdict:
    """The mean of correlations (D, B) of D draws of weights and B images, its 95% interval, and whether it passes.

    Images and draws are both samples: the variance of the mean is the sum of that over images, of the means over
    draws, and that over draws, of the means over images (crossed random effects); Student's t with the degrees of
    freedom by Satterthwaite 1946. Without a map that is not constant there is nothing to compare: NaN, not passed.
    empty: share of the maps of random weights that are constant.
    Raises ValueError for fewer than two draws.
    """
    from scipy.special import stdtrit  # a quarter of a second to import

    draws, images = correlations.shape
    check_draws(draws)
    if images < 2:
        return Verdict(math.nan, math.nan, math.nan, False, empty)
    values = correlations.double()
    mean = values.mean().item()
    parts = ((values.mean(0).var().item() / images, images - 1), (values.mean(1).var().item() / draws, draws - 1))
    variance = sum(part for part, _ in parts)
    freedom = variance**2 / max(sum(part**2 / count for part, count in parts), 1e-300)
    half = float(stdtrit(freedom, (1 + LEVEL) / 2)) * math.sqrt(variance) if variance else 0.0
    return Verdict(mean, mean - half, mean + half, mean + half < limit and empty < EMPTY, empty)


def randomized(model: nn.Module, seed: int = 0, without: Collection[str] = ()) -> Iterator[tuple[str, nn.Module]]:
    """Cascading randomization: a copy of a model after each layer, from the output to the input, is randomized.

    Gives the layer's name and the copy, the same one each time. Every weight gets a random permutation of its own
    numbers: the same distribution, and nothing learned. without: names of layers that are left as they are, such as
    a critic beside the output that is explained.
    """
    changed, generator = copy.deepcopy(model), torch.Generator().manual_seed(seed)
    for name, layer in reversed(list(changed.named_modules())):
        weights = list(layer.parameters(recurse=False))
        if name in without or all(weight.numel() < 2 for weight in weights):
            continue
        with torch.no_grad():
            for weight in weights:
                order = torch.randperm(weight.numel(), generator=generator).to(weight.device)
                weight.copy_(weight.flatten()[order].view(weight.shape))
        yield name, changed


def rank_correlation(one: Tensor, other: Tensor) -> Tensor:
    """Spearman's rank correlation (B,) on the CPU of the rows of two tensors (B, N); equal values share a mean rank.

    Rows whose values are all equal have none: 0.
    """
    ranks = [_ranks(each) for each in (one, other)]
    a, b = (each - each.mean(1, keepdim=True) for each in ranks)
    return (a * b).sum(1) / (a.norm(dim=1) * b.norm(dim=1)).clamp(min=1e-12)


def _constant(maps: Tensor) -> Tensor:
    """Whether all values of a map are the same, (B,) bool on the CPU, of maps (B, N)."""
    return (maps == maps[:, :1]).all(1).cpu()


def _ranks(values: Tensor) -> Tensor:
    """The rank of each value in its row (B, N), from 0; of equal values their mean."""
    found = []
    for row in values.cpu().double():
        _, inverse, counts = row.unique(return_inverse=True, return_counts=True)
        ends = counts.cumsum(0)
        found.append((ends - (counts + 1) / 2)[inverse])
    return torch.stack(found)
