"""Optimizers, learning rates, low-precision copies, and compiled or captured updates."""

from __future__ import annotations

import copy
import inspect
from collections.abc import Callable, Sequence
from typing import Any, TypeVar

import torch
from torch import Tensor, nn
from torch.nn.utils import parametrize

import runs
from agents.config import ComputeFlags
from runs import machine
from vision.backbones.layers.normalization import SpectralNorm
from vision.backbones.preprocessing import Normalize
from vision.training.muon import Muon

Optimizer = TypeVar("Optimizer", bound=torch.optim.Optimizer)


EXACT = (nn.modules.batchnorm._BatchNorm, Normalize, SpectralNorm, parametrize.ParametrizationList)


def frozen_copy(config: ComputeFlags, network: nn.Module) -> nn.Module:
    """A copy without gradients, its backbone and hidden layers in bf16 or fp16: rounded once per copy, not at every
    use (runs.machine.low_precision).

    Statistics of norms, and weights that are recomputed at every use, stay in fp32 (EXACT), as under autocast.
    """
    result = copy.deepcopy(network).requires_grad_(False)
    if kind := machine.low_precision(config, next(network.parameters()).device):
        for name in ("backbone", "hidden", "critic_encoder"):
            for module in getattr(result, name, nn.Identity()).modules():
                if not isinstance(module, EXACT):
                    module._apply(lambda each: each.to(kind) if each.is_floating_point() else each, recurse=False)
    return result


def adam(config: Any, network: nn.Module) -> torch.optim.Adam:
    """Adam over the weights that require gradients.

    config: with learning_rate, adam_epsilon, compile and capture.
    """
    weights = [weight for weight in network.parameters() if weight.requires_grad]
    device = next(network.parameters()).device
    fused = device.type != "mps"
    return keep_on_device(
        torch.optim.Adam(
            weights,
            initial_learning_rate(config, device),
            eps=config.adam_epsilon,
            fused=fused,
            capturable=config.capture,
        )
    )


def muon(config: Any, network: nn.Module) -> Muon:
    """Muon (vision/training/muon.py), with a momentum of 0.9, over the weights that require gradients.

    config: with learning_rate, compile and capture.
    """
    weights = [weight for weight in network.parameters() if weight.requires_grad]
    rate = initial_learning_rate(config, next(network.parameters()).device)
    return keep_on_device(Muon(weights, rate, momentum=0.9))


def initial_learning_rate(config: Any, device: torch.device) -> float | Tensor:
    """The learning rate for an optimizer: a float, or a scalar tensor for compiled and captured updates."""
    return (
        torch.tensor(config.learning_rate, device=device)
        if config.compile or config.capture
        else config.learning_rate
    )


def keep_on_device(optimizer: Optimizer) -> Optimizer:
    """Keep learning rates that are tensors on their device when a checkpoint is loaded. Returns the optimizer.

    A captured update would read a tensor of the CPU only once.
    """
    where = [getattr(group["lr"], "device", None) for group in optimizer.param_groups]

    def back(_: torch.optim.Optimizer) -> None:
        for group, device in zip(optimizer.param_groups, where, strict=True):
            if device is not None:
                group["lr"] = torch.as_tensor(group["lr"], device=device)

    optimizer.register_load_state_dict_post_hook(back)
    return optimizer


def set_learning_rate(optimizer: torch.optim.Optimizer, learning_rate: float) -> None:
    """Set the learning rate of every parameter group."""
    for group in optimizer.param_groups:
        set_group_rate(group, learning_rate)


def set_group_rate(group: dict[str, Any], learning_rate: float) -> None:
    """Set the learning rate of one parameter group, in place where it is a tensor: a captured update reads that."""
    if isinstance(group["lr"], Tensor):
        group["lr"].fill_(learning_rate)
    else:
        group["lr"] = learning_rate


def compile_policy(act: Callable) -> Callable:
    """torch.compile of `act`, without gradients: compiled in inference mode it could take no views of a state."""
    return torch.compile(torch.no_grad()(inspect.unwrap(act)))


def compile_or_capture(
    config: ComputeFlags, device: torch.device, act: Callable, learn: Callable
) -> tuple[Callable, Callable]:
    """act and learn, compiled with --compile, and each captured as a CUDA graph with --capture."""
    if config.compile:
        act, learn = compile_policy(act), torch.compile(learn)
    if config.capture:
        act, learn = runs.Captured(act, device), runs.Captured(learn, device)
    return act, learn


def mean_metrics(metrics: Sequence[dict[str, Tensor]]) -> dict[str, Tensor]:
    """The mean of several updates' metrics, scalars each."""
    return {name: torch.stack([each[name] for each in metrics]).mean(0) for name in metrics[0]}
