"""Published weights: files, preprocessing and logits, against forward passes written here from state dicts alone."""

import hashlib
import json

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F
from torchvision_oracle import import_torchvision

from vision import backbones
from vision.backbones import BACKBONES, Preprocessing, published
from vision.backbones.checkpoints import read
from vision.backbones.layers.dropconnect import DropConnect, connect
from vision.backbones.preprocessing import Normalize
from vision.classification import classifier, torchvision_weights

MEAN, STD = torch.tensor([0.485, 0.456, 0.406]).view(3, 1, 1), torch.tensor([0.229, 0.224, 0.225]).view(3, 1, 1)


@pytest.fixture(autouse=True)
def seed():
    torch.manual_seed(0)


def unroll_inputs(model: torch.nn.Module) -> torch.nn.Module:
    """The model in evaluation, its batch norms as if it had been trained."""
    for layer in model.modules():
        if isinstance(layer, torch.nn.BatchNorm2d):
            torch.nn.init.uniform_(layer.weight, 0.5, 1.5)
            torch.nn.init.normal_(layer.bias, std=0.2)
            layer.running_mean.normal_(std=0.2)
            layer.running_var.uniform_(0.5, 1.5)
    return model.eval()


class Functional:
    """Layers by the keys of a state dict, without modules."""

    def __init__(self, state: dict[str, Tensor], eps: float = 1e-5) -> None:
        self.state, self.eps = state, eps

    def conv(self, x: Tensor, key: str, stride=1, padding=0, groups=1) -> Tensor:
        return F.conv2d(x, self.state[f"{key}.weight"], self.state.get(f"{key}.bias"), stride, padding, 1, groups)

    def norm(self, x: Tensor, key: str) -> Tensor:
        mean, variance, scale, shift = (
            self.state[f"{key}.{name}"].view(-1, 1, 1) for name in ("running_mean", "running_var", "weight", "bias")
        )
        return (x - mean) / (variance + self.eps).sqrt() * scale + shift

    def dense(self, x: Tensor, key: str) -> Tensor:
        return x @ self.state[f"{key}.weight"].T + self.state[f"{key}.bias"]

    def basic(self, x: Tensor, key: str, stride=1, padding=0) -> Tensor:
        """GoogLeNet's and Inception's: convolution, norm, ReLU; the padding keeps the size where it is None."""
        if padding is None:
            padding = tuple(side // 2 for side in self.state[f"{key}.conv.weight"].shape[2:])
        return self.norm(self.conv(x, f"{key}.conv", stride, padding), f"{key}.bn").relu()

    def count(self, prefix: str) -> int:
        return len({key[len(prefix) :].split(".")[0] for key in self.state if key.startswith(prefix)})


def resnet(x: Tensor, state: dict[str, Tensor]) -> Tensor:
    f = Functional(state)
    x = F.max_pool2d(f.norm(f.conv(x, "conv1", 2, 3), "bn1").relu(), 3, 2, 1)
    for stage in range(1, 5):
        for block in range(f.count(f"layer{stage}.")):
            at, stride = f"layer{stage}.{block}", 2 if stage > 1 and block == 0 else 1
            if f"{at}.conv3.weight" in state:  # the stride in the 3x3
                inner = f.norm(f.conv(x, f"{at}.conv1"), f"{at}.bn1").relu()
                inner = f.norm(f.conv(inner, f"{at}.conv2", stride, 1), f"{at}.bn2").relu()
                inner = f.norm(f.conv(inner, f"{at}.conv3"), f"{at}.bn3")
            else:
                inner = f.norm(f.conv(x, f"{at}.conv1", stride, 1), f"{at}.bn1").relu()
                inner = f.norm(f.conv(inner, f"{at}.conv2", 1, 1), f"{at}.bn2")
            if f"{at}.downsample.0.weight" in state:
                x = f.norm(f.conv(x, f"{at}.downsample.0", stride), f"{at}.downsample.1")
            x = (inner + x).relu()
    return f.dense(x.mean((2, 3)), "fc")


def alexnet(x: Tensor, state: dict[str, Tensor]) -> Tensor:
    f = Functional(state)
    x = F.max_pool2d(f.conv(x, "features.0", 4, 2).relu(), 3, 2)
    x = F.max_pool2d(f.conv(x, "features.3", 1, 2).relu(), 3, 2)
    for place in (6, 8, 10):
        x = f.conv(x, f"features.{place}", 1, 1).relu()
    x = F.adaptive_avg_pool2d(F.max_pool2d(x, 3, 2), 6).flatten(1)
    return f.dense(f.dense(f.dense(x, "classifier.1").relu(), "classifier.4").relu(), "classifier.6")


def vgg11_bn(x: Tensor, state: dict[str, Tensor]) -> Tensor:
    f, place = Functional(state), 0
    for kind in "CPCPCCPCCPCCP":
        if kind == "P":
            x, place = F.max_pool2d(x, 2), place + 1
        else:
            x = f.norm(f.conv(x, f"features.{place}", 1, 1), f"features.{place + 1}").relu()
            place += 3
    x = F.adaptive_avg_pool2d(x, 7).flatten(1)
    return f.dense(f.dense(f.dense(x, "classifier.0").relu(), "classifier.3").relu(), "classifier.6")


def densenet121(x: Tensor, state: dict[str, Tensor]) -> Tensor:
    f = Functional(state)
    x = F.max_pool2d(f.norm(f.conv(x, "features.conv0", 2, 3), "features.norm0").relu(), 3, 2, 1)
    for block in range(1, 5):
        for layer in range(1, (6, 12, 24, 16)[block - 1] + 1):
            at = f"features.denseblock{block}.denselayer{layer}"
            inner = f.conv(f.norm(x, f"{at}.norm1").relu(), f"{at}.conv1")
            x = torch.cat((x, f.conv(f.norm(inner, f"{at}.norm2").relu(), f"{at}.conv2", 1, 1)), 1)
        if block < 4:
            at = f"features.transition{block}"
            x = F.avg_pool2d(f.conv(f.norm(x, f"{at}.norm").relu(), f"{at}.conv"), 2)
    return f.dense(f.norm(x, "features.norm5").relu().mean((2, 3)), "classifier")


def mobilenet_v2(x: Tensor, state: dict[str, Tensor]) -> Tensor:
    f, place = Functional(state), 1
    x = f.norm(f.conv(x, "features.0.0", 2, 1), "features.0.1").clamp(0, 6)
    for row, (layers, stride) in enumerate(((1, 1), (2, 2), (3, 2), (4, 2), (3, 1), (3, 2), (1, 1))):
        for layer in range(layers):
            inner, at, step = x, f"features.{place}.conv", stride if layer == 0 else 1
            if row > 0:
                inner = f.norm(f.conv(inner, f"{at}.0.0"), f"{at}.0.1").clamp(0, 6)
            i = 1 if row > 0 else 0
            inner = f.norm(f.conv(inner, f"{at}.{i}.0", step, 1, inner.shape[1]), f"{at}.{i}.1").clamp(0, 6)
            inner = f.norm(f.conv(inner, f"{at}.{i + 1}"), f"{at}.{i + 2}")
            x, place = x + inner if layer > 0 else inner, place + 1
    x = f.norm(f.conv(x, "features.18.0"), "features.18.1").clamp(0, 6)
    return f.dense(x.mean((2, 3)), "classifier.1")


def squeezenet1_1(x: Tensor, state: dict[str, Tensor]) -> Tensor:
    f = Functional(state)
    x = f.conv(x, "features.0", 2).relu()
    for place in range(2, 13):
        if place in (2, 5, 8):
            x = F.max_pool2d(x, 3, 2, ceil_mode=True)
            continue
        x = f.conv(x, f"features.{place}.squeeze").relu()
        ones, threes = f.conv(x, f"features.{place}.expand1x1"), f.conv(x, f"features.{place}.expand3x3", 1, 1)
        x = torch.cat((ones, threes), 1).relu()
    return f.conv(x, "classifier.1").relu().mean((2, 3))


def renormalized(x: Tensor) -> Tensor:
    return torch.stack([x[:, i] * (STD[i] / 0.5) + (MEAN[i] - 0.5) / 0.5 for i in range(3)], 1)


def googlenet(x: Tensor, state: dict[str, Tensor]) -> list[Tensor]:
    f = Functional(state, eps=1e-3)
    x = F.max_pool2d(f.basic(renormalized(x), "conv1", 2, 3), 3, 2, ceil_mode=True)
    x = F.max_pool2d(f.basic(f.basic(x, "conv2"), "conv3", 1, 1), 3, 2, ceil_mode=True)
    early = []
    for name in ("3a", "3b", "4a", "4b", "4c", "4d", "4e", "5a", "5b"):
        at = f"inception{name}"
        two = f.basic(f.basic(x, f"{at}.branch2.0"), f"{at}.branch2.1", 1, 1)
        three = f.basic(f.basic(x, f"{at}.branch3.0"), f"{at}.branch3.1", 1, 1)
        four = f.basic(F.max_pool2d(x, 3, 1, 1, ceil_mode=True), f"{at}.branch4.1")
        x = torch.cat((f.basic(x, f"{at}.branch1"), two, three, four), 1)
        if name in ("4a", "4d"):
            at = f"aux{len(early) + 1}"
            inner = f.basic(F.adaptive_avg_pool2d(x, 4), f"{at}.conv").flatten(1)
            early.append(f.dense(f.dense(inner, f"{at}.fc1").relu(), f"{at}.fc2"))
        if name in ("3b", "4e"):
            side = 3 if name == "3b" else 2
            x = F.max_pool2d(x, side, 2, ceil_mode=True)
    return [f.dense(x.mean((2, 3)), "fc"), *early]


def inception_v3(x: Tensor, state: dict[str, Tensor]) -> list[Tensor]:
    f = Functional(state, eps=1e-3)

    def chain(x: Tensor, at: str, *names: str) -> Tensor:
        for name in names:
            x = f.basic(x, f"{at}.{name}", 1, None)
        return x

    def projected(x: Tensor, at: str) -> Tensor:
        return f.basic(F.avg_pool2d(x, 3, 1, 1), f"{at}.branch_pool")

    x = f.basic(f.basic(renormalized(x), "Conv2d_1a_3x3", 2), "Conv2d_2a_3x3")
    x = F.max_pool2d(f.basic(x, "Conv2d_2b_3x3", 1, 1), 3, 2)
    x = F.max_pool2d(f.basic(f.basic(x, "Conv2d_3b_1x1"), "Conv2d_4a_3x3"), 3, 2)
    triple = [f"branch3x3dbl_{i}" for i in (1, 2, 3)]
    for at in ("Mixed_5b", "Mixed_5c", "Mixed_5d"):
        five = chain(x, at, "branch5x5_1", "branch5x5_2")
        x = torch.cat((chain(x, at, "branch1x1"), five, chain(x, at, *triple), projected(x, at)), 1)
    at = "Mixed_6a"
    double = f.basic(chain(x, at, *triple[:2]), f"{at}.branch3x3dbl_3", 2)
    x = torch.cat((f.basic(x, f"{at}.branch3x3", 2), double, F.max_pool2d(x, 3, 2)), 1)
    for at in ("Mixed_6b", "Mixed_6c", "Mixed_6d", "Mixed_6e"):
        seven = chain(x, at, *[f"branch7x7_{i}" for i in (1, 2, 3)])
        double = chain(x, at, *[f"branch7x7dbl_{i}" for i in (1, 2, 3, 4, 5)])
        x = torch.cat((chain(x, at, "branch1x1"), seven, double, projected(x, at)), 1)
    inner = f.basic(f.basic(F.avg_pool2d(x, 5, 3), "AuxLogits.conv0"), "AuxLogits.conv1")
    early = f.dense(inner.mean((2, 3)), "AuxLogits.fc")
    at = "Mixed_7a"
    three = f.basic(chain(x, at, "branch3x3_1"), f"{at}.branch3x3_2", 2)
    seven = f.basic(chain(x, at, *[f"branch7x7x3_{i}" for i in (1, 2, 3)]), f"{at}.branch7x7x3_4", 2)
    x = torch.cat((three, seven, F.max_pool2d(x, 3, 2)), 1)
    for at in ("Mixed_7b", "Mixed_7c"):
        three = chain(x, at, "branch3x3_1")
        three = torch.cat((chain(three, at, "branch3x3_2a"), chain(three, at, "branch3x3_2b")), 1)
        double = chain(x, at, *triple[:2])
        double = torch.cat((chain(double, at, "branch3x3dbl_3a"), chain(double, at, "branch3x3dbl_3b")), 1)
        x = torch.cat((chain(x, at, "branch1x1"), three, double, projected(x, at)), 1)
    return [f.dense(x.mean((2, 3)), "fc"), early]


BY_HAND = {
    "alexnet": alexnet,
    "vgg11_bn": vgg11_bn,
    "resnet18": resnet,
    "resnet50": resnet,
    "densenet121": densenet121,
    "mobilenet_v2": mobilenet_v2,
    "squeezenet1_1": squeezenet1_1,
    "googlenet": googlenet,
    "inception_v3": inception_v3,
}


@pytest.mark.parametrize("name", BY_HAND)
def test_logits_by_hand(name):
    """The same sums from the state alone; a fourth of the channels, and sides where pools round."""
    side = 299 if name == "inception_v3" else 109
    own = {"transform_input": True} if name in ("googlenet", "inception_v3") else {}
    model = unroll_inputs(classifier.build(name, (3, side, side), 7, width=0.25, **own))
    x = torch.randn(2, 3, side, side)
    with torch.no_grad():
        maps = model.backbone(x)
        ours = [model.head(maps)]
        ours += model.head.auxiliary(maps) if hasattr(model.head, "auxiliary") else []
        theirs = BY_HAND[name](x, torchvision_weights.to_torchvision(model))
    theirs = theirs if isinstance(theirs, list) else [theirs]
    assert len(ours) == len(theirs)
    for mine, hand in zip(ours, theirs, strict=True):
        assert hand.std() > 1e-3, "logits that say something"
        torch.testing.assert_close(mine, hand, rtol=1e-4, atol=1e-4 * hand.abs().max().item())


def oracle():
    """torchvision; the test is skipped where it is not installed."""
    try:
        return import_torchvision()
    except ImportError:
        pytest.skip("torchvision is not installed")


@pytest.mark.parametrize("name", published.PUBLISHED)
def test_logits_are_torchvisions(name):
    torchvision = oracle()
    own = {"aux_logits": True, "transform_input": True, "init_weights": False}
    theirs = torchvision.models.get_model(name, weights=None, **own if "ception" in name or "goog" in name else {})
    side = 299 if name == "inception_v3" else 109
    theirs, x = unroll_inputs(theirs), torch.randn(2, 3, side, side)
    ours = torchvision_weights.from_torchvision(name, theirs.state_dict()).eval()
    with torch.no_grad():
        expected = theirs(x)
        torch.testing.assert_close(ours(x), expected, rtol=1e-4, atol=1e-4 * expected.abs().max().item())


def test_files_are_torchvisions():
    torchvision = oracle()
    for name, files in published.PUBLISHED.items():
        for file, tag in zip(files, ("IMAGENET1K_V1", "IMAGENET1K_V2"), strict=False):
            theirs = torchvision.models.get_model_weights(name)[tag]
            prepared = theirs.transforms()
            assert theirs.url == f"{published.ROOT}{file.stem}.pth"
            assert (prepared.resize_size, prepared.crop_size) == ([file.resize], [file.crop])
            assert (tuple(prepared.mean), tuple(prepared.std)) == file.preprocessing[2:4]


def test_every_published_file_has_its_digits():
    assert published.PUBLISHED.keys() <= BACKBONES.keys()
    stems = [file.stem for files in published.PUBLISHED.values() for file in files]
    assert len(stems) == len(set(stems)) == 36
    assert all(len(digits := stem.rpartition("-")[2]) == 8 and int(digits, 16) for stem in stems)


def publish(monkeypatch, tmp_path, name: str, state: dict[str, Tensor]) -> str:
    """Puts a file on a server of its own, under a name with its digits, and returns its address."""
    (tmp_path / "server").mkdir(exist_ok=True)
    torch.save(state, tmp_path / "new")
    stem = f"{name}-{hashlib.sha256((tmp_path / 'new').read_bytes()).hexdigest()[:8]}"
    (tmp_path / "new").rename(tmp_path / "server" / f"{stem}.pth")
    monkeypatch.setattr(published, "ROOT", f"file://{tmp_path}/server/")
    monkeypatch.setitem(published.PUBLISHED, name, (published.File(stem),))
    monkeypatch.setenv("TORCH_HOME", str(tmp_path / "home"))
    return stem


def small(name: str = "squeezenet1_1", classes: int = 6) -> dict[str, Tensor]:
    return torchvision_weights.to_torchvision(unroll_inputs(classifier.build(name, (3, 64, 64), classes)))


def test_published_weights_arrive(monkeypatch, tmp_path):
    state = small()
    stem = publish(monkeypatch, tmp_path, "squeezenet1_1", {key: value.half() for key, value in state.items()})
    state = {key: value.half().float() for key, value in state.items()}
    backbone = backbones.build("squeezenet1_1:imagenet", (3, 64, 64), frozen=True)
    assert (tmp_path / "home" / "hub" / "checkpoints" / f"{stem}.pth").is_file() and backbone.frozen
    (tmp_path / "server" / f"{stem}.pth").unlink()  # from now on the cache's
    model = classifier.build("squeezenet1_1:IMAGENET1K_V1", (3, 64, 64), 6).eval()
    pixels = torch.randint(256, (2, 3, 64, 64), dtype=torch.uint8)
    plain = torchvision_weights.from_torchvision("squeezenet1_1", state).eval()
    expected = plain((pixels / 255 - MEAN) / STD)
    for image in (pixels, pixels / 255):
        torch.testing.assert_close(model(image), expected, rtol=1e-4, atol=1e-4)
        torch.testing.assert_close(model.head(backbone(image)), expected, rtol=1e-4, atol=1e-4)
    assert torchvision_weights.to_torchvision(model).keys() == state.keys()
    other = classifier.build("squeezenet1_1:imagenet", (3, 64, 64), 9, dropout=0.1)  # another number of classes
    assert other(pixels).shape == (2, 9) and other.preprocessing == Preprocessing()
    assert torch.equal(other.backbone.features[0].weight, state["features.0.weight"])


def test_what_cannot_be_had_is_said(monkeypatch, tmp_path):
    stem = publish(monkeypatch, tmp_path, "squeezenet1_1", small())
    for name, message in {
        "squeezenet1_1:imagenet-v2": "no second weights for squeezenet1_1",
        "squeezenet1_1:imagnet": "did you mean 'imagenet'",
        "squeezenet1_1:/no/such.pth": "is not a file and no published weights",
        "resnet20:imagenet": "no published weights for resnet20",
        "squeezenet1_l:imagenet": "unknown backbone 'squeezenet1_l:imagenet': did you mean 'squeezenet1_1'",
    }.items():
        with pytest.raises(ValueError, match=message):
            backbones.build(name, (3, 64, 64))
    with pytest.raises(ValueError, match="normalizes images as its weights were trained on them"):
        backbones.build("squeezenet1_1:imagenet", (3, 64, 64), subtracts_mean=True)
    for option, value in {"stem": "cifar", "width": 0.5, "norm": "batch", "activation": "tanh"}.items():
        with pytest.raises(ValueError, match=f"published weights of squeezenet1_1 are for {option}="):
            backbones.build("squeezenet1_1:imagenet", (3, 64, 64), **{option: value})
    backbones.build("squeezenet1_1:imagenet", (3, 64, 64), stem="imagenet", dropout=0.2)
    cached = tmp_path / "home" / "hub" / "checkpoints" / f"{stem}.pth"
    cached.write_bytes(cached.read_bytes()[:5000])
    with pytest.raises(ValueError, match="is damaged, or no file of weights"):
        backbones.build("squeezenet1_1:imagenet", (3, 64, 64))
    cached.unlink()
    with (tmp_path / "server" / f"{stem}.pth").open("ab") as file:
        file.write(b"more")
    with pytest.raises(ValueError, match="sent something else than the published file"):
        backbones.build("squeezenet1_1:imagenet", (3, 64, 64))
    assert not list(cached.parent.iterdir()), "nothing half-written stays"
    monkeypatch.setattr(published, "ROOT", f"file://{tmp_path}/nowhere/")
    with pytest.raises(ValueError, match="could not be fetched from .* put it into"):
        backbones.build("squeezenet1_1:imagenet", (3, 64, 64))
    torch.save({"epoch": 3}, tmp_path / "x.pth")
    with pytest.raises(ValueError, match="holds no weights by their names"):
        backbones.build(f"squeezenet1_1:{tmp_path}/x.pth", (3, 64, 64))


@pytest.mark.parametrize("channels", [1, 4, 6])
def test_other_channels_from_a_file(tmp_path, channels):
    state = small()
    torch.save(state, tmp_path / "mine.pth")
    three = backbones.build(f"squeezenet1_1:{tmp_path}/mine.pth", (3, 64, 64)).eval()
    backbone = backbones.build(f"squeezenet1_1:{tmp_path}/mine.pth", (channels, 64, 64)).eval()
    assert backbone.features[0].weight.shape[1] == channels and backbone.spec["shape"] == [channels, 64, 64]
    x = torch.rand(2, 1, 64, 64)
    mean = {1: [0.449], 4: [0.485, 0.456, 0.406, 0.485], 6: [0.485, 0.456, 0.406] * 2}[channels]
    assert backbone.spec["preprocessing"]["mean"] == pytest.approx(mean)
    if channels == 6:  # two equal pictures: exactly what one gives
        color = torch.rand(2, 3, 64, 64)
        torch.testing.assert_close(backbone(color.repeat(1, 2, 1, 1))[-1], three(color)[-1], rtol=1e-4, atol=1e-4)
    if channels == 1:  # nearly: the channels' means differ by a sixth of a deviation
        gray, color = backbone(x)[-1].flatten(), three(x.expand(-1, 3, -1, -1))[-1].flatten()
        assert F.cosine_similarity(gray, color, 0) > 0.99
    backbones.save(backbone, tmp_path / "backbone.safetensors")
    for again in (backbones.load(tmp_path), backbones.build(tmp_path, (channels, 64, 64))):
        x = torch.randint(256, (2, channels, 64, 64), dtype=torch.uint8)
        assert torch.equal(again.eval()(x)[-1], backbone(x)[-1]) and again.preprocessing == backbone.preprocessing
    assert json.loads(json.dumps(backbone.spec)) == read(tmp_path / "backbone.safetensors")[0]
    assert "preprocessing" not in backbones.build("squeezenet1_1", (3, 64, 64)).spec, "only where there is one"


def test_googlenet_sees_pixels_about_zero(tmp_path):
    """transform_input and the normalization are one step, for any channels; a file may lack auxiliary heads."""
    model = unroll_inputs(classifier.build("googlenet", (3, 64, 64), 4))
    state = {
        key: value for key, value in torchvision_weights.to_torchvision(model).items() if not key.startswith("aux")
    }
    torch.save(state, tmp_path / "mine.pth")
    x = torch.rand(2, 3, 64, 64)
    again = classifier.build(f"googlenet:{tmp_path}/mine.pth", (3, 64, 64), 4).eval()
    torch.testing.assert_close(again(x), model(2 * x - 1), rtol=1e-4, atol=1e-4)
    torch.testing.assert_close(
        torchvision_weights.from_torchvision("googlenet", state).eval()((x - MEAN) / STD), again(x)
    )
    assert again.preprocessing.mean == pytest.approx((0.5, 0.5, 0.5))
    assert (
        backbones.build(f"googlenet:{tmp_path}/mine.pth", (4, 84, 84))(torch.rand(2, 4, 84, 84))[-1].shape[1] == 1024
    )


def test_dense_layers_stay_where_only_the_classes_differ():
    found = backbones.Checkpoint("alexnet", small("alexnet", 5), None)
    model = classifier.load_pretrained(found, (3, 64, 64), 3)
    assert torch.equal(model.head.classifier[1].weight, found.state["classifier.1.weight"])
    assert model.head.classifier[6].weight.shape == (3, 4096)
    with pytest.raises(ValueError, match="have no 'classifier.4.bias'"):
        lacking = {key: value for key, value in found.state.items() if key != "classifier.4.bias"}
        classifier.load_pretrained(found._replace(state=lacking), (3, 64, 64))


def test_normalize_and_cut_by_hand():
    step = Normalize((0.5, 0.25), (0.5, 0.1))
    x = torch.tensor([0, 255, 51, 102], dtype=torch.uint8).view(1, 2, 1, 2)
    assert step(x).flatten().tolist() == pytest.approx([-1, 1, -0.5, 1.5])
    assert step(x / 255).flatten().tolist() == pytest.approx([-1, 1, -0.5, 1.5])
    assert not step.state_dict() and step.bfloat16()(x).dtype == torch.bfloat16
    two = Preprocessing(mean=(0.2, 0.4), std=(0.1, 0.3))
    assert two.fitted(1).mean == pytest.approx((0.3,)) and two.fitted(3).std == (0.1, 0.3, 0.1)
    assert Preprocessing.of(json.loads(json.dumps(two.spec()))) == two
    image = torch.arange(8, dtype=torch.uint8).view(1, 1, 1, 8).expand(1, 3, 4, 8) * 10
    cut = Preprocessing(resize=4, crop=2).cut(image)
    assert cut.shape == (1, 3, 2, 2) and cut[0, 0, 0].tolist() == [30, 40] and cut.dtype == torch.uint8
    assert Preprocessing().cut(torch.rand(2, 3, 300, 500)).shape == (2, 3, 224, 224)


def test_dropconnect_by_hand():
    layer = DropConnect(200, 300, 0.25)
    x = torch.rand(8, 200)
    plain = F.linear(x, layer.weight, layer.bias)
    assert torch.equal(layer.eval()(x), plain)
    layer.train()
    with torch.no_grad():
        layer.bias.zero_()
        (one,) = layer(torch.eye(200)[:1])  # the column of weights that input 0 has
    kept = one / layer.weight[:, 0] * 0.75
    assert set(kept.round(decimals=4).tolist()) == {0.0, 1.0}
    assert (kept == 0).float().mean() == pytest.approx(0.25, abs=0.08)
    model = classifier.build("lenet300_100", (1, 28, 28), 10, dropconnect=0.5)
    assert isinstance(model.head.fc, DropConnect) and model.head.fc.drop == 0.5
    assert (
        connect(model.head, 0.1).state_dict().keys()
        == classifier.build("lenet300_100", (1, 28, 28), 10).head.state_dict().keys()
    )
    body = backbones.build("lenet300_100", (1, 28, 28), dropconnect=0.5)
    x = torch.rand(4, 1, 28, 28)
    assert not torch.equal(body(x)[0], body(x)[0]) and torch.equal(body.eval()(x)[0], body(x)[0])
    with pytest.raises(ValueError, match="dropconnect=1.0 is not a probability"):
        backbones.build("mlp", (4,), dropconnect=1.0)


FIRST = {family: name for name, family in reversed(BACKBONES.items())}  # of each family


DEEP = ("inception_v2", "inception_v4", "inception_resnet_v2", "fractalnet20")
SPARED = [pytest.param(name, marks=pytest.mark.slow) if name in DEEP else name for name in FIRST.values()]


@pytest.mark.parametrize("name", SPARED)
def test_every_body_has_a_dropout_without_a_key(name):
    shape = (1, 28, 28) if name in ("mlp", "lenet300_100") else (3, 96, 96)
    options = {} if name in ("mlp", "lenet300_100") else {"width": 0.125}
    options |= {"drop_path": 0.0} if name == "fractalnet20" else {}
    plain = backbones.build(name, shape, dropout=0.0, **options)
    dropping = backbones.build(name, shape, dropout=0.5, **options)
    assert plain.state_dict().keys() == dropping.state_dict().keys() and dropping.spec["dropout"] == 0.5
    dropping.load_state_dict(plain.state_dict())
    x = torch.rand(2, *shape)
    one, two = dropping(x)[-1], dropping(x)[-1]
    assert not torch.equal(one, two) and not torch.equal(one, plain(x)[-1])
    plain.load_state_dict(dropping.state_dict())  # running means moved
    assert torch.equal(dropping.eval()(x)[-1], plain.eval()(x)[-1])


@pytest.mark.parametrize("name", ["nature", "impala", "small", "mlp"])
def test_agents_backbones_have_the_activation_of_the_flag(name):
    shape = (6,) if name == "mlp" else (4, 44, 44)
    plain = backbones.build(name, shape)
    for activation in ("elu", "prelu", "maxout"):
        backbone = backbones.build(name, shape, activation=activation)
        maps = backbone(torch.rand(2, *shape))
        assert [m.shape[1] for m in maps] == backbone.channels and backbone.channels[-1] == plain.channels[-1]
        sum(m.square().mean() for m in maps).backward()
        assert all(weight.grad is not None for weight in backbone.parameters())
    assert [key for key in plain.state_dict() if "relu" in key] == []
