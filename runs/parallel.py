"""Data-parallel training: torchrun starts a program as several processes, which learn one network together.

    torchrun --nproc-per-node 2 -m agents.dqn --env Catch

Each process (rank) plays its own share of the worlds, keeps its own share of the memory and draws its own share of
every batch; gradients are averaged over ranks (gloo on the CPU, NCCL on CUDA), so that every rank makes the same
update as one process with the whole batch would (Li et al. 2020, "PyTorch distributed", arXiv 2006.15704). A program
takes part by three lines:

    config = parallel.share(config, "worlds", "batch", "capacity")      # of its numbers, this rank's share
    for step in run.steps(config.steps, stride=world.count * parallel.ranks()):
        ...
        loss.backward()
        parallel.average(network)

Steps, flags and config.json are those of the whole run, whatever the number of ranks. Rank 0 writes the run's folder
and evaluates; the others keep their part of each checkpoint in <folder>/ranks/<rank>. With one process all of this
does nothing.
"""

from __future__ import annotations

import dataclasses
import datetime
import os
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any, TypeVar

import torch
from torch import Tensor, distributed, nn

C = TypeVar("C")

FOLDER = "ranks"  # in a run's folder, of the other ranks' parts
SEEDS = 10_000_019  # between the seeds of ranks: farther than those of evaluations and of agents.watch
PATIENCE = datetime.timedelta(hours=6)  # that ranks wait for one which evaluates

_control: Any = None  # a group on the CPU, for agreements that wait for no GPU


def ranks() -> int:
    """The number of processes that train together: torchrun's WORLD_SIZE, 1 without it."""
    return int(os.environ.get("WORLD_SIZE", 1)) if "RANK" in os.environ else 1


def rank() -> int:
    """This process among them; rank 0 writes the run."""
    return int(os.environ["RANK"]) if ranks() > 1 else 0


def place(device: str) -> str:
    """The device of this rank, for one that is the same for all: each has a GPU of its own where there are any."""
    if ranks() == 1 or device not in ("auto", "cuda") or not torch.cuda.is_available():
        return device
    return f"cuda:{int(os.environ.get('LOCAL_RANK', 0)) % torch.cuda.device_count()}"


def join(device: torch.device) -> None:
    """Join the other ranks; waits until all are there."""
    global _control
    if ranks() == 1 or distributed.is_initialized():
        return
    if device.type == "cuda":
        torch.cuda.set_device(device)
    distributed.init_process_group("nccl" if device.type == "cuda" else "gloo", timeout=PATIENCE)
    _control = distributed.new_group(backend="gloo", timeout=PATIENCE)


def leave() -> None:
    """Leave the other ranks, at the end of the program."""
    if distributed.is_initialized():
        distributed.destroy_process_group()


def share(config: C, *divided: str) -> C:
    """This rank's share of a config: the named numbers divided by the number of ranks, and a seed of its own.

    The result's `whole` is the config that was given, which a run writes. With one process it is the config itself.

    Raises ValueError for a number that the ranks cannot share evenly, and for CUDA graphs and compilation, which have
    no place for the exchange of gradients.
    """
    count = ranks()
    if count == 1:
        return config
    for name in ("compile", "capture"):
        if getattr(config, name, False):
            raise ValueError(f"--{name}: not with several processes (torchrun)")
    numbers = {"seed": config.seed + SEEDS * rank()}
    for name in divided:
        value = getattr(config, name)
        if value % count:
            raise ValueError(f"--{name.replace('_', '-')} {value}: {count} processes cannot share it evenly")
        numbers[name] = value // count
    own = dataclasses.replace(config, **numbers)
    object.__setattr__(own, "whole", config)  # a frozen dataclass; not a field: it is no flag
    return own


def whole(config: Any, program: str) -> Any:
    """The config that `share` was given.

    Raises ValueError where several processes were started and the program does not share anything.
    """
    if ranks() > 1 and not hasattr(config, "whole"):
        raise ValueError(f"{program} trains in one process: start it without torchrun")
    return getattr(config, "whole", config)


def folder(path: Path) -> Path:
    """Where this rank keeps what is its own of a run in a folder: rank 0 in the folder itself."""
    return path / FOLDER / str(rank()) if rank() else path


def average(network: nn.Module) -> None:
    """Average the gradients of a network over ranks, in place.

    Of equal shares of a batch, whose losses are means, that is the gradient of the whole batch. One exchange, of all
    gradients in a row. A weight without a gradient on one rank has none on any: the ranks run the same graph.
    """
    if ranks() == 1:
        return
    found = [weight.grad for weight in network.parameters() if weight.grad is not None]
    for kind in dict.fromkeys(gradient.dtype for gradient in found):
        same = [gradient for gradient in found if gradient.dtype == kind]
        row = torch.cat([gradient.reshape(-1) for gradient in same])
        distributed.all_reduce(row)
        row /= ranks()
        for gradient, part in zip(same, row.split([each.numel() for each in same]), strict=True):
            gradient.copy_(part.view_as(gradient))


def standardize(values: Tensor, epsilon: float = 1e-8) -> Tensor:
    """Values of any shape (...) less their mean, divided by their standard deviation, both over all ranks; the ranks
    have equally many.

    With one process it is (values - values.mean()) / (values.std() + epsilon).
    """
    if ranks() == 1:
        return (values - values.mean()) / (values.std() + epsilon)
    count = values.numel() * ranks()
    total = values.sum()
    distributed.all_reduce(total)
    mean = total / count
    squares = (values - mean).square().sum()
    distributed.all_reduce(squares)
    return (values - mean) / ((squares / (count - 1)).sqrt() + epsilon)


def gathered(values: Tensor) -> Tensor:
    """The rows (B, ...) of all ranks, (B * ranks, ...), which have equally many each."""
    if ranks() == 1:
        return values
    found = [torch.empty_like(values) for _ in range(ranks())]
    distributed.all_gather(found, values.contiguous())
    return torch.cat(found)


def part(rows: Tensor) -> Tensor:
    """This rank's part of rows (B, ...), of which each rank has the same ones.

    Raises ValueError where the ranks cannot share them evenly.
    """
    if len(rows) % ranks():
        raise ValueError(f"--batch {len(rows)}: {ranks()} processes cannot share it evenly")
    return rows.chunk(ranks())[rank()] if ranks() > 1 else rows


def start_equal(parts: Iterable[Any]) -> None:
    """Give the networks among a run's parts rank 0's weights and buffers, as each rank has initialized its own."""
    if ranks() == 1:
        return
    for network in parts:
        if isinstance(network, nn.Module):
            for tensor in (*network.parameters(), *network.buffers()):
                own = tensor.detach().contiguous()
                distributed.broadcast(own, 0)
                tensor.detach().copy_(own)


def agree(*flags: int) -> tuple[int, ...]:
    """The largest of each rank's whole numbers: what one rank wants, all do."""
    if ranks() == 1:
        return flags
    numbers = torch.tensor(flags)
    distributed.all_reduce(numbers, distributed.ReduceOp.MAX, group=_control)
    return tuple(numbers.tolist())


def first(value: float) -> float:
    """Rank 0's number, so that all decide the same by it."""
    if ranks() == 1:
        return value
    number = torch.tensor([value], dtype=torch.float64)
    distributed.broadcast(number, 0, group=_control)
    return number.item()


def common_step(steps: Sequence[int]) -> int | None:
    """The latest step of which every rank has a checkpoint, 0 where there is none; None with one process.

    steps: of which this rank has one. A rank that dies while the others save leaves them a later one than its own.
    """
    if ranks() == 1:
        return None
    every: list[Any] = [None] * ranks()
    distributed.all_gather_object(every, list(steps), group=_control)
    return max(set.intersection(*map(set, every)), default=0)
