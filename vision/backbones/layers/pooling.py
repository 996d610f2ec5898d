"""Pooling layers that take the place of a backbone's own: fractional, stochastic, learned average, plain.

    backbone = backbones.build("nin", (3, 32, 32), pool="fractional")      # each of its pools that downsamples

Fractional max-pooling: Graham 2014, arXiv 1412.6071. Stochastic pooling: Zeiler & Fergus 2013, arXiv 1301.3557.
Learned average pooling: the subsampling layers of LeCun et al. 1998.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional as F

RATIO = math.sqrt(2)  # side of the maps before a fractional pool to that after it, as in Graham 2014, section 4
FIXED = 0.5  # u of the regions in evaluation
UNITS = 1 << 20  # that u is drawn in


def global_max_pool(maps: Tensor) -> Tensor:
    """Global max pooling: maps (B, C, H, W) -> (B, C), with the gradient to one place of each map.

    Not by amax, whose gradient looks for the places that equal the maximum: compiled in bfloat16, where the map is
    computed again with more digits, there are none, and the gradient is 0 / 0.
    """
    return maps.flatten(2).max(2).values


class Window(NamedTuple):
    """The windows of a pool: all pixels, of one side of a square."""

    kernel: int
    stride: int
    padding: int = 0
    ceil: bool = False  # windows that begin inside count, though they reach beyond the edge


class FractionalMaxPool2d(nn.Module):
    """Fractional max-pooling: maps (B, C, H, W) -> (B, C, floor(H / ratio), floor(W / ratio)), ratio in (1, 2).

    Graham 2014, section 2: the regions begin at an increasing sequence of places whose steps are ones and twos. It is
    random (the ones and twos of a sequence shuffled, `pseudo` false) or pseudo-random, a_i = ceil(alpha (i + u)) with
    one u in (0, 1). Overlapping regions reach to the place where the next one begins, which disjoint ones do not.

    In training, sequences of rows and columns are drawn anew in every forward pass, for all images and channels of
    it; in evaluation they are the pseudo-random ones of u = 1/2, so that an image has one answer. The paper draws at
    test time as well, and averages several passes: set `drawn_in_evaluation`.
    Raises ValueError for a ratio outside of (1, 2).
    """

    stride = 2  # that it downsamples; the true ratio is no whole number

    def __init__(self, ratio: float = RATIO, pseudo: bool = False, overlapping: bool = True) -> None:
        super().__init__()
        if not 1 < ratio < 2:
            raise ValueError(f"a fractional pool has a ratio between 1 and 2, not {ratio}")
        self.ratio, self.pseudo, self.overlapping = ratio, pseudo, overlapping
        self.drawn_in_evaluation = False

    def forward(self, x: Tensor) -> Tensor:
        for axis in (2, 3):
            side = x.shape[axis]
            new = max(-(-side // 2), int(side / self.ratio))
            if x.is_meta:
                x = x.narrow(axis, 0, new)
                continue
            begin, end = (each.to(x.device) for each in regions(side, new, self.overlapping, *self._drawn()))
            inner = torch.minimum(begin + 1, end)
            first = torch.maximum(x.index_select(axis, begin), x.index_select(axis, inner))
            x = torch.maximum(first, x.index_select(axis, end)) if self.overlapping else first
        return x

    def _drawn(self) -> tuple[bool, float | None]:
        if self.training or self.drawn_in_evaluation:
            return self.pseudo, None
        return True, FIXED

    def extra_repr(self) -> str:
        return f"ratio={self.ratio:.4g}, pseudo={self.pseudo}, overlapping={self.overlapping}"


def regions(side: int, new: int, overlapping: bool, pseudo: bool, u: float | None = None) -> tuple[Tensor, Tensor]:
    """First and last row (new,) int64, counted from 0, of the pooling regions of `side` rows; together they are all
    rows, each region has one or two of its own, and an overlapping one the next one's first in addition.

    u: of a pseudo-random sequence, in (0, 1); None: drawn from torch's generator.
    Raises ValueError where ones and twos do not add up, which is where side is below new or above twice new.
    """
    total = side - 1 if overlapping else side  # that the steps add up to: Graham 2014, section 2
    if not new <= total <= 2 * new and side > 1:
        raise ValueError(f"{side} rows are no {new} regions of one or two rows")
    if side == 1:
        none = torch.zeros(new, dtype=torch.int64)
        return none, none
    if pseudo:
        u = u if u is not None else torch.randint(1, UNITS, ()).item() / UNITS
        share = round(u * UNITS)  # whole numbers: the steps add up exactly
        places = torch.tensor([-(-total * (i * UNITS + share) // (new * UNITS)) for i in range(new + 1)])
        steps = places.diff()
    else:
        steps = torch.ones(new, dtype=torch.int64)
        steps[: total - new] = 2
        steps = steps[torch.randperm(new)]
    ends = steps.cumsum(0)
    return ends - steps, ends if overlapping else ends - 1


class StochasticPool2d(nn.Module):
    """Stochastic pooling: of each window one activation, drawn with a probability in proportion to it.

    Zeiler & Fergus 2013, equations 4 to 6: in training a drawn one, in evaluation the mean weighted by these
    probabilities. Activations are to be 0 or more, as after a ReLU: negative ones count as 0.

    x: (B, C, H, W) -> (B, C, H', W'), as a max pool of the same windows.
    """

    def __init__(self, window: Window) -> None:
        super().__init__()
        self.window, self.stride = window, window.stride

    def forward(self, x: Tensor) -> Tensor:
        x = F.relu(x)
        if x.is_meta:
            return F.max_pool2d(x, *self.window[:3], ceil_mode=self.window.ceil)
        values = patches(x, self.window)  # (B, C, H', W', k * k)
        if not self.training:
            return values.square().sum(-1) / values.sum(-1).clamp(min=torch.finfo(values.dtype).tiny)
        bounds = values.detach().float().cumsum(-1)
        drawn = torch.rand(bounds.shape[:-1], device=x.device)[..., None] * bounds[..., -1:]
        chosen = (bounds <= drawn).sum(-1, keepdim=True).clamp(max=values.shape[-1] - 1)
        return values.gather(-1, chosen)[..., 0]

    def extra_repr(self) -> str:
        return str(self.window)


def patches(x: Tensor, window: Window) -> Tensor:
    """The windows of x (B, C, H, W), (B, C, H', W', k * k); what lies beyond the edge is 0."""
    kernel, stride, padding, ceil = window
    counts = []
    for side in x.shape[2:]:
        count = (math.ceil if ceil else math.floor)((side + 2 * padding - kernel) / stride) + 1
        counts.append(count - (ceil and (count - 1) * stride >= side + padding))  # torch: it begins inside
    down, along = (
        (count - 1) * stride + kernel - side - padding for count, side in zip(counts, x.shape[2:], strict=True)
    )
    padded = F.pad(x, (padding, max(0, along), padding, max(0, down)))
    return padded.unfold(2, kernel, stride).unfold(3, kernel, stride)[:, :, : counts[0], : counts[1]].flatten(4)


class LearnedAvgPool2d(nn.Module):
    """Learned average pooling: the mean of a window times a coefficient plus a bias, learned for each channel.

    LeCun et al. 1998, section II.B, layers S2 and S4, where the four values are added, which makes the coefficient a
    quarter of this one, and an activation comes after: see lenet.py. Maps (B, C, H, W) -> (B, C, H', W').
    """

    def __init__(self, channels: int, window: Window) -> None:
        super().__init__()
        self.window, self.stride = window, window.stride
        self.weight = nn.Parameter(torch.ones(channels))
        self.bias = nn.Parameter(torch.zeros(channels))

    def forward(self, x: Tensor) -> Tensor:
        x = F.avg_pool2d(x, *self.window[:3], ceil_mode=self.window.ceil)
        return x * self.weight[:, None, None] + self.bias[:, None, None]


POOLS: dict[str, Callable[[Window, int], nn.Module]] = {  # by name: of the windows of a pool, and its channels
    "max": lambda window, _: nn.MaxPool2d(*window[:3], ceil_mode=window.ceil),
    "average": lambda window, _: nn.AvgPool2d(*window[:3], ceil_mode=window.ceil),
    "learned": lambda window, channels: LearnedAvgPool2d(channels, window),
    "stochastic": lambda window, _: StochasticPool2d(window),
    "fractional": lambda window, _: FractionalMaxPool2d(),
    "fractional_disjoint": lambda window, _: FractionalMaxPool2d(overlapping=False),
    "fractional_pseudo": lambda window, _: FractionalMaxPool2d(pseudo=True),
    "fractional_pseudo_disjoint": lambda window, _: FractionalMaxPool2d(pseudo=True, overlapping=False),
}
LAYERS = (nn.MaxPool2d, nn.AvgPool2d, StochasticPool2d, LearnedAvgPool2d, FractionalMaxPool2d)


def downsampling(module: nn.Module) -> dict[str, nn.MaxPool2d | nn.AvgPool2d]:
    """The max and mean pools inside a module whose stride is above 1, by their names."""
    found = {}
    for name, layer in module.named_modules():
        if isinstance(layer, nn.MaxPool2d | nn.AvgPool2d) and _side(layer.stride) > 1:
            found[name] = layer
    return found


def replace_pools(module: nn.Module, pool: str, channels: dict[str, int]) -> None:
    """Replace the pools of `downsampling` by those of a name of POOLS, in place.

    channels: of the maps that each of them sees. Raises ValueError for an unknown name, and where there is no pool.
    """
    if pool not in POOLS:
        raise ValueError(f"unknown pool {pool!r}: choose one of own, {', '.join(POOLS)}")
    pools = downsampling(module)
    if not pools:
        raise ValueError("it has no pool that downsamples, which --pool could take the place of")
    for path, layer in pools.items():
        window = Window(_side(layer.kernel_size), _side(layer.stride), _side(layer.padding), layer.ceil_mode)
        parent, _, name = path.rpartition(".")
        setattr(module.get_submodule(parent), name, POOLS[pool](window, channels[path]))


def _side(number: int | tuple[int, int]) -> int:
    sides = {*number} if isinstance(number, tuple) else {number}
    if len(sides) > 1:
        raise ValueError(f"a pool of {number} has no square windows, and cannot be replaced")
    return next(itertools.chain(sides))
