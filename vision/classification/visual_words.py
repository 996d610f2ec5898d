"""Visual words: k-means clusters of descriptors, and images as histograms of them (bag of visual words).

Sivic & Zisserman 2003, "Video Google"; Csurka et al. 2004, "Visual categorization with bags of keypoints". Histograms
of several grids of places: Lazebnik et al. 2006 (spatial pyramid).
"""

from __future__ import annotations

import torch
from torch import Tensor

from vision.classification.sift import KeyPoints

CHUNK = 20_000  # vectors compared at a time


def kmeans(
    vectors: Tensor, count: int, iterations: int = 20, generator: torch.Generator | None = None
) -> tuple[Tensor, list[float]]:
    """k-means: `count` centers (count, D) of vectors (N, D), and the mean squared distance of every iteration.

    Lloyd 1982, from a start by k-means++ (Arthur & Vassilvitskii 2007). A cluster that becomes empty gets the vector
    that is farthest from its center. Raises ValueError where there are fewer vectors than centers.
    """
    if not 1 <= count <= len(vectors):
        raise ValueError(f"{len(vectors)} vectors cannot have {count} clusters")
    centers = vectors[torch.randint(len(vectors), (1,), generator=generator, device=vectors.device)]
    nearest = squared(vectors, centers)[:, 0]
    while len(centers) < count:
        weights = nearest if bool(nearest.sum() > 0) else torch.ones_like(nearest)
        chosen = torch.multinomial(weights, 1, generator=generator)
        centers = torch.cat([centers, vectors[chosen]])
        nearest = torch.minimum(nearest, squared(vectors, vectors[chosen])[:, 0])
    costs: list[float] = []
    for _ in range(iterations):
        word, distance = assign(vectors, centers)
        costs.append(distance.mean().item())
        sums = torch.zeros_like(centers).index_add_(0, word, vectors)
        counts = torch.bincount(word, minlength=count)
        moved = sums / counts.clamp(min=1)[:, None]
        if empty := (counts == 0).nonzero().flatten().tolist():
            moved[empty] = vectors[distance.topk(len(empty)).indices]
        if torch.equal(moved, centers):
            break
        centers = moved
    return centers, costs


def squared(vectors: Tensor, centers: Tensor) -> Tensor:
    """Squared distances (N, K)."""
    lengths = vectors.square().sum(1, keepdim=True) + centers.square().sum(1)
    return torch.addmm(lengths, vectors, centers.T, alpha=-2).clamp(min=0)


def assign(vectors: Tensor, centers: Tensor) -> tuple[Tensor, Tensor]:
    """The nearest center of each vector (N,) int64, and the squared distance to it (N,)."""
    found = [squared(some, centers).min(1) for some in vectors.split(CHUNK)]
    return torch.cat([each.indices for each in found]), torch.cat([each.values for each in found])


def histograms(
    words: Tensor, points: KeyPoints, count: int, images: int, size: tuple[int, int], levels: int
) -> Tensor:
    """Images as histograms of their words, (images, count * (1 + 4 + 16 + ...)) float32 with `levels` grids.

    words: (K,) int64 of key points in images of size (H, W). The square roots of each image's shares are taken, which
    makes its vector's length 1 (Arandjelovic & Zisserman 2012, "RootSIFT"); one without words is zero.
    """
    parts = []
    for level in range(levels):
        side = 2**level
        column = (points.x / size[1] * side).long().clamp(0, side - 1)
        row = (points.y / size[0] * side).long().clamp(0, side - 1)
        place = ((points.image * side + row) * side + column) * count + words
        part = torch.bincount(place, minlength=images * side * side * count)[: images * side * side * count]
        parts.append(part.view(images, -1).float())
    found = torch.cat(parts, 1)
    return (found / found.sum(1, keepdim=True).clamp(min=1)).sqrt()
