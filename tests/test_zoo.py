"""The zoo: parameters, multiply-adds and keys of every published network, equal to the last one."""

import hashlib

import pytest
import torch
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from vision import backbones, classifier, weights

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
    "densenet_bc_100_12": ({"stem": "cifar"}, (3, 32, 32), 10, 769_162, 287.9),
    "densenet_40_12": ({"stem": "cifar"}, (3, 32, 32), 10, 1_019_722, 264.8),
    "mobilenet_v1": ({}, (3, 224, 224), 1000, 4_231_976, 569),
    # added up by hand from the papers' figures, without auxiliary heads
    "inception_v2": ({}, (3, 224, 224), 1000, 11_188_288, None),
    "inception_v4": ({}, (3, 299, 299), 1000, 42_679_816, None),
    "inception_resnet_v2": ({}, (3, 299, 299), 1000, 32_433_928, None),
}
# name: channels and sides of its maps, fine to coarse, at 224 x 224 (inception_v3: 299)
MAPS: dict[str, tuple[list[int], list[int]]] = {
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


@pytest.mark.parametrize("name", [name for name in TORCHVISION if name in backbones.BACKBONES])
def test_is_torchvisions_to_the_last_parameter(name):
    parameters, giga, keys = TORCHVISION[name]
    shape = (3, 299, 299) if name == "inception_v3" else (3, 224, 224)
    model = imagined(name, shape, 1000)
    assert sum(weight.numel() for weight in model.parameters()) == parameters
    assert multiply_adds(model, shape) / 1e9 == pytest.approx(giga, abs=1e-9)
    state = sorted((key, tuple(value.shape)) for key, value in weights.to_torchvision(model).items())
    assert hashlib.sha256(repr(state).encode()).hexdigest()[:16] == keys


@pytest.mark.parametrize("name", PAPERS)
def test_is_its_papers(name):
    options, shape, classes, parameters, mega = PAPERS[name]
    model = imagined(name, shape, classes, **options)
    assert sum(weight.numel() for weight in model.parameters()) == parameters
    if mega is not None:
        digits = len(str(mega).partition(".")[2])
        assert round(multiply_adds(model, shape) / 1e6, digits) == mega


@pytest.mark.parametrize("name", MAPS)
def test_maps_at_their_published_sizes(name):
    channels, sides = MAPS[name]
    shape = (3, 299, 299) if name == "inception_v3" else (3, 224, 224)
    backbone = imagined(name, shape, 10).backbone
    assert backbone.channels == channels
    assert [m.shape[-1] for m in backbone.imagine(shape)] == sides
