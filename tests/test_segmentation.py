"""Segmentation: metrics and upsampling by hand, networks on any backbone, learning, resume, prediction, folders."""

import dataclasses
import os
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torch.nn import functional as F

from vision import backbones, segmentation
from vision.data import image_files, mask_folders, scenes
from vision.data.annotated import problems
from vision.data.annotated.coco_writer import CocoWriter, Instance
from vision.data.samples import IGNORE, Sample, Target
from vision.segmentation import data, predict, torchvision_weights, train, upsampling, upsampling_picture
from vision.segmentation.dilated_fcn import DilatedFCN
from vision.segmentation.dilation import dilate
from vision.segmentation.metrics import Confusion
from vision.segmentation.segmenter import pixel_loss

ROOTS = [Path(os.environ.get("SACCADE_DATA", "/nowhere")), Path(__file__).parents[2] / "shared" / "data"]
TINY = dict(width=0.25, hidden=16, decoder_width=4, patches=8, wandb="disabled", device="cpu", batch=4)


def small(model, **changes):
    """A config that learns scenes with little."""
    return dataclasses.replace(train.recipe(train.Config(model=model)), **TINY | changes)


@pytest.fixture
def few(monkeypatch):
    """Small scenes in the place of the usual ones."""
    monkeypatch.setattr(scenes, "SIZES", (16, 4, 4))
    draw = scenes.Scenes
    monkeypatch.setattr(scenes, "Scenes", lambda count, seed, side=48: draw(count, seed, side))
    monkeypatch.setattr(scenes.Scenes, "classes", draw.classes, raising=False)
    data._scenes.cache_clear()
    yield data.load("shapes")
    data._scenes.cache_clear()


def test_metrics_by_hand():
    """Of five pixels with a class, three are right: IoU 1/3 of class 0, 2/4 of class 1; class 2 does not occur."""
    semantic = torch.tensor([[0, 0, 1], [1, 1, IGNORE]])
    predicted = torch.tensor([[0, 1, 1], [1, 0, 2]])
    confusion = Confusion(3)
    confusion.add(predicted, semantic)
    assert confusion.counts.tolist() == [[1, 1, 0], [1, 2, 0], [0, 0, 0]]
    assert confusion.iou().tolist()[:2] == [1 / 3, 0.5] and confusion.iou()[2].isnan()
    results = confusion.results()
    assert results["miou"] == pytest.approx((1 / 3 + 1 / 2) / 2) and results["pixel_accuracy"] == 0.6
    assert results["mean_accuracy"] == pytest.approx((1 / 2 + 2 / 3) / 2)
    assert results["weighted_iou"] == pytest.approx((2 / 3 + 3 / 2) / 5)
    confusion.add(torch.tensor([[2]]), torch.tensor([[0]]))
    assert confusion.results()["miou"] == pytest.approx((1 / 4 + 1 / 2 + 0) / 3)
    assert Confusion(2).results()["miou"] == 0.0


def test_loss_leaves_out_void_and_weighs_classes():
    logits = torch.tensor([[2.0, 0.0], [0.0, 1.0]]).T[None, :, None, :]  # two pixels: (2, 0) and (0, 1)
    semantic = torch.tensor([[[0, 0]]])
    one, other = (F.cross_entropy(logits[..., k], torch.tensor([[0]])).item() for k in (0, 1))
    assert pixel_loss(logits, semantic).item() == pytest.approx((one + other) / 2)
    assert pixel_loss(logits, torch.tensor([[[0, IGNORE]]])).item() == pytest.approx(one)
    weights = torch.tensor([1.0, 3.0])
    there = F.cross_entropy(logits[..., 1], torch.tensor([[1]])).item()
    assert pixel_loss(logits, torch.tensor([[[0, 1]]]), weights).item() == pytest.approx((one + 3 * there) / 4)
    assert pixel_loss(logits, torch.full((1, 1, 2), IGNORE)).item() == 0.0


def test_median_frequency_weights_by_hand():
    """Classes have 3/4, 1/4 and 1/2 of the pixels of the images that they are in: the median is 1/2."""
    one = Sample(torch.zeros(3, 2, 2, dtype=torch.uint8), Target(semantic=torch.tensor([[0, 0], [0, 1]])))
    two = Sample(torch.zeros(3, 1, 2, dtype=torch.uint8), Target(semantic=torch.tensor([[2, IGNORE]])))
    share = data.frequencies([one, two], 4)
    assert share.tolist() == [0.75, 0.25, 1.0, 0.0]
    assert data.median_weights(share).tolist() == [1.0, 3.0, 0.75, 1.0]


def test_upsampling_by_hand():
    x = torch.tensor([[[[1.0, 2.0], [3.0, 4.0]]]])
    assert upsampling.nearest(x, 2)[0, 0].tolist() == [[1, 1, 2, 2], [1, 1, 2, 2], [3, 3, 4, 4], [3, 3, 4, 4]]
    assert upsampling.bed_of_nails(x, 2)[0, 0].tolist() == [[1, 0, 2, 0], [0] * 4, [3, 0, 4, 0], [0] * 4]
    # CS231n's example: the maxima of a 4 x 4 map, and other values brought back to where they were
    image = torch.tensor([[1.0, 2, 6, 3], [3, 5, 2, 1], [1, 2, 2, 1], [7, 3, 4, 8]])[None, None]
    pooled, places = upsampling.max_pool(image, 2)
    assert pooled[0, 0].tolist() == [[5, 6], [7, 8]]
    found = upsampling.max_unpool(x, places, (4, 4))
    assert found[0, 0].tolist() == [[0, 0, 2, 0], [0, 1, 0, 0], [0, 0, 0, 0], [3, 0, 0, 4]]
    assert torch.equal(found, F.max_unpool2d(x, places, 2))
    assert upsampling.bilinear_kernel(2)[0].tolist() == [0.0625, 0.1875, 0.1875, 0.0625]


@pytest.mark.parametrize("factor", [2, 3, 4, 8])
def test_transposed_convolution_begins_as_bilinear_interpolation(factor):
    """Inside of the border; and a learned one does too, whose gradient is not zero."""
    x = torch.rand(2, 3, 6, 5)
    fixed, learned = (upsampling.TransposedConvolution(3, factor, learned=each) for each in (False, True))
    expected = F.interpolate(x, scale_factor=factor, mode="bilinear", align_corners=False)
    inside = (..., slice(factor, -factor), slice(factor, -factor))
    for layer in (fixed, learned):
        assert layer(x).shape == expected.shape
        torch.testing.assert_close(layer(x)[inside], expected[inside])
    assert not fixed.weight.requires_grad
    learned(x).sum().backward()
    assert learned.weight.grad.abs().sum() > 0


def test_the_upsamplings_are_drawn_side_by_side(tmp_path):
    upsampling_picture.main(upsampling_picture.Config(factor=2, out=tmp_path / "a.png"))
    assert Image.open(tmp_path / "a.png").size[0] > 800
    with pytest.raises(ValueError, match="--factor 200 is too large"):
        upsampling_picture.main(upsampling_picture.Config(factor=200, out=tmp_path / "a.png"))


def test_parameters_are_torchvisions():
    """fcn_resnet50 of 21 classes, with and without its auxiliary head; maps of stride 8 by dilation."""
    with torch.device("meta"):
        model = DilatedFCN(backbones.build("resnet50", (3, 224, 224)), 21)
        auxiliary = DilatedFCN(backbones.build("resnet50", (3, 224, 224)), 21, auxiliary=True)
    counts = [sum(weight.numel() for weight in each.parameters()) for each in (model, auxiliary)]
    assert counts == [32_957_013, 35_322_218]
    assert model.backbone.strides[-1] == 8
    layers = dict(model.backbone.named_modules())
    known = {"layer3.0": 1, "layer3.1": 2, "layer3.5": 2, "layer4.0": 2, "layer4.1": 4, "layer2.0": 1}
    assert {name: layers[f"{name}.conv2"].dilation[0] for name in known} == known
    assert layers["layer2.0.conv2"].stride == (2, 2) and layers["layer4.0.conv2"].stride == (1, 1)
    assert layers["layer3.0.downsample.0"].stride == (1, 1)
    assert model.state_dict()["classifier.0.weight"].shape == (512, 2048, 3, 3)
    assert model.state_dict()["classifier.4.weight"].shape == (21, 512, 1, 1)


@pytest.mark.slow
def test_published_files_load_by_their_keys(tmp_path):
    torch.manual_seed(0)
    model = DilatedFCN(backbones.build("resnet50", (3, 64, 64)), 5, auxiliary=True).eval()
    torch.save(model.state_dict(), tmp_path / "fcn.pth")
    again = torchvision_weights.load(tmp_path / "fcn.pth")
    assert again.aux_classifier is None and again.backbone.preprocessing is not None
    assert torchvision_weights.load(tmp_path / "fcn.pth", auxiliary=True).aux_classifier is not None
    image = torch.rand(1, 3, 64, 64)
    again.backbone.normalize = torch.nn.Identity()
    with torch.no_grad():
        torch.testing.assert_close(again(image), model(image))
    state = model.state_dict()
    del state["classifier.4.bias"]
    with pytest.raises(ValueError, match="'classifier.4.bias' and 0 more differ"):
        torchvision_weights.from_torchvision(state)
    with pytest.raises(ValueError, match="no known network"):
        torchvision_weights.from_torchvision({"a": torch.zeros(1)})
    with pytest.raises(ValueError, match="there are fcn_resnet50, fcn_resnet101"):
        torchvision_weights.load("deeplab")


@pytest.mark.slow
def test_outputs_are_torchvisions(monkeypatch):
    """With equal weights, where torchvision is installed (see tests/test_weights.py)."""
    from test_weights import oracle

    monkeypatch.setenv("TORCHDYNAMO_DISABLE", "1")
    oracle()
    from torchvision.models.segmentation import fcn_resnet50

    torch.manual_seed(0)
    theirs = fcn_resnet50(weights=None, weights_backbone=None, num_classes=7, aux_loss=True).eval()
    ours = torchvision_weights.from_torchvision(theirs.state_dict(), auxiliary=True).eval()
    ours.backbone.normalize = torch.nn.Identity()
    image = torch.rand(2, 3, 90, 70)
    with torch.no_grad():
        torch.testing.assert_close(ours(image), theirs(image)["out"], atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize("kind", train.MODELS)
@pytest.mark.parametrize("name", ["resnet18", "vgg11", "nature"])
def test_networks_stand_on_any_backbone(kind, name):
    """Logits of the image's size, also of odd sizes, and gradients for every weight; or a reason why not."""
    stem = "atari" if (name, kind) == ("resnet18", "full_resolution") else None
    config = small(kind, backbone=name, stem=stem, width=0.125 if kind == "full_resolution" else 0.25)
    if name != "resnet18" and kind in ("full_resolution", "fcn"):
        with pytest.raises(ValueError, match="cannot dilate"):
            train.build(config, 5, (3, 64, 64))
        return
    if name == "nature" and kind == "sliding_window":
        config = dataclasses.replace(config, patch=40)
    if name == "nature" and kind == "fcn8s":
        with pytest.raises(ValueError, match="maps of 3 strides are needed, and nature has those of 4, 8 pixels"):
            train.build(config, 5, (3, 64, 64))
        return
    model = train.build(config, 5, (3, 64, 64))
    images = torch.randint(256, (2, 3, 61, 75), dtype=torch.uint8)
    semantic = torch.randint(5, (2, 61, 75))
    semantic[0, :9] = IGNORE
    losses = model.losses(images, semantic)
    assert all(value.isfinite() for value in losses.values())
    sum(losses.values()).backward()
    learned = [key for key, weight in model.named_parameters() if weight.requires_grad]
    unused = [key for key in learned if model.get_parameter(key).grad is None and not key.startswith("backbone.")]
    assert not unused
    with torch.no_grad():
        assert model.eval()(images).shape == (2, 5, 61, 75)


def test_dilated_backbones_keep_what_they_see():
    """Every eighth value of a map of stride 1 is the map of stride 8, away from the borders."""
    torch.manual_seed(0)
    backbone = backbones.build("resnet18", (3, 64, 64), width=0.25, stem="atari").eval()
    image = torch.rand(1, 3, 96, 96)
    with torch.no_grad():
        before = backbone(image)[-1]
        dense = dilate(backbone, 2)
        after = dense(image)[-1]
    assert dense.strides == [2, 2, 2, 2] and after.shape[-1] == 48 and before.shape[-1] == 6
    torch.testing.assert_close(after[..., ::8, ::8][..., 2:4, 2:4], before[..., 2:4, 2:4], atol=1e-4, rtol=1e-4)


def test_scenes_are_painted_by_their_masks(few):
    sample = few.train[0]
    assert sample.target.semantic.shape == sample.image.shape[1:] and few.classes[0] == "background"
    masks = torch.zeros(3, 4, 4, dtype=torch.bool)
    masks[0], masks[1, 0], masks[2, :, 3] = True, True, True
    target = Target(
        boxes=torch.tensor([[0.0, 0, 4, 4], [0, 0, 4, 1], [3, 0, 4, 4]]),
        labels=torch.tensor([2, 0, 1]),
        masks=masks,
        crowd=torch.tensor([False, False, True]),
    )
    found = data.painted(target, (4, 4))
    assert found[1, 0] == 3 and (found[0, :3] == 1).all() and (found[1:, 3] == IGNORE).all()


def mask_file(path, pixels, mode="L"):
    path.parent.mkdir(parents=True, exist_ok=True)
    image = Image.fromarray(np.asarray(pixels, np.uint8), mode if mode != "RGB" else None)
    if mode == "P":
        image.putpalette([0, 0, 0, 9, 9, 9] + [0] * 762)
    image.save(path)


def test_folders_of_masks(tmp_path):
    """All layouts; what is missing or of another size is named; void is no class."""
    picture, square = np.zeros((6, 8, 3)), np.zeros((6, 8))
    square[0], square[1] = 1, 255
    for number in range(12):
        mask_file(tmp_path / "plain" / "images" / f"{number}.png", picture, "RGB")
        mask_file(tmp_path / "plain" / "masks" / f"{number}_mask.png", square, "P")
    mask_file(tmp_path / "plain" / "images" / "lonely.png", picture, "RGB")
    mask_file(tmp_path / "plain" / "images" / "large.png", picture, "RGB")
    mask_file(tmp_path / "plain" / "masks" / "large.png", np.zeros((7, 8)))
    sets = mask_folders.read(tmp_path / "plain")
    assert [len(part) for part in sets[:3]] == [10, 1, 1] and sets.classes == ("class 0", "class 1")
    assert problems.count(sets.problems) == {"missing mask": 1, "mask of another size than its image": 1}
    assert (sets.train[0].target.semantic[1] == IGNORE).all() and (sets.train[0].target.semantic[0] == 1).all()
    for part in ("train", "val", "test"):
        mask_file(tmp_path / "parts" / "images" / part / "a.png", picture, "RGB")
        mask_file(tmp_path / "parts" / "semantic" / part / "a.png", square)
        mask_file(tmp_path / "camvid" / part / "a.png", picture, "RGB")
        mask_file(tmp_path / "camvid" / f"{part}annot" / "a.png", np.full((6, 8), 11))
        mask_file(tmp_path / "voc" / "JPEGImages" / f"{part}.png", picture, "RGB")
        mask_file(tmp_path / "voc" / "SegmentationClass" / f"{part}.png", square * (square < 2), "P")
        lists = tmp_path / "voc" / "ImageSets" / "Segmentation"
        lists.mkdir(parents=True, exist_ok=True)
        (lists / f"{part}.txt").write_text(f"{part}\n")
    (tmp_path / "parts" / "classes.txt").write_text("ground\nball\n")
    sets = mask_folders.read(tmp_path / "parts")
    assert [len(part) for part in sets[:3]] == [1, 1, 1] and sets.classes == ("ground", "ball")
    sets = mask_folders.read(tmp_path / "camvid")
    assert len(sets.classes) == 11 and (sets.test[0].target.semantic == IGNORE).all()
    sets = mask_folders.read(tmp_path / "voc")
    assert len(sets.classes) == 21 and sets.validation.pairs[0][0].stem == "val"
    with pytest.raises(ValueError, match="has no images with masks"):
        mask_folders.read(tmp_path)


def test_masks_that_cannot_be_learned_are_named_before_training(tmp_path):
    """Unknown classes, color, masks and images that are damaged, and masks without an image."""
    picture, square = np.zeros((6, 8, 3)), np.zeros((6, 8))
    folder, noise = tmp_path / "some", np.random.default_rng(0).integers(0, 256, (60, 80, 3))
    for name in ("a", "b", "c", "unknown", "color", "cut", "turned"):
        mask_file(folder / "images" / f"{name}.png", picture, "RGB")
        mask_file(folder / "masks" / f"{name}.png", square + (7 if name == "unknown" else 1))
    mask_file(folder / "masks" / "orphan.png", square)
    mask_file(folder / "masks" / "color.png", picture, "RGB")
    mask_file(folder / "masks" / "cut.png", noise[..., 0], "L")
    cut = (folder / "masks" / "cut.png").read_bytes()
    (folder / "masks" / "cut.png").write_bytes(cut[: len(cut) // 2])
    mask_file(folder / "images" / "turned.png", noise, "RGB")
    turned = bytearray((folder / "images" / "turned.png").read_bytes())
    turned[len(turned) // 2] ^= 255  # its end is well
    (folder / "images" / "turned.png").write_bytes(turned)
    (folder / "classes.txt").write_bytes(b"ground\nb\xe4lle\n")  # not UTF-8
    images = data.load(str(folder))
    assert [len(part) for part in images[:3]] == [1, 1, 1]
    assert all((sample.target.semantic == 1).all() for part in images[:3] for sample in part)
    expected = (
        "1 x missing image (left out): orphan.png (of a mask in masks/)",
        "1 x unreadable image (left out): turned.png",
        "2 x unreadable mask (left out): color.png (its pixels are RGB, not gray or of a palette",
        "cut.png (",
        "1 x mask with pixels of an unknown class (left out): unknown.png (7, and there are 2 classes)",
    )
    for words in expected:
        assert words in "\n".join(images.notes), words
    for name in "abc":
        (folder / "masks" / f"{name}.png").unlink()
    with pytest.raises(ValueError, match="no image with a mask that can be read: .*unknown.png"):
        mask_folders.read(folder)


def test_a_run_learns_resumes_and_predicts(tmp_path, few, stop_at):
    """Stopped halfway and gone on, a run is the same, bit for bit; what it sees is written as pictures and masks."""
    config = small("fcn8s", folder=tmp_path, steps=16, evaluate_every=8, log_every=4, save_every=0.0, pictures=1)
    train.train(config)
    whole = tmp_path / "shapes" / "segmentation-1"
    lines = (whole / "metrics.jsonl").read_text()
    assert all(f'"{name}"' in lines for name in ("eval/miou", "test/miou", "eval/pixel_accuracy", "loss/pixels"))
    assert len(list((whole / "predictions").glob("*.png"))) == 2 and (whole / backbones.FILENAME).exists()

    stop_at(12, train.train, dataclasses.replace(config, name="again"))
    train.train(dataclasses.replace(config, name="again"))
    assert (tmp_path / "shapes" / "again" / "metrics.jsonl").read_text() == lines

    image = few.test[0].image
    trained = segmentation.load(whole, "cpu")
    (found,) = trained.predict([image])
    assert found.shape == image.shape[1:] and trained.classes == few.classes
    assert sum(trained.shares(found).values()) == pytest.approx(1)
    Image.fromarray(image.permute(1, 2, 0).numpy()).save(tmp_path / "a.png")
    (again,) = predict.main(predict.Config(whole, (tmp_path / "a.png",), tmp_path / "out", "cpu"))
    assert torch.equal(again, found) and (tmp_path / "out" / "a.png").exists()
    assert torch.equal(image_files.read_mask(tmp_path / "out" / "a-mask.png").long(), found)


# Mean IoU on scenes of 48 pixels, by what strides allow: scores lie 16, 8, 4 and 8 pixels apart, patches 2.
LEAST = {"sliding_window": 0.65, "fcn32s": 0.5, "fcn16s": 0.6, "fcn8s": 0.8, "fcn": 0.55, "segnet": 0.8, "unet": 0.8}


@pytest.mark.slow
@pytest.mark.parametrize("kind", LEAST)  # full resolution would take many minutes
def test_a_batch_is_overfit(kind, few):
    """Trained on four scenes, nearly every pixel is right, as far as the network's resolution allows."""
    torch.manual_seed(0)
    changes = dict(patches=64, stride=2, patch=24) if kind == "sliding_window" else {}
    changes |= dict(width=0.5, hidden=64, decoder_width=16)
    model = train.build(small(kind, **changes), len(few.classes), (3, 48, 48))
    images, semantic = data.collate([few.train[index] for index in range(4)])
    if kind == "fcn32s":  # objects of 48 pixels' images are smaller than its strides
        images, semantic = (upsampling.nearest(each, 3) for each in (images, semantic[:, None]))
        semantic = semantic[:, 0]
    optimizer = torch.optim.Adam(model.parameters(), 3e-3)
    for _ in range(150):
        model.train()
        optimizer.zero_grad()
        sum(model.losses(images, semantic).values()).backward()
        optimizer.step()
    for norm in model.modules():
        if isinstance(norm, torch.nn.BatchNorm2d):
            norm.momentum = None  # the mean over what follows
            norm.reset_running_stats()
    with torch.no_grad():
        model.train()
        for _ in range(4):
            model.losses(images, semantic)
        confusion = Confusion(len(few.classes))
        confusion.add(model.eval()(images).argmax(1), semantic)
    assert confusion.results()["pixel_accuracy"] > 0.85 and confusion.results()["miou"] > LEAST[kind]


def test_recorded_games_are_segmented(tmp_path):
    """The folder of a recording has masks of classes, background first, and a recipe of its own."""
    writer = CocoWriter(tmp_path, ("ball",))
    for number, part in enumerate(("train", "val", "test")):
        mask = np.ones((2, 3), bool)
        writer.add(part, f"{number}", np.zeros((8, 9, 3), np.uint8), [Instance(0, (1, 2, 4, 4), mask)])
    writer.finish()
    sets = data.load(str(tmp_path))
    assert sets.classes == ("background", "ball") and sets.train[0].target.semantic.sum() == 6
    by_boxes = data.load(str(tmp_path), "coco")
    assert by_boxes.classes == sets.classes
    assert torch.equal(by_boxes.train[0].target.semantic, sets.train[0].target.semantic)
    assert train.recipe(train.Config(data=str(tmp_path))).backbone == "resnet18"
    (tmp_path / "recording.json").write_text("{}")
    assert train.recipe(train.Config(data=str(tmp_path))).backbone == "resnet20"
    chosen = train.recipe(train.Config(data=str(tmp_path), backbone="vgg11"))
    assert chosen.backbone == "vgg11" and chosen.stem is None and chosen.width == 0.5


def test_unknown_names_are_named():
    with pytest.raises(ValueError, match="unknown --model 'fcn8': did you mean 'fcn8s'"):
        train.Config(model="fcn8").validate()
    with pytest.raises(ValueError, match="unknown data 'shape'"):
        data.load("shape")


def test_real_street_scenes():
    """The subset of CamVid: 11 classes, and void."""
    folder = next((root / "camvid_subset" for root in ROOTS if (root / "camvid_subset").is_dir()), None)
    if folder is None:
        pytest.skip("no camvid_subset: name the folder above it in $SACCADE_DATA")
    sets = data.load(str(folder))
    assert [len(part) for part in sets[:3]] == [28, 3, 12] and sets.classes[3] == "road" and not sets.notes
    sample = sets.train[0]
    assert sample.image.shape == (3, 360, 480) and (sample.target.semantic == IGNORE).any()
    assert set(sample.target.semantic.unique().tolist()) <= {*range(11), IGNORE}
