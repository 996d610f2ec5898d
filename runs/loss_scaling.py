"""Dynamic loss scaling for learning in float16 (--fp16), which would round small gradients to 0.

    scaler = LossScaler(config.fp16, device)
    run.track(network=network, optimizer=optimizer, **scaler.parts)
    ...
    optimizer.zero_grad()
    scaler.scale(loss).backward()
    parallel.average(network)
    scaler.unscale_(optimizer)           # before gradients are clipped
    nn.utils.clip_grad_norm_(network.parameters(), config.max_grad_norm)
    scaler.step(optimizer)

Micikevicius et al. 2017, "Mixed Precision Training", arXiv 1710.03740, section 3.2. Without --fp16 all of this does
what loss.backward() and optimizer.step() do. What small gradients lose without the scaling is on the picture of
vision.training.loss_scaling.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

SCALE = 65_536.0  # of the loss at first
GROWTH = 2_000  # updates in a row without an overflow after which the scale is doubled


class LossScaler(torch.amp.GradScaler):
    """Dynamic loss scaling: gradients of a loss times a scale, which is halved where one overflows (that update is
    left out) and doubled after GROWTH updates without.

    fp16: whether the network computes in float16; otherwise nothing is scaled.
    """

    def __init__(self, fp16: bool, device: torch.device) -> None:
        super().__init__(device.type, init_scale=SCALE, growth_interval=GROWTH, enabled=fp16)

    @property
    def parts(self) -> dict[str, LossScaler]:
        """What a run's checkpoints hold of it: {"loss_scaler": itself}; nothing without fp16."""
        return {"loss_scaler": self} if self.is_enabled() else {}

    @property
    def metrics(self) -> dict[str, Tensor]:
        """The scale after the last update, a scalar, to be logged; nothing without fp16."""
        return {"train/loss_scaling": self._get_scale_async().clone()} if self.is_enabled() else {}

    def step(self, optimizer: torch.optim.Optimizer, closure: Callable[[], Tensor] | None = None) -> Tensor | None:
        """Update the weights by gradients divided by the scale, unless one is infinite or no number; then the scale.

        closure: backpropagates the scaled loss and returns the loss, a scalar, which is returned; with fp16 it is
            called once, before the update.
        """
        if not self.is_enabled():
            return optimizer.step(closure)
        loss = None if closure is None else closure()
        super().step(optimizer)
        self.update()
        return loss


def check(options: Any, *whole: str) -> None:
    """Refuse fp16 where it cannot work. whole: the flags with which an update is one graph of the device.

    Raises ValueError: whether an update is left out is decided between its gradients and its step.
    """
    for name in whole:
        if options.fp16 and getattr(options, name):
            raise ValueError(f"--fp16 leaves out updates that overflow, and with --{name} each is launched whole")
