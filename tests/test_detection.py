"""Detectors: sizes and outputs of torchvision's, learning, overfitting a batch, resume, prediction."""

import dataclasses
import json

import pytest
import torch

import runs
from tests import annotated_files
from vision import backbones, detection
from vision.backbones.published import named
from vision.data import scenes
from vision.data.box_transforms import Expand, IoUCrop
from vision.data.samples import Sample, Target
from vision.detection import (
    clusters,
    data,
    detector,
    faster_rcnn,
    predict,
    regions,
    ssd,
    torchvision_weights,
    train,
)
from vision.detection.evaluation import evaluate, find
from vision.detection.models import MODELS
from vision.ops import boxes

OBJECTS = detector.Objects(len(scenes.Scenes.classes), len(scenes.KEYPOINTS), masks=True)
TINY = dict(
    width=0.25, crop=16, channels=32, head_width=64, regions=32, proposals=100, wandb="disabled", device="cpu"
)


def small(model, **changes):
    """A config that learns scenes with little."""
    config = train.recipe(train.Config(model=model))
    return dataclasses.replace(config, **TINY | changes)


@pytest.fixture(scope="module")
def few():
    """Eight scenes of 64 pixels."""
    return scenes.Scenes(8, seed=7, side=64)


def test_parameters_are_torchvisions():
    """fasterrcnn_resnet50_fpn with frozen norms, and ssd300_vgg16, each of 91 classes with background."""
    with torch.device("meta"):
        network = faster_rcnn.FasterRCNN(backbones.build("resnet50", (3, 224, 224)), 90)
        detector.fix_norms(network.backbone)
        other = ssd.SSD(backbones.build("vgg16", (3, 300, 300)), 90)
    assert sum(weight.numel() for weight in network.parameters() if weight.requires_grad) == 41_755_286
    own = torchvision_weights.to_torchvision(network)
    assert len(own) == 295 and own["rpn.head.conv.0.0.weight"].shape == (256, 256, 3, 3)
    assert own["backbone.body.layer4.2.conv3.weight"].shape == (2048, 512, 1, 1)
    assert own["backbone.fpn.inner_blocks.3.0.weight"].shape == (256, 2048, 1, 1)
    theirs = torchvision_weights.to_torchvision(other)
    assert len(theirs) == 71 and sum(value.numel() for value in theirs.values()) == 35_641_826
    assert theirs["backbone.extra.0.7.1.weight"].shape == (1024, 512, 3, 3)
    assert theirs["head.classification_head.module_list.5.weight"].shape == (4 * 91, 256, 3, 3)


@pytest.mark.slow
def test_published_files_load_by_their_keys(tmp_path):
    """Those of today and of before torchvision 0.13; others are refused by name."""
    torch.manual_seed(0)
    network = faster_rcnn.FasterRCNN(backbones.build("resnet50", (3, 64, 64)), 3)
    state = torchvision_weights.to_torchvision(network)
    torch.save(state, tmp_path / "new.pth")
    older = {key.replace("blocks.0.0.", "blocks.0.").replace("conv.0.0.", "conv."): v for key, v in state.items()}
    assert older.keys() != state.keys()
    torch.save(older, tmp_path / "old.pth")
    for name in ("new", "old"):
        again = torchvision_weights.load(tmp_path / f"{name}.pth")
        assert again.classes == 3 and again.backbone.preprocessing is not None
        torch.testing.assert_close(again.rpn.head.cls_logits.weight, network.rpn.head.cls_logits.weight)
        torch.testing.assert_close(again.backbone.bn1.weight, network.backbone.bn1.weight)
    del state["rpn.head.bbox_pred.bias"]
    with pytest.raises(ValueError, match="'rpn.head.bbox_pred.bias' and 0 more differ"):
        torchvision_weights.from_torchvision(named(state))
    with pytest.raises(ValueError, match="no known detector"):
        torchvision_weights.from_torchvision({"a": torch.zeros(1)})
    with pytest.raises(ValueError, match="there are fasterrcnn_resnet50_fpn, maskrcnn"):
        torchvision_weights.load("retinanet")


@pytest.mark.parametrize(
    ("kind", "name"),
    [
        *((kind, name) for kind in MODELS for name in ("resnet20", "nature")),
        *((kind, name) for kind in ("faster_rcnn", "ssd", "yolo") for name in ("vgg11", "squeezenet1_1")),
    ],
)
def test_detectors_stand_on_any_backbone(kind, name, few):
    """Losses with gradients for every part, and detections within the images, with an image without objects."""
    config = dataclasses.replace(
        small(kind, backbone=name, size=None if MODELS[kind].keeps_scenes else 96), width=None
    )
    if name in ("resnet20", "vgg11"):
        config = dataclasses.replace(config, width=0.25)
    model = train.build(config, OBJECTS)
    resize = data.resizing(96, None, True)
    target = few[0].target
    none = {name: getattr(target, name)[:0] for name in ("boxes", "labels", "keypoints")}
    empty = Target(masks=torch.zeros(0, 96, 96, dtype=torch.bool), **none)
    samples = [resize(few[0]), Sample(torch.zeros(3, 96, 96, dtype=torch.uint8), empty)]
    batch = data.collate(samples)
    losses = model.losses(batch.images, batch.sizes, batch.targets)
    assert all(value.isfinite() for value in losses.values()) and losses
    sum(losses.values()).backward()
    unused = [
        key for key, value in model.named_parameters() if value.grad is None and not key.startswith("backbone.")
    ]
    assert not unused
    for found in model.eval()(batch.images):
        assert found.boxes.min() >= 0 if len(found) else True
        assert (found.boxes <= 96).all() and (found.scores.diff() <= 0).all() and (found.labels < 10).all()


def test_networks_without_maps_are_refused():
    with pytest.raises(ValueError, match="gives no maps of images"):
        train.build(dataclasses.replace(small("faster_rcnn", backbone="mlp", size=32), width=None), OBJECTS)


def test_a_frozen_backbone_stays_as_it_was():
    """With --train head an update changes the detector's own weights, and none of the backbone's."""
    torch.manual_seed(0)
    model = train.build(small("yolo", train="head"), OBJECTS)
    few = scenes.Scenes(2, seed=1)
    model.prepare(few)
    before = {name: value.clone() for name, value in model.state_dict().items()}
    train.optimizers.train_mode(model)
    assert not model.backbone.training and model.training
    batch = data.collate([few[0], few[1]])
    sum(model.losses(batch.images, batch.sizes, batch.targets).values()).backward()
    torch.optim.SGD([each for each in model.parameters() if each.requires_grad], 0.1).step()
    changed = {name for name, value in model.state_dict().items() if not torch.equal(value, before[name])}
    assert changed and not any(name.startswith("backbone.") for name in changed)
    with pytest.raises(ValueError, match="no single layer"):
        small("yolo", train="last").validate()


def test_crowds_are_neither_objects_nor_background():
    target = Target(
        boxes=torch.tensor([[0.0, 0, 10, 10], [20, 20, 60, 60]]),
        labels=torch.tensor([1, 2]),
        crowd=torch.tensor([False, True]),
    )
    objects, labels, crowds = regions.present(target)
    assert labels.tolist() == [1] and len(crowds) == 1
    proposals = torch.tensor([[0.0, 0, 10, 9], [22, 22, 40, 40], [70, 70, 80, 80]])
    sampled = regions.sample_regions([proposals], [target], 16, 0.5)
    assert sorted(sampled.labels.tolist()) == [0, 2, 2]  # the crowd's inside is left out, the object itself is added
    assert not (sampled.boxes[:, None] == proposals[1]).all(2).any()


def test_clusters_of_boxes():
    """Two kinds of boxes, wide and tall."""
    wide, tall = torch.tensor([[0.5, 0.1]]).repeat(30, 1), torch.tensor([[0.1, 0.4]]).repeat(20, 1)
    found = clusters.cluster(torch.cat([wide, tall]) + torch.rand(50, 2) * 0.01, 2)
    found = found[found[:, 0].argsort()]
    torch.testing.assert_close(found, torch.tensor([[0.105, 0.405], [0.505, 0.105]]), atol=0.01, rtol=0)


def test_ssds_augmentation_keeps_boxes_on_their_objects():
    """The object is the only bright place: after any change its box holds all that is left of it."""
    image = torch.zeros(3, 60, 80, dtype=torch.uint8)
    image[:, 20:40, 30:60] = 255
    masks = image[:1].bool()
    sample = Sample(image, Target(boxes=torch.tensor([[30.0, 20, 60, 40]]), labels=torch.tensor([0]), masks=masks))
    sizes, generator = set(), torch.Generator().manual_seed(0)
    for _ in range(60):
        changed = IoUCrop()(Expand()(sample, generator), generator)
        sizes.add(tuple(changed.image.shape))
        assert len(changed.target.boxes) == 1
        assert torch.equal(boxes.clip(changed.target.boxes, changed.image.shape[1:]), changed.target.boxes)
        bright = (changed.image[0] > 200).nonzero()
        box = changed.target.boxes[0].int().tolist()
        assert [*bright.amin(0).flip(0).tolist(), *(bright.amax(0) + 1).flip(0).tolist()] == box
        assert torch.equal(changed.target.masks[0], changed.image[0] > 200)
    assert len(sizes) > 20


def test_scenes_are_the_same_every_time():
    one, other = scenes.Scenes(5, seed=3, side=64), scenes.Scenes(5, seed=3, side=64)
    assert torch.equal(one.images, other.images) and not torch.equal(one.images, scenes.Scenes(5, 4, 64).images)
    for sample in one:
        target = sample.target
        assert len(target.boxes) == len(target.labels) == len(target.masks) and target.masks.any(0).any()
        assert (target.masks.sum(0) <= 1).all(), "a pixel belongs to one object"


@pytest.mark.slow
@pytest.mark.parametrize("kind", MODELS)
def test_a_batch_is_overfit(kind, few):
    """Trained on four scenes, every object is found in its place; of selective search's regions what they reach."""
    torch.manual_seed(0)
    config = small(kind, size=None if MODELS[kind].keeps_scenes else 64, anchor_scale=4.0, batch=4)
    model = train.build(config, OBJECTS)
    samples = [few[index] for index in range(4)]
    model.prepare(few)
    detector.fix_norms(model.backbone)
    batch = data.collate(samples)
    optimizer = torch.optim.Adam(model.parameters(), 1e-3)
    for _ in range(200):
        optimizer.zero_grad()
        model.train()
        sum(model.losses(batch.images, batch.sizes, batch.targets).values()).backward()
        optimizer.step()
    sets = data.Images(few, few, few, few.classes, [], True, OBJECTS.keypoints)
    model.finish(samples, data.resizing(None, None, False))
    scored, _ = evaluate(config, model, sets, few, 4, train.side(config))
    reached = 1.0
    if hasattr(model, "search"):
        near = [boxes.iou(sample.target.boxes, model.search(sample.image)).amax(1) for sample in samples]
        reached = (torch.cat(near) > 0.5).float().mean().item()
    least = 0.95 if kind in ("faster_rcnn", "ssd", "yolo") else 0.9
    if getattr(model.options, "threshold", 1.0) <= 0.3:
        least = 0.85  # suppression at an IoU of 0.3 takes one of two objects of a class that overlap
    for name, evaluator in scored.items():
        assert evaluator.results()["map_50"] > least * reached, name or "boxes"
    assert set(scored) == {"", *({"masks": ["mask_"], "keypoints": ["keypoint_"]}.get(model.kind, []))}


def test_a_run_learns_resumes_and_predicts(tmp_path, monkeypatch, stop_at):
    """Stopped halfway and gone on, a run is the same, bit for bit; what it finds is written as pictures and JSON."""
    monkeypatch.setattr(scenes, "SIZES", (16, 4, 4))
    data._scenes.cache_clear()
    config = small("ssd", folder=tmp_path, batch=4, steps=16, evaluate_every=8, log_every=4, size=64, save_every=0.0)
    train.train(config)
    whole = tmp_path / "shapes" / "detection-1"
    lines = (whole / "metrics.jsonl").read_text()
    assert "eval/map" in lines and "test/map" in lines and "errors/missed" in lines
    assert len(list((whole / "predictions").glob("*.png"))) == 2 and (whole / backbones.FILENAME).exists()

    again = dataclasses.replace(config, name="again")
    stop_at(12, train.train, again)
    train.train(again)
    assert (tmp_path / "shapes" / "again" / "metrics.jsonl").read_text() == lines

    image = scenes.Scenes(1, seed=9, side=80)[0].image
    trained = detection.load(whole, "cpu")
    with monkeypatch.context() as patch:  # a detector that has further layers now
        build = train.build
        patch.setattr(train, "build", lambda *given: torch.nn.ModuleList([build(*given)]))
        with pytest.raises(runs.RunError, match="another version of the detector"):
            detection.load(whole, "cpu")
    (found,) = trained.predict([image])
    assert (
        trained.classes == scenes.Scenes.classes
        and (found.boxes <= 80).all()
        and len(trained.names(found)) == len(found)
    )
    from PIL import Image

    Image.fromarray(image.permute(1, 2, 0).numpy()).save(tmp_path / "a.png")
    lines = predict.main(predict.Config(whole, (tmp_path / "a.png",), least=0.0, out=tmp_path / "out", device="cpu"))
    assert (tmp_path / "out" / "a.png").exists() and len(lines) == len(found)
    assert json.loads((tmp_path / "out" / "detections.json").read_text()) == lines
    data._scenes.cache_clear()


def test_images_of_any_size_are_found_in_their_own_pixels():
    """A box of the left half of what the network is shown is of the left half of each image."""

    class LeftHalf(torch.nn.Linear):
        fixed_size = True

        def detect(self, images, sizes):
            assert images.shape == (2, 3, 64, 64)
            box = torch.tensor([[0.0, 0, 32, 64]])
            return [detection.Detections(box, torch.ones(1), torch.zeros(1).long())] * 2

    model = LeftHalf(1, 1)
    images = [torch.zeros(3, 100, 50, dtype=torch.uint8), torch.zeros(3, 32, 128, dtype=torch.uint8)]
    one, two = find(model, images, 64, None)
    assert one.boxes.tolist() == [[0, 0, 25, 100]] and two.boxes.tolist() == [[0, 0, 64, 32]]
    batch = data.collate([data.resizing(64, 96, False)(Sample(image)) for image in images], [(100, 50), (32, 128)])
    assert batch.sizes == [(96, 48), (24, 96)] and batch.images.shape == (2, 3, 96, 96)
    assert batch.scales == [(0.96, 0.96), (0.75, 0.75)]


def test_validation_images_without_objects_are_refused(tmp_path):
    """Crowds are no objects: neither count in the average precision."""
    crowd = dict(id=1, image_id=1, category_id=1, bbox=[0, 0, 20, 20], iscrowd=1)
    for part, line in (("train", (1, 1, [0, 0, 20, 20])), ("val", crowd), ("test", (1, 1, [0, 0, 20, 20]))):
        annotated_files.picture(tmp_path / part / "1.png")
        annotated_files.coco(tmp_path, {1: "1.png"}, [line], name=f"instances_{part}.json")
    config = small("ssd", data=str(tmp_path), folder=tmp_path / "runs", batch=1, size=64)
    with pytest.raises(ValueError, match="none of the first 1 validation images has an object"):
        train.train(config)
    assert not (tmp_path / "runs").exists()


def test_an_unknown_model_is_named():
    with pytest.raises(ValueError, match="unknown --model 'faster_rcn': did you mean 'faster_rcnn'"):
        train.Config(model="faster_rcn").validate()
    with pytest.raises(ValueError, match="unknown data 'shape'"):
        data.load("shape")


@pytest.mark.slow
@pytest.mark.parametrize("name", ["ssd300_vgg16", "fasterrcnn_resnet50_fpn", "maskrcnn_resnet50_fpn"])
def test_detections_are_torchvisions(name, monkeypatch):
    """With equal weights, boxes, scores, classes and masks: where torchvision is installed (see test_weights.py).

    Scores of untrained networks are so nearly equal that rounding decides which of two boxes suppresses the other:
    weights are scaled until the scores of neighbors in rank differ. Torchvision suppresses within classes by
    moving each class elsewhere, which rounds coordinates, or, for many boxes, class by class: here always the latter.
    """
    from test_weights import oracle

    monkeypatch.setenv("TORCHDYNAMO_DISABLE", "1")
    oracle()
    import torchvision.models.detection
    import torchvision.ops.boxes

    from vision.ops import nms

    monkeypatch.setattr(torchvision.ops.boxes, "nms", nms.nms)
    monkeypatch.setattr(
        torchvision.ops.boxes, "_batched_nms_coordinate_trick", torchvision.ops.boxes._batched_nms_vanilla
    )
    torch.manual_seed(0)
    size, options = ((300, 300), {}) if "ssd" in name else ((128, 192), dict(min_size=128))
    build = getattr(torchvision.models.detection, name)
    theirs = build(weights=None, weights_backbone=None, **options).eval()
    with torch.no_grad():
        for key, weight in theirs.named_parameters():
            if "bn3.weight" in key:
                weight.fill_(0.2)  # untrained residual blocks add up to thousands
            elif "bbox_pred" in key or ("cls_logits" in key and "weight" in key) or "mask_fcn_logits" in key:
                weight.mul_(5)
            elif "cls_score.weight" in key:
                weight.mul_(400)
    ours = torchvision_weights.from_torchvision(theirs.state_dict()).eval()
    image = torch.rand(3, *size)
    raw = {}
    if "mask" in name:
        theirs.roi_heads.register_forward_hook(lambda module, given, result: raw.update(result[0][0]))
    with torch.no_grad():
        expected, (found,) = theirs([image])[0], ours(image[None])
    assert len(found) == len(expected["boxes"]) > 0
    torch.testing.assert_close(found.scores, expected["scores"], atol=1e-4, rtol=1e-3)
    # Of the last ones, whose scores are equal but for rounding, others may be within the limit of detections.
    sure = expected["scores"] > expected["scores"][-1] + 1e-5
    distance = (found.boxes - expected["boxes"][sure, None]).abs().amax(2)
    distance = distance + 1e3 * (found.labels != expected["labels"][sure, None] - 1)
    pairs = (distance + 1e3 * (found.scores - expected["scores"][sure, None]).abs()).argmin(1)
    assert len(pairs.unique()) == len(pairs) > 90
    torch.testing.assert_close(found.scores[pairs], expected["scores"][sure], atol=1e-4, rtol=1e-3)
    assert torch.equal(found.labels[pairs], expected["labels"][sure] - 1)
    torch.testing.assert_close(found.boxes[pairs], expected["boxes"][sure], atol=0.02, rtol=1e-4)
    if raw:
        torch.testing.assert_close(found.masks[pairs], raw["masks"][sure, 0], atol=1e-3, rtol=1e-3)
