"""Backbone: the base class of all feature extractors, with measured channels and strides of its feature maps."""

import json
import math
from collections.abc import Callable, Sequence
from typing import Self

import torch
from torch import Tensor, nn

from vision.backbones.layers import pooling
from vision.backbones.layers.initialization import initialize
from vision.backbones.layers.normalization import SpectralNorm
from vision.backbones.layers.pixel_conv import PixelConv2d
from vision.backbones.options import BackboneOptions
from vision.backbones.preprocessing import Normalize, Preprocessing
from vision.backbones.shapes import ShapesOnly
from vision.backbones.standardization import Standardization

PROBE = 512  # pixels, side of the images on the meta device by which maps are measured; no stride is longer
PROBE_STEP = 9 * PROBE  # pixels added in width to measure strides: a multiple of each stride, OverFeat's 36 included

LIKELY_SMALLEST = (1, 32)  # pixels, tried first: with borders of zeros most networks take a single pixel

MEASURED: dict[str, tuple[list[int], list[int], int]] = {}  # by architecture: the large ones take a tenth of a second


class Backbone(nn.Module):
    """A network that returns its feature maps. Heads are built from `channels` and `strides`, not names.

    A family's __init__(name, shape, options) calls super().__init__ with the same, makes `self.stages` (one map
    after each stage; a family whose maps are not a chain overrides `maps`), and ends with `self.finish()`. Its
    paper's options are `OPTIONS`, or `defaults(name)` where its networks differ.

    `self.between` is applied to the input of every stage but the first: the dropout of families whose paper has none
    elsewhere. Maps are taken before it.

    options:   BackboneOptions that it was built with
    spec:      JSON-able dict of name, shape and options: build(**spec) makes the same architecture
    channels:  list of int, one a map
    strides:   list of int, one a map: pixels of the image to a step in the map (the vector's one map has 1), rounded
               down behind a fractional pool
    smallest:  int, shortest image side for which every map exists
    frozen:    bool, after freeze(): no gradients, and evaluation mode permanently
    fixed:     bool, after fix_mode(): evaluation mode permanently, with weights that learn
    preprocessing: what the weights were trained on, or None; see preprocess()
    """

    stems: tuple[str, ...] = ("atari", "cifar", "imagenet")
    any_size = True  # False: dense layers inside, so only inputs of exactly `shape` fit

    OPTIONS = BackboneOptions()

    @classmethod
    def defaults(cls, name: str) -> BackboneOptions:
        """The options of the paper's network of that name."""
        return cls.OPTIONS

    def __init__(self, name: str, shape: Sequence[int], options: BackboneOptions) -> None:
        super().__init__()
        shape = tuple(int(n) for n in shape)
        if options.stem is not None and options.stem not in self.stems:
            raise ValueError(f"unknown stem {options.stem!r} for {name}: choose one of {', '.join(self.stems)}")
        if self.any_size and len(shape) != 3:
            raise ValueError(f"{name} takes images (C, H, W), got shape {shape}: use 'mlp' for vectors")
        if not shape or min(shape) < 1:
            raise ValueError(f"{name} got shape {shape}: every length must be at least 1")
        self.shape, self.options = shape, options
        self.spec = {"name": name, "shape": list(shape), **options.spec()}
        self.frozen = self.fixed = False
        self.preprocessing: Preprocessing | None = None
        self.normalize = nn.Identity()
        self.between = nn.Identity()
        self.stages = nn.ModuleList()

    def finish(self) -> None:
        """Initializes the weights and measures the maps. The last line of every family's __init__."""
        if self.options.pool != "own":
            self._replace_pools()
        initialize(self, self.options.init)
        if not self.any_size:
            maps = self.imagine(self.shape)
            side = self.shape[-1] if len(self.shape) == 3 else 1
            self.strides = [math.ceil(side / m.shape[-1]) for m in maps]
            self.smallest = min(self.shape[-2:]) if len(self.shape) == 3 else 1
            self.channels = [m.shape[1] for m in maps]
        else:
            architecture = json.dumps(self.spec | {"shape": self.shape[0], "init": None, "dropout": None})
            if architecture not in MEASURED:
                MEASURED[architecture] = self._measure()
            channels, strides, self.smallest = MEASURED[architecture]
            self.channels, self.strides = list(channels), list(strides)
        self._check(self.shape)

    def _replace_pools(self) -> None:
        """Puts layers of the options' pool in the place of those that downsample. Raises ValueError if it cannot."""
        name, pool, channels = self.spec["name"], self.options.pool, {}

        def note(path: str) -> Callable[[nn.Module, tuple[Tensor]], None]:
            return lambda layer, inputs: channels.__setitem__(path, inputs[0].shape[1])

        shape = (self.shape[0], PROBE, PROBE) if self.any_size else self.shape
        hooks = [layer.register_forward_pre_hook(note(path)) for path, layer in pooling.downsampling(self).items()]
        self.imagine(shape)
        for hook in hooks:
            hook.remove()
        try:
            pooling.replace_pools(self, pool, channels)
            self.imagine(shape)
        except (ValueError, RuntimeError) as error:  # RuntimeError: its maps are joined with a convolution's
            reason = error if isinstance(error, ValueError) else "convolutions beside its pools have another stride"
            raise ValueError(f"{name} cannot be built with pool={pool!r}: {reason}") from error

    def forward(self, x: Tensor) -> list[Tensor]:
        """x: (B, C, H, W) floats or uint8 pixels, which count as x / 255 (a family's first convolution is a
        PixelConv2d), or (B, D) floats for vectors. Returns maps (B, channels[i], H_i, W_i).

        Raises ValueError when the image is smaller than `smallest` or has another number of channels.
        """
        self._check(tuple(x.shape[1:]))
        return self.maps(self.normalize(x))

    def maps(self, x: Tensor) -> list[Tensor]:
        """The maps (B, channels[i], H_i, W_i) of x (B, C, H, W), unchecked: the output of each stage."""
        maps = []
        for stage in self.stages:
            x = stage(x if not maps else self.between(x))
            maps.append(x)
        return maps

    def preprocess(self, preprocessing: Preprocessing) -> None:
        """Normalize every input, uint8 or floats in [0, 1], as the images were on which the weights were trained.

        It becomes part of the spec, and so of every saved copy. Resizing is left to the caller: preprocessing.cut.
        For another number of channels, means and deviations are adapted as the weights of the first convolution are
        (checkpoints.adapt_channels): fewer channels get the mean of all, more repeat them in turn.
        """
        self.preprocessing = preprocessing.fitted(self.shape[0])
        self.spec["preprocessing"] = self.preprocessing.spec()
        self.normalize = Normalize(self.preprocessing.mean, self.preprocessing.std)

    def standardize(self, standardization: Standardization) -> None:
        """Standardize every input by statistics of training inputs, which are saved with the weights: zero mean, unit
        variance, whitening.

        Raises ValueError where inputs are normalized already, and for coordinates along principal axes, which have no
        places, before convolutions.
        """
        if not isinstance(self.normalize, nn.Identity) or self.subtracts_mean:
            raise ValueError(f"inputs of {self.spec['name']} are normalized already, as its weights were trained")
        if standardization.whitening.startswith("pca") and any(isinstance(m, nn.Conv2d) for m in self.modules()):
            raise ValueError(
                f"{standardization.whitening} gives coordinates, which have no places for the convolutions of "
                f"{self.spec['name']}: choose --whitening zca, or a backbone without convolutions, as mlp"
            )
        self.normalize = standardization
        self.spec["standardization"] = standardization.spec()

    @property
    def one_size(self) -> bool:
        """Whether inputs have to be of exactly `shape`: of dense layers, or to subtract a picture from them."""
        sized = isinstance(self.normalize, Standardization) and not self.normalize.any_size
        return not self.any_size or self.subtracts_mean or sized

    @property
    def subtracts_mean(self) -> bool:
        """Whether a mean observation is subtracted from every input."""
        return bool(self.spec.get("subtracts_mean"))

    def set_mean_observation(self, picture: Tensor) -> None:
        """Subtract a mean observation, `picture` (C, H, W) uint8, from every input, against dead ReLUs.

        Where most pixels hardly change, their contribution to every map is many times that of moving objects, and
        Adam's first steps along it leave most ReLUs of a dense layer dead. The picture is saved with the weights.

        Raises ValueError for another shape, and for a backbone whose first layer is not a PixelConv2d or whose
        published weights have a mean of their own.
        """
        first = next((module for module in self.modules() if isinstance(module, PixelConv2d)), None)
        name, own = self.spec["name"], self.preprocessing or self.spec.get("transform_input")
        own = own or self.spec.get("standardization")
        if first is None or own:
            why = "its weights have a mean of their own" if own else "it does not begin with a convolution of pixels"
            raise ValueError(f"no mean observation can be subtracted from the inputs of {name}: {why}")
        if tuple(picture.shape) != self.shape:
            raise ValueError(f"a mean observation {tuple(picture.shape)} does not fit inputs {self.shape}")
        first.mean_observation = picture.to(first.weight.device, torch.uint8, copy=True)
        self.spec["subtracts_mean"] = True

    def head(self, classes: int, dropout: float | None = None) -> nn.Module:
        """The paper's classification head: a list of maps -> logits (B, classes).

        Where the paper has auxiliary classifiers, `head.auxiliary(maps)` is the list of their logits.
        dropout: instead of the paper's probability.
        """
        return PooledHead(self.channels[-1], classes, dropout or 0.0)

    def imagine(self, shape: Sequence[int]) -> list[Tensor]:
        """The maps of one input of this shape on the meta device: their shapes without computing them."""
        state = {k: torch.empty_like(v, device="meta") for k, v in [*self.named_parameters(), *self.named_buffers()]}
        modes = {module: module.training for module in self.modules()}
        for module in modes:
            module.training = False
        try:
            x = torch.empty(1, *shape, device="meta")
            with torch.no_grad(), torch.device("meta"), ShapesOnly():
                return torch.func.functional_call(_Maps(self), {f"backbone.{k}": v for k, v in state.items()}, (x,))
        finally:
            for module, mode in modes.items():
                module.training = mode

    def output_size(self, shape: Sequence[int] | None = None) -> int:
        """Features in the last map, flattened, for an input of this shape (default: that of the spec)."""
        shape = self.shape if shape is None else tuple(shape)
        self._check(shape)
        return self.imagine(shape)[-1].numel()

    def freeze(self) -> Self:
        """Freeze the weights permanently: no gradients, and evaluation mode even after train()."""
        self.frozen = True
        self.requires_grad_(False)
        return self.eval()

    def fix_mode(self) -> Self:
        """Evaluation mode permanently, even after train(), with weights that learn: batch norms use their running
        statistics and keep them, and nothing is dropped, so that an input's maps depend only on it and the weights.
        Spectral norms still follow the weights, which adds no noise: normalization.SpectralNorm.
        """
        self.fixed = True
        return self.train()

    def train(self, mode: bool = True) -> Self:
        """As nn.Module.train, but a frozen backbone and one with a fixed mode stay in evaluation mode."""
        super().train(mode and not self.frozen and not self.fixed)
        if self.fixed and not self.frozen:
            for module in self.modules():
                if isinstance(module, SpectralNorm):
                    module.train(mode)
        return self

    def _measure(self) -> tuple[list[int], list[int], int]:
        """Channels and strides of the maps, and the smallest image side."""
        maps = self.imagine((self.shape[0], PROBE, PROBE))
        wider = self.imagine((self.shape[0], PROBE, PROBE + PROBE_STEP))
        # a difference of two sizes, because borders make side / side inexact (84 / 20 is not a stride)
        strides = [PROBE_STEP // (b.shape[-1] - a.shape[-1]) for a, b in zip(maps, wider, strict=True)]
        return [m.shape[1] for m in maps], strides, self._smallest()

    def _smallest(self) -> int:
        low, high = 0, PROBE  # too small, large enough
        while high - low > 1:
            side = next((side for side in LIKELY_SMALLEST if low < side < high), (low + high) // 2)
            try:
                fits = all(min(m.shape[-2:]) > 0 for m in self.imagine((self.shape[0], side, side)))
            except (RuntimeError, ValueError):  # a kernel does not fit, or a norm has a single value
                fits = False
            low, high = (low, side) if fits else (side, high)
        return high

    def _check(self, shape: tuple[int, ...]) -> None:
        name = self.spec["name"]
        if self.one_size:
            if shape != self.shape:
                raise ValueError(f"{name} was built for inputs of shape {self.shape}, got {tuple(shape)}")
            return
        if len(shape) != 3 or shape[0] != self.shape[0]:
            raise ValueError(f"{name} takes images (C, H, W) with C = {self.shape[0]}, got {tuple(shape)}")
        if shape[1] < self.smallest or shape[2] < self.smallest:
            sides = f"{shape[1]} x {shape[2]}"
            raise ValueError(f"{sides} is too small for {name}: its smallest image side is {self.smallest}")


class PooledHead(nn.Module):
    """Global average pooling: maps, the last (B, C, H, W), -> logits (B, classes). Lin et al. 2013, arXiv
    1312.4400."""

    def __init__(self, channels: int, classes: int, dropout: float = 0.0, name: str = "fc") -> None:
        super().__init__()
        self.dropout = nn.Dropout(dropout)
        self.last = name  # what published files call the layer
        self.add_module(name, nn.Linear(channels, classes))
        initialize(self, "he")

    def forward(self, maps: list[Tensor]) -> Tensor:
        return self.get_submodule(self.last)(self.dropout(maps[-1].mean((2, 3))))


class _Maps(nn.Module):
    """`maps` as forward, for functional_call, without the check of sizes."""

    def __init__(self, backbone: Backbone) -> None:
        super().__init__()
        self.backbone = backbone

    def forward(self, x: Tensor) -> list[Tensor]:
        return self.backbone.maps(x)


def widths(channels: Sequence[int], width: float) -> list[int]:
    """The channels of each stage, times `width`, rounded, at least 1."""
    return [max(1, round(n * width)) for n in channels]
