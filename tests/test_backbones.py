"""Backbones: one contract over every listed network, every stem and channel count; counts worked by hand."""

import copy
import json
import math
from types import SimpleNamespace

import pytest
import torch
from torch import nn

from agents import optimization
from runs import machine
from vision import backbones
from vision.backbones import BACKBONES
from vision.backbones.checkpoints import adapt_channels, adapt_mean_observation
from vision.backbones.impala import Residual
from vision.backbones.layers.activation import ACTIVATIONS, activation_layer, width_before
from vision.backbones.layers.normalization import NORMS, norm_layer

AGENTS = ("nature", "impala", "small", "mlp")  # of agents; tests/test_zoo.py has the others
IMAGES = [(name, stem, channels) for name in AGENTS for stem in BACKBONES[name].stems for channels in (1, 3, 4)]
FLAT = ("none", "batch", "layer")  # norms that mean something for vectors
VARIANTS = [(name, {"norm": norm}) for name in AGENTS for norm in (FLAT if name == "mlp" else NORMS)]
VARIANTS += [("impala", {"norm": norm, "spectral": True}) for norm in NORMS]


@pytest.fixture(autouse=True)
def seed():
    torch.manual_seed(0)


@pytest.fixture
def double():
    torch.set_default_dtype(torch.float64)
    yield
    torch.set_default_dtype(torch.float32)


def every_weight_learns(backbone, maps):
    sum(m.square().mean() for m in maps).backward()
    for key, weight in backbone.named_parameters():
        assert weight.grad is not None and weight.grad.abs().sum() > 0, key


@pytest.mark.parametrize("name, stem, channels", IMAGES)
def test_contract(name, stem, channels):
    backbone = backbones.build(name, (channels, 97, 97), stem=stem)
    maps = backbone(torch.rand(2, channels, 97, 97))
    assert [m.shape[1] for m in maps] == backbone.channels
    assert backbone.strides == sorted(backbone.strides), "fine to coarse"
    wider = backbone(torch.rand(2, channels, 97, 97 + 64))
    assert [b.shape[3] - a.shape[3] for a, b in zip(maps, wider, strict=True)] == [64 // s for s in backbone.strides]
    assert backbone.output_size((channels, 97, 97)) == maps[-1][0].numel()
    every_weight_learns(backbone, maps)
    assert json.loads(json.dumps(backbone.spec)) == backbone.spec
    again = backbones.build(**backbone.spec)
    again.load_state_dict(backbone.state_dict())
    assert not any(isinstance(m, nn.ReLU) and m.inplace for m in backbone.modules())
    relus = [m for m in backbone.modules() if isinstance(m, nn.ReLU)]
    assert len(relus) == len(set(relus)) > 0


@pytest.mark.parametrize("side", [84, 98])  # 84: whole patches of the stride; 98: not
@pytest.mark.parametrize("name, stem, channels", [*IMAGES, ("mlp", None, 4)])
def test_pixels_count_as_their_255th(name, stem, channels, side, double):
    backbone = backbones.build(name, (channels, side, side), **({"stem": stem} if stem else {}))
    pixels = torch.randint(256, (2, channels, side, side), dtype=torch.uint8)
    for x in (pixels, pixels.contiguous(memory_format=torch.channels_last)):
        gradients = []
        for given in (x, x / 255):
            backbone.zero_grad()
            maps = backbone(given)
            sum(m.square().mean() for m in maps).backward()
            gradients.append([maps[-1], *(weight.grad.clone() for weight in backbone.parameters())])
        for ours, plain in zip(*gradients, strict=True):
            torch.testing.assert_close(ours, plain)


@pytest.mark.parametrize("name, stem, channels", IMAGES)
def test_smallest_image(name, stem, channels):
    backbone = backbones.build(name, (channels, 128, 128), stem=stem)
    side = backbone.smallest
    maps = backbone(torch.rand(2, channels, side, side))
    assert all(min(m.shape[2:]) >= 1 for m in maps)
    every_weight_learns(backbone, maps)
    assert backbones.build(name, (channels, side, side), stem=stem).output_size() == maps[-1][0].numel()
    with pytest.raises(ValueError, match=f"smallest image side is {side}"):
        backbone(torch.rand(2, channels, side - 1, side))
    if side > 1:
        with pytest.raises(ValueError, match=f"smallest image side is {side}"):
            backbones.build(name, (channels, side, side - 1), stem=stem)


def test_published_sizes():
    """The maps of the papers on 84 x 84, and the smallest sides by hand."""
    nature = backbones.build("nature", (4, 84, 84))
    assert [tuple(m.shape[1:]) for m in nature(torch.rand(1, 4, 84, 84))] == [
        (32, 20, 20),
        (64, 9, 9),
        (64, 7, 7),
    ]
    assert (nature.strides, nature.smallest) == ([4, 8, 8], 36)  # 3 <- 4 + 2 * 2 = 8 <- 8 + 4 * 7 = 36
    assert backbones.build("nature", (3, 32, 32), stem="cifar").smallest == 18  # 8 <- 4 + 2 * 7
    impala = backbones.build("impala", (4, 84, 84))
    maps = impala(torch.rand(1, 4, 84, 84))
    assert [tuple(m.shape[1:]) for m in maps] == [(16, 42, 42), (32, 21, 21), (32, 11, 11)]
    assert impala.strides == [2, 4, 8] and impala.output_size() == 32 * 11 * 11


def count(backbone):
    return sum(p.numel() for p in backbone.parameters())


def test_parameters_by_hand():
    by_hand = 4 * 32 * 64 + 32 + 32 * 64 * 16 + 64 + 64 * 64 * 9 + 64
    assert count(backbones.build("nature", (4, 84, 84))) == by_hand == 77_984

    def section(inputs, channels):
        return (inputs * 9 + 1) * channels + 4 * (channels * 9 + 1) * channels

    by_hand = section(4, 16) + section(16, 32) + section(32, 32)
    assert count(backbones.build("impala", (4, 84, 84))) == by_hand == 97_744
    assert count(backbones.build("small", (1, 40, 40))) == 1 * 16 * 9 + 16 + 16 * 32 * 9 + 32
    assert count(backbones.build("mlp", (4,), hidden=(120, 84))) == 4 * 120 + 120 + 120 * 84 + 84
    assert backbones.build("nature", (4, 84, 84), width=0.5).channels == [16, 32, 32]


def test_mlp():
    mlp = backbones.build("mlp", (6,), hidden=(5, 7), activation="tanh")
    (features,) = mlp(torch.rand(3, 6))
    assert features.shape == (3, 7, 1, 1) and features.abs().max() < 1
    assert (mlp.channels, mlp.strides, mlp.smallest, mlp.output_size()) == ([7], [1], 1, 7)
    every_weight_learns(mlp, [features])
    (features,) = backbones.build("mlp", (1, 28, 28))(torch.rand(2, 1, 28, 28))
    assert features.shape == (2, 128, 1, 1)
    with pytest.raises(ValueError, match="shape"):
        mlp(torch.rand(3, 5))
    with pytest.raises(ValueError, match="unknown activation 'sine'"):
        backbones.build("mlp", (6,), activation="sine")


@pytest.mark.parametrize("name, options", VARIANTS)
def test_bfloat16_and_channels_last(name, options):
    shape = (9,) if name == "mlp" else (4, 44, 44)
    backbone = backbones.build(name, shape, **options)
    x = torch.rand(8, *shape)
    expected = backbone(x)
    if len(shape) == 3:
        x = x.contiguous(memory_format=torch.channels_last)
        backbone = backbone.to(memory_format=torch.channels_last)
    with torch.autocast("cpu", torch.bfloat16):
        maps = backbone(x)
    for low, high in zip(maps, expected, strict=True):
        assert low.dtype is torch.bfloat16
        bound = 0.03 if options["norm"] in ("none", "layer") else 0.04  # means over fewer numbers
        assert (low.float() - high).norm() < bound * high.norm()
    every_weight_learns(backbone, maps)


@pytest.mark.parametrize("name, options", VARIANTS)
def test_meta_device(name, options):
    shape = (9,) if name == "mlp" else (4, 84, 84)
    with torch.device("meta"):
        backbone = backbones.build(name, shape, init="orthogonal", **options)
        maps = backbone(torch.empty(2, *shape))
    assert all(p.is_meta for p in backbone.parameters())
    assert [m.shape[1] for m in maps] == backbone.channels


@pytest.mark.slow
@pytest.mark.parametrize("name", AGENTS)
def test_compiles(name):
    shape = (9,) if name == "mlp" else (4, 44, 44)
    backbone = backbones.build(name, shape)
    compiled = torch.compile(backbone, fullgraph=True)
    x = torch.rand(2, *shape)
    for ours, theirs in zip(compiled(x), backbone(x), strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-4, atol=1e-4)


def test_initialization():
    backbone = backbones.build("nature", (4, 84, 84))
    for layer in backbone.modules():
        if isinstance(layer, nn.Conv2d):
            fan_in = layer.weight[0].numel()
            assert layer.weight.std().item() == pytest.approx(math.sqrt(2 / fan_in), rel=0.03)
            assert layer.weight.mean().item() == pytest.approx(0, abs=0.003)
            assert not layer.bias.any()
    backbone = backbones.build("mlp", (64,), hidden=(32,), init="orthogonal")
    weight = backbone.stages[0][1].weight
    torch.testing.assert_close(weight @ weight.T, 2 * torch.eye(32), rtol=0, atol=1e-5)
    torch.manual_seed(7)
    plain = nn.Conv2d(4, 32, 8, 4)
    torch.manual_seed(7)
    assert torch.equal(backbones.build("nature", (4, 84, 84), init="torch").stages[0][0].weight, plain.weight)
    with pytest.raises(ValueError, match="unknown init 'She'"):
        backbones.build("nature", (4, 84, 84), init="She")


def test_measuring_leaves_no_trace():
    """One seed gives equal weights, and asking for sizes changes neither the random state nor the mode."""
    torch.manual_seed(3)
    one, after = backbones.build("impala", (4, 64, 64)), torch.rand(1)
    torch.manual_seed(3)
    two = backbones.build("impala", (4, 64, 64)).eval()
    assert torch.equal(after, torch.rand(1))
    state = torch.get_rng_state()
    assert two.output_size((4, 10_000, 10_000)) == 32 * 1250 * 1250  # no image of this size was ever made
    assert torch.equal(state, torch.get_rng_state()) and not any(m.training for m in two.modules())
    for a, b in zip(one.parameters(), two.parameters(), strict=True):
        assert torch.equal(a, b)


@pytest.mark.parametrize("name, options", VARIANTS)
def test_saved_and_built_again(name, options, tmp_path):
    shape = (9,) if name == "mlp" else (4, 44, 44)
    backbone = backbones.build(name, shape, width=0.5, init="torch", **options)
    if name == "nature":  # safetensors refuses strided weights unless save makes them contiguous
        backbone = backbone.to(memory_format=torch.channels_last)
    backbones.save(backbone, tmp_path / "x.safetensors")
    assert [p.name for p in tmp_path.iterdir()] == ["x.safetensors"], "no half-written file stays"
    again = backbones.load(tmp_path / "x.safetensors")
    assert again.spec == backbone.spec
    for key, ours in again.state_dict().items():
        assert torch.equal(ours, backbone.state_dict()[key]), key


@pytest.mark.parametrize("name", AGENTS)
def test_layer_norm(name):
    """A norm after each layer, of each image by itself: it undoes a scale of the weights, and sees no neighbor."""
    shape = (9,) if name == "mlp" else (4, 44, 44)
    torch.manual_seed(0)
    plain = backbones.build(name, shape)
    torch.manual_seed(0)
    normed = backbones.build(name, shape, norm="layer")
    layers = [m for m in normed.modules() if isinstance(m, nn.Conv2d | nn.Linear)]
    norms = [m for m in normed.modules() if isinstance(m, nn.GroupNorm | nn.LayerNorm)]
    wide = [getattr(m, "out_channels", None) or m.out_features for m in layers]
    assert [m.weight.numel() for m in norms] == wide
    assert not any(isinstance(m, nn.GroupNorm | nn.LayerNorm) for m in plain.modules())
    for ours, theirs in zip((m.weight for m in layers), (p for p in plain.parameters() if p.dim() > 1), strict=True):
        assert torch.equal(ours, theirs), "one seed gives equal weights, norms or not"
    x = torch.rand(3, *shape)
    maps = normed(x)
    every_weight_learns(normed, maps)
    torch.testing.assert_close(normed(x[:1])[-1], maps[-1][:1])
    with torch.no_grad():
        for layer in layers:
            layer.weight *= 7
    torch.testing.assert_close(normed(x)[0], maps[0], rtol=1e-3, atol=1e-3)
    if name != "mlp":
        x = torch.rand(2, 4, 60, 70)
        image = normed.stages[0][1](normed.stages[0][0](x))[1]
        torch.testing.assert_close(image.mean(), torch.tensor(0.0), rtol=0, atol=1e-5)
        torch.testing.assert_close(image.std(correction=0), torch.tensor(1.0), rtol=0, atol=1e-3)


def test_norms_by_hand():
    """What each norm takes the mean of: 2 images of 32 channels of 2 x 3 places."""
    x = torch.randn(2, 32, 2, 3) * 3 + 1
    reduced = {"batch": (0, 2, 3), "layer": (1, 2, 3), "instance": (2, 3)}
    for norm, axes in reduced.items():
        mean, variance = x.mean(axes, keepdim=True), x.var(axes, keepdim=True, correction=0)
        torch.testing.assert_close(norm_layer(32, norm, eps=0.5)(x), (x - mean) / (variance + 0.5).sqrt())
    halves = x.view(2, 2, 16, 2, 3)  # groups of 16
    mean, variance = halves.mean((2, 3, 4), keepdim=True), halves.var((2, 3, 4), keepdim=True, correction=0)
    torch.testing.assert_close(norm_layer(32, "group")(x), ((halves - mean) / (variance + 1e-5).sqrt()).view_as(x))
    assert norm_layer(32, "none")(x) is x
    assert [norm_layer(n, "group").num_groups for n in (3, 16, 31, 48, 100)] == [1, 1, 1, 3, 5]


def test_activations_by_hand():
    x = torch.tensor([[-2.0, 0.5, 3.0, -1.0]])
    found = {name: activation_layer(name)(x) for name in ACTIVATIONS}
    assert found["maxout"].tolist() == [[3.0, 0.5]], "two channels for one"
    assert found["leaky_relu"][0].tolist() == pytest.approx([-0.02, 0.5, 3.0, -0.01])
    assert found["elu"][0].tolist() == pytest.approx([math.exp(-2) - 1, 0.5, 3.0, math.exp(-1) - 1])
    assert found["prelu"][0].tolist() == pytest.approx([-0.5, 0.5, 3.0, -0.25])
    assert (width_before("maxout", 8), width_before("relu", 8)) == (16, 8)
    with pytest.raises(ValueError, match="unknown activation 'swish'"):
        activation_layer("swish")


def residual_convolutions(backbone):
    return [
        conv for block in backbone.modules() if isinstance(block, Residual) for conv in (block.conv1, block.conv2)
    ]


def largest(weight):
    return torch.linalg.matrix_norm(weight.flatten(1), 2)


def forward(backbone):
    return backbone(torch.rand(1, *backbone.shape))


def finish(conv):
    for _ in range(300):
        _ = conv.weight  # each use is a power iteration


def test_spectral_norm_is_one():
    torch.manual_seed(0)
    plain = backbones.build("impala", (4, 16, 16))
    torch.manual_seed(0)
    backbone = backbones.build("impala", (4, 16, 16), spectral=True)
    convolutions = residual_convolutions(backbone)
    assert len(convolutions) == 12
    for ours, theirs in zip(convolutions, residual_convolutions(plain), strict=True):
        original = ours.parametrizations.weight.original
        assert torch.equal(original, theirs.weight), "one seed gives equal weights, normalized or not"
        assert largest(ours.weight).item() == pytest.approx(1, rel=0.1), "nearly so at once"
    for conv in convolutions:
        finish(conv)
        assert largest(conv.weight).item() == pytest.approx(1, abs=1e-3)
    other = [m for m in backbone.modules() if isinstance(m, nn.Conv2d) and m not in convolutions]
    assert len(other) == 3 and not any(hasattr(m, "parametrizations") for m in other)


def test_spectral_gradient():
    """Once the singular vectors are found, the gradient is that of weight / its largest singular value."""
    backbone = backbones.build("impala", (4, 16, 16), spectral=True, width=0.25)
    conv = residual_convolutions(backbone)[2]
    finish(conv)
    original, direction = conv.parametrizations.weight.original, torch.randn(conv.weight.shape)
    (ours,) = torch.autograd.grad((conv.weight * direction).sum(), original)
    (exact,) = torch.autograd.grad((original / largest(original) * direction).sum(), original)
    torch.testing.assert_close(ours, exact, rtol=1e-2, atol=1e-3)


def test_spectral_vectors_move_only_where_something_is_learned():
    backbone = backbones.build("impala", (4, 16, 16), spectral=True)

    def moved(whole=backbone):
        width_before = {key: value.clone() for key, value in whole.named_buffers()}
        forward(whole)
        return [key for key, value in whole.named_buffers() if not torch.equal(value, width_before[key])]

    assert len(width_before := moved()) == len(dict(backbone.named_buffers())) == 24, width_before
    with torch.inference_mode():
        assert not moved()
    with torch.no_grad():
        assert not moved()
    backbone.output_size((4, 40, 40))
    backbone.eval()
    assert not moved()
    backbone.train()
    assert moved() and not any(value.is_inference() for value in backbone.state_dict().values())
    one, two = forward(backbone)[-1], forward(backbone)[-1]  # the vectors move on between a use and its gradient
    (one.sum() + two.sum()).backward()
    assert not moved(copy.deepcopy(backbone).freeze().train())


@pytest.mark.parametrize("norm", NORMS)
def test_spectral_target_network(norm, monkeypatch):
    """As agents make one: a copy in bfloat16 that follows by load_state_dict."""
    monkeypatch.setattr(machine, "fast_bf16", lambda device: True)
    backbone = backbones.build("impala", (4, 32, 32), spectral=True, norm=norm)
    backbone = backbone.to(memory_format=torch.channels_last)
    target = optimization.frozen_copy(SimpleNamespace(bf16=True), nn.ModuleDict({"backbone": backbone}))["backbone"]
    optimizer = torch.optim.Adam(backbone.parameters(), 1e-3)
    for _ in range(3):
        optimizer.zero_grad()
        sum(m.square().mean() for m in forward(backbone)).backward()
        optimizer.step()
    target.load_state_dict(backbone.state_dict())
    x = torch.randint(256, (8, 4, 32, 32), dtype=torch.uint8)
    with torch.no_grad(), torch.autocast("cpu", torch.bfloat16):
        ours, theirs = target(x)[-1], backbone(x)[-1]
    assert ours.dtype == theirs.dtype == torch.bfloat16
    bound = 0.05 if norm in ("batch", "instance") else 0.02  # means over fewer numbers
    assert (ours.float() - theirs.float()).norm() < bound * theirs.float().norm()


def test_backbones_saved_before_options_were_known(tmp_path):
    for name in AGENTS:
        backbone = backbones.build(name, (9,) if name == "mlp" else (4, 44, 44))
        later = {"norm": "none", "dropout": 0.0}
        later |= {"dropconnect": 0.0} if name == "mlp" else {"activation": "relu"}
        later |= {"spectral": False} if name == "impala" else {}
        for option in later:
            del backbone.spec[option]
        backbones.save(backbone, tmp_path / "old.safetensors")
        again = backbones.load(tmp_path / "old.safetensors")
        assert again.spec == backbone.spec | later
        assert again.state_dict().keys() == backbone.state_dict().keys()
    with pytest.raises(ValueError, match="has norm='none', not 'layer'"):
        backbones.build(tmp_path / "old.safetensors", (9,), norm="layer")


def test_a_pretrained_backbone_from_a_run(tmp_path):
    backbone = backbones.build("nature", (4, 84, 84))
    backbones.save(backbone, tmp_path / "backbone.safetensors")
    same = backbones.build(tmp_path, (4, 84, 84), stem="atari", init="orthogonal")
    x = torch.rand(2, 4, 84, 84)
    assert torch.equal(same(x)[-1], backbone(x)[-1]) and all(p.requires_grad for p in same.parameters())
    assert backbones.build(str(tmp_path), (4, 50, 60))(torch.rand(1, 4, 50, 60))[-1].shape == (1, 64, 2, 4)
    gray = torch.rand(2, 1, 84, 84)
    for channels in (1, 2, 3, 8):  # fewer, or a multiple: an image equal in all channels looks the same
        other = backbones.build(str(tmp_path), (channels, 84, 84))
        assert other.spec["shape"] == [channels, 84, 84]
        ours, theirs = other(gray.expand(-1, channels, -1, -1)), backbone(gray.expand(-1, 4, -1, -1))
        torch.testing.assert_close(ours[-1], theirs[-1], rtol=1e-4, atol=1e-4)
    with pytest.raises(ValueError, match="has stem='atari', not 'cifar'"):
        backbones.build(tmp_path, (4, 84, 84), stem="cifar")
    with pytest.raises(FileNotFoundError, match="no backbone at"):
        backbones.build(tmp_path.parent, (4, 84, 84))
    backbones.save(backbones.build("mlp", (4,)), tmp_path / "mlp.safetensors")
    with pytest.raises(ValueError, match="do not fit"):
        backbones.build(tmp_path / "mlp.safetensors", (5,))


@pytest.mark.parametrize("name", ["nature", "impala", "small", "resnet18"])
def test_mean_observation_is_estimated_from_observations(name, tmp_path):
    backbone = backbones.build(name, (4, 84, 84)).eval()
    x, picture = torch.randint(0, 256, (2, 3, 4, 84, 84), dtype=torch.uint8)
    expected = [m.detach() for m in backbone((x.float() - picture[0]) / 255)]
    backbone.set_mean_observation(picture[0])
    for seen in (backbone(x), backbone(x.float() / 255)):
        for one, other in zip(seen, expected, strict=True):
            torch.testing.assert_close(one, other, rtol=1e-4, atol=1e-4)
    backbones.save(backbone, tmp_path / "backbone.safetensors")
    assert torch.equal(backbones.load(tmp_path).eval()(x)[-1], backbone(x)[-1])
    assert torch.equal(copy.deepcopy(backbone)(x)[-1], backbone(x)[-1])
    backbone.set_mean_observation(picture[:1, 0].expand(4, -1, -1))
    backbones.save(backbone, tmp_path / "backbone.safetensors")
    one = backbones.load(tmp_path, (1, 84, 84)).eval()  # alike in all channels, it stays as it is
    torch.testing.assert_close(one(x[:, :1])[-1], backbone(x[:, :1].expand(-1, 4, -1, -1))[-1], rtol=1e-3, atol=1e-3)
    assert backbones.load(tmp_path, (3, 90, 100))(torch.rand(1, 3, 90, 100))[-1].isfinite().all()
    with pytest.raises(ValueError, match="was built for inputs of shape"):
        backbone(torch.rand(1, 4, 90, 100))


def test_subtracting_the_mean_is_exact_in_bf16():
    backbone = backbones.build("nature", (1, 84, 84))
    backbone.set_mean_observation(torch.full((1, 84, 84), 200, dtype=torch.uint8))
    x = torch.full((1, 1, 84, 84), 201, dtype=torch.uint8)
    with torch.autocast("cpu", torch.bfloat16):
        first = backbone.stages[0][0](x)
    expected = backbone.stages[0][0].weight.sum((1, 2, 3)) / 255
    torch.testing.assert_close(first[0, :, 3, 3].float(), expected, rtol=0.03, atol=1e-4)


def test_no_mean_observation_without_the_layer():
    with pytest.raises(ValueError, match="it does not begin with a convolution of pixels"):
        backbones.build("mlp", (4,), subtracts_mean=True)
    with pytest.raises(ValueError, match="a mean of their own"):
        backbones.build("inception_v3", (3, 96, 96), transform_input=True, subtracts_mean=True)
    with pytest.raises(ValueError, match=r"a mean observation \(1, 84, 84\) does not fit inputs \(4, 84, 84\)"):
        backbones.build("nature", (4, 84, 84)).set_mean_observation(torch.zeros(1, 84, 84))


def test_mean_observation_of_another_shape_by_hand():
    picture = torch.tensor([10, 20, 60], dtype=torch.uint8).view(3, 1, 1)
    assert adapt_mean_observation(picture, (1, 1, 1)).flatten().tolist() == [30]
    assert adapt_mean_observation(picture, (2, 1, 1)).flatten().tolist() == [30, 30]
    assert adapt_mean_observation(picture, (4, 1, 1)).flatten().tolist() == [10, 20, 60, 10]
    wide = adapt_mean_observation(torch.tensor([[[0, 0, 100, 100]]], dtype=torch.uint8), (1, 1, 2))
    assert wide.flatten().tolist() == [14, 86]  # antialiased: a triangle two pixels wide


def test_adapt_by_hand():
    weight = torch.tensor([1.0, 2.0, 6.0]).view(1, 3, 1, 1)
    assert adapt_channels(weight, 1).flatten().tolist() == [9.0]  # the sum
    assert adapt_channels(weight, 2).flatten().tolist() == [4.5, 4.5]  # 3 * 3 / 2
    assert adapt_channels(weight, 4).flatten().tolist() == [0.75, 1.5, 4.5, 0.75]  # repeated, times 3 / 4


def test_frozen_stays_frozen(tmp_path):
    backbones.save(backbones.build("small", (3, 20, 20)), tmp_path / "backbone.safetensors")
    for source in ("small", tmp_path):
        backbone = backbones.build(source, (3, 20, 20), frozen=True)
        whole = nn.Sequential(backbone)
        whole.train()
        assert whole.training and not any(m.training for m in backbone.modules())
        assert not any(p.requires_grad for p in backbone.parameters())
        assert not backbone(torch.rand(1, 3, 20, 20))[-1].requires_grad
        assert copy.deepcopy(backbone).train().frozen
        assert backbones.build(**backbone.spec).frozen is False  # how it is used, not what it is


def test_unknown_words():
    with pytest.raises(ValueError, match="unknown backbone 'natrue': did you mean 'nature'"):
        backbones.build("natrue", (4, 84, 84))
    with pytest.raises(ValueError, match="choose one of nature, "):
        backbones.build("xyz", (4, 84, 84))
    with pytest.raises(ValueError, match="unknown stem 'atarri' for nature"):
        backbones.build("nature", (4, 84, 84), stem="atarri")
    with pytest.raises(ValueError, match="unknown norm 'bach': choose one of none, batch, layer, group, instance"):
        backbones.build("nature", (4, 84, 84), norm="bach")
    with pytest.raises(ValueError, match="norm 'group' is for maps"):
        backbones.build("mlp", (4,), norm="group")
    with pytest.raises(ValueError, match="'nature' has no option 'spectral': it takes activation, "):
        backbones.build("nature", (4, 84, 84), spectral=True)
    with pytest.raises(ValueError, match="use 'mlp' for vectors"):
        backbones.build("nature", (4,))
    with pytest.raises(ValueError, match="C = 4"):
        backbones.build("nature", (4, 84, 84))(torch.rand(1, 3, 84, 84))
