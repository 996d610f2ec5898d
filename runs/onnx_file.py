"""Networks as ONNX files, which ONNX Runtime computes without torch. Needs the extra `onnx`."""

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

OPSET = 17


def takes_any_number(graph: nn.Module, inputs: Mapping[str, Tensor]) -> bool:
    """Whether a network that is traced with inputs (B, ...) computes the same as itself with twice as many rows.

    Tracing makes a constant of a number that Python has looked at.
    """
    twice = [torch.cat([each, each]) for each in inputs.values()]
    with warnings.catch_warnings(), torch.no_grad():
        warnings.simplefilter("ignore")
        traced = torch.jit.trace(graph, tuple(inputs.values()), check_trace=False)
        try:
            pairs = zip(traced(*twice), graph(*twice), strict=True)
            return all(torch.allclose(a.float(), b.float(), atol=1e-4) for a, b in pairs)
        except RuntimeError:  # shapes that do not fit
            return False


def write(
    path: Path,
    graph: nn.Module,
    inputs: Mapping[str, Tensor],
    outputs: Sequence[str],
    varying: Mapping[str, str],
    about: Mapping[str, Any],
) -> None:
    """Write a network as ONNX, traced on the CPU.

    Args:
        path: of the file; its folder is made if missing.
        graph: in evaluation mode, called with the inputs in their order; returns a tensor or a tuple.
        inputs: name -> example of any shape (B, ...).
        outputs: the names of what it returns, in order.
        varying: names of inputs and outputs whose first axis may have any length, and what it counts.
        about: written into the file's metadata, as JSON.

    Raises RunError where the packages are missing or the file cannot be written.
    """
    try:
        import onnx
    except ImportError:
        raise files.RunError('ONNX files need the package onnx: pip install "saccade[onnx]"') from None
    buffer = io.BytesIO()
    with warnings.catch_warnings(), torch.no_grad():
        warnings.simplefilter("ignore")  # constants of the input's size are meant to be constants
        torch.onnx.export(
            graph,
            tuple(inputs.values()),
            buffer,
            input_names=list(inputs),
            output_names=list(outputs),
            dynamic_axes={name: {0: what} for name, what in varying.items()},
            opset_version=OPSET,
            dynamo=False,
        )
    model = onnx.load_model_from_string(buffer.getvalue())
    for key, value in about.items():
        entry = model.metadata_props.add()
        entry.key, entry.value = key, json.dumps(value)
    output.write(path, model.SerializeToString(), "OUT")
