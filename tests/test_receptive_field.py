"""Receptive fields: by hand, and of every backbone as measured."""

import pytest
import torch
from torch import nn

from vision import backbones
from vision.backbones.highway import DENSE_HIGHWAYS
from vision.backbones.mlp import MLPS
from vision.interpretation import layer_table, receptive_field
from vision.interpretation.receptive_field import receptive_fields, spans

SMALL = ("nature", "impala", "small", "lenet5", "resnet20", "squeezenet1_0", "airbench", "cell_network", "hadamax")
CHAIN = 24  # images at a time


def measured(backbone, shape):
    """The columns that each column of each map depends on: those whose NaN it turns into NaN. All others are 1."""
    side, found = shape[2], None
    for columns in torch.arange(side).split(CHAIN):
        images = torch.ones(len(columns), *shape, dtype=torch.float64)
        images[range(len(columns)), :, :, columns] = torch.nan
        maps = [each.isnan().any(1).any(1) for each in backbone(images)]  # (B, W)
        found = maps if found is None else [torch.cat(pair) for pair in zip(found, maps, strict=True)]
    return found


def check(name, **options):
    """In float64 convolutions are products of matrices, which keep NaN in its window, as Winograd's would not."""
    torch.manual_seed(0)
    shape = (3, 32, 48)
    stem = "cifar" if "cifar" in backbones.BACKBONES[name].stems and backbones.default_options(name).stem else None
    own = {"stem": stem} if stem else {}
    with torch.device("meta"):
        plain = backbones.build(name, shape if backbones.BACKBONES[name].any_size else (3, 32, 32), **own)
    side = max(plain.smallest, 32)
    shape = (3, side, side if not plain.any_size else side + 16)
    try:
        backbone = backbones.build(name, shape, **own | options)
    except ValueError as error:
        if "width" not in str(error):
            raise
        backbone = backbones.build(name, shape, **own)
    backbone = backbone.double().eval()
    with torch.no_grad():
        seen = measured(backbone, shape)
    for stage, ((_, columns), found) in enumerate(zip(spans(backbone, shape), seen, strict=True)):
        assert len(columns) == found.shape[1]
        for place, (first, last) in enumerate(columns):
            where = found[:, place].nonzero()[:, 0].tolist()
            assert (where[0], where[-1]) == (first, last) if where else first > last, f"map {stage}, column {place}"


@pytest.mark.parametrize("name", SMALL)
def test_receptive_fields_are_those_measured(name):
    check(name, width=0.25)


@pytest.mark.slow
@pytest.mark.parametrize("name", [name for name in backbones.BACKBONES if name not in (*MLPS, *DENSE_HIGHWAYS)])
def test_receptive_fields_of_every_backbone_are_those_measured(name):
    check(name, width=0.1)


def test_fields_by_hand():
    """r <- r + (k - 1) j, j <- j s (Araujo et al. 2019, equation 2): VGG-16's last pool sees 212 pixels."""
    with torch.device("meta"):
        vgg, nature = backbones.build("vgg16", (3, 224, 224)), backbones.build("nature", (4, 84, 84))
        resnet = backbones.build("resnet18", (3, 224, 224))
    assert receptive_fields(vgg)[-1][:2] == (212, 32)
    assert [field.size for field in receptive_fields(nature)] == [8, 20, 36]
    assert [field.first for field in receptive_fields(nature)] == [0, 0, 0]
    assert receptive_fields(resnet)[-1] == (435, 32, -217)  # 11 + 4 * 8 + ... of the main path


def test_layer_table_by_hand():
    """AlexNet's first layers: (224 - 11 + 4) / 4 + 1 = 55.25, rounded down; 64 filters of 11 x 11 x 3."""
    with torch.device("meta"):
        first, relu, pool, *_, last = layer_table.rows(backbones.build("alexnet", (3, 224, 224)), (3, 224, 224))
    assert first[2:] == (
        *("11 / 4, pad 2", (3, 224, 224), (64, 55, 55), "(224 - 11 + 4) / 4 + 1 = 55.25, rounded down"),
        *(23_296, 64 * 55 * 55 * 363, 11),
    )
    assert relu.after == (64, 55, 55) and relu.field == 11 and not relu.parameters
    assert pool.formula == "(55 - 3 + 0) / 2 + 1 = 27" and pool.field == 19 and pool.after == (64, 27, 27)
    assert last.field == 195


def test_branches_and_borders_by_hand():
    class Branches(nn.Module):
        def __init__(self):
            super().__init__()
            self.wide = nn.Conv2d(1, 1, 5, padding=2)
            self.skipped = nn.Conv2d(1, 1, 3, padding=2, dilation=2)

        def forward(self, x):
            return [self.wide(x) + x, torch.cat([self.skipped(x), x], 1), x.mean((2, 3), keepdim=True) * x]

    first, second, third = (columns.tolist() for _, columns in spans(Branches(), (1, 6, 6)))
    assert first == [[0, 2], [0, 3], [0, 4], [1, 5], [2, 5], [3, 5]]
    assert second == [[0, 2], [1, 3], [0, 4], [1, 5], [2, 4], [3, 5]]  # the taps 1 apart from a border are outside
    assert third == [[0, 5]] * 6
    with pytest.raises(NotImplementedError, match="flip"):
        spans(lambda x: [x.flip(3)], (1, 6, 6))
    assert receptive_field.receptive_fields(backbones.build("lenet300_100", (1, 28, 28)))[-1].size is None
