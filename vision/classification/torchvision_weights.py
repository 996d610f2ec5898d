"""Conversion of classifiers from and to torchvision's state dicts.

model = classifier.build("resnet18:imagenet", (3, 224, 224), 1000)   # published ones, see backbones/published.py
model = weights.from_torchvision("resnet18", theirs.state_dict())
"""

from __future__ import annotations

from torch import Tensor

from vision.backbones import Checkpoint, Preprocessing, published
from vision.classification import classifier
from vision.classification.classifier import Classifier


def to_torchvision(model: Classifier) -> dict[str, Tensor]:
    """A classifier's state dict with torchvision's keys: those of backbone and head without their prefixes."""
    state = model.state_dict()
    return {key.removeprefix("backbone.").removeprefix("head."): value for key, value in state.items()}


def from_torchvision(name: str, state: dict[str, Tensor], preprocessing: Preprocessing | None = None) -> Classifier:
    """The classifier for images (3, 224, 224) or any other size, with the weights of a published file.

    name: of the architecture, as torchvision and vision.backbones call it. As many classes as the file has.
    preprocessing: what the weights were trained on, which the classifier then does by itself; None: images come
        normalized, as torchvision's models expect them.
    Raises ValueError where keys or shapes do not fit.
    """
    shape = (3, 299, 299) if name == "inception_v3" else (3, 224, 224)
    return classifier.load_pretrained(Checkpoint(name, published.named(state), preprocessing), shape)
