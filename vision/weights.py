"""Weights in the names of torchvision's published files, both ways."""

from __future__ import annotations

import re

from torch import Tensor

from vision import classifier
from vision.classifier import Classifier

DENSE = re.compile(
    r"^(.*denselayer\d+\.(?:norm|relu|conv))\.([12]\..*)$"
)  # denselayer1.norm.1 in files, norm1 in code


def to_torchvision(model: Classifier) -> dict[str, Tensor]:
    """A classifier's state by torchvision's keys: our families carry its names, eyes and head apart."""
    state = model.state_dict()
    return {key.removeprefix("backbone.").removeprefix("head."): value for key, value in state.items()}


def from_torchvision(name: str, state: dict[str, Tensor]) -> Classifier:
    """The classifier for images (3, 224, 224) or any other size, with the weights of a published file.

    name: of the architecture, as torchvision and vision.backbones call it. As many classes as the file has.
    Raises ValueError where keys or shapes do not fit.
    """
    state = {DENSE.sub(r"\1\2", key): value for key, value in state.items()}
    classes = list(state.values())[-1].shape[0]  # the last layer's bias
    shape = (3, 299, 299) if name == "inception_v3" else (3, 224, 224)
    own = {"transform_input": True} if name in ("googlenet", "inception_v3") else {}  # theirs came from elsewhere
    model = classifier.build(name, shape, classes, **own)
    owner = {key.removeprefix("backbone.").removeprefix("head."): key for key in model.state_dict()}
    if strange := [key for key in state if key not in owner]:
        raise ValueError(f"{name} has no {strange[0]!r} (and {len(strange) - 1} more keys of this file)")
    try:
        model.load_state_dict({owner[key]: value for key, value in state.items()})
    except RuntimeError as error:
        raise ValueError(f"these weights do not fit {name}: {error}") from None
    return model
