"""Pieces of the detectors by hand: selective search, windows, OverFeat's convolutions, FCOS, R-CNN's linear
models."""

import math

import numpy as np
import pytest
import torch

from vision import backbones
from vision.data import annotated, scenes
from vision.data.samples import Sample, Target
from vision.detection import (
    crops,
    data,
    detector,
    fcos,
    localization,
    models,
    overfeat,
    rcnn,
    selective_search,
    ssd,
    yolo,
)
from vision.detection.detections import Detections
from vision.detection.sliding_window import Options as WindowOptions
from vision.detection.sliding_window import SlidingWindow
from vision.ops import boxes, roi


def objects_of(places, labels=None):
    found = torch.tensor(places, dtype=torch.float32).view(-1, 4)
    return Target(boxes=found, labels=torch.zeros(len(found)).long() if labels is None else torch.tensor(labels))


def striped():
    """Three stripes of 8, 8 and 16 columns: red, nearly the same red, blue."""
    image = np.zeros((16, 32, 3))
    image[:, :8], image[:, 8:16], image[:, 16:] = (200, 0, 0), (200, 90, 0), (0, 0, 200)
    return image


def test_a_segmentation_follows_edges():
    """Stripes are regions; a large k takes the two that are alike for one; small regions join their neighbor."""
    regions = selective_search.segment(striped(), 60, 1)
    assert regions.shape == (16, 32) and len(np.unique(regions[:, 2])) == 1
    assert regions[3, 2] != regions[3, 12] != regions[3, 25] and len({*regions[3, [2, 12, 25]]}) == 3
    merged = selective_search.segment(striped(), 60, 200)  # 8 columns have about 128 pixels
    assert merged[3, 2] == merged[3, 12] != merged[3, 25]
    one = selective_search.segment(np.full((6, 5, 3), 7.0), 10, 1)
    assert (one == 0).all()


def test_the_most_similar_neighbors_are_grouped_first():
    """Of four stripes the two red ones, then with the blue one beside; the last group is the whole image."""
    regions = np.repeat(np.arange(4)[None].repeat(4, 0), 4, axis=1)  # (4, 16): stripes of four columns
    color = np.array([[1.0, 0, 0], [0.9, 0.1, 0], [0, 1, 0], [0, 0, 1]])
    found = selective_search.group(regions, color, np.ones((4, 1)), "C")
    assert len(found) == 7 and found[0].tolist() == [0, 0, 16, 4]
    assert found[-5].tolist() == [0, 0, 8, 4] and found[-6].tolist() == [0, 0, 12, 4]  # red ones; green shares 0.05
    sizes = selective_search.group(regions, color, np.ones((4, 1)), "S")  # equal stripes: the first pair, ...
    assert sizes[-5].tolist() == [0, 0, 8, 4] and sizes[-6].tolist() == [8, 0, 16, 4]  # ... then the other small ones


def test_histograms_and_lab_by_hand():
    values = np.array([[[0.0], [26.0], [250.0], [254.0]]])
    found = selective_search.histograms(values, np.array([[0, 0, 1, 1]]), 10, (0, 255))
    assert found.tolist() == [[0.5, 0.5, *[0] * 8], [*[0] * 9, 1.0]]
    white, red = selective_search.color_space(np.array([[[255, 255, 255], [255, 0, 0]]], dtype=np.uint8), "lab")[0]
    assert white == pytest.approx([255, 128, 128], abs=0.05)
    assert red == pytest.approx([53.24 * 2.55, 80.09 + 128, 67.2 + 128], abs=0.1)  # L* a* b* of sRGB's red
    with pytest.raises(ValueError, match="unknown color space 'rgb'"):
        selective_search.color_space(np.zeros((1, 1, 3), dtype=np.uint8), "rgb")


def test_selective_search_finds_the_objects_of_scenes():
    """Nine of ten with an IoU of a half, with one strategy; the same image is searched once."""
    few = scenes.Scenes(4, seed=5)
    search, overlaps = selective_search.Remembered(), []
    for sample in few:
        found = search(sample.image)
        assert found.dtype == torch.float32 and len(found) < 300 and (found[:, 2:] <= 128).all()
        overlaps.append(boxes.iou(sample.target.boxes, found).amax(1))
    assert (torch.cat(overlaps) > 0.5).float().mean() >= 0.9
    assert search(few[0].image) is search(few[0].image) and len(search._known) == 4


def test_regions_are_warped_with_what_is_around():
    """A region of one color fills its crop; with a context of a quarter, half of each side is the region."""
    image = torch.zeros(1, 3, 32, 32, dtype=torch.uint8)
    image[:, :, 8:16, 12:28] = 255
    backbone = backbones.build("resnet20", (3, 32, 32), width=0.25)
    region, whose = torch.tensor([[12.0, 8, 28, 16]]), torch.zeros(1).long()
    plain = crops.CropNetwork(backbone, 16, 8).warp(image, region, whose)
    assert plain.shape == (1, 3, 16, 16) and plain[..., 1:-1, 1:-1].min() == 1
    wide = crops.CropNetwork(backbone, 16, 8, context=0.25).warp(image, region, whose)
    assert wide[0, 0, 5:11, 5:11].min() == 1 and wide[0, 0, :3].max() == 0 and wide[0, 0, :, :3].max() == 0


def test_rcnn_fits_svms_and_boxes_to_its_features():
    """On features that tell the classes apart margins have the right signs, and regression finds a constant shift."""
    model = rcnn.RCNN(backbones.build("resnet20", (3, 32, 32), width=0.25), 2, rcnn.Options(16, 8))
    torch.manual_seed(0)
    count = 60
    label = torch.arange(count) % 3  # two classes and background
    features = torch.eye(8)[label].double() * 20 + 0.1 * torch.randn(count, 8).double()
    pooled = torch.randn(count, model.network.inputs).double()
    for own in (0, 1):
        overlap = torch.where(label == own, 2.0, 0.0).double()
        overlap[(label == own) & (torch.arange(count) > 30)] = 0.7  # regions near an object: neither positive nor not
        shift = torch.tensor([0.1, 0, 0.2, 0]).double().expand(count, 4)
        model._fit_class(own, pooled, features, overlap, shift)
    margins = features.float() @ model.svm_weight.T + model.svm_bias
    assert ((margins > 0) == (label[:, None] == torch.arange(2))).all()
    torch.testing.assert_close(model.box_bias, torch.tensor([[0.1, 0, 0.2, 0]]).expand(2, 4), atol=1e-4, rtol=0)
    assert model.box_weight.abs().max() < 1e-4


def test_windows_of_every_place():
    """Windows of half the sides, a quarter of theirs apart: 5 x 5 of them, inside."""
    model = SlidingWindow(
        backbones.build("resnet20", (3, 32, 32), width=0.25), 2, WindowOptions(16, 8, shapes=1, step=0.25)
    )
    model.shapes.fill_(0.5)
    found = model.windows((32, 64))
    assert len(found) == 25 and found[0].tolist() == [0, 0, 32, 16] and found[-1].tolist() == [32, 16, 64, 32]
    assert found[1].tolist() == [8, 0, 40, 16]
    model.prepare(scenes.Scenes(8, seed=1, side=64))
    assert (model.shapes > 0.1).all() and (model.shapes < 0.6).all()


def test_localization_is_asked_for_the_largest_object():
    model = localization.Localization(backbones.build("resnet20", (3, 32, 32), width=0.25), 3)
    target = objects_of([[0, 0, 4, 4], [0, 0, 20, 20], [5, 5, 15, 15]], [0, 1, 2])
    assert model.asked(target).crowd.tolist() == [True, False, True]
    assert model.asked(objects_of([])).crowd is None
    logits, found = model.predict(torch.zeros(2, 3, 32, 32))
    losses = model.losses(torch.zeros(2, 3, 32, 32), [(32, 32)] * 2, [target, objects_of([])])
    wanted = torch.tensor([10 / 32, 10 / 32, 20 / 32, 20 / 32])
    torch.testing.assert_close(losses["loss/boxes"], 20 * (found[0] - wanted).square().sum())
    torch.testing.assert_close(losses["loss/classes"], -logits[0].log_softmax(0)[1])


def test_overfeats_convolutions_are_dense_layers_of_windows():
    """Each place of the output is what the layers give for its window of the map alone; windows are 64 pixels,
    divided by their scale."""
    torch.manual_seed(0)
    options = overfeat.Options(width=8, scales=(1.0, 2.0))
    model = overfeat.OverFeatDetector(backbones.build("resnet18", (3, 96, 96), width=0.25), 2, options).eval()
    assert model.stride == 16
    windows, logits, offsets = model.predict(images := torch.rand(1, 3, 96, 96))
    assert logits.shape == (1, 9 + 81, 3) and offsets.shape == (1, 90, 3, 4)
    assert windows[4].tolist() == [16, 16, 80, 80] and windows[9 + 10].tolist() == [8, 8, 40, 40]
    window = model.backbone(images)[model.chosen][:, :, 1:5, 1:5]
    weight = model.dense[0].weight.flatten(1)
    hidden = (weight @ window.flatten(1).T + model.dense[0].bias[:, None]).relu()
    hidden = (model.dense[2].weight[..., 0, 0] @ hidden + model.dense[2].bias[:, None]).relu()
    expected = model.classifier.weight[..., 0, 0] @ hidden + model.classifier.bias[:, None]
    torch.testing.assert_close(logits[0, 4], expected[:, 0], atol=1e-5, rtol=1e-4)


def test_overfeat_merges_boxes_that_agree():
    """Two of a class become their mean by score, 0.5 and 0.25, and 1 - 0.5 * 0.75; another class stays."""
    model = overfeat.OverFeatDetector(backbones.build("resnet20", (3, 64, 64), width=0.25), 2)
    found = Detections(
        torch.tensor([[0.0, 0, 12, 12], [3, 0, 15, 12], [0, 0, 12, 12]]),
        torch.tensor([0.5, 0.25, 0.3]),
        torch.tensor([0, 0, 1]),
    )
    merged = model._merged(found)
    torch.testing.assert_close(merged.boxes, torch.tensor([[1.0, 0, 13, 12], [0, 0, 12, 12]]))
    torch.testing.assert_close(merged.scores, torch.tensor([0.625, 0.3]))
    assert merged.labels.tolist() == [0, 1]


def test_fcos_assigns_places_to_the_smallest_object_of_their_reach():
    """Places near a center of objects whose farthest side is in the level's span; where two fit, the smaller."""
    places = torch.tensor([[4.0, 4], [12, 12], [20, 20], [60, 60], [12, 12]])
    strides = torch.tensor([8.0, 8, 8, 8, 16])
    low, high = torch.tensor([0.0, 0, 0, 0, 64]), torch.tensor([64.0, 64, 64, 64, 128])
    objects = torch.tensor([[0.0, 0, 30, 30], [8, 8, 20, 20], [0, 0, 120, 120]])
    whose = fcos.assign(places, strides, low, high, objects)
    # (4, 4) is 11 from the first center; (20, 20) is on the second's edge; (60, 60) is the third's center, 60 away;
    # on the coarse level the third is 108 away, but its center is 48 from there
    assert whose.tolist() == [0, 1, 0, 2, -1]
    assert fcos.assign(places, strides, low, high, objects[:0]).tolist() == [-1] * 5
    sides = torch.tensor([[1.0, 2, 3, 2], [2, 2, 2, 2]])
    torch.testing.assert_close(fcos.centerness_of(sides), torch.tensor([math.sqrt(1 / 3), 1.0]))
    loss = fcos.focal(torch.zeros(2), torch.tensor([1.0, 0.0]))
    torch.testing.assert_close(loss, torch.tensor([0.25, 0.75]) * 0.25 * math.log(2))


@pytest.mark.parametrize("version", [1, 2])
def test_yolos_losses_by_hand(version):
    """An object of half the sides in the first of 2 x 2 cells, whose prediction is a quarter of a cell to the right
    and half as wide; the other predictions lie elsewhere, with a confidence of a half."""
    options = yolo.Options(64, 8, 1 if version == 2 else 0)
    model = yolo.YOLO(backbones.build("resnet20", (3, 64, 64), width=0.25), 2, options)
    per_cell = model.count
    found = torch.tensor([[0.375, 0.25, 0.25, 0.5], *[[0.9, 0.9, 0.1, 0.1]] * (4 * per_cell - 1)])[None]
    classes = torch.zeros(1, 4 * per_cell, 2)
    model.predict = lambda images: (found, torch.zeros(1, 4 * per_cell), classes)
    target = objects_of([[0.0, 0, 32, 32]], [1])
    losses = model.losses(torch.zeros(1, 3, 64, 64), [(64, 64)], [target])
    hit = 0.125 / 0.25  # IoU: the prediction spans 0.25 to 0.5 of 0 to 0.5
    middle = 0.25**2
    if version == 2:
        extent, label, weights = math.log(0.5) ** 2, math.log(2), yolo.VERSION_2
        weight = 2 - 0.25
    else:
        extent, label, weights, weight = (0.5 - 0.5**0.5) ** 2, 0.5, yolo.VERSION_1, 1.0
    expected = weights.coordinates * weight * (middle + extent)
    torch.testing.assert_close(losses["loss/boxes"].item(), expected, atol=1e-5, rtol=1e-5)
    expected = weights.object * (0.5 - hit) ** 2 + weights.no_object * 0.25 * (4 * per_cell - 1)
    torch.testing.assert_close(losses["loss/confidence"].item(), expected, atol=1e-5, rtol=1e-5)
    torch.testing.assert_close(losses["loss/classes"].item(), label, atol=1e-5, rtol=1e-5)


def test_cells_and_default_boxes_are_as_fine_as_asked_for():
    """A stride of 8 gives 16 x 16 cells of 128 pixels; SSD's finest default boxes are a part of the image."""
    backbone = backbones.build("resnet18", (3, 128, 128), width=0.125)
    model = yolo.YOLO(backbone, 2, yolo.Options(128, 8, 3, stride=8))
    assert model.predict(torch.zeros(1, 3, 128, 128))[0].shape == (1, 16 * 16 * 3, 4)
    model = ssd.SSD(backbone, 2, ssd.Options(128, 8, finest=0.05))
    assert model.scales[:2] == pytest.approx((0.05, 0.1))
    places = model.predict(torch.zeros(1, 3, 128, 128))[0]
    assert (places[0, 2:] - places[0, :2]).tolist() == pytest.approx([6.4, 6.4])


def test_recordings_have_recipes_of_their_own(tmp_path):
    from vision.detection import train

    assert annotated.recipe_key("shapes") == "shapes" and annotated.recipe_key(str(tmp_path)) == "folder"
    (tmp_path / annotated.RECORDING).write_text("{}")
    for name in ("ssd", "yolo", "faster_rcnn", "mask_rcnn"):
        config = train.recipe(train.Config(data=str(tmp_path), model=name))
        assert (
            annotated.recipe_key(config.data) == "recording"
            and config.augment == "none"
            and config.backbone == "nature"
            and config.size == 320  # frames of 160 x 210, doubled: pixels fall on pixels
            and not (models.MODELS[name].fixed_size and config.stretch)
        )


def test_fcos_has_as_many_weights_as_torchvisions():
    """fcos_resnet50_fpn of 91 classes, without a class of background: 32,269,600."""
    with torch.device("meta"):
        model = fcos.FCOS(backbones.build("resnet50", (3, 224, 224)), 91)
    detector.fix_norms(model.backbone)
    assert sum(weight.numel() for weight in model.parameters() if weight.requires_grad) == 32_269_600


def test_a_detector_of_ones_own_is_a_file_and_a_class():
    assert models.find("vision.detection.fcos:FCOS") is fcos.FCOS
    for name, words in {
        "vision.detection.fcos:Missing": "no class of a module",
        "no_such_module:Detector": "there is no module",
        "vision.detection.fcos:Options": "no subclass",
        "fcoz": "did you mean 'fcos'",
    }.items():
        with pytest.raises(ValueError, match=words):
            models.find(name)


def test_each_detector_says_its_paper_and_its_recipes():
    import sys

    from vision.detection import train

    for name, model in models.MODELS.items():
        assert "arXiv" in sys.modules[model.__module__].__doc__, name
        assert {"shapes", "folder"} <= model.recipes.keys(), name
        train.recipe(train.Config(model=name)).validate()


def onnx_boxes(path, image):
    runtime = pytest.importorskip("onnxruntime")
    session = runtime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    names = [each.name for each in session.get_outputs()]
    found = session.run(None, {"image": image[None].numpy()})
    return {name: torch.from_numpy(value) for name, value in zip(names, found, strict=True)}


@pytest.mark.slow
@pytest.mark.parametrize("kind", [name for name in models.MODELS if name not in ("rcnn", "fast_rcnn")])
def test_exported_detectors_find_the_same_in_onnx_runtime(kind, tmp_path):
    """Of another image than the one that was traced: boxes, scores, classes, and masks or keypoints."""
    import dataclasses

    pytest.importorskip("onnx")
    from vision.detection import export, train

    torch.manual_seed(0)
    config = train.recipe(train.Config(model=kind))
    small = dict(width=0.25, channels=32, head_width=64, proposals=60, crop=32, size=64)
    model = train.build(dataclasses.replace(config, **small), detector.Objects(10, 5, True)).eval()
    model.options = model.options._replace(**{"least": 0.0} if hasattr(model.options, "least") else {})
    few = scenes.Scenes(3, seed=2, side=64)
    with torch.no_grad():
        for weight in model.parameters():
            if weight.dim() > 1 and weight.std() < 0.02:
                weight.mul_(8)  # scores that say something
    export.export(model, tmp_path / "a.onnx", (64, 64), scenes.Scenes.classes)
    for sample in few:
        (expected,) = model.detect(sample.image[None].float() / 255, [(64, 64)])
        found = onnx_boxes(tmp_path / "a.onnx", sample.image)
        assert len(found["boxes"]) == len(expected) > 0
        torch.testing.assert_close(found["scores"], expected.scores, atol=1e-4, rtol=1e-3)
        # boxes of nearly equal scores may change places, and beyond the last of the limit
        sure = expected.scores >= expected.scores[-1] + (1e-4 if len(expected) > 1 else 0)
        distance = (found["boxes"] - expected.boxes[sure, None]).abs().amax(2)
        distance = distance + 1e3 * (found["labels"] != expected.labels[sure, None])
        pairs = (distance + 1e3 * (found["scores"] - expected.scores[sure, None]).abs()).argmin(1)
        assert len(pairs.unique()) == len(pairs) > 0
        for name, value in found.items():
            torch.testing.assert_close(value[pairs], getattr(expected, name)[sure], atol=5e-3, rtol=1e-3)


@pytest.mark.parametrize("shape", [(5, 7), (2, 2), (8, 4)])
def test_average_pool_is_torchs(shape):
    maps = torch.rand(2, 3, *shape)
    torch.testing.assert_close(roi.average_pool(maps, 4), torch.nn.functional.adaptive_avg_pool2d(maps, 4))


def test_detectors_with_selective_search_are_not_exported(tmp_path):
    from vision.detection import export

    model = rcnn.RCNN(backbones.build("resnet20", (3, 32, 32), width=0.25), 2, rcnn.Options(16, 8))
    with pytest.raises(ValueError, match="selective search, which is not in ONNX"):
        export.export(model, tmp_path / "a.onnx", (32, 32), ["a", "b"])


def test_crops_are_sampled_by_overlap():
    """One object of class 1: itself and a near region are positives, what is between is left out."""
    regions = torch.tensor([[0.0, 0, 10, 9], [0, 0, 10, 5.5], [30, 30, 40, 40]])
    target = objects_of([[0, 0, 10, 10]], [1])
    own, whose, labels = crops.sample_crops([regions], [target], 16, 0.5, 0.6, 0.4)
    assert sorted(labels.tolist()) == [0, 2, 2] and whose.tolist() == [0, 0, 0]
    assert not (own[:, None] == regions[1]).all(2).any()


def test_estimates_and_evaluations_take_samples_of_any_detector():
    """RCNN's fit reads samples of the images' size."""
    few = scenes.Scenes(2, seed=4, side=48)
    model = rcnn.RCNN(
        backbones.build("resnet20", (3, 48, 48), width=0.25), 10, rcnn.Options(16, 8, fitted=2, least=0.0)
    )
    model.finish(few, data.resizing(48, None, True))
    assert model.svm_weight[few[0].target.labels[0]].abs().sum() > 0
    found = model(few.images)
    assert len(found) == 2 and (found[0].scores.diff() <= 0).all() and len(found[0]) > 0
    assert isinstance(few[0], Sample)
