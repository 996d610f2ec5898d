"""A stand-in for CUDA graphs on machines that have none: what a graph refuses, or does not do again, shows there.

    monkeypatch.setattr(runs, "Captured", launched.Launched)
    launched.let_optimizers_be_captured(monkeypatch)

A graph replays kernels and nothing else: what waits for the device or copies numbers from Python into a tensor fails
in the capture; what Python does beside (counting, choosing) happens at the capture alone; inputs are always of one
shape, in the same places.
"""

import sys
from collections.abc import Callable
from typing import Any

import torch
from torch.utils._python_dispatch import TorchDispatchMode

from runs import graph

aten = torch.ops.aten
WAITS = {  # operations whose result, or its size, Python has to know
    aten._local_scalar_dense: "item() and bool() wait for the device",
    aten.nonzero: "the size of its result depends on the numbers",
    aten.masked_select: "the size of its result depends on the numbers",
    aten._unique2: "the size of its result depends on the numbers",
    aten.equal: "its answer waits for the device",
    aten.multinomial: "it looks at the probabilities first",
    aten.lift_fresh: "torch.tensor and new_tensor copy from the CPU",
}


class Refused(TorchDispatchMode):
    """Raises RuntimeError for what cannot be captured as a CUDA graph."""

    def __torch_dispatch__(
        self, function: Any, types: Any, arguments: tuple = (), options: dict | None = None
    ) -> Any:
        packet = function.overloadpacket
        if packet in WAITS and not (packet is aten.lift_fresh and _of_an_optimizer()):
            raise RuntimeError(f"{function} cannot be captured as a CUDA graph: {WAITS[packet]}")
        if packet is aten.index and any(i is not None and i.dtype == torch.bool for i in arguments[1]):
            raise RuntimeError("indexing by a mask cannot be captured as a CUDA graph: the size is not known")
        return function(*arguments, **(options or {}))


def _of_an_optimizer() -> bool:
    """Whether an optimizer of torch's is at work: on the CPU they make the number 1, by which they count, anew."""
    frame = sys._getframe(1)
    while frame is not None and "torch/optim/" not in frame.f_code.co_filename:
        frame = frame.f_back
    return frame is not None


class Launched:
    """runs.Captured on the CPU: the same calls, refusing what a graph refuses, each in the places of the first."""

    def __init__(self, function: Callable[..., Any], device: torch.device) -> None:
        self.function, self.calls = function, 0
        self.inputs: tuple | None = None

    def __call__(self, *inputs: Any) -> Any:
        with torch.profiler.record_function(graph.label(self.function)):
            return self._call(inputs)

    def _call(self, inputs: tuple) -> Any:
        self.calls += 1
        if self.calls <= graph.EAGER:
            return self.function(*inputs)
        if self.inputs is None:
            self.inputs = graph.each(torch.Tensor.clone, inputs)
        for place, new in zip(graph.leaves(self.inputs), graph.leaves(inputs), strict=True):
            assert place.shape == new.shape, f"captured for {tuple(place.shape)}, called with {tuple(new.shape)}"
            place.copy_(new)
        with Refused():
            outputs = self.function(*self.inputs)
        return graph.each(torch.Tensor.clone, outputs)


def let_optimizers_be_captured(monkeypatch: Any) -> None:
    """Let optimizers step on the CPU as they do on a GPU: capturable, in the operations of many tensors at once."""
    from torch.optim import adam, adamw, rmsprop, sgd

    for module in (adam, adamw, rmsprop, sgd):
        if hasattr(module, "_get_capturable_supported_devices"):
            monkeypatch.setattr(module, "_get_capturable_supported_devices", lambda *_, **__: ["cpu", "cuda"])
        if hasattr(module, "_default_to_fused_or_foreach"):
            monkeypatch.setattr(module, "_default_to_fused_or_foreach", lambda *_, **__: (False, True))
    monkeypatch.setattr(torch.nn.functional, "one_hot", one_hot)


def one_hot(index: torch.Tensor, classes: int) -> torch.Tensor:
    """torch.nn.functional.one_hot, without the checks that it makes on the CPU alone."""
    return (index.unsqueeze(-1) == torch.arange(classes, device=index.device)).long()
