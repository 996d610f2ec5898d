"""Pooling: fractional, stochastic, learned, by hand; as a choice of any backbone with pools; LeNet-5 as it was."""

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from vision import backbones
from vision.backbones.layers import pooling
from vision.backbones.layers.partial_conv import C3, PartialConv2d, table
from vision.backbones.layers.pooling import FractionalMaxPool2d, StochasticPool2d, Window, regions
from vision.backbones.layers.rbf import RBF, digit_codes


def test_pseudo_random_regions_by_hand():
    """Graham 2014, section 2: 25 places in 18 regions, a_i = ceil(25 / 18 (i + u)) from i = 0, u = 0.5."""
    begin, end = regions(25, 18, overlapping=False, pseudo=True, u=0.5)
    places = [1, 3, 4, 5, 7, 8, 10, 11, 12, 14, 15, 16, 18, 19, 21, 22, 23, 25, 26]  # ceil of 0.69, 2.08, 3.47, ...
    assert (begin + 1).tolist() == places[:-1] and (end + 2).tolist() == places[1:]
    begin, end = regions(7, 4, overlapping=True, pseudo=True, u=0.25)  # steps add up to 6: alpha = 1.5
    assert begin.tolist() == [0, 1, 3, 4] and end.tolist() == [
        1,
        3,
        4,
        6,
    ]  # of 0.375, 1.875, ..., 6.375


@pytest.mark.parametrize("overlapping", [False, True])
@pytest.mark.parametrize("pseudo", [False, True])
@pytest.mark.parametrize("side, new", [(25, 18), (36, 25), (2, 1), (5, 3), (32, 22)])
def test_regions_are_the_papers(overlapping, pseudo, side, new):
    """Steps of one and two, from the first place to the last; overlapping ones share the place between them."""
    torch.manual_seed(0)
    for _ in range(20):
        begin, end = regions(side, new, overlapping, pseudo)
        steps = [*begin.diff().tolist(), (end[-1] - begin[-1] + (not overlapping)).item()]
        assert begin[0] == 0 and end[-1] == side - 1 and set(steps) <= {1, 2}
        assert torch.equal(end[:-1] + (not overlapping), begin[1:])
    with pytest.raises(ValueError, match="9 rows are no 2 regions"):
        regions(9, 2, overlapping, pseudo)


def test_fractional_pool_takes_the_largest_of_each_region():
    torch.manual_seed(0)
    x = torch.rand(2, 3, 13, 16, requires_grad=True)
    for overlapping in (False, True):
        layer = FractionalMaxPool2d(1.5, overlapping=overlapping).eval()
        found = layer(x)
        assert found.shape == (2, 3, 8, 10)
        rows, columns = (zip(*regions(n, m, overlapping, True, 0.5), strict=True) for n, m in ((13, 8), (16, 10)))
        columns = list(columns)
        for i, (top, bottom) in enumerate(rows):
            for j, (left, right) in enumerate(columns):
                by_hand = x[:, :, top : bottom + 1, left : right + 1].amax((2, 3))
                assert torch.equal(found[:, :, i, j], by_hand)
    assert torch.equal(layer(x), layer(x))
    layer.train()
    assert not torch.equal(layer(x), layer(x))
    layer.eval().drawn_in_evaluation = True
    assert not torch.equal(layer(x), layer(x))
    found.sum().backward()
    assert x.grad.sum() == found.numel()
    with pytest.raises(ValueError, match="between 1 and 2, not 2"):
        FractionalMaxPool2d(2)


def test_stochastic_pool_by_hand():
    """Zeiler & Fergus 2013, figure 1: activations 1.6 and 2.4 of a window are drawn with 0.4 and 0.6."""
    window = torch.tensor([[0.0, 1.6], [2.4, -1.0]]).view(1, 1, 2, 2)
    layer = StochasticPool2d(Window(2, 2)).eval()
    assert layer(window).item() == pytest.approx(0.4 * 1.6 + 0.6 * 2.4)
    assert layer(torch.zeros(1, 1, 2, 2)).item() == 0
    torch.manual_seed(0)
    found = layer.train()(window.expand(20_000, 1, 2, 2)).flatten()
    assert sorted({round(value, 4) for value in found.unique().tolist()}) == [1.6, 2.4]
    assert (found > 2).float().mean().item() == pytest.approx(0.6, abs=0.012)  # 3.5 deviations


@pytest.mark.parametrize("window", [Window(3, 2), Window(3, 2, 0, True), Window(3, 2, 1), Window(2, 2, 0, True)])
def test_windows_are_those_of_a_max_pool(window):
    x = torch.rand(2, 3, 10, 13)
    kernel, stride, padding, ceil = window
    expected = F.max_pool2d(x, kernel, stride, padding, ceil_mode=ceil)
    assert torch.equal(pooling.patches(x, window).amax(-1), expected)
    assert StochasticPool2d(window)(x).shape == expected.shape


@pytest.mark.parametrize("pool", pooling.POOLS)
def test_every_pool_is_a_choice_of_a_backbone(pool):
    torch.manual_seed(0)
    backbone = backbones.build("nin", (3, 32, 32), width=0.1, pool=pool)
    x = torch.rand(2, 3, 32, 32)
    maps = backbone(x)
    assert [m.shape[1] for m in maps] == backbone.channels
    assert [m.shape[-1] for m in maps] == ([32, 22, 15] if "fractional" in pool else [32, 16, 8])
    sum(m.square().mean() for m in maps).backward()
    assert all(weight.grad is not None for weight in backbone.parameters())
    again = backbones.build(**backbone.spec)
    again.load_state_dict(backbone.state_dict())
    for one, other in zip(backbone.eval()(x), again.eval()(x), strict=True):
        assert torch.equal(one, other)


def test_what_has_no_pool_says_so():
    assert "pool" not in backbones.build("lenet5", (1, 28, 28)).spec
    for name, pool, said in (
        ("resnet20", "stochastic", "resnet20 cannot be built with pool='stochastic': it has no pool"),
        ("nin", "fractionl", "unknown pool 'fractionl'"),
        ("inception_v3", "fractional", "convolutions beside its pools have another stride"),
    ):
        with torch.device("meta"), pytest.raises(ValueError, match=said):
            backbones.build(name, (3, 128, 128), pool=pool)


# LeNet-5 of 1998


def test_lenet5_has_the_papers_weights_layer_by_layer():
    """LeCun et al. 1998, section II.B: C1 156, S2 12, C3 1,516, S4 32, C5 48,120, F6 10,164: 60,000 in all."""
    backbone = backbones.build("lenet5_1998_rbf", (1, 32, 32))
    model = nn.Sequential(backbone, backbone.head(10))
    counts = [sum(w.numel() for w in m.parameters(recurse=False)) for m in model.modules()]
    assert [n for n in counts if n] == [156, 12, 1_516, 32, 48_120, 10_164]
    assert sum(counts) == 60_000
    assert model(torch.rand(2, 1, 32, 32)).shape == (2, 10)
    assert [m.shape[1:] for m in backbone(torch.rand(1, 1, 32, 32))] == [(6, 28, 28), (16, 10, 10), (16, 5, 5)]


def test_partial_convolution_sees_what_the_table_says():
    torch.manual_seed(0)
    layer = PartialConv2d(6, table(6, 16), 5)
    assert table(6, 16) == C3 and sum(len(seen) for seen in C3) == 60
    dense = layer.dense()
    for output, seen in enumerate(C3):
        assert dense[output].abs().sum((1, 2)).nonzero().flatten().tolist() == sorted(seen)
    x = torch.rand(2, 6, 9, 9)
    by_hand = sum(F.conv2d(x[:, i : i + 1], layer.weight[k][None]) for k, i in enumerate(C3[0])) + layer.bias[0]
    assert torch.allclose(layer(x)[:, :1], by_hand, atol=1e-6)
    assert all(len(seen) >= 1 for seen in table(3, 8))


def test_learned_pool_and_radial_basis_functions_by_hand():
    layer = pooling.LearnedAvgPool2d(2, Window(2, 2))
    layer.weight.data, layer.bias.data = torch.tensor([1.0, 4.0]), torch.tensor([0.5, -1.0])
    x = torch.tensor([[1.0, 2.0], [3.0, 6.0]]).expand(1, 2, 2, 2)
    assert layer(x).flatten().tolist() == [3.5, 11.0]  # a mean of 3
    output = RBF(84, 10)
    assert torch.equal(output.codes, digit_codes()) and output.codes.shape == (10, 84)
    x = torch.randn(3, 84)
    assert torch.allclose(output(x), -(x[:, None] - output.codes).square().sum(2), atol=1e-3)
    distance = (output.codes[:, None] != output.codes).sum(2)
    assert distance[~torch.eye(10, dtype=torch.bool)].min() >= 4  # each digit has a code of its own
    assert not list(output.parameters())
