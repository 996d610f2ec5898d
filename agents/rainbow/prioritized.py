"""Prioritized replay: transitions are sampled in proportion to their last temporal-difference errors.

Schaul et al. 2016, "Prioritized experience replay", the proportional variant (replay/prioritized.py).

    python -m agents.rainbow --only prioritized --env Breakout

The training loop is loop.py, with this component only. As in the paper, importance weights are normalized by
the largest in the batch, and their exponent rises to 1 by the end of the run.
"""

from collections.abc import Iterator, Sequence

import torch
from torch import Tensor


def importance_exponent_at(step: int, steps: int, start: float) -> float:
    """The exponent of the importance weights: linearly from `start` to 1 over the run. Schaul 2016, section 3.4."""
    return start + (1.0 - start) * min(step / max(steps, 1), 1.0)


def absolute_error(quantiles: Tensor, target: Tensor) -> Tensor:
    """Mean |target - quantile| over all pairs of a quantile (B, N) and a sample of the target (B, M), (B,)."""
    return (target[:, None, :] - quantiles[:, :, None]).abs().mean((1, 2))


def split_batches(
    batches: Sequence[Tensor], weights: Tensor | None, updates: int
) -> Iterator[tuple[list[Tensor], Tensor | None]]:
    """Rows (B * updates, ...) drawn at once -> (B, ...) for each update: row i goes to update i % updates.

    A stratified draw comes in the order of its places in the memory; so every update gets rows from everywhere. Its
    weights are divided by the largest among them.
    """
    for update in range(updates):
        weight = None if weights is None else weights[update::updates]
        yield [field[update::updates] for field in batches], weight if weight is None else weight / weight.max()


def concatenate(parts: Sequence[Tensor]) -> Tensor:
    """Numbers of each update's rows, (B,) each -> (B * updates,), in the order of split_batches' argument."""
    return torch.stack(list(parts), 1).flatten()
