"""Networks of cells: small graphs of operations that an architecture search chooses, stacked in three stages."""

import dataclasses
import random
from collections.abc import Sequence

import torch
from torch import Tensor, nn

from vision.backbones.backbone import Backbone, widths
from vision.backbones.layers.activation import activation_layer, width_before
from vision.backbones.layers.normalization import norm_layer
from vision.backbones.layers.pixel_conv import PixelConv2d
from vision.backbones.options import BackboneOptions

NODES = 4  # of a cell; node 0 is its input and the last one its output
EDGES = [(source, target) for target in range(1, NODES) for source in range(target)]
OPERATIONS = ("none", "skip", "conv1", "conv3", "pool")
RESIDUAL = "conv3|none,conv3|skip,none,skip"  # two convolutions beside a shortcut, and after them nothing more


@dataclasses.dataclass(frozen=True)
class CellOptions(BackboneOptions):
    """Options of a network of cells."""

    cell: str = RESIDUAL  # operations of the edges into each node: "conv3|skip,conv1|none,pool,conv3"
    cells: int = 1  # in each stage


class CellNetwork(Backbone):
    """Dong & Yang 2020, "NAS-Bench-201", arXiv 2001.00326, section 2.1: its search space of 5^6 cells.

    A cell has four nodes; each is the sum of the operations on all nodes before it: none (zeros), skip (as it is),
    conv1 and conv3 (activation, convolution of 1x1 or 3x3, norm), pool (3x3 mean). Three stages of equal cells have
    16, 32 and 64 channels; between them a 3x3 / 2 convolution, norm and activation, where the paper has a residual
    block. The search is vision.classification.architecture_search.

    shape: (C, H, W); width: multiplies all channels; cell, cells: see CellOptions; init, norm, activation: see
    options.py; dropout: of single numbers, of what each stage but the first reads
    stem: the first convolution.
        cifar     3x3        32 -> 32, 16, 8
        imagenet  7x7 / 4    224 -> 56, 28, 14
        atari     8x8 / 4    84 -> 20, 10, 5
    Raises ValueError for a cell that is none.
    """

    OPTIONS = CellOptions(stem="cifar")

    def __init__(self, name: str, shape: Sequence[int], options: CellOptions) -> None:
        super().__init__(name, shape, options)
        self.between = nn.Dropout(options.dropout)
        operations, inputs = parse(options.cell), self.shape[0]
        for channels in widths((16, 32, 64), options.width):
            raw = width_before(options.activation, channels)
            kernel, stride, padding, kind = 3, 2, 1, nn.Conv2d
            if not len(self.stages):
                sizes = {"cifar": (3, 1, 1), "imagenet": (7, 4, 3), "atari": (8, 4, 0)}
                (kernel, stride, padding), kind = sizes[options.stem], PixelConv2d
            first = kind(inputs, raw, kernel, stride, padding, bias=options.norm == "none")
            stage = [first, norm_layer(raw, options.norm), activation_layer(options.activation)]
            stage += [Cell(channels, operations, options) for _ in range(options.cells)]
            self.stages.append(nn.Sequential(*stage))
            inputs = channels
        self.finish()


class Cell(nn.Module):
    """x (B, channels, H, W) -> the same shape: the last node of the graph. Edges from or to nodes that the output
    does not depend on have no module."""

    def __init__(self, channels: int, operations: dict[tuple[int, int], str], options: CellOptions) -> None:
        super().__init__()
        self.edges = live(operations)
        for source, target in self.edges:
            kind = operations[source, target]
            module: nn.Module = nn.Identity()
            if kind == "pool":
                module = nn.AvgPool2d(3, 1, padding=1, count_include_pad=False)
            elif kind != "skip":
                raw = width_before(options.activation, channels)  # only half of it would come in: see before
                kernel = int(kind[-1])
                before = nn.Identity() if options.activation == "maxout" else activation_layer(options.activation)
                conv = nn.Conv2d(channels, raw, kernel, padding=kernel // 2, bias=options.norm == "none")
                after = activation_layer("maxout") if options.activation == "maxout" else nn.Identity()
                module = nn.Sequential(before, conv, norm_layer(raw, options.norm), after)
            self.add_module(f"{kind}_{source}_{target}", module)
        self.names = {edge: f"{operations[edge]}_{edge[0]}_{edge[1]}" for edge in self.edges}

    def forward(self, x: Tensor) -> Tensor:
        nodes: dict[int, Tensor] = {0: x}
        for source, target in self.edges:
            found = self.get_submodule(self.names[source, target])(nodes[source])
            nodes[target] = nodes[target] + found if target in nodes else found
        return nodes.get(NODES - 1, torch.zeros_like(x))


def parse(cell: str) -> dict[tuple[int, int], str]:
    """The operation of every edge (source, target). Raises ValueError for a text that is no cell."""
    nodes = [part.split(",") for part in cell.split("|")]
    if [len(part) for part in nodes] != list(range(1, NODES)):
        raise ValueError(f"cell {cell!r} is not of nodes with 1, 2 and 3 inputs, as in {RESIDUAL!r}")
    words = [word.strip() for part in nodes for word in part]
    if strange := [word for word in words if word not in OPERATIONS]:
        raise ValueError(f"cell {cell!r}: {strange[0]!r} is no operation: there are {', '.join(OPERATIONS)}")
    return dict(zip(EDGES, words, strict=True))


def text(operations: dict[tuple[int, int], str]) -> str:
    """The inverse of `parse`."""
    return "|".join(",".join(operations[s, target] for s in range(target)) for target in range(1, NODES))


def live(operations: dict[tuple[int, int], str]) -> list[tuple[int, int]]:
    """The edges on a path from input to output, in the order of calculation; none where there is no such path."""
    present = [edge for edge in EDGES if operations[edge] != "none"]
    reached, needed = {0}, {NODES - 1}
    for source, target in present:  # EDGES are sorted by target
        reached |= {target} if source in reached else set()
    for source, target in reversed(present):
        needed |= {source} if target in needed else set()
    return [(source, target) for source, target in present if source in reached and target in needed]


def draw_cell(generator: random.Random) -> str:
    """A random cell whose output depends on its input."""
    while True:
        operations = {edge: generator.choice(OPERATIONS) for edge in EDGES}
        if live(operations):
            return text(operations)


def mutate(cell: str, generator: random.Random) -> str:
    """A cell with one other operation at one edge, whose output depends on its input: Real et al. 2018, section 3."""
    while True:
        operations, edge = parse(cell), generator.choice(EDGES)
        operations[edge] = generator.choice([name for name in OPERATIONS if name != operations[edge]])
        if live(operations):
            return text(operations)
