"""k-nearest-neighbor classification of images: distances and votes (Cover & Hart 1967, "Nearest neighbor pattern
classification").

Distances of bytes are exact whole numbers on an x86 processor: there both come from products of int8 matrices, L1 by
|a - b| = a + b - 2 min(a, b). For L1 that is the fastest way tried: 50,000 x 10,000 images of 3,072 bytes
take 100 s of a core (Zen 4), with SciPy's cdist 930 s, torch's 1,290 s and sums of int16 differences 3,600 s
(extrapolated from samples). Everything else is calculated in float32.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import torch
from rich.console import Console
from rich.progress import track
from torch import Tensor

Metric = Literal["l1", "l2"]
CACHE = 3 << 18  # bytes of examples that one query is compared with at a time: they stay in a core's own cache


def distances(queries: Tensor, examples: Tensor, metric: Metric) -> Tensor:
    """Distances (Q, N) of queries (Q, D) to examples (N, D), both uint8 or both float32.

    l1 is the sum of absolute differences, l2 the sum of squares, without its root, which changes no order. int32 of
    bytes on an x86 processor, else float32. Raises ValueError on another metric.
    """
    assert queries.shape[1] == examples.shape[1] and queries.dtype == examples.dtype
    if metric not in ("l1", "l2"):
        raise ValueError(f"unknown metric {metric!r}: there are 'l1' and 'l2'")
    if _whole(examples):
        return (_manhattan if metric == "l1" else _squared)(_signed(queries), _signed(examples))
    queries, examples = queries.float(), examples.float()
    if metric == "l1":
        return torch.cdist(queries, examples, p=1)
    center = examples.mean(0)  # distances stay the same, and less is lost in the difference of large squares
    queries, examples = queries - center, examples - center
    squares = queries.square().sum(1, keepdim=True) + examples.square().sum(1)
    return torch.addmm(squares, queries, examples.T, alpha=-2).clamp(min=0)


def nearest(
    queries: Tensor, examples: Tensor, k: int, metric: Metric = "l2", memory: float = 256.0
) -> tuple[Tensor, Tensor]:
    """The k nearest examples of each query: their distances and indices, (Q, k) each, nearest first.

    memory: MiB that distances take at a time, beside the examples and a copy of them; as many queries as fit are
        compared at once.
    Raises ValueError where there are fewer than k examples.
    """
    if not 1 <= k <= len(examples):
        raise ValueError(f"cannot take {k} neighbors of {len(examples)} examples: choose from 1 to {len(examples)}")
    rows = max(1, int(memory * 2**20 / (4 * len(examples))))
    hidden = not Console().is_terminal
    chunks = track(queries.split(rows), f"{len(queries):,} among {len(examples):,}", transient=True, disable=hidden)
    found = [distances(chunk, examples, metric).topk(k, largest=False) for chunk in chunks]
    return torch.cat([values for values, _ in found]), torch.cat([index for _, index in found])


def vote(labels: Tensor, classes: int) -> Tensor:
    """The most frequent label of each row (Q, k), nearest first: (Q,). Ties: the label of the nearest member."""
    count, k = labels.shape
    votes = torch.zeros(count, classes, dtype=torch.int64, device=labels.device)
    votes.scatter_add_(1, labels, torch.ones_like(labels))
    first = torch.full_like(votes, k)  # the rank of a class's nearest member
    ranks = torch.arange(k, device=labels.device).expand(count, k)
    first.scatter_reduce_(1, labels, ranks, "amin")
    return (votes * (k + 1) - first).argmax(1)


def accuracies(neighbors: Tensor, labels: Tensor, ks: Sequence[int], classes: int) -> list[float]:
    """Accuracy in percent, for every k, of the votes of the first k neighbors' labels (Q, K) for labels (Q,)."""
    return [100 * (vote(neighbors[:, :k], classes) == labels).sum().item() / len(labels) for k in ks]


def cross_validate(
    inputs: Tensor,
    labels: Tensor,
    ks: Sequence[int],
    folds: int,
    metric: Metric,
    memory: float,
    generator: torch.Generator,
) -> Tensor:
    """Accuracy in percent by k-fold cross-validation, (folds, len(ks)) float64.

    inputs (N, D), labels (N,); the generator splits them into folds whose sizes differ by at most one.
    Raises ValueError where the folds are too few or too small for the largest k.
    """
    if not 2 <= folds <= len(inputs):
        raise ValueError(f"cannot split {len(inputs)} images into {folds} folds: choose --folds of 2 or more")
    parts = torch.randperm(len(inputs), generator=generator).to(inputs.device).tensor_split(folds)
    classes, found = int(labels.max()) + 1, []
    for held in range(folds):
        known = torch.cat([part for number, part in enumerate(parts) if number != held])
        _, index = nearest(inputs[parts[held]], inputs[known], max(ks), metric, memory)
        found.append(accuracies(labels[known][index], labels[parts[held]], ks, classes))
    return torch.tensor(found, dtype=torch.float64)


def _whole(x: Tensor) -> bool:
    """Whether int8 products are used: for bytes, few enough for int32, on a processor that is fast at them."""
    small = x.shape[1] * 255**2 < 2**31
    return (
        x.dtype == torch.uint8
        and small
        and x.device.type == "cpu"
        and "AVX" in torch.backends.cpu.get_cpu_capability()
    )


def _signed(x: Tensor) -> Tensor:
    """Bytes shifted from 0..255 to -128..127, which changes no distance."""
    return (x ^ 128).view(torch.int8)


def _squared(queries: Tensor, examples: Tensor) -> Tensor:
    """(Q, D), (N, D) int8 -> (Q, N) int32."""
    squares = [
        torch.cat([some.to(torch.int32).square_().sum(1, dtype=torch.int32) for some in x.split(256)])
        for x in (queries, examples)
    ]
    return torch._int_mm(queries, examples.T).mul_(-2).add_(squares[0][:, None]).add_(squares[1])


def _manhattan(queries: Tensor, examples: Tensor) -> Tensor:
    """(Q, D), (N, D) int8 -> (Q, N) int32."""
    size = examples.shape[1]
    sums = [x.sum(1, dtype=torch.int32) for x in (queries, examples)]
    found = sums[0][:, None] + sums[1]
    ones = torch.ones(size, 1, dtype=torch.int8)  # sums int8 to int32 faster than torch.sum
    rows = max(1, CACHE // size)
    smaller = torch.empty(min(rows, len(examples)), size, dtype=torch.int8)
    for start in range(0, len(examples), rows):
        block = examples[start : start + rows]
        lesser = smaller[: len(block)]
        for query, row in zip(queries, found[:, start : start + rows], strict=True):
            torch.minimum(block, query, out=lesser)
            row.sub_(torch._int_mm(lesser, ones)[:, 0], alpha=2)
    return found
