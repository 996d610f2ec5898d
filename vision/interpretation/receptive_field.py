"""Receptive fields, exact: which pixels every place of every map of a network reads, without computing a number.

    fields = receptive_fields(backbone)         # one a map: size, step, first pixel

A network runs on the meta device, and each operation gives its output's places the smallest span of pixels that holds
the spans of what they read: a convolution joins those under its kernel, a sum those of its terms. Borders, dilation,
pools that round up, branches and shortcuts are thus exact, at every place. Araujo et al. 2019, "Computing receptive
fields of convolutional neural networks", has the closed form for chains without borders.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Sequence
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils.weak import WeakTensorKeyDictionary

from vision.backbones.backbone import Backbone
from vision.interpretation.gradients import evaluation_mode

SIDES = (512, 2_048, 8_192)  # pixels, of images tried until a place in the middle sees no border
NOTHING = (1 << 60, -1)  # the span of a border's zeros: first after last

aten = torch.ops.aten
POINTWISE = {  # besides those that torch tags so; norms in evaluation mode
    *(aten.native_batch_norm, aten._native_batch_norm_legit, aten._native_batch_norm_legit_no_training),
    *(aten._batch_norm_no_update, aten.cudnn_batch_norm, aten._to_copy, aten.clone, aten.detach, aten.alias),
    *(aten.contiguous, aten.copy_, aten.copy, aten.lift_fresh, aten.cat, aten.stack, aten.unsqueeze, aten.squeeze),
    *(aten.expand, aten.view, aten._unsafe_view, aten.reshape, aten.slice, aten.split, aten.split_with_sizes),
    *(aten.select, aten.chunk, aten.native_dropout, aten.permute, aten._prelu_kernel, aten.glu, aten.amax, aten.sum),
    *(aten.mean, aten.max, aten.native_group_norm, aten._softmax),
}
EVERYTHING = {aten.native_group_norm, aten.mm, aten.addmm, aten.bmm, aten.native_layer_norm}
CONSTANT = {aten.zeros_like, aten.ones_like, aten.empty_like, aten.full_like, aten.new_zeros}
Spans = tuple[np.ndarray, np.ndarray]  # of rows (H, 2) and columns (W, 2): first and last pixel that a place reads


class ReceptiveField(NamedTuple):
    """The receptive field of a place in the middle of a map; None where it is the whole image, however large."""

    size: int | None  # pixels, of its side
    step: int | None  # pixels between the fields of neighbors: the map's stride
    first: int | None  # the first pixel of the field of the map's first place: negative in the border


class SpanMode(TorchDispatchMode):
    """A context in which every operation passes on which rows and columns of an image its results depend on.

    `spans[tensor]` are those of a tensor. Raises NotImplementedError for an operation that it does not know.
    """

    def __init__(self, images: Tensor) -> None:
        super().__init__()
        self.spans: Any = WeakTensorKeyDictionary()
        self.spans[images] = tuple(np.arange(side)[:, None].repeat(2, 1) for side in images.shape[2:])

    def __torch_dispatch__(
        self, function: Any, types: Any, arguments: tuple = (), options: dict[str, Any] | None = None
    ) -> Any:
        result = function(*arguments, **(options or {}))
        inputs = [each for each in _flat(arguments) if isinstance(each, Tensor) and each in self.spans]
        if inputs:
            for output in _flat((result,)):
                if isinstance(output, Tensor) and output.dim():
                    found = self._rule(function, arguments, inputs, output)
                    if found is not None:
                        self.spans[output] = found
        return result

    def _rule(self, function: Any, arguments: tuple, inputs: list[Tensor], output: Tensor) -> Spans | None:
        packet, given = function.overloadpacket, [self.spans[each] for each in inputs]
        if packet in LOCAL:
            windows = LOCAL[packet](arguments, inputs[0], output)
            return tuple(_windowed(span, *window) for span, window in zip(given[0], windows, strict=True))
        if packet is aten.constant_pad_nd:
            return _padded(given[0], arguments[1])
        if packet in (aten._adaptive_avg_pool2d, aten.adaptive_max_pool2d):
            return tuple(_adaptive(span, size) for span, size in zip(given[0], output.shape[2:], strict=True))
        if packet is aten.slice and arguments[1] % inputs[0].dim() >= inputs[0].dim() - 2:
            axis, (start, stop, step) = arguments[1] % inputs[0].dim(), (*arguments[2:], *(None, None, 1))[:3]
            return tuple(
                span[start:stop:step] if number + inputs[0].dim() - 2 == axis else span
                for number, span in enumerate(given[0])
            )
        if packet in CONSTANT:
            return None
        known = packet in POINTWISE or packet in EVERYTHING or torch.Tag.pointwise in function.tags
        if not known:
            raise NotImplementedError(f"receptive fields are not known through {packet}")
        sizes = [tuple(max(len(spans[axis]) for spans in given) for axis in (0, 1))]
        keeps = packet not in EVERYTHING and output.dim() >= 2 and tuple(output.shape[-2:]) == sizes[0]
        if keeps and not (packet is aten.permute and list(arguments[1])[-2:] != [output.dim() - 2, output.dim() - 1]):
            return tuple(_joined([spans[axis] for spans in given], sizes[0][axis]) for axis in (0, 1))
        rows, columns = (_joined([_hull(spans[axis]) for spans in given], 1) for axis in (0, 1))
        down, across = output.shape[-2:] if output.dim() >= 2 else (1, 1)
        return rows.repeat(down, 0), columns.repeat(across, 0)  # of all places: dense layers, global pools


@contextlib.contextmanager
def evaluated(network: Callable[[Tensor], Any], shape: Sequence[int]) -> Iterator[tuple[SpanMode, Any]]:
    """A context with the spans of every tensor that a network makes of an image (C, H, W), and what it returns.

    It has run on the meta device, in evaluation mode. network: a module, or a function of images (1, C, H, W).
    """
    weight = next(network.parameters(), None) if isinstance(network, nn.Module) else None
    images = torch.empty(1, *shape, device="meta", dtype=None if weight is None else weight.dtype)
    state = {}
    if isinstance(network, nn.Module):
        named = [*network.named_parameters(), *network.named_buffers()]
        state = {key: torch.empty_like(value, device="meta") for key, value in named}
    with evaluation_mode(network), torch.no_grad(), torch.device("meta"), SpanMode(images) as mode:
        result = torch.func.functional_call(network, state, (images,)) if state else network(images)
    yield mode, result


def spans(network: Callable[[Tensor], Sequence[Tensor]], shape: Sequence[int]) -> list[Spans]:
    """For each map of a backbone and an image (C, H, W): the first and last row (h, 2) and column (w, 2) it reads.

    A place that reads nothing, inside of a border, has a first after the last.
    """
    with evaluated(network, shape) as (mode, maps):
        return [mode.spans[each] for each in maps]


def receptive_fields(backbone: Backbone) -> list[ReceptiveField]:
    """The receptive field of each map of a backbone, along the width, on images as large as it takes.

    Of a backbone that takes images of one size alone they are those on images of this size.
    """
    if backbone.one_size:
        return [field(columns, backbone.shape[-1]) for _, columns in spans(backbone, backbone.shape)]
    found: list[ReceptiveField] = []
    for side in SIDES:
        maps = spans(backbone, (backbone.shape[0], max(backbone.smallest, 64), side))
        found = [field(columns, side) for _, columns in maps]
        if all(each.size is not None for each in found):
            break
    return found


def field(columns: np.ndarray, side: int) -> ReceptiveField:
    """The field of the place in the middle of a map of spans (w, 2), if neither it nor its neighbor sees a border."""
    middle = len(columns) // 2 - 1
    if len(columns) < 3 or columns[middle, 0] <= 0 or columns[middle + 1, 1] >= side - 1:
        return ReceptiveField(None, None, None)
    (first, last), (following, _) = columns[middle], columns[middle + 1]
    step = int(following - first)
    return ReceptiveField(int(last - first + 1), step, int(first - middle * step))


def _windowed(span: np.ndarray, count: int, kernel: int, stride: int, padding: int, dilation: int) -> np.ndarray:
    """The spans (count, 2) of windows of `kernel` places over spans (n, 2)."""
    taps = np.arange(count)[:, None] * stride - padding + np.arange(kernel) * dilation
    inside = (taps >= 0) & (taps < len(span))
    at = taps.clip(0, len(span) - 1)
    first = np.where(inside, span[at, 0], NOTHING[0]).min(1)
    last = np.where(inside, span[at, 1], NOTHING[1]).max(1)
    return np.stack([first, last], 1)


def _padded(given: Spans, padding: Sequence[int]) -> Spans:
    """Spans with borders, as constant_pad_nd takes them: left, right, top, bottom, ..., negative ones cut."""
    rows, columns = given
    found = []
    for span, (before, after) in ((rows, padding[2:4] or (0, 0)), (columns, padding[:2])):
        span = span[max(-before, 0) : len(span) - max(-after, 0)]
        border = [np.tile(NOTHING, (max(side, 0), 1)) for side in (before, after)]
        found.append(np.concatenate([border[0], span, border[1]]))
    return found[0], found[1]


def _adaptive(span: np.ndarray, size: int) -> np.ndarray:
    """Spans of an adaptive pool's `size` windows: from floor(i n / size) to ceil((i + 1) n / size)."""
    long = len(span)
    return np.concatenate([_hull(span[i * long // size : -(-(i + 1) * long // size)]) for i in range(size)])


def _hull(span: np.ndarray) -> np.ndarray:
    """The span (1, 2) that holds all spans (n, 2)."""
    return np.array([[span[:, 0].min(), span[:, 1].max()]])


def _joined(all_spans: list[np.ndarray], size: int) -> np.ndarray:
    """The spans (size, 2) that hold those of several tensors; a tensor with one place is broadcast."""
    wide = [np.broadcast_to(span, (size, 2)) for span in all_spans]
    return np.stack([np.min([s[:, 0] for s in wide], 0), np.max([s[:, 1] for s in wide], 0)], 1)


def _convolution(arguments: tuple, x: Tensor, output: Tensor) -> list[tuple[int, ...]]:
    weight, stride, padding, dilation, transposed = (arguments[i] for i in (1, 3, 4, 5, 6))
    if transposed:
        raise NotImplementedError("receptive fields are not known through a transposed convolution")
    return _per_axis(output, weight.shape[2:], stride, padding, dilation)


def _pool(arguments: tuple, x: Tensor, output: Tensor) -> list[tuple[int, ...]]:
    kernel = arguments[1]
    stride, padding = (*arguments[2:4], *((), 0)[len(arguments) - 2 :])[:2]
    return _per_axis(output, kernel, stride or kernel, padding, 1)


def _max_pool(arguments: tuple, x: Tensor, output: Tensor) -> list[tuple[int, ...]]:
    kernel = arguments[1]
    stride, padding, dilation = (*arguments[2:5], *((), 0, 1)[len(arguments) - 2 :])
    return _per_axis(output, kernel, stride or kernel, padding, dilation)


def _per_axis(output: Tensor, *numbers: Any) -> list[tuple[int, ...]]:
    """(places, kernel, stride, padding, dilation) of the last two axes, of numbers for one, all or the last axes."""
    whole = [[each] * 2 if isinstance(each, int) else ([*each] * 2)[-2:] for each in numbers]
    return [(output.shape[axis - 2], *(each[axis] for each in whole)) for axis in (0, 1)]


def _flat(values: Any) -> list[Any]:
    """Values of nested tuples and lists, one after the other."""
    if isinstance(values, tuple | list):
        return [each for value in values for each in _flat(value)]
    return [values]


LOCAL = {
    aten.convolution: _convolution,
    aten.max_pool2d_with_indices: _max_pool,
    aten.max_pool2d: _max_pool,
    aten.avg_pool2d: _pool,
    aten.avg_pool3d: _pool,
}
