"""Feature pyramid network: maps of one width at every scale, from a backbone's maps (Lin et al. 2016)."""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor, nn
from torch.nn import functional as F


class FeaturePyramid(nn.Module):
    """Feature pyramid network, Lin et al. 2016, arXiv 1612.03144, section 3: top-down, with lateral connections.

    channels: of the maps it gets, fine to coarse. width: of the maps it gives. coarser: one more map, each second
    place of the last, which the region proposals of large objects come from.
    Maps may have any sizes that do not grow; the coarser is repeated to the finer's. The state-dict keys are those of
    torchvision's published detectors.
    """

    def __init__(self, channels: Sequence[int], width: int = 256, coarser: bool = True) -> None:
        super().__init__()
        self.inner_blocks = nn.ModuleList(nn.Sequential(nn.Conv2d(inputs, width, 1)) for inputs in channels)
        self.layer_blocks = nn.ModuleList(nn.Sequential(nn.Conv2d(width, width, 3, padding=1)) for _ in channels)
        self.coarser, self.width = coarser, width
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.kaiming_uniform_(module.weight, a=1)  # as the paper's authors'
                nn.init.zeros_(module.bias)

    def forward(self, maps: Sequence[Tensor]) -> list[Tensor]:
        """Maps (B, channels[i], H_i, W_i) -> (B, width, H_i, W_i), and the coarser one."""
        above, found = None, []
        for features, inner, layer in reversed(list(zip(maps, self.inner_blocks, self.layer_blocks, strict=True))):
            lateral = inner(features)
            above = lateral if above is None else lateral + F.interpolate(above, lateral.shape[-2:], mode="nearest")
            found.insert(0, layer(above))
        if self.coarser:
            found.append(F.max_pool2d(found[-1], 1, 2))
        return found
