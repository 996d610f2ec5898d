"""Feature pyramid network: maps of one width at every scale, from a backbone's maps (Lin et al. 2016)."""

from __future__ import annotations

import math
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


class CoarserMaps(nn.Module):
    """Maps behind a backbone's last, each of twice the stride, by 3x3 convolutions: as P6 and P7 of Lin et al. 2017,
    arXiv 1708.02002, section 4, for shallow backbones, whose places see less than large objects are.

    channels, stride: of the map it gets. width: of the maps it gives. coarsest: stride of the last of them, in
        pixels; none is made where the backbone reaches it. Attributes `channels` and `strides` have one entry a map.
    """

    def __init__(self, channels: int, stride: int, width: int, coarsest: int) -> None:
        super().__init__()
        count = max(0, math.floor(math.log2(coarsest / stride)))
        self.layers = nn.ModuleList(
            nn.Conv2d(width if level else channels, width, 3, 2, padding=1) for level in range(count)
        )
        for layer in self.layers:
            nn.init.kaiming_normal_(layer.weight, nonlinearity="relu")
            nn.init.zeros_(layer.bias)
        self.channels, self.strides = [width] * count, [stride * 2 ** (level + 1) for level in range(count)]

    def forward(self, features: Tensor) -> list[Tensor]:
        """(B, channels, H, W) -> maps (B, width, H / 2, W / 2), (B, width, H / 4, W / 4), ..., behind a ReLU."""
        found = []
        for layer in self.layers:
            features = F.relu(layer(features))
            found.append(features)
        return found


class TopDown(nn.Module):
    """The sum of maps at the finest one's places, each by a 1x1 convolution: what surrounds them, at every scale.

    The top-down pathway of Lin et al. 2016, figure 3, with one map at its end. channels: of the maps, fine to coarse.
    """

    def __init__(self, channels: Sequence[int], width: int) -> None:
        super().__init__()
        self.inner_blocks = nn.ModuleList(nn.Conv2d(inputs, width, 1) for inputs in channels)
        for layer in self.inner_blocks:
            nn.init.kaiming_uniform_(layer.weight, a=1)
            nn.init.zeros_(layer.bias)

    def forward(self, maps: Sequence[Tensor]) -> Tensor:
        """Maps (B, channels[i], H_i, W_i) -> (B, width, H_0, W_0)."""
        above = self.inner_blocks[-1](maps[-1])
        for features, inner in reversed(list(zip(maps[:-1], self.inner_blocks[:-1], strict=True))):
            lateral = inner(features)
            above = lateral + F.interpolate(above, lateral.shape[-2:], mode="nearest")
        return above
