"""Encoder of single frames that ends in a small map of latents, for stacks of any number of frames."""

import dataclasses
from collections.abc import Sequence

import torch
from torch import Tensor, nn

from vision.backbones.backbone import Backbone
from vision.backbones.impala import Impala
from vision.backbones.layers.quantization import FiniteScalarQuantization
from vision.backbones.nature import Nature
from vision.backbones.options import BackboneOptions
from vision.backbones.small import Small

BODIES = {"nature": Nature, "small": Small, "impala": Impala}


@dataclasses.dataclass(frozen=True)
class FrameEncoderOptions(BackboneOptions):
    """Options of an encoder of frames."""

    body: str = "nature"  # the convolutions before the latents: a name of BODIES
    latents: int = 8  # channels of the map of latents of one frame
    levels: int = 0  # that a latent can have, an odd number; 0: it is not quantized
    frame: int = 1  # channels of one frame


class FrameEncoder(Backbone):
    """The encoder of an autoencoder of frames (agents/studies/world_model, Ha & Schmidhuber 2018), as a backbone.

    A backbone of BODIES, a 1x1 convolution to `latents` channels and, with `levels`, their quantization
    (layers/quantization.py). Frames of a stack are encoded one by one, as the autoencoder saw them; their latents
    lie side by side along the channels, the oldest first. The one map is that of the latents.

    shape: (C, H, W), C a multiple of `frame`; stem, width, init, norm, activation, dropout: the body's
    """

    OPTIONS = FrameEncoderOptions(stem="atari", norm="none")

    def __init__(self, name: str, shape: Sequence[int], options: FrameEncoderOptions) -> None:
        super().__init__(name, shape, options)
        if options.body not in BODIES:
            raise ValueError(f"unknown body {options.body!r} of {name}: choose one of {', '.join(BODIES)}")
        if self.shape[0] % options.frame:
            raise ValueError(f"{name} takes frames of {options.frame} channels, and {self.shape[0]} are no multiple")
        kind = BODIES[options.body]
        own = {field.name: getattr(options, field.name) for field in dataclasses.fields(BackboneOptions)}
        self.body = kind(options.body, (options.frame, *self.shape[1:]), dataclasses.replace(kind.OPTIONS, **own))
        self.to_latents = nn.Conv2d(self.body.channels[-1], options.latents, 1)
        self.quantize = FiniteScalarQuantization(options.levels) if options.levels else nn.Identity()
        self.finish()

    def maps(self, x: Tensor) -> list[Tensor]:
        frames = x.shape[1] // self.options.frame
        found = self.quantize(self.to_latents(self.body.maps(x.unflatten(1, (frames, -1)).flatten(0, 1))[-1]))
        return [found.unflatten(0, (-1, frames)).flatten(1, 2)]

    def set_mean_observation(self, picture: Tensor) -> None:
        """Subtract a mean observation (C, H, W) uint8 from every frame: the mean of a stack's, or that of one frame.

        Raises ValueError for another shape.
        """
        if picture.dim() != 3 or picture.shape[0] % self.options.frame:
            raise ValueError(f"a mean observation {tuple(picture.shape)} does not fit frames {self.body.shape}")
        frames = picture.float().unflatten(0, (-1, self.options.frame))
        self.body.set_mean_observation(frames.mean(0).round().to(torch.uint8))
        self.spec["subtracts_mean"] = True
