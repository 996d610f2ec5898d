"""A backbone with the head that names classes."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

from vision import backbones
from vision.backbones.layers import dropconnect as weight_drop


class Classifier(nn.Module):
    """images (B, C, H, W), floats or uint8 -> logits (B, classes).

    backbone: any; its own `head` is put on top. classes: how many. dropout: of the head, instead of the paper's.
    dropconnect: of the weights of the head's dense layers (see backbones/dropconnect.py).
    preprocessing: of published weights, or None. The backbone normalizes by itself; its `cut` makes the sizes.
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
        return self.backbone.preprocessing

    def forward(self, images: Tensor) -> Tensor:
        return self.head(self.backbone(images))


def build(
    name: str,
    shape: Sequence[int],
    classes: int,
    dropout: float | None = None,
    dropconnect: float = 0.0,
    **options: Any,
) -> Classifier:
    """A classifier with a backbone as vision.backbones.build makes it; options are the backbone's.

    Published weights (resnet18:imagenet) bring their head too, see dress.
    """
    if (found := backbones.checkpoint(name)) is not None:
        return load_pretrained(found, shape, classes, dropout, dropconnect, **options)
    return Classifier(backbones.build(name, shape, **options), classes, dropout, dropconnect)


def load_pretrained(
    found: backbones.Checkpoint,
    shape: Sequence[int],
    classes: int | None = None,
    dropout: float | None = None,
    dropconnect: float = 0.0,
    **options: Any,
) -> Classifier:
    """The classifier of published weights, eyes and head. Auxiliary heads that a file lacks begin anew.

    classes: None: as many as the file has. Another number: the layers that name classes begin anew, and what stands
        before them in the head (VGG's dense layers) is kept.
    Raises ValueError as backbones.dress, and where the file has no head or one of other shapes.
    """
    backbone = backbones.load_pretrained(found, shape, **options)
    with torch.device("meta"):
        head, other = (backbone.head(n).state_dict() for n in (1, 2))
    last = list(head)[-1]  # the bias of the layer that names classes
    lacking = [key for key in head if key not in found.state and not key.lower().startswith("aux")]
    if lacking:
        raise ValueError(
            f"these weights of {found.name} have no {lacking[0]!r}: build a backbone, which needs no head"
        )
    has = len(found.state[last])
    model = Classifier(backbone, has if classes is None else classes, dropout, dropconnect)
    is_first = model.head.state_dict()
    for key, value in is_first.items():
        given = found.state.get(key)
        naming = head[key].shape != other[key].shape  # it depends on how many classes there are
        if given is not None and not (naming and len(value) != has):
            if given.shape != value.shape:
                raise ValueError(f"{found.name}'s {key!r} is {tuple(value.shape)}, in the file {tuple(given.shape)}")
            is_first[key] = given
    model.head.load_state_dict(is_first)
    return model
