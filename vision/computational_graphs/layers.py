"""Gates of a network: affine, convolution, pooling, batch norm, flattening and the softmax loss, in numpy.

Images and maps are (B, C, H, W), vectors (B, D); forward, backward and tangent are as gates.py says.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np

from vision.computational_graphs.gates import Array, Gate


class Affine(Gate):
    """x W^T + b: x (B, D), W (K, D), b (K,) -> (B, K)."""

    symbol = "affine"

    def forward(self, x: Array, weight: Array, bias: Array) -> Array:
        self.x, self.weight = x, weight
        return x @ weight.T + bias

    def backward(self, gradient: Array) -> Sequence[Array]:
        return gradient @ self.weight, gradient.T @ self.x, gradient.sum(0)

    def tangent(self, dx: Array, dweight: Array, dbias: Array) -> Array:
        return dx @ self.weight.T + self.x @ dweight.T + dbias


class Flatten(Gate):
    """(B, ...) -> (B, D)."""

    symbol = "flatten"

    def forward(self, x: Array) -> Array:
        self.shape = x.shape
        return x.reshape(len(x), -1)

    def backward(self, gradient: Array) -> Sequence[Array]:
        return (gradient.reshape(self.shape),)

    def tangent(self, dx: Array) -> Array:
        return dx.reshape(len(dx), -1)


class Window(Gate):
    """A gate with a sliding window over maps: its size, stride and padding in pixels, the same in both directions."""

    def __init__(self, size: int, stride: int = 1, padding: int = 0) -> None:
        if size < 1 or stride < 1 or padding < 0:
            raise ValueError(f"a window of size {size}, stride {stride}, padding {padding}: at least 1, 1 and 0")
        self.size, self.stride, self.padding = size, stride, padding

    def places(self, shape: Sequence[int]) -> tuple[int, int]:
        """Rows and columns of windows that fit into maps (..., H, W). Raises ValueError where none does."""
        found = tuple((side + 2 * self.padding - self.size) // self.stride + 1 for side in shape[-2:])
        if min(found) < 1:
            raise ValueError(f"no window of {self.size} fits into maps of {shape[-2]} x {shape[-1]}")
        return found

    def pad(self, x: Array, value: float = 0.0) -> Array:
        """x with `padding` pixels of a value around it."""
        if not self.padding:
            return x
        sides = [(0, 0), (0, 0), (self.padding,) * 2, (self.padding,) * 2]
        return np.pad(x, sides, constant_values=value)

    def crop(self, padded: Array) -> Array:
        """The inverse of `pad`."""
        end = -self.padding or None
        return padded[:, :, self.padding : end, self.padding : end]

    def offsets(self, places: tuple[int, int]) -> Iterator[tuple[int, int, tuple[slice, slice]]]:
        """Each row and column within the window, and the slices of a padded map that all windows have there."""
        for row in range(self.size):
            for column in range(self.size):
                yield (
                    row,
                    column,
                    (
                        slice(row, row + self.stride * (places[0] - 1) + 1, self.stride),
                        slice(column, column + self.stride * (places[1] - 1) + 1, self.stride),
                    ),
                )


class Convolution(Window):
    """Cross-correlation of maps with K filters, as matrix products with the patches (im2col).

    x (B, C, H, W), weight (K, C, size, size), bias (K,) -> (B, K, H', W').
    """

    symbol = "conv"

    def forward(self, x: Array, weight: Array, bias: Array) -> Array:
        if weight.shape[1:] != (x.shape[1], self.size, self.size):
            raise ValueError(f"filters {weight.shape} do not fit maps {x.shape} and windows of {self.size}")
        self.shape, self.weight, self.at = x.shape, weight, self.places(x.shape)
        self.patches = self._patches(x)
        return self._product(weight, self.patches) + bias[:, None, None]

    def backward(self, gradient: Array) -> Sequence[Array]:
        rows = gradient.transpose(1, 0, 2, 3).reshape(len(self.weight), -1)  # (K, B H' W')
        dweight = (rows @ self.patches.T).reshape(self.weight.shape)
        count, channels, height, width = self.shape
        spread = self.weight.reshape(len(self.weight), -1).T @ rows  # the gradient at each patch
        spread = spread.reshape(channels, self.size, self.size, count, *self.at)
        padded = np.zeros((count, channels, height + 2 * self.padding, width + 2 * self.padding), gradient.dtype)
        for row, column, (down, across) in self.offsets(self.at):  # patches overlap: the gradients of a pixel add up
            padded[:, :, down, across] += spread[:, row, column].transpose(1, 0, 2, 3)
        return self.crop(padded), dweight, gradient.sum((0, 2, 3))

    def tangent(self, dx: Array, dweight: Array, dbias: Array) -> Array:
        changed = self._product(self.weight, self._patches(dx)) + self._product(dweight, self.patches)
        return changed + dbias[:, None, None]

    def _patches(self, x: Array) -> Array:
        """Patches as columns (im2col): (C size size, B H' W')."""
        padded = self.pad(x)
        patches = np.empty((x.shape[1], self.size, self.size, len(x), *self.at), x.dtype)
        for row, column, (down, across) in self.offsets(self.at):
            patches[:, row, column] = padded[:, :, down, across].transpose(1, 0, 2, 3)
        return patches.reshape(x.shape[1] * self.size**2, -1)

    def _product(self, weight: Array, patches: Array) -> Array:
        found = weight.reshape(len(weight), -1) @ patches
        return found.reshape(len(weight), self.shape[0], *self.at).transpose(1, 0, 2, 3)


class MaxPool(Window):
    """The maximum of each window, which gets the gradient; the first of equal ones, as in torch."""

    symbol = "max pool"

    def __init__(self, size: int, stride: int | None = None, padding: int = 0) -> None:
        super().__init__(size, stride or size, padding)

    def forward(self, x: Array) -> Array:
        self.shape, self.at, padded = x.shape, self.places(x.shape), self.pad(x, -np.inf)
        windows = np.stack([padded[:, :, down, across] for *_, (down, across) in self.offsets(self.at)])
        self.largest = windows.argmax(0)
        return np.take_along_axis(windows, self.largest[None], 0)[0]

    def backward(self, gradient: Array) -> Sequence[Array]:
        padded = np.zeros_like(self.pad(np.empty(self.shape, gradient.dtype)))
        for number, (*_, (down, across)) in enumerate(self.offsets(self.at)):
            padded[:, :, down, across] += gradient * (self.largest == number)
        return (self.crop(padded),)

    def tangent(self, dx: Array) -> Array:
        padded = self.pad(dx)
        windows = np.stack([padded[:, :, down, across] for *_, (down, across) in self.offsets(self.at)])
        return np.take_along_axis(windows, self.largest[None], 0)[0]


class AveragePool(Window):
    """The mean of each window, padded zeros included; each element gets an equal share of the gradient."""

    symbol = "mean pool"

    def __init__(self, size: int, stride: int | None = None, padding: int = 0) -> None:
        super().__init__(size, stride or size, padding)

    def forward(self, x: Array) -> Array:
        self.shape, self.at, padded = x.shape, self.places(x.shape), self.pad(x)
        return sum(padded[:, :, down, across] for *_, (down, across) in self.offsets(self.at)) / self.size**2

    def backward(self, gradient: Array) -> Sequence[Array]:
        padded = np.zeros_like(self.pad(np.empty(self.shape, gradient.dtype)))
        for *_, (down, across) in self.offsets(self.at):
            padded[:, :, down, across] += gradient / self.size**2
        return (self.crop(padded),)

    def tangent(self, dx: Array) -> Array:
        return self.forward(dx)  # it is linear


class BatchNorm(Gate):
    """Batch normalization (Ioffe & Szegedy 2015, arXiv 1502.03167, algorithm 1), by the statistics of the batch.

    x (B, D) or (B, C, H, W), scale and shift (D,) or (C,). `mean` and `variance` are running averages (the variance
    unbiased, as in torch), by which inputs are normalized where `training` is False.
    """

    symbol = "batch norm"

    def __init__(self, eps: float = 1e-5, momentum: float = 0.1) -> None:
        self.eps, self.momentum, self.training = eps, momentum, True
        self.mean: Array | float = 0.0
        self.variance: Array | float = 1.0

    def forward(self, x: Array, scale: Array, shift: Array) -> Array:
        self.axes = (0, *range(2, x.ndim))
        self.wide = (slice(None), *[None] * (x.ndim - 2))  # (C,) as (C, 1, 1)
        self.count, self.batch = x.size // x.shape[1], self.training
        if self.batch:
            mean, variance = x.mean(self.axes), x.var(self.axes)
            unbiased = variance * self.count / max(self.count - 1, 1)
            self.mean = (1 - self.momentum) * self.mean + self.momentum * mean
            self.variance = (1 - self.momentum) * self.variance + self.momentum * unbiased
        else:
            mean, variance = (np.broadcast_to(each, x.shape[1:2]) for each in (self.mean, self.variance))
        self.inverse = ((variance + self.eps) ** -0.5)[self.wide]
        self.normal = (x - mean[self.wide]) * self.inverse
        self.scale = scale[self.wide]
        return self.normal * self.scale + shift[self.wide]

    def backward(self, gradient: Array) -> Sequence[Array]:
        dscale, dshift = (gradient * self.normal).sum(self.axes), gradient.sum(self.axes)
        return self._centered(gradient * self.scale), dscale, dshift

    def tangent(self, dx: Array, dscale: Array, dshift: Array) -> Array:
        # the Jacobian of the normalization is symmetric: the same projection serves both modes
        return self._centered(dx) * self.scale + self.normal * dscale[self.wide] + dshift[self.wide]

    def _centered(self, change: Array) -> Array:
        """The derivative of the normalization: a change minus its mean and minus its component along the normalized
        values, because the batch's mean and variance stay 0 and 1."""
        if self.batch:
            along = (change * self.normal).mean(self.axes)[self.wide]
            change = change - change.mean(self.axes)[self.wide] - self.normal * along
        return change * self.inverse


class SoftmaxLoss(Gate):
    """Cross-entropy of logits (B, classes) for labels (B,), the mean of a batch in nats. Labels have no gradient."""

    symbol = "softmax loss"

    def forward(self, logits: Array, labels: Array) -> Array:
        shifted = logits - logits.max(1, keepdims=True)
        logs = shifted - np.log(np.exp(shifted).sum(1, keepdims=True))
        rows = np.arange(len(labels))
        self.slope = np.exp(logs)
        self.slope[rows, labels] -= 1
        self.slope /= len(labels)
        return -logs[rows, labels].mean()

    def backward(self, gradient: Array) -> Sequence[Array | None]:
        return gradient * self.slope, None

    def tangent(self, dlogits: Array, dlabels: Array) -> Array:
        return (self.slope * dlogits).sum()
