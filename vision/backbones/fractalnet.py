"""FractalNet: columns of 1, 2 and 4 convolutions that are joined repeatedly, without residuals (Larsson et al.
2016)."""

import dataclasses
from collections.abc import Sequence

import torch
from torch import Tensor, nn

from vision.backbones.backbone import Backbone, widths
from vision.backbones.layers.activation import activation_layer, width_before
from vision.backbones.layers.initialization import initialize
from vision.backbones.layers.normalization import norm_layer
from vision.backbones.layers.pixel_conv import PixelConv2d
from vision.backbones.layers.pooling import global_max_pool
from vision.backbones.options import BackboneOptions

FRACTALNETS: dict[str, tuple[int, ...]] = {"fractalnet20": (64, 128, 256, 512, 512)}  # channels of each block
COLUMNS = 3  # so that the longest path has 2 ** (COLUMNS - 1) convolutions a block
GLOBAL = 0.5  # share of the images of a batch that see a single column


@dataclasses.dataclass(frozen=True)
class FractalNetOptions(BackboneOptions):
    """Options of a FractalNet."""

    drop_path: float = 0.15  # probability that a join leaves out an input in training


class FractalNet(Backbone):
    """Larsson et al. 2016, arXiv 1605.07648: five blocks, and a 2x2 max pool after each.

    The last of these pools is in the head, where it takes the largest over all places of any map (at 32 x 32 the
    paper's 2 x 2). The paper draws paths for a mini-batch, here each image has its own. Widths and the order
    convolution, dropout, norm, activation are those of the authors' generator (github.com/gustavla/fractalnet).

    shape: (C, H, W); name: a key of FRACTALNETS; width: multiplies all channels
    init, norm, activation: see options.py
    dropout: of the last block's layers, linearly less down to 0 in the first (the paper's 0, 0.1 ... 0.4)
    drop_path: the probability that a join drops an input in training (local drop-path), for half of the images; the
        other half uses a single column in all blocks (global drop-path). 0: none.
    stem: what comes before the blocks.
        cifar     nothing, as in the paper                                     32 -> 32, 16, 8, 4, 2
        imagenet  7x7 / 2, then a 3x3 / 2 max pool                             224 -> 112, 56, 28, 14, 7, 4
        atari     3x3 / 2                                                      84 -> 42, 21, 11, 6, 3
    Only before a pool is the stem's output a map: else the first block's has its size.
    """

    OPTIONS = FractalNetOptions(stem="cifar", dropout=0.4)

    def __init__(self, name: str, shape: Sequence[int], options: FractalNetOptions) -> None:
        super().__init__(name, shape, options)
        if not 0 <= options.drop_path < 1:
            raise ValueError(f"drop_path={options.drop_path} is not a probability below 1")
        self.drop_path = options.drop_path
        channels = widths(FRACTALNETS[name], options.width)
        inputs = self.shape[0]
        self.stem = nn.Identity()
        if options.stem != "cifar":
            kernel = 7 if options.stem == "imagenet" else 3
            self.stem = Layer(
                inputs, channels[0], options.norm, options.activation, 0.0, PixelConv2d, kernel, stride=2
            )
            inputs = channels[0]
        self.pools, self.blocks = nn.ModuleList(), nn.ModuleList()
        for i, outputs in enumerate(channels):
            pixels = i == 0 and options.stem == "cifar"
            pool = nn.Identity() if i == 0 else nn.MaxPool2d(2, ceil_mode=True)  # keeps an odd last row and column
            if i == 0 and options.stem == "imagenet":
                pool = nn.MaxPool2d(3, 2, padding=1)
            drop = options.dropout * i / (len(channels) - 1)
            self.pools.append(pool)
            self.blocks.append(
                Fractal(inputs, outputs, options.norm, options.activation, drop, options.drop_path, pixels)
            )
            inputs = outputs
        self.finish()

    def maps(self, x: Tensor) -> list[Tensor]:
        column = self._columns(x) if self.training and self.drop_path > 0 else None
        x = self.stem(x)
        maps = [x] if self.options.stem == "imagenet" else []
        for pool, block in zip(self.pools, self.blocks, strict=True):
            x = block(pool(x), column)
            maps.append(x)
        return maps

    def head(self, classes: int, dropout: float | None = None) -> nn.Module:
        return Largest(self.channels[-1], classes, dropout or 0.0)

    def _columns(self, x: Tensor) -> Tensor:
        """(B,) the single column that each image uses (global drop-path), or -1 for local drop-path."""
        column = torch.randint(COLUMNS, (len(x),), device=x.device)
        return torch.where(torch.rand(len(x), device=x.device) < GLOBAL, column, -1)


class Fractal(nn.Module):
    """Fractal block, (B, C, H, W) -> (B, outputs, H, W): column c has 2 ** c layers, and columns that end at the same
    depth are joined. Section 2, equation 1."""

    def __init__(
        self, inputs: int, outputs: int, norm: str, activation: str, dropout: float, drop_path: float, pixels: bool
    ) -> None:
        super().__init__()
        self.drop_path = drop_path
        self.columns = nn.ModuleList()
        for c in range(COLUMNS):
            first = Layer(inputs, outputs, norm, activation, dropout, PixelConv2d if pixels else nn.Conv2d)
            rest = [Layer(outputs, outputs, norm, activation, dropout) for _ in range(2**c - 1)]
            self.columns.append(nn.ModuleList([first, *rest]))

    def forward(self, x: Tensor, column: Tensor | None) -> Tensor:
        latest = [x] * COLUMNS  # input of each column's next layer
        depth = 2 ** (COLUMNS - 1)
        for d in range(1, depth + 1):
            ending = [c for c in range(COLUMNS) if d * 2**c % depth == 0]
            joined = self.join([self.columns[c][d * 2**c // depth - 1](latest[c]) for c in ending], ending, column)
            for c in ending:
                latest[c] = joined
        return joined

    def join(self, paths: list[Tensor], ending: list[int], column: Tensor | None) -> Tensor:
        """The mean of the paths that each image keeps. paths: (B, C, H, W), of the columns `ending`."""
        if len(paths) == 1 or column is None:
            return sum(paths) / len(paths)
        draw = torch.rand(len(column), len(paths), device=column.device)
        kept = draw >= draw.amax(1, keepdim=True).clamp(
            max=self.drop_path
        )  # the largest is kept: never all are dropped
        alone = torch.stack([column == c for c in ending], 1)
        # A join without the image's own column does not reach its output; it uses local drop-path, for the norms.
        kept = torch.where(alone.any(1, keepdim=True), alone, kept).to(paths[0].dtype)
        share = (kept / kept.sum(1, keepdim=True))[..., None, None, None]
        return sum(share[:, i] * path for i, path in enumerate(paths))


class Layer(nn.Sequential):
    """Convolution, dropout, norm, activation."""

    def __init__(
        self,
        inputs: int,
        outputs: int,
        norm: str,
        activation: str,
        dropout: float,
        convolution: type[nn.Conv2d] = nn.Conv2d,
        kernel: int = 3,
        stride: int = 1,
    ) -> None:
        raw = width_before(activation, outputs)
        conv = convolution(inputs, raw, kernel, stride, kernel // 2, bias=norm == "none")
        super().__init__(conv, nn.Dropout(dropout), norm_layer(raw, norm), activation_layer(activation))


class Largest(nn.Module):
    """Global max pooling: maps, the last (B, C, H, W), -> logits (B, classes)."""

    def __init__(self, channels: int, classes: int, dropout: float = 0.0) -> None:
        super().__init__()
        self.dropout = nn.Dropout(dropout)
        self.fc = nn.Linear(channels, classes)
        initialize(self, "he")

    def forward(self, maps: list[Tensor]) -> Tensor:
        return self.fc(self.dropout(global_max_pool(maps[-1])))
