"""Operators of detection in ONNX: what suppression and RoIAlign become in an exported graph.

Eager code has loops whose length depends on the boxes; ONNX has operators of the same meaning. `torch.onnx.export`
with dynamo=False calls `symbolic`; without it these functions give what nms.py and roi.py give.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

LOWEST = -3e38  # the score of a box in another group, near the smallest float32


class Suppression(torch.autograd.Function):
    """ONNX's NonMaxSuppression of boxes (N, 4), scores (N,) and groups (N,) from 0 to count - 1: indices (K,), best
    first. `function` is what is calculated while the graph is traced.
    """

    @staticmethod
    def forward(
        ctx: Any, boxes: Tensor, scores: Tensor, groups: Tensor, count: int, threshold: float, function: Callable
    ) -> Tensor:
        """Indices (K,)."""
        return function(boxes, scores, groups, threshold)

    @staticmethod
    def symbolic(
        g: Any, boxes: Any, scores: Any, groups: Any, count: int, threshold: float, function: Callable
    ) -> Any:
        """The nodes of the graph; shapes as in forward, (K,)."""

        def constant(value: Any, dtype: torch.dtype) -> Any:
            return g.op("Constant", value_t=torch.tensor(value, dtype=dtype))

        first = constant([0], torch.int64)
        numbers = constant([[each] for each in range(count)], torch.int64)
        own = g.op("Equal", g.op("Unsqueeze", groups, first), numbers)  # (count, N)
        table = g.op("Where", own, g.op("Unsqueeze", scores, first), constant(LOWEST, torch.float32))
        found = g.op(
            "NonMaxSuppression",
            g.op("Unsqueeze", boxes, first),
            g.op("Unsqueeze", table, first),
            constant([2**31 - 1], torch.int64),
            constant([threshold], torch.float32),
            constant([LOWEST / 2], torch.float32),
        )  # (K, 3): batch, group, box
        rows = g.op(
            "Squeeze", g.op("Gather", found, constant([2], torch.int64), axis_i=1), constant([1], torch.int64)
        )
        values = g.op("Gather", scores, rows, axis_i=0)
        _, order = g.op("TopK", values, g.op("Shape", values), axis_i=0, largest_i=1, sorted_i=1, outputs=2)
        return g.op("Gather", rows, order, axis_i=0)


class Align(torch.autograd.Function):
    """ONNX's RoiAlign of maps (B, C, H, W) and boxes (N, 4): (N, C, h, w)."""

    @staticmethod
    def forward(
        ctx: Any,
        maps: Tensor,
        boxes: Tensor,
        image: Tensor,
        size: tuple[int, int],
        scale: float,
        samples: int,
        aligned: bool,
        function: Callable,
    ) -> Tensor:
        """(N, C, h, w)."""
        return function(maps, boxes, image, size, scale, samples, aligned)

    @staticmethod
    def symbolic(
        g: Any,
        maps: Any,
        boxes: Any,
        image: Any,
        size: tuple[int, int],
        scale: float,
        samples: int,
        aligned: bool,
        function: Callable,
    ) -> Any:
        """The node of the graph; shapes as in forward, (N, C, h, w)."""
        return g.op(
            "RoiAlign",
            maps,
            boxes,
            image,
            coordinate_transformation_mode_s="half_pixel" if aligned else "output_half_pixel",
            mode_s="avg",
            output_height_i=size[0],
            output_width_i=size[1],
            sampling_ratio_i=samples,
            spatial_scale_f=scale,
        )
