"""Synchronous against asynchronous SGD with a parameter server: losses by updates and by time, on one picture.

Dean et al. 2012, "Large scale distributed deep networks" (Downpour SGD): every worker fetches the weights, computes a
gradient, and sends it to the server, which applies it at once, although other workers have changed the weights
meanwhile. Chen et al. 2016, "Revisiting distributed synchronous SGD" (arXiv 1604.00981): the server waits for the
gradients of all workers (or of all but some backup workers, --backups) and applies their mean.

    python -m vision.training.parameter_server                       # parameter_server.png
    python -m vision.training.parameter_server --workers 16 --spread 1.0 --backups 2

The gradients are real, of a classifier on drawn images; the machines are simulated in one process, event by event:
the time of a gradient is log-normal, of median 1, and --spread is the standard deviation of its logarithm. So the
same seed gives the same picture, and what is compared is the algorithms and not a network of machines. Staleness is
the number of updates between a worker's fetch of the weights and the use of its gradient: 0 when synchronous, and
about the number of the other workers when asynchronous. Both make the same number of updates with the same learning
rate; an asynchronous update is of one worker's batch, a synchronous one of all workers' batches, for which a larger
rate could be used (Goyal et al. 2017, arXiv 1706.02677).
"""

from __future__ import annotations

import dataclasses
import functools
import heapq
import math
import random
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import NamedTuple

import torch
from rich.console import Console
from rich.table import Table
from torch import Tensor, nn
from torch.nn import functional as F

import runs
from runs import output
from runs.flag_types import Count, NonNegative, Positive, Whole
from vision.data import shapes

# weights (W,) and the number of a batch -> its loss, a scalar, and gradient (W,)
Gradient = Callable[[Tensor, int], tuple[Tensor, Tensor]]


@dataclasses.dataclass(frozen=True)
class Config:
    workers: tuple[int, ...] = (4, 16)  # a column of pictures for each
    updates: Count = 400  # of the weights
    batch: Count = 32  # images of a worker's gradient
    learning_rate: Positive = 0.1
    spread: NonNegative = 0.5  # of a gradient's time: standard deviation of its logarithm
    backups: Whole = 0  # synchronous: the slowest workers whose gradients are dropped
    images: Count = 2_000  # drawn
    side: Count = 16  # pixels
    hidden: Count = 64  # units
    seed: Whole = 1
    out: Path = Path("parameter_server.png")


class Update(NamedTuple):
    """One update of the weights."""

    time: float  # medians of a gradient's time
    loss: float  # of the batches whose gradients it is made of, before it
    staleness: int  # updates since those weights were fetched
    gradients: int  # applied so far


def synchronous(
    gradient: Gradient, weights: Tensor, workers: int, updates: int, rate: float, clock: Callable[[], float],
    backups: int = 0,
) -> list[Update]:  # fmt: skip
    """Every worker computes a gradient of the same weights, and the mean of those of the first workers - backups to
    be ready is applied.

    weights: (W,), changed in place. clock: the time of one gradient. A worker's batches have the numbers in the order
    in which they begin.
    """
    found, now = [], 0.0
    for number in range(updates):
        times = [clock() for _ in range(workers)]
        ready = sorted(range(workers), key=times.__getitem__)[: workers - backups]
        now += times[ready[-1]]
        parts = [gradient(weights, number * workers + worker) for worker in ready]
        weights -= rate * torch.stack([part for _, part in parts]).mean(0)
        loss = torch.stack([loss for loss, _ in parts]).mean().item()
        found.append(Update(now, loss, 0, (number + 1) * len(ready)))
    return found


def asynchronous(
    gradient: Gradient, weights: Tensor, workers: int, updates: int, rate: float, clock: Callable[[], float]
) -> list[Update]:
    """Every worker's gradient is applied when it is ready, of the weights as they were when that worker fetched them.

    weights: (W,), changed in place. clock: the time of one gradient.
    """
    found: list[Update] = []
    # ready at, number of the batch, its weights, and the updates that had been made when they were fetched
    events = [(clock(), number, weights.clone(), 0) for number in range(workers)]
    heapq.heapify(events)
    for number in range(workers, workers + updates):
        now, batch, fetched, made = heapq.heappop(events)
        loss, part = gradient(fetched, batch)
        weights -= rate * part
        found.append(Update(now, loss.item(), len(found) - made, len(found) + 1))
        heapq.heappush(events, (now + clock(), number, weights.clone(), len(found)))
    return found


def classifier(config: Config) -> tuple[Gradient, Tensor, Callable[[Tensor], float]]:
    """The gradient of a network of one hidden layer on drawn images, its first weights (W,), and the loss on images
    that it does not learn from."""
    drawn = shapes.draw(config.images + 500, config.side, config.seed)
    images = drawn.images.flatten(1).float() / 255 - 0.5
    labels, learned = drawn.labels, config.images
    torch.manual_seed(config.seed)
    network = nn.Sequential(
        nn.Linear(images.shape[1], config.hidden), nn.ReLU(), nn.Linear(config.hidden, len(shapes.SHAPES))
    )
    names, sizes = zip(*((name, each.shape) for name, each in network.named_parameters()), strict=True)
    first = torch.cat([each.detach().flatten() for each in network.parameters()])

    def loss_of(weights: Tensor, rows: Tensor) -> Tensor:
        parts = weights.split([math.prod(size) for size in sizes])
        named = {name: part.view(size) for name, part, size in zip(names, parts, sizes, strict=True)}
        return F.cross_entropy(torch.func.functional_call(network, named, images[rows]), labels[rows])

    def gradient(weights: Tensor, batch: int) -> tuple[Tensor, Tensor]:
        rows = torch.randint(learned, (config.batch,), generator=torch.Generator().manual_seed(batch))
        weights = weights.detach().clone().requires_grad_()
        loss = loss_of(weights, rows)
        return loss.detach(), torch.autograd.grad(loss, weights)[0]

    @torch.no_grad()
    def test(weights: Tensor) -> float:
        return loss_of(weights, torch.arange(learned, len(labels))).item()

    return gradient, first, test


def smooth(values: Sequence[float], width: int = 15) -> list[float]:
    """Their running mean over the last `width`."""
    means = []
    for end in range(1, len(values) + 1):
        window = values[max(0, end - width) : end]
        means.append(sum(window) / len(window))
    return means


def main(config: Config) -> None:
    from matplotlib.figure import Figure

    if min(config.workers, default=0) < 1:
        raise ValueError("--workers: numbers of 1 or more, a column of pictures for each")
    if config.backups >= min(config.workers):
        raise ValueError(f"--backups {config.backups}: with {min(config.workers)} workers no gradient would be left")
    gradient, first, test = classifier(config)
    algorithms = {
        "synchronous": functools.partial(synchronous, backups=config.backups),
        "asynchronous": asynchronous,
    }
    table = Table("workers", "algorithm", "updates", "time", "staleness", "test loss")
    figure = Figure(figsize=(4.2 * len(config.workers), 6.4), layout="constrained")
    axes = figure.subplots(2, len(config.workers), sharey=True, squeeze=False)
    for column, workers in enumerate(config.workers):
        for name, train in algorithms.items():
            clock = functools.partial(random.Random(config.seed).lognormvariate, 0.0, config.spread)
            weights = first.clone()
            found = train(gradient, weights, workers, config.updates, config.learning_rate, clock)
            losses = smooth([update.loss for update in found])
            axes[0, column].plot(range(1, len(found) + 1), losses, label=name)
            axes[1, column].plot([update.time for update in found], losses, label=name)
            stale = sum(update.staleness for update in found) / len(found)
            cells = str(len(found)), f"{found[-1].time:.0f}", f"{stale:.1f}", f"{test(weights):.3f}"
            table.add_row(str(workers), name, *cells)
        axes[0, column].set(title=f"{workers} workers", xlabel="updates")
        axes[1, column].set(xlabel="time (of one gradient)", xlim=(0, None))
    for row in axes:
        row[0].set_ylabel("training loss (nats)")
    axes[0, -1].legend(frameon=False)
    Console().print(table)
    output.draw(config.out, figure, "--out", dpi=110)
    print(f"written to {config.out}")


if __name__ == "__main__":
    runs.launch(main, Config, None, "vision.training.parameter_server", __doc__)
