"""Standardization of inputs by statistics of training inputs: zero mean, unit variance, PCA, whitening."""

from __future__ import annotations

import contextlib
import math
from collections.abc import Sequence
from typing import Any, Literal

import torch
from torch import Tensor, nn
from torch.nn import functional as F

CHUNK = 2_000  # inputs whose products are summed at a time
MOST = 8_192  # numbers of an input whose covariances are measured: a matrix of half a GiB in float64
FLAT = 1e-6  # a deviation below it counts as none: what never changes keeps its unit

Center = Literal["none", "channel", "image"]
Scale = Literal["none", "all", "channel", "each"]
Whitening = Literal["none", "pca", "pca_white", "zca"]


class Standardization(nn.Module):
    """x (B, *shape), uint8 (counting as x / 255) or floats -> floats of the same shape, by statistics of `fit`.

    shape: (C, H, W) of images or (D,) of vectors, whose features each count as a channel.
    center: what is subtracted: the mean of each channel (VGG), or the mean image (AlexNet).
    scale: what it is then divided by: the deviation of all numbers, of each channel, or of each pixel or feature.
    whitening: then, along the principal axes of the training inputs: "pca" gives the coordinates along them, with
        the largest variance first, "pca_white" those divided by their deviation, and "zca" the same turned back into
        an image (Bell & Sejnowski 1997), the whitening that changes images least. Coordinates have no places: they
        are for networks without convolutions.
    components: axes that are kept, those of the largest variance; 0: all. Coordinates that are not kept are 0.
    eps: added to variances before whitening divides by their roots.

    Statistics are buffers, saved with the weights. Raises ValueError for PCA without a mean, and more components than
    numbers in an input.
    """

    def __init__(
        self,
        shape: Sequence[int],
        center: Center = "none",
        scale: Scale = "none",
        whitening: Whitening = "none",
        components: int = 0,
        eps: float = 1e-5,
    ) -> None:
        super().__init__()
        self.shape, numbers = tuple(shape), math.prod(shape)
        if whitening != "none" and center == "none":
            raise ValueError("principal axes go through the mean: choose --center image or channel with --whitening")
        if whitening != "none" and numbers > MOST:
            raise ValueError(
                f"whitening keeps a matrix of {numbers:,} x {numbers:,}: at most {MOST:,} numbers an input"
            )
        if components and (whitening == "none" or components > numbers):
            raise ValueError(f"{components} components: inputs have {numbers} numbers, and --whitening chooses them")
        self.center, self.scale, self.whitening, self.components, self.eps = center, scale, whitening, components, eps
        channel = (self.shape[0], *[1] * (len(self.shape) - 1))
        sizes = {"none": (), "all": (), "channel": channel, "image": self.shape, "each": self.shape}
        self.register_buffer("mean", torch.zeros(sizes[center]))
        self.register_buffer("inverse", torch.ones(sizes[scale]))  # of the deviation
        kept = (components or numbers) if whitening != "none" else 0
        self.register_buffer("axes", torch.zeros(kept, numbers if kept else 0))
        self.register_buffer("factors", torch.ones(kept))  # of the coordinates along the axes

    def spec(self) -> dict[str, Any]:
        """The options as a JSON-able dict."""
        return {name: getattr(self, name) for name in ("center", "scale", "whitening", "components", "eps")}

    @property
    def any_size(self) -> bool:
        """Whether images of another size have the same statistics."""
        return self.center != "image" and self.scale != "each" and self.whitening == "none"

    @torch.no_grad()
    def fit(self, inputs: Tensor) -> Standardization:
        """Measure the statistics of training inputs (N, *shape), in float64 on the CPU, and return itself.

        inputs: a tensor, or images that are read as their rows are asked for.
        """
        count, device = len(inputs), self.mean.device

        def parts():
            for some in inputs.split(CHUNK):
                yield pixels(some.cpu(), torch.float64)

        mean = sum(part.sum(0) for part in parts()) / count
        none = torch.zeros((), dtype=torch.float64)
        center = {"none": none, "channel": self._by_channel(mean), "image": mean}[self.center]
        square = sum((part - center).square().sum(0) for part in parts()) / count
        off = mean - center  # what is left of the mean, which is no variance
        variance = {
            "none": none + 1,
            "all": square.mean() - off.mean().square(),
            "channel": self._by_channel(square) - self._by_channel(off).square(),
            "each": square - off.square(),
        }[self.scale]
        deviation = variance.clamp(min=0).sqrt()
        inverse = 1 / torch.where(deviation > FLAT, deviation, 1.0)
        self.mean.copy_(center.float().to(device))
        self.inverse.copy_(inverse.float().to(device))
        if self.whitening != "none":
            rest = ((mean - center) * inverse).flatten()
            rows = (((part - center) * inverse).flatten(1) for part in parts())
            covariance = sum(part.T @ part for part in rows) / count - torch.outer(rest, rest)
            variances, axes = torch.linalg.eigh(covariance)
            kept = len(self.axes)
            variances, axes = variances.flip(0)[:kept].clamp(min=0), axes.T.flip(0)[:kept]
            factors = torch.ones_like(variances) if self.whitening == "pca" else (variances + self.eps) ** -0.5
            self.axes.copy_(axes.float().to(device))
            self.factors.copy_(factors.float().to(device))
        return self

    def _by_channel(self, statistic: Tensor) -> Tensor:
        axes = tuple(range(1, len(self.shape)))
        return statistic.mean(axes, keepdim=True) if axes else statistic

    def forward(self, x: Tensor) -> Tensor:
        given, dtype = x, self.mean.dtype
        exact = contextlib.nullcontext() if x.is_meta else torch.autocast(x.device.type, enabled=False)
        with exact:  # sums over all pixels, which bf16 would round
            x = (pixels(x, dtype) - self.mean) * self.inverse
            if self.whitening == "none":
                return x
            coordinates = x.flatten(1) @ self.axes.T * self.factors
            if self.whitening == "zca":
                return (coordinates @ self.axes).view(given.shape)
            return F.pad(coordinates, (0, self.axes.shape[1] - len(self.axes))).view(given.shape)

    def extra_repr(self) -> str:
        return ", ".join(f"{name}={value}" for name, value in self.spec().items())


def pixels(x: Tensor, dtype: torch.dtype) -> Tensor:
    """Images of any shape as floats: bytes divided by 255, floats as they are."""
    return x.to(dtype) / 255 if x.dtype == torch.uint8 else x.to(dtype)
