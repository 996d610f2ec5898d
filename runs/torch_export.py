"""Networks as torch.export programs (.pt2), which torch runs without the code that made them.

program = torch.export.load("agent.pt2").module()
action, values = program(observation)
"""

from __future__ import annotations

import io
import json
import warnings
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from runs import files, output

SUFFIX = ".pt2"
ABOUT = "about.json"  # in the file, beside the program
TOLERANCE = 1e-4  # between the outputs of the network and of the program


def write(
    path: Path,
    graph: nn.Module,
    inputs: Mapping[str, Tensor],
    outputs: Sequence[str],
    varying: Mapping[str, str],
    about: Mapping[str, Any],
) -> bool:
    """Write a network as a torch.export program, and compare what the file's program says with the network.

    Args:
        path: of the file; its folder is made if missing.
        graph: in evaluation mode on the CPU, called with the inputs in their order; returns a tensor or a tuple.
        inputs: name -> example of any shape (B, ...).
        outputs: the names of what it returns, in order; kept in the file's about.json.
        varying: names of inputs whose first axis may have any length, and what it counts.
        about: kept in about.json, too.

    Returns whether the first axis may have any length, and not that of the example alone.

    Raises RunError where the file cannot be written, or its program does not say what the network says.
    """
    given = tuple(inputs.values())
    with torch.no_grad(), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        program, free = None, any(name in varying for name in inputs)
        if free:
            axis = torch.export.Dim("B", min=1)
            axes = tuple({0: axis} if name in varying else None for name in inputs)
            try:
                program = torch.export.export(graph, given, dynamic_shapes=axes, strict=False)
            except Exception:  # a number that Python has looked at: torch raises a dozen kinds
                free = False
        if program is None:
            program = torch.export.export(graph, given, strict=False)
    kept = json.dumps(dict(about) | {"inputs": list(inputs), "outputs": list(outputs)})
    buffer = io.BytesIO()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of weights that share memory
        torch.export.save(program, buffer, extra_files={ABOUT: kept})
        buffer.seek(0)
        loaded = torch.export.load(buffer).module()
    check(loaded, graph, given)
    if free:
        check(loaded, graph, tuple(torch.cat([each, each, each[:1]]) for each in given))
    output.write(path, buffer.getvalue(), "OUT")
    return free


@torch.no_grad()
def check(program: nn.Module, graph: nn.Module, given: Sequence[Tensor]) -> None:
    """Raise RunError where a program and the network differ in an output for inputs of any shape (B, ...)."""
    for number, (one, other) in enumerate(zip(_each(program(*given)), _each(graph(*given)), strict=True)):
        if one.shape != other.shape or not torch.allclose(one.float(), other.float(), atol=TOLERANCE, rtol=TOLERANCE):
            raise files.RunError(f"the exported program differs from the network in output {number}")


def _each(found: Tensor | Sequence[Tensor]) -> Sequence[Tensor]:
    return (found,) if isinstance(found, Tensor) else found
