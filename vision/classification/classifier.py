"""Classifier: a backbone with a classification head, built by name or from published weights."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

from vision import backbones
from vision.backbones.layers import dropconnect as weight_drop


class Classifier(nn.Module):
    """images (B, C, H, W), floats or uint8 -> logits (B, classes).

    backbone: any; the head is its own `head`. classes: how many. dropout: of the head, instead of the paper's.
    dropconnect: of the weights of the head's dense layers (see backbones/layers/dropconnect.py).
    preprocessing: of published weights, or None. The backbone normalizes images itself; `cut` resizes them.
    """

    def __init__(
        self, backbone: backbones.Backbone, classes: int, dropout: float | None = None, dropconnect: float = 0.0
    ) -> None:
        super().__init__()
        self.backbone = backbone
        self.head = backbone.head(classes, dropout)
        if dropconnect:
            weight_drop.connect(self.head, dropconnect)

    @property
    def preprocessing(self) -> backbones.Preprocessing | None:
        """Preprocessing of the images that published weights were trained on; None for others."""
        return self.backbone.preprocessing

    def forward(self, images: Tensor) -> Tensor:
        return self.head(self.backbone(images))


@torch.no_grad()
def reuse_classes(model: Classifier, trained: Classifier, classes: Sequence[str], known: Sequence[str]) -> list[str]:
    """Copy a trained classifier's head for the classes that both know, by their names, in place.

    model is for `classes`, trained for `known`, on one backbone. Weights with a row a class are copied row by
    row for the shared classes, all others whole. Returns the names of the shared classes.
    Raises ValueError where the heads are of other forms, and where no class is shared.
    """
    shared = [name for name in classes if name in known]
    if not shared:
        raise ValueError(f"none of the classes {', '.join(classes)} is one of {', '.join(known)}")
    into, out_of = ([names.index(name) for name in shared] for names in (list(classes), list(known)))
    with torch.device("meta"):
        one, two = (model.backbone.head(n).state_dict() for n in (1, 2))
    old = trained.head.state_dict()
    for key, weight in model.head.state_dict().items():
        given = old.get(key)
        naming = one[key].shape != two[key].shape  # it depends on how many classes there are
        fits = given is not None and given.shape[naming:] == weight.shape[naming:] and given.dim() == weight.dim()
        if not fits:
            raise ValueError(f"the heads differ at {key!r}: they are to be of one backbone with the same options")
        given = given.to(weight.device, weight.dtype)
        if naming:
            weight[into] = given[out_of]
        else:
            weight.copy_(given)
    return shared


def build(
    name: str,
    shape: Sequence[int],
    classes: int,
    dropout: float | None = None,
    dropconnect: float = 0.0,
    body_dropout: float | None = None,
    **options: Any,
) -> Classifier:
    """A classifier with a backbone as vision.backbones.build makes it; options are the backbone's.

    dropout: of the head. body_dropout: of the backbone, whose option it is called dropout.
    Published weights (resnet18:imagenet) have a head too, see load_pretrained.
    """
    if (found := backbones.checkpoint(name)) is not None:
        return load_pretrained(found, shape, classes, dropout, dropconnect, body_dropout, **options)
    if body_dropout is not None:
        options["dropout"] = body_dropout
    return Classifier(backbones.build(name, shape, **options), classes, dropout, dropconnect)


def load_pretrained(
    found: backbones.Checkpoint,
    shape: Sequence[int],
    classes: int | None = None,
    dropout: float | None = None,
    dropconnect: float = 0.0,
    body_dropout: float | None = None,
    **options: Any,
) -> Classifier:
    """A pretrained classifier of published weights, backbone and head. Auxiliary heads that a file lacks are newly
    initialized.

    classes: None: as many as the file has. For another number the last layer is newly initialized, and the head's
        other layers (VGG's dense ones) are kept.
    Raises ValueError as backbones.load_pretrained, and where the file has no head or one of other shapes.
    """
    if body_dropout is not None:
        options["dropout"] = body_dropout
    backbone = backbones.load_pretrained(found, shape, **options)
    with torch.device("meta"):
        head, other = (backbone.head(n).state_dict() for n in (1, 2))
    last = list(head)[-1]  # the bias of the last layer
    lacking = [key for key in head if key not in found.state and not key.lower().startswith("aux")]
    if lacking:
        raise ValueError(
            f"these weights of {found.name} have no {lacking[0]!r}: build a backbone, which needs no head"
        )
    has = len(found.state[last])
    model = Classifier(backbone, has if classes is None else classes, dropout, dropconnect)
    own = model.head.state_dict()
    for key, value in own.items():
        given = found.state.get(key)
        naming = head[key].shape != other[key].shape  # it depends on how many classes there are
        if given is not None and not (naming and len(value) != has):
            if given.shape != value.shape:
                raise ValueError(f"{found.name}'s {key!r} is {tuple(value.shape)}, in the file {tuple(given.shape)}")
            own[key] = given
    model.head.load_state_dict(own)
    return model
