"""An update as one CUDA graph: launched whole, so that a fast device does not wait for Python between its kernels.

    learn = runs.Captured(learn, device)

What PyTorch asks of a captured function (https://pytorch.org/docs/stable/notes/cuda.html, "CUDA Graphs") holds for
our updates: they never wait for the device, their shapes do not change, an optimizer is made with capturable=True and
its rate is a tensor.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from runs import parallel

EAGER = 3  # calls before the capture: they choose algorithms and make the optimizer's state


class Captured:
    """A function of tensors, captured once and replayed with new inputs in the same memory.

    function: takes and returns tensors, None, or tuples, named tuples and dicts of them. Its side effects (weights,
        an optimizer's state, the default random generator) are repeated at every launch.

    Raises ValueError where the device is not a CUDA device.
    """

    def __init__(self, function: Callable[..., Any], device: torch.device) -> None:
        if device.type != "cuda":
            raise ValueError(f"--capture: CUDA graphs need --device cuda, this run is on {device.type}")
        self.function, self.device = function, device
        self.calls = 0
        self.graph: torch.cuda.CUDAGraph | None = None
        self.inputs: tuple = ()
        self.outputs: Any = None

    def __call__(self, *inputs: Any) -> Any:
        with torch.profiler.record_function(label(self.function)):
            return self._call(inputs)

    def _call(self, inputs: tuple) -> Any:
        self.calls += 1
        if self.calls <= EAGER:
            return self._beside(inputs)
        if self.graph is None:
            self.inputs = each(Tensor.clone, inputs)
            self.graph = torch.cuda.CUDAGraph()
            with torch.cuda.graph(self.graph):  # records, and does nothing yet
                self.outputs = self.function(*self.inputs)
        else:
            for place, new in zip(leaves(self.inputs), leaves(inputs), strict=True):
                if place.shape != new.shape:
                    raise ValueError(f"captured for {tuple(place.shape)}, called with {tuple(new.shape)}")
                place.copy_(new)
        self.graph.replay()
        return each(Tensor.clone, self.outputs)  # the next launch writes over the places

    def _beside(self, inputs: tuple) -> Any:
        """One call on a stream of its own, as those before a capture must be."""
        stream = torch.cuda.Stream(self.device)
        stream.wait_stream(torch.cuda.current_stream(self.device))
        with torch.cuda.stream(stream):
            result = self.function(*inputs)
        torch.cuda.current_stream(self.device).wait_stream(stream)
        return result


def advice(config: Any, device: torch.device) -> str | None:
    """Words for a run on a CUDA device that could use --capture and does not; else None.

    config: a program's flags; those with a flag `capture` can, unless they have CAPTURES = False.
    """
    able = getattr(config, "CAPTURES", True) and hasattr(config, "capture")
    busy = any(getattr(config, name, False) for name in ("capture", "compile", "fp16"))
    if device.type != "cuda" or not able or busy or parallel.ranks() > 1:
        return None
    return "--capture is faster: updates become CUDA graphs (tests/README.md, On a GPU)"


def label(function: Callable[..., Any]) -> str:
    """What a launch is called in a profile: graph.learn, say (trace.py)."""
    return f"graph.{getattr(function, '__name__', 'learn')}"


def each(function: Callable[[Tensor], Any], value: Any) -> Any:
    """Nested tuples and dicts with function(tensor) in place of every tensor, whatever its shape."""
    if isinstance(value, Tensor):
        return function(value)
    if isinstance(value, dict):
        return {key: each(function, part) for key, part in value.items()}
    if isinstance(value, tuple):
        parts = [each(function, part) for part in value]
        return type(value)(*parts) if hasattr(value, "_fields") else tuple(parts)
    return value


def leaves(value: Any) -> list[Tensor]:
    """The tensors, of any shape, in nested tuples and dicts, in order."""
    found: list[Tensor] = []
    each(found.append, value)
    return found
