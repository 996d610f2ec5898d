"""Pictures by gradient ascent, DeepDream, inversion and style transfer, on tiny networks."""

import dataclasses
import json

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from vision import backbones
from vision.classification.classifier import Classifier
from vision.data import image_ops
from vision.interpretation import (
    activations,
    deepdream,
    embedding,
    feature_inversion,
    feature_visualization,
    features,
    gradient_ascent,
    gram,
    pictures,
    style_transfer,
)

FLAGS = gradient_ascent.AscentFlags(ascent_steps=20)


@pytest.fixture(scope="module")
def model():
    torch.manual_seed(0)
    return Classifier(backbones.build("small", (3, 16, 16), width=0.5), 10).eval().requires_grad_(False)


def noise(*shape, seed=0):
    return torch.rand(*shape, generator=torch.Generator().manual_seed(seed))


def generator(seed=0):
    return torch.Generator().manual_seed(seed)


def test_an_ascent_step_by_hand():
    """The gradient (1, 3) has the mean magnitude 2: steps of 0.01 and 0.03, then a tenth of the way back to gray."""
    flags = gradient_ascent.AscentFlags(ascent_steps=1, step_size=0.02, l2_decay=0.1, blur_every=0, jitter=0)
    weight = torch.tensor([1.0, 3.0])
    start = torch.full((1, 1, 1, 2), 0.6)
    found = gradient_ascent.ascend(lambda x: (x.flatten(1) * weight).sum(1), start, flags, generator())
    assert found.flatten().tolist() == pytest.approx([0.5 + 0.9 * 0.11, 0.5 + 0.9 * 0.13])


def test_clipping_and_total_variation_by_hand():
    images = torch.tensor([[[[0.9, 0.6], [0.1, 0.45]]]])
    found = gradient_ascent.clip_smallest(images, (images - 0.5).abs().sum(1), 0.5)
    assert found.flatten().tolist() == pytest.approx([0.9, 0.5, 0.1, 0.5])
    assert gradient_ascent.clip_smallest(images, images[:, 0], 0.0) is images
    found = gradient_ascent.total_variation(images).item()
    assert found == pytest.approx(0.8**2 + 0.15**2 + 0.3**2 + 0.35**2)


@pytest.mark.parametrize("flags", [FLAGS, dataclasses.replace(FLAGS, clip_pixels=0.2, clip_contributions=0.2)])
def test_ascent_raises_the_score(model, flags):
    classes = torch.tensor([0, 7])
    images = feature_visualization.of_classes(model, classes, (3, 16, 16), flags, 1)
    gray = model(torch.full_like(images, 0.5))[range(2), classes]
    assert images.min() >= 0 and images.max() <= 1 and not images.requires_grad
    assert (model(images)[range(2), classes] > gray).all()
    again = feature_visualization.of_classes(model, classes, (3, 16, 16), flags, 1)
    assert torch.equal(images, again)
    neurons = feature_visualization.of_channels(model, 0, torch.tensor([1, 3]), (3, 16, 16), flags, 1)
    maps, before = (model.backbone(each)[0] for each in (neurons, torch.full_like(neurons, 0.5)))
    middle = maps.shape[2] // 2
    assert (maps[[0, 1], [1, 3], middle, middle] > before[[0, 1], [1, 3], middle, middle]).all()


def test_fooling_images_are_of_the_wanted_class(model):
    images = noise(3, 3, 16, 16)
    wanted = model(images).topk(2).indices[:, 1]  # the second guess
    found, steps = gradient_ascent.fooling_images(model, images, wanted)
    assert torch.equal(model(found).argmax(1), wanted) and (steps >= 0).all()
    assert (found - images).abs().mean() < 0.1
    assert gradient_ascent.fooling_images(model, images, wanted, steps=0)[1].tolist() == [-1, -1, -1]


def test_a_dream_amplifies_the_map(model):
    config = deepdream.Config(stage=0, octaves=2, ascent_steps=10, jitter=2)
    picture = noise(1, 3, 30, 40)
    found = deepdream.dream(model.backbone, picture, config, generator())
    sizes = [model.backbone(each)[0].square().sum() for each in (picture, found)]
    assert found.shape == picture.shape and sizes[1] > 1.2 * sizes[0]
    torch.testing.assert_close(deepdream.zoomed(torch.full((1, 3, 8, 8), 0.3), 1.5), torch.full((1, 3, 8, 8), 0.3))
    with pytest.raises(ValueError, match="smaller than"):
        deepdream.dream(backbones.build("nature", (3, 84, 84), frozen=True), noise(1, 3, 20, 20), config, generator())


def test_an_inverted_image_has_the_same_map(model):
    images = noise(2, 3, 16, 16)
    config = feature_inversion.Config(updates=120, variation=0.0)
    found, left = feature_inversion.invert(model.backbone, images, 0, config)
    wanted = model.backbone(images)[0]
    distance = (model.backbone(found)[0] - wanted).square().sum((1, 2, 3)) / wanted.square().sum((1, 2, 3))
    torch.testing.assert_close(left, distance)
    assert (left < 0.05).all() and found.min() >= 0 and found.max() <= 1
    smooth, _ = feature_inversion.invert(model.backbone, images, 0, dataclasses.replace(config, variation=10.0))
    assert (gradient_ascent.total_variation(smooth) < gradient_ascent.total_variation(found)).all()


def test_gram_matrices_and_losses_by_hand():
    maps = torch.tensor([[[[1.0, 2.0]], [[3.0, 4.0]]]])  # two channels, two places
    assert gram.gram_matrix(maps).tolist() == [[[5, 11], [11, 25]]]
    target = torch.tensor([[[2.5, 5.5], [5.5, 11.5]]])
    assert gram.style_loss(maps, target).item() == pytest.approx(1 / 16)  # 12.5 - 11.5, over 4 N^2
    assert gram.content_loss(maps, maps + 1).item() == 2  # half of four ones


def test_style_transfer_lowers_both_losses(model):
    content, styles = noise(1, 3, 16, 20), [noise(1, 3, 24, 16, seed=1).round(), noise(1, 3, 16, 16, seed=2) ** 4]
    config = style_transfer.Config(content_stages=(0,), evaluations=60, start="noise", style_shares=(0.7, 0.3))
    found, losses = style_transfer.transfer(model.backbone, content, styles, config)
    left = losses["end"]
    assert found.shape == content.shape and left["content"] < 0.8 and left["style"] < 0.8  # they contend
    assert all(losses["start"][part] > left[part] for part in ("content", "style"))
    alone = dataclasses.replace(config, style_shares=(), evaluations=100)
    for part in ("content", "style"):  # each without the other
        weights = {"content_weight": float(part == "content"), "style_weight": float(part == "style")}
        found, losses = style_transfer.transfer(
            model.backbone, content, styles[:1], dataclasses.replace(alone, **weights)
        )
        assert losses["end"][part] < 0.1 and found.min() >= 0 and found.max() <= 1
    with pytest.raises(ValueError, match="style-shares"):
        style_transfer.transfer(model.backbone, content, styles[:1], config)


def test_style_transfer_leaves_a_record(tmp_path):
    backbones.save(backbones.build("small", (3, 16, 16), width=0.5), tmp_path / "small.safetensors")
    for name, seed in (("photograph", 0), ("painting", 1)):
        pictures.save(noise(3, 20, 24, seed=seed), tmp_path / f"{name}.png")
    asked = dict(content=tmp_path / "photograph.png", styles=(tmp_path / "painting.png",), size=16, threads=1)
    config = style_transfer.Config(str(tmp_path / "small.safetensors"), **asked, device="cpu", evaluations=5)
    for start in ("content", "noise"):
        style_transfer.main(dataclasses.replace(config, start=start, out=tmp_path / f"{start}.jpg"))
        assert (tmp_path / f"{start}_sheet.jpg").exists()
        (trial,) = json.loads((tmp_path / f"{start}.json").read_text())["trials"]
        losses, left = trial["losses"], trial["left"]
        assert left["style"] == pytest.approx(losses["end"]["style"] / losses["start"]["style"])
        if start == "content":
            assert losses["start"]["content"] == 0 and left["content"] is None
            assert losses["start"]["style"] == pytest.approx(1, rel=1e-4)
        else:
            assert 0 < left["content"] < 1 and "Start: noise" in (tmp_path / "noise.md").read_text()


def test_colors_are_kept():
    content, style = noise(1, 3, 8, 8), noise(1, 3, 9, 7, seed=1) * 0.3
    matched = style_transfer.match_colors(style, content)[0].flatten(1)
    torch.testing.assert_close(matched.mean(1), content[0].flatten(1).mean(1), rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(matched.cov(), content[0].flatten(1).cov(), rtol=1e-3, atol=1e-4)
    picture = 0.3 + 0.4 * content
    torch.testing.assert_close(image_ops.with_colors_of(picture, picture), picture, rtol=0, atol=1e-5)
    gray = style_transfer.luminance(picture)
    torch.testing.assert_close(image_ops.with_colors_of(gray, picture), picture, rtol=0, atol=2e-3)


def test_patches_are_what_a_place_reads():
    """A white square in one image: the patches that a mean filter likes best hold it."""
    backbone = backbones.build("nature", (1, 84, 84)).eval()
    images = torch.zeros(6, 1, 84, 84, dtype=torch.uint8)
    images[4, 0, 40:48, 20:28] = 255
    images[2, 0, 60:64, 60:64] = 255
    first = next(module for module in backbone.modules() if isinstance(module, nn.Conv2d))
    nn.init.constant_(first.weight, 1.0)
    nn.init.zeros_(first.bias)
    (line, *_) = activations.strongest_patches(backbone, images, 0, 2, 3)
    assert [each.image for each in line[:2]] == [4, 2] and line[0].rows == (40, 47) and line[0].columns == (20, 27)
    assert activations.cut(images, line[0]).float().mean() == 255 and line[0].activation == pytest.approx(64)
    assert activations.cut(images, line[1]).shape == (1, 8, 8) and line[1].activation == pytest.approx(16)


def test_tiles():
    tiles = activations.tiled(torch.arange(3.0).view(3, 1, 1, 1).expand(3, 1, 2, 2) / 10)
    assert tiles.shape == (1, 6, 6) and tiles[0, 0].tolist() == pytest.approx([0, 0, 1, 0.1, 0.1, 1])
    assert tiles[0, 3].tolist() == pytest.approx([0.2, 0.2, 1, 1, 1, 1])
    assert activations.filter_tiles(noise(4, 3, 5, 5)).shape == (3, 12, 12)
    assert activations.filter_tiles(noise(4, 2, 5, 5)).shape == (1, 18, 18)  # eight gray tiles


def test_embeddings():
    points = noise(50, 2, seed=3) * torch.tensor([5.0, 1.0])
    turned = points @ torch.linalg.qr(noise(6, 6, seed=4))[0][:2]  # in six dimensions
    found = embedding.pca(turned)
    theirs = torch.pca_lowrank(turned, 2, niter=8)
    scores = (turned - turned.mean(0)) @ theirs[2]
    torch.testing.assert_close(found.abs(), scores.abs(), rtol=1e-3, atol=1e-4)
    labels = torch.tensor([0, 0, 1, 1, 0])
    assert embedding.neighbor_accuracy(torch.tensor([[0.0], [1], [5], [6], [5.6]]), labels) == pytest.approx(40)
    picture = embedding.thumbnails(
        torch.full((2, 1, 2, 2), 255, dtype=torch.uint8), torch.tensor([[0.0, 0], [1, 1]]), 2
    )
    assert picture[:, :, 0].tolist() == [[0, 0, 255, 255]] * 2 + [[255, 255, 0, 0]] * 2
    with pytest.raises(ValueError, match="openTSNE|perplexity"):
        embedding.tsne(noise(20, 4), perplexity=30)


def test_tsne_separates_clusters():
    pytest.importorskip("openTSNE")
    features_ = torch.cat([torch.randn(40, 8, generator=generator(k)) + 8 * k for k in range(3)])
    found = embedding.tsne(features_, perplexity=10)
    labels = torch.arange(3).repeat_interleave(40)
    assert found.shape == (120, 2) and embedding.neighbor_accuracy(found, labels) == 100


def test_features_are_of_pretrained_convolutional_backbones(tmp_path):
    with pytest.raises(ValueError, match="random weights"):
        features.load(features.FeatureFlags("resnet18"))
    backbones.save(backbones.build("lenet300_100", (1, 28, 28)), tmp_path / "lenet.safetensors")
    with pytest.raises(ValueError, match="only"):
        features.load(features.FeatureFlags(str(tmp_path / "lenet.safetensors")))
    backbones.save(backbones.build("small", (1, 16, 16)), tmp_path / "small.safetensors")
    flags = features.FeatureFlags(str(tmp_path / "small.safetensors"), size=20)
    backbone, _ = features.load(flags)
    pictures.save(noise(3, 40, 60), tmp_path / "picture.png")
    picture = features.read(tmp_path / "picture.png", flags, backbone)
    assert picture.shape == (1, 1, 20, 30) and 0.3 < picture.mean() < 0.7
    assert features.read(tmp_path / "picture.png", flags, backbone, square=True).shape == (1, 1, 20, 20)
    assert features.stages((-1, 0), backbone) == (len(backbone.channels) - 1, 0)
    with pytest.raises(ValueError, match="no stage 9"):
        features.stages((9,), backbone)


def test_signed_attributions_are_around_gray():
    found = pictures.signed(torch.tensor([[[[0.0, 1.0], [-1.0, 0.5]]]]))
    assert found.flatten().tolist() == pytest.approx([0.5, 1.0, 0.0, 0.75], abs=0.01)
    assert pictures.normalized(torch.zeros(1, 2, 2)).sum() == 0
    heat = pictures.overlay(pictures.in_color(torch.ones(1, 4, 4)), F.pad(torch.ones(1, 1), (0, 1, 0, 1)).numpy())
    assert heat[3, 3].tolist() == [255, 255, 255] and heat[0, 0, 2] < 255
