"""Global max pooling: a classification head whose score of a class is that of the place where it is most evident."""

from __future__ import annotations

import torch
from torch import Tensor

from vision.backbones.backbone import PooledHead


class MaxPooledHead(PooledHead):
    """Maps, the last (B, C, H, W), -> logits (B, classes): the largest over places of a linear layer's scores.

    Oquab et al. 2015, "Is object localization for free?". A mean over places lets many places that hardly say
    anything outvote a small object; the maximum has to be at one place. Class activation maps stay what they are,
    places times the class's weights, and their maximum is the logit without its bias.
    """

    def forward(self, maps: list[Tensor]) -> Tensor:
        layer = self.get_submodule(self.last)
        return torch.einsum("bchw,kc->bkhw", self.dropout(maps[-1]), layer.weight).amax((2, 3)) + layer.bias
