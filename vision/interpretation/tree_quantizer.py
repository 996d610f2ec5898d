"""Tree-structured vector quantization: an approximate nearest neighbor in logarithmic time.

Gersho & Gray 1992, "Vector quantization and signal compression", and Wei & Levoy 2000, section 4: vectors are split
in two by the generalized Lloyd algorithm (2-means), and each half again. A search goes to the nearer of two centroids
at each node, and never back, so that it may miss the nearest vector.

Deviation from the paper: a node of at most LEAF vectors is not split, and its vectors are compared one by one, which
is as fast and misses fewer.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

LEAF = 16  # vectors of a node that is not split
ROUNDS = 20  # of the generalized Lloyd algorithm, at most


def two_means(vectors: Tensor) -> Tensor | None:
    """Which of vectors (N, D) are in the second of two clusters (N,) bool; None where all vectors are equal.

    It begins with the vector that is farthest from the mean, and the one farthest from that.
    """
    first = vectors[(vectors - vectors.mean(0)).square().sum(1).argmax()]
    far = (vectors - first).square().sum(1)
    second = vectors[far.argmax()]
    if not far.max() > 0:
        return None
    chosen = torch.zeros(len(vectors), dtype=torch.bool, device=vectors.device)
    for _ in range(ROUNDS):
        normal, threshold = hyperplane(first, second)
        before, chosen = chosen, vectors @ normal > threshold
        if torch.equal(before, chosen) or chosen.all() or not chosen.any():
            break
        first, second = vectors[~chosen].mean(0), vectors[chosen].mean(0)
    return None if chosen.all() or not chosen.any() else chosen


def hyperplane(first: Tensor, second: Tensor) -> tuple[Tensor, Tensor]:
    """The plane between two points (D,): normal (D,) and threshold (), above which the second one is nearer."""
    return second - first, (second.square().sum() - first.square().sum()) / 2


@torch.inference_mode()
def search(vectors: Tensor) -> Callable[[Tensor], int]:
    """A search that takes a vector (D,) and gives the index of a near one of vectors (N, D)."""
    normals: list[Tensor] = []
    thresholds: list[float] = []
    children: list[tuple[int, int]] = []  # of each node: indices of nodes, or of leaves as -1 - index
    leaves: list[tuple[Tensor, Tensor, Tensor]] = []  # squared lengths, vectors and their indices

    def leaf(rows: Tensor) -> int:
        own = vectors[rows].contiguous()
        leaves.append((own.square().sum(1), own, rows))
        return -len(leaves)

    def split(rows: Tensor) -> tuple[Tensor, Tensor] | None:
        own = vectors[rows]
        chosen = None if len(rows) <= LEAF else two_means(own)
        if chosen is None:
            return None
        normal, threshold = hyperplane(own[~chosen].mean(0), own[chosen].mean(0))
        chosen = own @ normal > threshold
        if chosen.all() or not chosen.any():
            return None
        normals.append(normal)
        thresholds.append(float(threshold))
        children.append((0, 0))
        return rows[~chosen], rows[chosen]

    waiting: list[tuple[Tensor, int, int]] = [(torch.arange(len(vectors), device=vectors.device), -1, 0)]
    root = 0
    while waiting:
        rows, parent, place = waiting.pop()
        node, halves = len(normals), split(rows)
        if halves is None:
            node = leaf(rows)
        else:
            waiting += [(half, node, number) for number, half in enumerate(halves)]
        if parent < 0:
            root = node
        else:
            pair = list(children[parent])
            pair[place] = node
            children[parent] = tuple(pair)

    def find(wanted: Tensor) -> int:
        node = root
        while node >= 0:
            node = children[node][bool(normals[node] @ wanted > thresholds[node])]
        squares, own, rows = leaves[-1 - node]
        return int(rows[torch.addmv(squares, own, wanted, alpha=-2).argmin()])

    return find
