"""The zoo: parameters, multiply-adds and keys of every published network, equal to the last one."""

import functools
import hashlib
import json
import re
from collections.abc import Iterable

import pytest
import torch
from torch import nn
from torch.nn import functional as F
from torch.utils.flop_counter import FlopCounterMode

from vision import backbones
from vision.backbones import __main__ as program
from vision.backbones import googlenet, highway, table
from vision.backbones.layers.normalization import NORMS
from vision.classification import classifier, torchvision_weights

# name: parameters, 10^9 multiply-adds at 224 x 224 (inception_v3: 299), sha256 of the sorted (key, shape) pairs of
# torchvision 0.28's classifier of a thousand classes, auxiliary heads included
TORCHVISION = {
    "alexnet": (61_100_840, 0.71418848, "f3928bac89433faf"),
    "vgg11": (132_863_336, 7.609090048, "d2fa88d6e7165d40"),
    "vgg11_bn": (132_868_840, 7.609090048, "98f4ded20e8eadf4"),
    "vgg13": (133_047_848, 11.308466176, "2ade21f2f2769a0a"),
    "vgg13_bn": (133_053_736, 11.308466176, "bf54c2fc7fe9b293"),
    "vgg16": (138_357_544, 15.47026432, "834b3e96383a474e"),
    "vgg16_bn": (138_365_992, 15.47026432, "a60b88cd4bbdfbda"),
    "vgg19": (143_667_240, 19.632062464, "e837cc1f633d6d0e"),
    "vgg19_bn": (143_678_248, 19.632062464, "6e7e0512f43c867a"),
    "googlenet": (13_004_888, 1.498376192, "1333309f8336eb85"),
    "inception_v3": (27_161_264, 5.713216096, "49883800f800251e"),
    "resnet18": (11_689_512, 1.814073344, "0622374c2749e17b"),
    "resnet34": (21_797_672, 3.663761408, "380ae48636312fff"),
    "resnet50": (25_557_032, 4.089184256, "be46530bbcb904b8"),
    "resnet101": (44_549_160, 7.80140544, "b33c27989125e6e9"),
    "resnet152": (60_192_808, 11.513626624, "82a88cc63dd83cf6"),
    "resnext50_32x4d": (25_028_904, 4.230479872, "4398173c4833e3d5"),
    "resnext101_32x8d": (88_791_336, 16.414015488, "f2cb5a0f932e58c2"),
    "resnext101_64x4d": (83_455_272, 15.46027008, "b528ddb0464fb56d"),
    "wide_resnet50_2": (68_883_240, 11.39802112, "1629c2f59876b4f9"),
    "wide_resnet101_2": (126_886_696, 22.753050624, "8ae2cc51e48642f5"),
    "densenet121": (7_978_856, 2.834161664, "a36de1b2e865abe7"),
    "densenet161": (28_681_000, 7.727907072, "e8383091838b6a4e"),
    "densenet169": (14_149_480, 3.359843328, "716eba2c25e972b7"),
    "densenet201": (20_013_928, 4.291365888, "6fba2b724f92803d"),
    "squeezenet1_0": (1_248_424, 0.818924576, "ec0b159ca7d5c1e2"),
    "squeezenet1_1": (1_235_496, 0.349151936, "e82e194fab71170c"),
    "mobilenet_v2": (3_504_872, 0.300774272, "550f6a9bb99369fb"),
}
# name: options, shape, classes, parameters, 10^6 multiply-adds (None: its paper counts otherwise), of the classifier
PAPERS: dict[str, tuple[dict, tuple[int, int, int], int, int, float | None]] = {
    "lenet300_100": ({}, (1, 28, 28), 10, 266_610, 0.27),
    "lenet5": ({}, (1, 28, 28), 10, 431_080, 2.29),
    "lenet5_1998": ({}, (1, 32, 32), 10, 61_706, 0.42),
    "alexnet_2012": ({}, (3, 227, 227), 1000, 60_965_224, 724.4),
    "alexnet_ungrouped": ({}, (3, 227, 227), 1000, 62_378_344, 1135.3),
    "zfnet": ({}, (3, 224, 224), 1000, 62_357_608, 1168),
    "zfnet_wide": ({}, (3, 224, 224), 1000, 107_627_624, None),  # by hand, layer by layer
    "overfeat_fast": ({}, (3, 231, 231), 1000, 145_920_872, None),
    "overfeat_accurate": ({}, (3, 221, 221), 1000, 144_656_488, None),
    "nin": ({}, (3, 32, 32), 10, 966_986, 222.5),
    "vgg16_bn": ({"stem": "cifar"}, (3, 32, 32), 10, 14_728_266, 313),
    "resnet18": ({"stem": "cifar"}, (3, 32, 32), 10, 11_173_962, 555.4),
    "resnet50": ({"stem": "cifar"}, (3, 32, 32), 10, 23_520_842, 1297.8),
    "preact_resnet18": ({"stem": "cifar"}, (3, 32, 32), 10, 11_171_146, 555.4),
    "preact_resnet50": ({}, (3, 224, 224), 1000, 25_549_352, None),  # timm's resnetv2_50
    "preact_resnet101": ({}, (3, 224, 224), 1000, 44_541_480, None),  # these by hand, block by block
    "preact_resnet152": ({}, (3, 224, 224), 1000, 60_185_128, None),
    "preact_resnet200": ({}, (3, 224, 224), 1000, 64_666_152, None),
    "preact_resnet110": ({}, (3, 32, 32), 10, 1_730_522, None),  # the paper: 1.7 M
    "preact_resnet164": ({}, (3, 32, 32), 10, 1_703_258, None),  # 1.7 M
    "preact_resnet1001": ({}, (3, 32, 32), 10, 10_327_706, None),  # 10.2 M
    "highway10": ({}, (1, 28, 28), 10, 80_560, None),  # 39,250, 8 gated layers of 5,100, 510
    "highway_conv19": ({}, (3, 32, 32), 10, 2_643_642, None),
    "highway_conv32": ({}, (3, 32, 32), 10, 1_322_266, None),
    "resnet20": ({}, (3, 32, 32), 10, 269_722, 40.6),
    "resnet32": ({}, (3, 32, 32), 10, 464_154, 68.9),
    "resnet44": ({}, (3, 32, 32), 10, 658_586, 97.2),
    "resnet56": ({}, (3, 32, 32), 10, 853_018, 125.5),
    "resnet110": ({}, (3, 32, 32), 10, 1_727_962, 252.9),
    "wrn_16_4": ({}, (3, 32, 32), 10, 2_748_890, 393),
    "wrn_16_8": ({}, (3, 32, 32), 10, 10_961_370, 1548),
    "wrn_28_10": ({}, (3, 32, 32), 10, 36_479_194, 5243),
    "wrn_34_10": ({}, (3, 32, 32), 10, 46_160_474, 6659),
    "wrn_40_4": ({}, (3, 32, 32), 10, 8_949_210, 1299),
    "fractalnet20": ({}, (3, 32, 32), 10, 33_724_618, 845.2),  # by hand from its authors' generator
    "densenet_bc_100_12": ({"stem": "cifar"}, (3, 32, 32), 10, 769_162, 287.9),
    "densenet_40_12": ({"stem": "cifar"}, (3, 32, 32), 10, 1_019_722, 264.8),
    "mobilenet_v1": ({}, (3, 224, 224), 1000, 4_231_976, 569),
    "hadamax": ({}, (4, 84, 84), 6, 156_998, 159.0),  # 155,968 of convolutions, 640 of norms; 64 * 6 + 6 of the head
    # added up by hand from the papers' figures, without auxiliary heads
    "inception_v2": ({}, (3, 224, 224), 1000, 11_188_288, None),
    "inception_resnet_v1": ({}, (3, 299, 299), 1000, 22_756_328, None),
    "inception_v4": ({}, (3, 299, 299), 1000, 42_679_816, None),
    "inception_resnet_v2": ({}, (3, 299, 299), 1000, 32_433_928, None),
}
# name: channels and sides of its maps, fine to coarse, at 224 x 224 (inception_v3: 299)
MAPS: dict[str, tuple[list[int], list[int]]] = {
    "alexnet": ([64, 192, 256, 256], [55, 27, 13, 6]),
    "zfnet": ([96, 96, 256, 256, 256], [110, 55, 26, 13, 6]),
    "vgg16": ([64, 128, 256, 512, 512, 512], [224, 112, 56, 28, 14, 7]),
    "resnet18": ([64, 64, 128, 256, 512], [112, 56, 28, 14, 7]),
    "resnet50": ([64, 256, 512, 1024, 2048], [112, 56, 28, 14, 7]),
    "preact_resnet18": ([64, 64, 128, 256, 512], [112, 56, 28, 14, 7]),
    "resnet20": ([16, 32, 64], [224, 112, 56]),
    "wrn_28_10": ([160, 320, 640], [224, 112, 56]),
    "fractalnet20": ([64, 128, 256, 512, 512], [224, 112, 56, 28, 14]),
    "densenet121": ([64, 256, 512, 1024, 1024], [112, 56, 28, 14, 7]),
    "squeezenet1_0": ([96, 256, 512, 512], [109, 54, 27, 13]),
    "squeezenet1_1": ([64, 128, 256, 512], [111, 55, 27, 13]),
    "mobilenet_v1": ([64, 128, 256, 512, 1024], [112, 56, 28, 14, 7]),
    "mobilenet_v2": ([16, 24, 32, 96, 1280], [112, 56, 28, 14, 7]),
    "googlenet": ([64, 192, 480, 512, 528, 832, 1024], [112, 56, 28, 14, 14, 14, 7]),
    "inception_v2": ([64, 192, 320, 576, 1024], [112, 56, 28, 14, 7]),
    "inception_v3": ([64, 192, 288, 768, 2048], [147, 71, 35, 17, 8]),
}


def imagined(name: str, shape: tuple[int, ...], classes: int, **options: object) -> nn.Module:
    """A classifier without numbers, in evaluation."""
    with torch.device("meta"):
        return classifier.build(name, shape, classes, **options).eval()


def multiply_adds(model: nn.Module, shape: tuple[int, ...]) -> float:
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        model(torch.empty(1, *shape, device="meta"))
    return counter.get_total_flops() / 2


def sparing(names: Iterable[str], *large: str) -> list:
    """The names, the large ones marked slow: the smaller of their families are measured in the suite."""
    return [pytest.param(name, marks=pytest.mark.slow) if name in large else name for name in names]


LARGE = ["vgg13", "vgg13_bn", "vgg19", "vgg19_bn", "resnet34", "resnet101", "resnet152", "resnext101_32x8d"]
LARGE += ["resnext101_64x4d", "wide_resnet101_2", "densenet161", "densenet169", "densenet201"]
LARGE += [
    "preact_resnet101",
    "preact_resnet164",
    "preact_resnet152",
    "preact_resnet200",
    "preact_resnet110",
    "preact_resnet1001",
]
LARGE += ["resnet44", "resnet56", "resnet110", "wrn_16_8", "wrn_34_10", "wrn_40_4"]


DEEP = ["inception_v2", "inception_v4", "inception_resnet_v1", "inception_resnet_v2", "densenet121"]


@pytest.mark.parametrize("name", sparing(TORCHVISION, *LARGE))
def test_is_torchvisions_to_the_last_parameter(name):
    parameters, giga, keys = TORCHVISION[name]
    shape = (3, 299, 299) if name == "inception_v3" else (3, 224, 224)
    model = imagined(name, shape, 1000)
    assert sum(weight.numel() for weight in model.parameters()) == parameters
    assert multiply_adds(model, shape) / 1e9 == pytest.approx(giga, abs=1e-9)
    state = sorted((key, tuple(value.shape)) for key, value in torchvision_weights.to_torchvision(model).items())
    assert hashlib.sha256(repr(state).encode()).hexdigest()[:16] == keys


@pytest.mark.parametrize("name", sparing(PAPERS, *LARGE))
def test_is_its_papers(name):
    options, shape, classes, parameters, mega = PAPERS[name]
    model = imagined(name, shape, classes, **options)
    assert sum(weight.numel() for weight in model.parameters()) == parameters
    if mega is not None:
        digits = len(str(mega).partition(".")[2])
        assert round(multiply_adds(model, shape) / 1e6, digits) == mega


def test_an_inception_module_costs_what_the_lecture_says():
    """CS231n, lecture 9, on maps of 28 x 28 x 256: a naive module of 128, 192 and 96 channels has 854 M operations
    and leaves 672 channels; with bottlenecks of 64 it leaves 480. The slide adds its lines up to 358 M, which counts
    that of the 3x3 convolution twice: they are 271 M.
    """
    conv = functools.partial(googlenet.Convolution, norm="none", activation="relu")
    three = 28 * 28 * 192 * 9 * 64
    for naive, mega, channels, with_three_again in ((True, 854, 672, None), (False, 271, 480, 358)):
        with torch.device("meta"):
            module = googlenet.Inception(256, (128, 64, 192, 64, 96, 64), conv, 5, naive)
        assert module.channels == channels
        with FlopCounterMode(display=False) as counter, torch.no_grad():
            assert module(torch.empty(1, 256, 28, 28, device="meta")).shape[1] == channels
        found = counter.get_total_flops() / 2
        assert round(found / 1e6) == mega
        assert with_three_again is None or round((found + three) / 1e6) == with_three_again


def test_googlenet_as_published_and_naive():
    """Table 1 with 5x5 convolutions and biases, added up by hand: 6,998,552, as Caffe's bvlc_googlenet has without
    auxiliary heads; naive modules carry all channels on, to 4,944."""
    for name, parameters, channels in (("googlenet_2014", 6_998_552, 1024), ("googlenet_naive", 97_526_008, 4944)):
        with torch.device("meta"):
            backbone = backbones.build(name, (3, 224, 224))
            head = backbone.head(1000)
        assert backbone.channels[-1] == channels
        counts = [sum(weight.numel() for weight in part.parameters()) for part in (backbone, head.fc)]
        assert sum(counts) == parameters


def test_a_highway_layer_by_hand():
    """y = H T + x (1 - T): with a gate of sigmoid(0) the mean of H and x, and with a closed one x."""
    layer = highway.Layer(2, True, highway.HighwayOptions(norm="none"))
    x = torch.tensor([[1.0, -2.0]])
    for weight in layer.parameters():
        nn.init.zeros_(weight)
    layer.transform.bias.data.fill_(3.0)
    assert layer(x).tolist() == [[2.0, 0.5]]
    layer.gate.bias.data.fill_(-30.0)
    assert torch.allclose(layer(x), x)
    backbone = backbones.build("highway20", (1, 8, 8), gate_bias=-3.0)
    gates = [m.gate.bias for m in backbone.modules() if isinstance(m, highway.Layer)]
    assert len(gates) == 18 and all((bias == -3).all() for bias in gates)
    pixels = torch.randint(256, (2, 1, 8, 8), dtype=torch.uint8)
    assert torch.allclose(backbone(pixels)[0], backbone(pixels / 255)[0])


@pytest.mark.parametrize("name", MAPS)
def test_maps_at_their_published_sizes(name):
    channels, sides = MAPS[name]
    shape = (3, 299, 299) if name == "inception_v3" else (3, 224, 224)
    backbone = imagined(name, shape, 10).backbone
    assert backbone.channels == channels
    assert [m.shape[-1] for m in backbone.imagine(shape)] == sides


ZOO = [name for name in backbones.BACKBONES if name not in ("nature", "impala", "small", "mlp")]
DENSE = ("lenet300_100", *highway.DENSE_HIGHWAYS)  # for vectors
FIRST = {family: name for name, family in reversed([(name, backbones.BACKBONES[name]) for name in ZOO])}  # of each


def sighted(name: str, stem: str | None, channels: int, **options: object) -> backbones.Backbone:
    """A backbone, for the smallest images that it can see."""
    options |= {} if stem is None else {"stem": stem}
    if "drop_path" in backbones.default_options(name).spec():
        options["drop_path"] = 0.0  # a weight that is left out has no gradient
    if not backbones.BACKBONES[name].any_size:
        return backbones.build(name, (channels, 28, 28), **options)
    with torch.device("meta"):
        side = backbones.build(name, (channels, 512, 512), **options).smallest
    return backbones.build(name, (channels, side, side), **options)


def holds(backbone: backbones.Backbone) -> None:
    """The contract: maps as announced, a gradient in every weight, pixels as floats, its spec makes it again."""
    pixels = torch.randint(256, (4, *backbone.shape), dtype=torch.uint8)
    maps = backbone(pixels / 255)
    assert [m.shape[1] for m in maps] == backbone.channels
    assert backbone.strides == sorted(backbone.strides), "fine to coarse"
    assert all(min(m.shape[2:]) >= 1 for m in maps)
    sum(m.square().mean() for m in maps).backward()
    for key, weight in backbone.named_parameters():
        assert weight.grad is not None and weight.grad.abs().sum() > 0, key
    backbone.eval()
    with torch.no_grad():
        for ours, floats in zip(backbone(pixels), backbone(pixels / 255), strict=True):
            torch.testing.assert_close(ours, floats, rtol=1e-3, atol=1e-3)
    bent = [m for m in backbone.modules() if isinstance(m, nn.ReLU | nn.ReLU6)]
    assert not any(m.inplace for m in bent) and len(bent) == len(set(bent))
    assert json.loads(json.dumps(backbone.spec)) == backbone.spec
    with torch.device("meta"):
        again = backbones.build(**backbone.spec)
    assert again.state_dict().keys() == backbone.state_dict().keys()


def stems(name: str) -> tuple[str | None, ...]:
    return backbones.BACKBONES[name].stems if backbones.BACKBONES[name].any_size else (None,)


SLOW = {"inception_resnet_v1"}  # as deep as v2, whose contract is of the suite
PAIRS = [
    pytest.param(name, stem, marks=pytest.mark.slow) if name in SLOW else (name, stem)
    for name in FIRST.values()
    for stem in stems(name)
]


@pytest.mark.parametrize("name, stem", PAIRS)
def test_contract(name, stem):
    torch.manual_seed(0)
    holds(sighted(name, stem, 4))


@pytest.mark.slow
@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("name, stem", [(name, stem) for name in ZOO for stem in stems(name)])
def test_contract_of_all(name, stem, channels):
    torch.manual_seed(0)
    holds(sighted(name, stem, channels))


@pytest.mark.parametrize("name", sparing(FIRST.values(), *DEEP))
def test_every_norm_and_activation(name):
    torch.manual_seed(0)
    known = backbones.default_options(name).spec()
    for norm, activation in zip(NORMS, ("prelu", "tanh", "maxout", "elu", "leaky_relu"), strict=True):
        flat = name in DENSE and norm in ("group", "instance")  # they are for maps
        options = {"norm": norm} if "norm" in known and not flat else {}
        options |= {"activation": activation} if "activation" in known else {}
        with torch.device("meta"):
            backbone = backbones.build(name, (3, 28, 28) if name in DENSE else (3, 128, 128), **options)
            maps = backbone(torch.empty(2, *backbone.shape))
            assert backbone.head(7)(maps).shape == (2, 7)
        assert [m.shape[1] for m in maps] == backbone.channels


def test_hadamax_is_a_product_of_two_convolutions():
    """With the weights of the one convolution halved: GELU of a layer norm, twice, their product, a max pool."""
    torch.manual_seed(0)
    backbone = backbones.build("hadamax", (4, 84, 84))
    x = y = torch.rand(2, 4, 84, 84)
    sides, calls = [], []
    for stage in backbone.stages:
        stage[0].register_forward_hook(lambda conv, *_: calls.append(conv))
        halves = []
        for half in range(2):
            weight, bias = stage[0].weight.chunk(2)[half], stage[0].bias.chunk(2)[half]
            z = F.conv2d(y, weight, bias, padding=weight.shape[-1] // 2)
            halves.append(F.gelu(F.layer_norm(z, z.shape[1:])))
            fans = weight[0].numel() + weight[:, 0].numel()  # of Glorot & Bengio, of this convolution alone
            assert weight.std().item() == pytest.approx((2 / fans) ** 0.5, rel=0.03)
        y = F.max_pool2d(halves[0] * halves[1], stage[-1].kernel_size, stage[-1].stride, stage[-1].padding)
        sides.append(y.shape[-1])
    maps = backbone(x)
    torch.testing.assert_close(maps[-1], y, rtol=1e-4, atol=1e-4)
    assert sides == [21, 11, 11] and len(calls) == 3, "each convolution is calculated once"


def test_weights_come_back_in_torchvisions_names():
    torch.manual_seed(0)
    model = classifier.build("densenet121", (3, 64, 64), 5).eval()
    state = torchvision_weights.to_torchvision(model)
    dotted = {re.sub(r"(denselayer\d+\.(?:norm|conv))([12])\.", r"\1.\2.", key): state[key] for key in state}
    assert "features.denseblock1.denselayer1.norm.1.weight" in dotted
    x = torch.rand(1, 3, 64, 64)
    for given in (state, dotted):
        again = torchvision_weights.from_torchvision("densenet121", given).eval()
        assert torch.equal(again(x), model(x))
    with pytest.raises(ValueError, match="resnet18 has no 'features"):
        torchvision_weights.from_torchvision("resnet18", state)
    with pytest.raises(ValueError, match="do not fit resnet18"):
        torchvision_weights.from_torchvision("resnet18", {"fc.bias": torch.zeros(3)})


def test_table_and_picture(tmp_path, capsys):
    program.main(program.Config(shape=(1, 28, 28), stem="cifar", classes=10, only=("lenet5", "resnet20")))
    message = capsys.readouterr().out
    assert "431,080" in message and "LeCun" in message
    program.main(program.Config(draw="resnet20", shape=(3, 32, 32), stem="cifar", file=tmp_path / "x.png"))
    assert (tmp_path / "x.png").stat().st_size > 5_000
    for config in (program.Config(draw="resnet19"), program.Config(only=("resnet18", "resnet19"))):
        with pytest.raises(ValueError, match="unknown backbone 'resnet19': did you mean 'resnet"):
            program.main(config)
    (tmp_path / "y.png").mkdir()
    for place in (tmp_path / "nowhere" / "x.png", tmp_path / "y.png"):
        with pytest.raises(ValueError, match="cannot be written"):
            program.main(program.Config(draw="resnet20", shape=(3, 32, 32), stem="cifar", file=place))


def test_bottlenecks_widen_the_first_stage_of_small_images_too():
    backbone = imagined("preact_resnet50", (3, 32, 32), 10, stem="cifar").backbone
    maps = [tuple(m.shape[1:]) for m in backbone.imagine((3, 32, 32))]
    assert maps == [(256, 32, 32), (512, 16, 16), (1024, 8, 8), (2048, 4, 4)]


def written(case: tuple) -> dict[str, dict]:
    """The rows of a setting in table.json, whatever code they are of."""
    return json.loads(table.FILE.read_text())["rows"][table.key(*case)]


def measured(name: str, case: tuple) -> dict:
    try:
        return json.loads(json.dumps(table.measure(name, *case)))
    except ValueError as error:
        return {"error": str(error)}


@pytest.mark.parametrize("name", ["nature", "impala", "mlp", "lenet5", "alexnet", "resnet18", "squeezenet1_0"])
def test_written_rows_are_the_measured_ones(name):
    for case in table.SETTINGS:
        assert written(case)[name] == measured(name, case)


@pytest.mark.slow
@pytest.mark.parametrize("name", backbones.BACKBONES)
def test_every_written_row_is_the_measured_one(name):
    for case in table.SETTINGS:
        assert written(case)[name] == measured(name, case)


@pytest.mark.slow
def test_the_written_rows_are_of_this_code():
    content = json.loads(table.FILE.read_text())
    assert content["sources"] == table.sources(), "run `python -m vision.backbones --update`"


@pytest.fixture
def copied_table(tmp_path, monkeypatch):
    """A table.json in a folder of its own, beside one backbone's source; a row of it that nobody would measure."""
    (tmp_path / "one.py").write_text('"""A network."""\nWIDTH = 3\n')
    monkeypatch.setattr(table, "FILE", tmp_path / "table.json")
    row = {"parameters": 7, "multiply_adds": 7, "maps": [[7, 7, 7]], "strides": [7], "smallest": 7}
    rows = {table.key(*table.SETTINGS[0]): {"small": row, "mlp": {"error": "too small for mlp"}}}
    table.FILE.write_text(json.dumps({"sources": table.sources(), "rows": rows}))
    table.stored.cache_clear()
    yield tmp_path
    table.stored.cache_clear()


def test_a_written_row_is_taken_as_long_as_the_code_is_its_own(copied_table, capsys):
    assert table.find("small", *table.SETTINGS[0])["parameters"] == 7
    with pytest.raises(ValueError, match="too small for mlp"):
        table.find("mlp", *table.SETTINGS[0])
    assert table.find("small", (3, 224, 224), "imagenet", 10)["parameters"] > 7, "other arguments are measured"
    assert table.find("nature", *table.SETTINGS[0])["smallest"] == 72, "what is not in it is measured"
    (copied_table / "one.py").write_text('"""Another docstring,\nof two lines."""\n\n# a comment\nWIDTH = 3\n')
    table.stored.cache_clear()
    assert table.find("small", *table.SETTINGS[0])["parameters"] == 7, "it says the same"
    (copied_table / "one.py").write_text('"""A network."""\nWIDTH = 4\n')
    table.stored.cache_clear()
    assert table.find("small", *table.SETTINGS[0])["parameters"] > 7, "it says something else"
    program.main(program.Config(only=("small",)))
    assert "measured now" in capsys.readouterr().out


def test_the_table_is_updated(copied_table, monkeypatch, capsys):
    monkeypatch.setattr(
        backbones, "BACKBONES", {name: backbones.BACKBONES[name] for name in ("small", "lenet5_1998")}
    )
    program.main(program.Config(update=True))
    assert "4 rows" in capsys.readouterr().out
    assert table.find("small", *table.SETTINGS[0]) == measured("small", table.SETTINGS[0])
    assert table.FILE.read_text().count("\n") < 12, "a line a row"


def test_shapes_are_the_same_without_what_leaves_them(monkeypatch):
    """The maps on the meta device with every function called, for norms, activations, dropout and branches."""
    names = {"resnet18": (3, 65, 90), "densenet_40_12": (3, 33, 47), "googlenet": (3, 64, 64), "alexnet": (3, 70, 99)}
    for name, shape in names.items():
        backbone = imagined(name, shape, 10).backbone.eval()
        with torch.device("meta"):
            expected = [tuple(m.shape) for m in backbone.maps(torch.empty(1, *shape))]
        assert [tuple(m.shape) for m in backbone.imagine(shape)] == expected


def test_a_row_of_the_table_fits_a_terminal():
    for name, shape in {"squeezenet1_0": (3, 224, 224), "alexnet": (3, 20, 20)}.items():
        lines = program.row(name, program.Config(shape=shape, classes=10))
        assert lines[0].startswith(name) and all(len(line) <= 80 for line in lines), lines


@pytest.mark.slow
@pytest.mark.parametrize("name", FIRST.values())
def test_compiles(name):
    torch.manual_seed(0)
    torch._dynamo.reset()  # or all of them count as one function, compiled too often
    backbone = sighted(name, None, 3).eval()
    x = torch.rand(2, *backbone.shape)
    with torch.no_grad():
        for ours, theirs in zip(torch.compile(backbone, fullgraph=True)(x), backbone(x), strict=True):
            torch.testing.assert_close(ours, theirs, rtol=1e-3, atol=1e-3)
