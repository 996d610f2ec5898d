"""How long a run takes, estimated before it begins: a few updates and a part of an evaluation, timed on a copy."""

from __future__ import annotations

import copy
import math
import time
from collections.abc import Callable
from typing import Any, TypeVar

import torch
from torch import nn

from runs.progress import duration
from vision.training import optimizers

N = TypeVar("N", bound=nn.Module)
TIMED = 2  # updates, after a first one that is slower


def estimate(
    config: Any,
    network: N,
    update: Callable[[N], Any],
    evaluate: Callable[[N], Any],
    *,
    tried: int,
    validation: int,
    test: int,
    unit: str = "images",
    fit: Callable[[N], Any] | None = None,
    fitted: int = 0,
) -> str:
    """About how long a run takes, in a sentence, with its speeds. The network and the generators stay as they were.

    config: with steps, batch and evaluate_every, in examples. update: of a batch, by the network's copy; its weights
        may change. evaluate: `tried` examples, by the copy after those updates.
    validation, test: examples of each evaluation, and of the test at the end.
    unit: what an example is, in the plural.
    fit: what comes before each evaluation, of `tried` examples in place of `fitted`.
    """
    device = next(network.parameters()).device
    trial = copy.deepcopy(network)
    with torch.random.fork_rng([device] if device.type == "cuda" else []):
        optimizers.train_mode(trial)
        update(trial)
        updating = _seconds(lambda: [update(trial) for _ in range(TIMED)], device) / TIMED
        fitting = _seconds(lambda: fit(trial), device) / tried if fit else 0.0
        evaluating = _seconds(lambda: evaluate(trial), device) / tried
    evaluations = math.ceil(config.steps / config.evaluate_every)
    whole = updating * math.ceil(config.steps / config.batch)
    whole += (fitting * fitted + evaluating * validation) * evaluations + evaluating * test
    speeds = [_rate(config.batch, updating), _rate(1, evaluating)]
    return f"about {duration(whole)}: {speeds[0]} training {unit}/s, {speeds[1]} in evaluations"


def _seconds(work: Callable[[], Any], device: torch.device) -> float:
    """The seconds that some work takes, until the device has done it."""
    _wait(device)
    began = time.monotonic()
    work()
    _wait(device)
    return time.monotonic() - began


def _wait(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    elif device.type == "mps":
        torch.mps.synchronize()


def _rate(count: int, seconds: float) -> str:
    """Examples a second: 0.25, 8.1, 12,345."""
    found = count / max(seconds, 1e-9)
    return f"{found:,.0f}" if found >= 10 else f"{found:.2g}"
