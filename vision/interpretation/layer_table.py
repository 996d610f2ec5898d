"""Layers as a table: the size arithmetic, parameters, multiply-adds and receptive field of each.

    python -m vision.interpretation.layer_table vgg16
    python -m vision.interpretation.layer_table results/shapes/classification-1
    python -m vision.interpretation.layer_table resnet20 --stem cifar --shape 3 32 32

A window of F pixels with stride S and P zeros on either side makes (W - F + 2P) / S + 1 places of W, rounded down (up
where a pool says so). A place's receptive field is exact, see vision/interpretation/receptive_field.py, and "all" is
the whole image. Nothing is calculated: the network runs on the meta device. The head is not in the table.
"""

from __future__ import annotations

import dataclasses
import math
from pathlib import Path
from typing import Annotated, Any, NamedTuple

import torch
import tyro
from rich.console import Console
from rich.table import Table
from torch import Tensor, nn

import runs
from vision import backbones
from vision.interpretation import receptive_field

WIDTH = 150  # columns, where the table is not printed on a terminal


@dataclasses.dataclass(frozen=True)
class Config:
    backbone: Annotated[str, tyro.conf.Positional] = "resnet18"  # a name, name:weights, or a run's folder
    shape: tuple[int, int, int] | None = None  # of one image; None: (3, 224, 224), or what the run has seen
    stem: str | None = None  # imagenet, cifar or atari; None: the paper's


class Row(NamedTuple):
    """A layer: what it does to the size of a map."""

    name: str
    kind: str  # its class
    window: str  # kernel, stride, zeros around, dilation
    before: tuple[int, ...]  # (C, H, W) of its input, or (D,)
    after: tuple[int, ...]  # of its output
    formula: str  # of the width: (W - F + 2 P) / S + 1
    parameters: int
    multiply_adds: int  # for one image
    field: int | None  # pixels, side of its receptive field; None: the whole image


def rows(backbone: backbones.Backbone, shape: tuple[int, ...]) -> list[Row]:
    """The layers of a backbone in the order of their calls, for one image (C, H, W), without dropout."""
    calls = _calls(backbone, shape)
    sides = receptive_field.SIDES if backbone.any_size and len(shape) == 3 else ()
    fields: list[int | None] = [None] * len(calls)
    for side in sides:
        large = _calls(backbone, (shape[0], max(backbone.smallest, 64), side))
        fields = [None if call[4] is None else receptive_field.field(call[4][1], side).size for call in large]
        if None not in fields:
            break
    return [
        Row(name, type(module).__name__, *_window(module, before, after), *_counts(module, after), field)
        for (name, module, before, after, _), field in zip(calls, fields, strict=True)
    ]


def _calls(backbone: backbones.Backbone, shape: tuple[int, ...]) -> list[tuple[str, nn.Module, Any, Any, Any]]:
    """(name, module, input's shape, output's shape, output's spans) of each call of a module without submodules."""
    names = {module: name for name, module in backbone.named_modules()}
    calls: list[tuple[nn.Module, tuple[int, ...], Tensor]] = []

    def note(module: nn.Module, inputs: tuple[Tensor, ...], output: Tensor) -> None:
        calls.append((module, tuple(inputs[0].shape[1:]), output))

    leaves = [m for m in backbone.modules() if not any(m.children()) and not isinstance(m, nn.Identity | nn.Dropout)]
    hooks = [module.register_forward_hook(note) for module in leaves]
    try:
        with receptive_field.evaluated(backbone, shape) as (mode, _):
            return [(names[m], m, before, tuple(o.shape[1:]), mode.spans.get(o)) for m, before, o in calls]
    finally:
        for hook in hooks:
            hook.remove()


def _window(module: nn.Module, before: tuple[int, ...], after: tuple[int, ...]) -> tuple[Any, ...]:
    """A layer's window in words, its sizes, and the arithmetic of its width."""
    if not hasattr(module, "kernel_size") or len(before) != 3:
        return "", before, after, ""
    numbers = [
        getattr(module, name, default) for name, default in (("stride", None), ("padding", 0), ("dilation", 1))
    ]
    kernel = _last(module.kernel_size)
    stride, padding, dilation = (_last(each) if each is not None else kernel for each in numbers)
    if isinstance(padding, str):
        return f"{kernel} / {stride}, {padding}", before, after, ""
    words = f"{kernel}" + f" / {stride}" * (stride > 1) + f", pad {padding}" * bool(padding)
    words += f", dilation {dilation}" * (dilation > 1)
    reach = dilation * (kernel - 1) + 1
    exact = (before[2] - reach + 2 * padding) / stride + 1
    places = f"({before[2]} - {reach} + {2 * padding}) / {stride} + 1 = {exact:g}"
    rounded = "" if exact == after[2] else f", rounded {'up' if after[2] > exact else 'down'}"
    return words, before, after, places + rounded


def _last(value: Any) -> Any:
    return value[-1] if isinstance(value, tuple | list) else value


def _counts(module: nn.Module, after: tuple[int, ...]) -> tuple[int, int]:
    """Parameters, and multiply-adds of a convolution or a dense layer for one image; 0 of others, as is usual."""
    parameters = sum(weight.numel() for weight in module.parameters())
    if isinstance(module, nn.Conv2d):
        return parameters, math.prod(after) * module.weight[0].numel()
    return parameters, module.weight.numel() if isinstance(module, nn.Linear) else 0


def printed(found: list[Row], title: str) -> Table:
    """The table, with a line of sums."""
    head = ("layer", "kind", "window", "before", "after", "width", "parameters", "multiply-adds", "field")
    table = Table(*head, title=title)
    for row in found:
        sizes = (" x ".join(map(str, each)) for each in (row.before, row.after))
        numbers = (
            f"{row.parameters:,}" if row.parameters else "",
            f"{row.multiply_adds:,}" if row.multiply_adds else "",
        )
        field = "all" if row.field is None else str(row.field)
        table.add_row(row.name, row.kind, row.window, *sizes, row.formula, *numbers, field)
    sums = (f"{sum(getattr(row, key) for row in found):,}" for key in ("parameters", "multiply_adds"))
    table.add_section()
    table.add_row("sum", "", "", "", "", "", *sums, "")
    return table


def main(config: Config) -> None:
    known = config.backbone in backbones.BACKBONES
    options = {} if config.stem is None else {"stem": config.stem}
    with torch.device("meta" if known else "cpu"):
        if Path(config.backbone).exists():
            backbone = backbones.load(config.backbone, config.shape)
        else:
            backbone = backbones.build(config.backbone, config.shape or (3, 224, 224), **options)
    shape = tuple(config.shape or backbone.shape)
    table = printed(rows(backbone, shape), f"{backbone.spec['name']}, {' x '.join(map(str, shape))}")
    Console(width=None if Console().is_terminal else WIDTH).print(table)


if __name__ == "__main__":
    runs.launch(main, Config, None, "vision.interpretation.layer_table", __doc__)
