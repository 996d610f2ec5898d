"""Options that every backbone is built with: stem, width, initialization, norm, activation, dropout, pool."""

from __future__ import annotations

import dataclasses
from typing import Any


@dataclasses.dataclass(frozen=True)
class BackboneOptions:
    """Options of a backbone. A family's `OPTIONS` are its paper's; one with more options extends this class."""

    stem: str | None = "imagenet"  # first layers, by size of image: imagenet, cifar, atari; None: no choice
    width: float = 1.0  # factor of all channels
    init: str = "he"  # of the weights: layers/initialization.py
    norm: str = "batch"  # layers/normalization.py
    activation: str = "relu"  # layers/activation.py
    dropout: float = 0.0  # probability, in the body; see the family for its place
    pool: str = "own"  # instead of the family's pools that downsample: layers/pooling.py; own: as they are

    def spec(self) -> dict[str, Any]:
        """The options as saved files have them: JSON-able, without a stem where there is no choice of one, without
        a pool where it is the family's own."""
        values = {name: list(value) if isinstance(value, tuple) else value for name, value in vars(self).items()}
        if self.stem is None:
            del values["stem"]
        if self.pool == "own":
            del values["pool"]
        return values
