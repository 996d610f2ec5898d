"""Conversion of classifiers from and to torchvision's state dicts.

    model = torchvision_weights.from_torchvision("resnet18", torchvision_model.state_dict())
    state = torchvision_weights.to_torchvision(model)

Published weights are loaded by name: classifier.build("resnet18:imagenet", (3, 224, 224), 1000).
"""

from __future__ import annotations

from torch import Tensor

from vision.backbones import Checkpoint, Preprocessing, published
from vision.classification import classifier
from vision.classification.classifier import Classifier


def to_torchvision(model: Classifier) -> dict[str, Tensor]:
    """A classifier's state dict, tensors of any shape, with torchvision's keys: without the prefixes of backbone and
    head."""
    state = model.state_dict()
    return {key.removeprefix("backbone.").removeprefix("head."): value for key, value in state.items()}


def from_torchvision(name: str, state: dict[str, Tensor], preprocessing: Preprocessing | None = None) -> Classifier:
    """The classifier for images (3, 224, 224) or any other size, with the weights of a published file.

    name: of the architecture, as torchvision and vision.backbones call it. Classes are those of the file.
    preprocessing: the normalization that the weights were trained with, which the classifier then applies; None:
        inputs have to be normalized, as for torchvision's models.
    Raises ValueError where keys or shapes do not fit.
    """
    shape = (3, 299, 299) if name == "inception_v3" else (3, 224, 224)
    return classifier.load_pretrained(Checkpoint(name, published.named(state), preprocessing), shape)
