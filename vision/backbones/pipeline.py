"""Model parallelism: a backbone's layers on several devices, and a batch in pieces that follow each other through it.

    devices = ["cuda:0", "cuda:1"]
    pipeline.place(model.backbone, devices)                 # balanced by measured times
    model.head.to(devices[-1])
    logits = pipeline.micro_batched(model, images, 4)       # on the last device

Huang et al. 2018, "GPipe", arXiv 1811.06965: while a device works at its layers for one piece of the batch, the one
before it works at the next piece. CUDA queues what Python asks of each device, so no schedule is needed here. The
backbone is the same object: its weights are saved, loaded and optimized as before, and its maps are those of the
backbone on one device. Batch norms in training mode see a piece at a time, as in the paper.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils._pytree import tree_map

from vision.backbones.backbone import Backbone

MEASURED = 3  # forward passes whose quickest counts, after one that is not measured


def balanced(costs: Sequence[float], parts: int) -> list[int]:
    """The part, from 0, of each of a chain's items, so that the largest sum of a part is as small as it can be.

    Parts are neighbors in the chain, and none is empty. Raises ValueError for more parts than items.
    """
    if not 1 <= parts <= len(costs):
        raise ValueError(f"{len(costs)} parts cannot be split over {parts} devices")
    sums = [0.0]
    for cost in costs:
        sums.append(sums[-1] + cost)
    best = {(end, 1): (sums[end], 0) for end in range(1, len(costs) + 1)}  # (items, parts) -> largest sum, last cut
    for part in range(2, parts + 1):
        for end in range(part, len(costs) + 1):
            cuts = range(part - 1, end)
            best[end, part] = min((max(best[cut, part - 1][0], sums[end] - sums[cut]), cut) for cut in cuts)
    cuts, end = [], len(costs)
    for part in range(parts, 0, -1):
        end = best[end, part][1]
        cuts.append(end)
    return [sum(index >= cut for cut in cuts) - 1 for index in range(len(costs))]


def blocks(backbone: Backbone) -> list[nn.Module]:
    """The largest modules that are calculated one after the other: children, and those of plain containers."""
    found: list[nn.Module] = []
    waiting = list(backbone.children())
    while waiting:
        module = waiting.pop(0)
        if type(module) in (nn.Sequential, nn.ModuleList):
            waiting[:0] = list(module.children())
        else:
            found.append(module)
    return found


def seconds(backbone: Backbone, images: Tensor) -> list[tuple[nn.Module, float]]:
    """The blocks that a batch (B, C, H, W) goes through, in that order, each with the seconds of a forward pass.

    The quickest of some passes counts, in evaluation mode.
    """
    quickest: dict[nn.Module, float] = {}
    began = [0.0]

    def begin(*_: Any) -> None:
        _wait(images.device)
        began[0] = time.perf_counter()

    def end(module: nn.Module, *_: Any) -> None:
        _wait(images.device)
        took = time.perf_counter() - began[0]
        quickest[module] = min(quickest.get(module, took), took)

    handles = [block.register_forward_pre_hook(begin) for block in blocks(backbone)]
    handles += [block.register_forward_hook(end) for block in blocks(backbone)]
    training = backbone.training
    backbone.eval()
    try:
        with torch.no_grad():
            for number in range(MEASURED + 1):
                if number == 1:  # the first pass chooses algorithms
                    quickest = dict.fromkeys(quickest, float("inf"))
                backbone(images)
    finally:
        backbone.train(training)
        for handle in handles:
            handle.remove()
    return list(quickest.items())


def place(backbone: Backbone, devices: Sequence[str | torch.device], images: Tensor | None = None) -> list[nn.Module]:
    """Put a backbone's blocks on the devices, in order. Returns the first block of each device.

    Maps are on the devices of what calculates them. images: (B, C, H, W) of a usual batch, by which times are
    measured; None: one image of random pixels. Call it once for a backbone.
    Raises ValueError for more devices than blocks.
    """
    devices = [torch.device(device) for device in devices]
    where = next(backbone.parameters()).device
    if images is None:
        images = torch.randint(256, (1, *backbone.shape), dtype=torch.uint8)
    chain = seconds(backbone, images.to(where))
    parts = balanced([took for _, took in chain], len(devices))
    backbone.to(devices[0])  # with what is not called
    backbone.register_forward_pre_hook(_mover(devices[0]), with_kwargs=True)
    for (block, _), part in zip(chain, parts, strict=True):
        block.to(devices[part])
        block.register_forward_pre_hook(_mover(devices[part]), with_kwargs=True)
    return [chain[parts.index(part)][0] for part in range(len(devices))]


def micro_batched(function: Callable[[Tensor], Any], images: Tensor, pieces: int) -> Any:
    """function(images) of a batch (B, ...) in pieces one after the other: its tensors (B, ...), joined again.

    The sum of the pieces' gradients is that of the whole batch, for every function of one image at a time.
    """
    found = [function(piece) for piece in images.chunk(pieces)]
    return _joined(found)


def _joined(found: list[Any]) -> Any:
    first = found[0]
    if isinstance(first, Tensor):
        return torch.cat(found)
    if isinstance(first, dict):
        return {key: _joined([each[key] for each in found]) for key in first}
    return type(first)(_joined([each[k] for each in found]) for k in range(len(first)))


def _mover(device: torch.device) -> Callable[..., tuple[tuple, dict]]:
    def move(module: nn.Module, given: tuple, named: dict) -> tuple[tuple, dict]:
        def moved(value: Any) -> Any:
            return value.to(device, non_blocking=True) if isinstance(value, Tensor) else value

        return tree_map(moved, given), tree_map(moved, named)

    return move


def _wait(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)
