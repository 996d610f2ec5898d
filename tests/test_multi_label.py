"""Multi-label classification: presence of classes, average precision by hand, and runs that learn and load."""

import dataclasses
import json
import math

import numpy as np
import pytest
import torch
from PIL import Image

from tests import annotated_files
from vision import backbones
from vision.classification import Classifier, multi_label
from vision.classification.multi_label import data, max_pooling, metrics, train
from vision.data.samples import Target
from vision.interpretation import class_activation


def squares(folder, counts=(("train", 60), ("val", 16), ("test", 16)), side=24):
    """Images in COCO's format in which a light square (class 1), a dark one (class 2), and a gray one (class 3)
    may be: the last in every image."""
    generator = np.random.default_rng(0)
    for part, count in counts:
        images, found = [], []
        for number in range(count):
            pixels = generator.integers(100, 156, (side, side, 3), dtype=np.uint8)
            for category, value in ((3, 128), (1, 255), (2, 0)):
                if category == 3 or (number >> (category - 1)) & 1:
                    x, y = generator.integers(0, side - 8, 2).tolist()
                    pixels[y : y + 8, x : x + 8] = value
                    found.append(dict(id=len(found), image_id=number, category_id=category, bbox=[x, y, 8, 8]))
            (folder / part).mkdir(parents=True, exist_ok=True)
            Image.fromarray(pixels).save(folder / part / f"{number}.png")
            images.append(dict(id=number, file_name=f"{number}.png", width=side, height=side))
        names = [dict(id=number, name=name) for number, name in ((1, "light"), (2, "dark"), (3, "gray"))]
        content = dict(images=images, annotations=found, categories=names)
        (folder / f"instances_{part}.json").write_text(json.dumps(content))
    return folder


def trained(folder, pictures, **changes):
    asked = multi_label.Config(
        data=str(pictures), backbone="small", folder=folder, wandb="disabled", device="cpu", threads=1, steps=480,
        evaluate_every=240, batch=8, augment="none", **changes,
    )  # fmt: skip
    train.train(asked)
    return folder / pictures.name / "multi_label-1"


def test_presence_is_of_objects_that_count():
    target = Target(
        boxes=torch.zeros(4, 4), labels=torch.tensor([0, 2, 2, 3]), crowd=torch.tensor([False, True, False, True])
    )
    found = data.presence(target, 5)  # of class 2 an object counts; of class 3 only a difficult one is there
    assert found[[0, 1, 2, 4]].tolist() == [1, 0, 1, 0] and found[3].isnan()
    assert data.presence(Target(boxes=torch.zeros(0, 4), labels=torch.zeros(0, dtype=torch.int64)), 2).sum() == 0


def test_what_is_always_or_never_there_is_not_learned():
    present = torch.zeros(200, 5)
    present[:, 0] = 1  # always
    present[0, 1] = 1  # in 0.5%
    present[:100, 2] = 1
    present[1:, 3] = 1  # in 99.5%
    present[:50, 4], present[50:, 4] = torch.nan, 1  # of those that are known always
    assert data.learnable(present).tolist() == [2]


def test_average_precision_by_hand():
    """Ranked: right, wrong, right, wrong: precision 1 at recall 1/2, 2/3 at recall 1."""
    scores, present = torch.tensor([0.9, 0.8, 0.7, 0.1]), torch.tensor([1.0, 0, 1, 0])
    assert metrics.average_precision(scores, present) == pytest.approx((1 + 2 / 3) / 2)
    assert metrics.average_precision(-scores, present) == pytest.approx(1 / 2)  # 1/2 at recall 1/2, and at 1
    assert metrics.average_precision(torch.zeros(4), present) == pytest.approx(1 / 2)  # all at once: their share
    unknown = torch.tensor([1, torch.nan, 1, 0])
    assert metrics.average_precision(scores, unknown) == 1
    assert math.isnan(metrics.average_precision(scores, torch.ones(4)))
    columns = metrics.by_class(torch.stack([scores, -scores], 1), torch.stack([present, present], 1))
    assert columns == pytest.approx([5 / 6, 1 / 2])


def test_average_precision_is_that_of_detection():
    """With an image an object, and a detection of each, VOC's rules of detection give the same."""
    from vision.detection.metrics import voc

    generator = torch.Generator().manual_seed(0)
    scores, present = torch.rand(50, generator=generator), (torch.rand(50, generator=generator) < 0.3).float()
    right = present[scores.argsort(descending=True)].numpy().astype(bool)
    theirs = voc._average(right, ~right, int(present.sum()), "2010")
    assert metrics.average_precision(scores, present) == pytest.approx(theirs)


def test_max_pooling_by_hand():
    """Scores of two places, 2 x 3 and 2 x 1 for class 0: the largest, 6, and a bias of 1."""
    head = max_pooling.MaxPooledHead(1, 2)
    with torch.no_grad():
        head.fc.weight.copy_(torch.tensor([[2.0], [-1.0]]))
        head.fc.bias.copy_(torch.tensor([1.0, 0.0]))
    maps = torch.tensor([[[[3.0, 1.0]]]])
    assert head([maps]).tolist() == [[7, -1]]
    model = Classifier(backbones.build("small", (3, 16, 16)), 3)
    model.head = max_pooling.MaxPooledHead(model.backbone.channels[-1], 3)
    images = torch.rand(2, 3, 16, 16)
    found = class_activation.cam(model, images, 1)
    torch.testing.assert_close(found.amax((1, 2)), model(images)[:, 1] - model.head.fc.bias[1])
    torch.testing.assert_close(found, class_activation.grad_cam_map(model, images, 1) * found[0].numel())


def test_loss_by_hand():
    logits, present = torch.tensor([[0.0, 2.0], [5.0, -1.0]]), torch.tensor([[1.0, 0.0], [torch.nan, 0.0]])
    by_hand = (math.log(2) + math.log(1 + math.e**2) + math.log(1 + math.e**-1)) / 3
    assert train.loss(logits, present).item() == pytest.approx(by_hand)


def test_batches_have_the_classes_of_their_images(tmp_path):
    sets = data.load(str(squares(tmp_path / "squares")))
    present = data.presences(sets.train, 3)
    assert present.sum(0).tolist() == [30, 30, 60]  # the bits of an image's number
    batches = data.Batches(sets.train, present, 16, 4, seed=1, change="flip")
    images, found = batches.training(0)
    batches.close()
    assert images.shape == (4, 3, 16, 16) and images.dtype == torch.uint8 and found.shape == (4, 3)
    with pytest.raises(ValueError, match="several sizes .24 x 24, 30 x 24.: choose one by --size"):
        data.stack([torch.zeros(3, 24, 24), torch.zeros(3, 24, 30)])
    with pytest.raises(ValueError, match="unknown data 'nowhere'"):
        data.load("nowhere")


def test_a_run_learns_and_is_loaded(tmp_path, capsys):
    pictures = squares(tmp_path / "squares")
    run = trained(tmp_path / "runs", pictures, learning_rate=5e-3)
    assert "images have it: gray" in capsys.readouterr().err
    lines = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    tested = next(line for line in lines if "test/map" in line)
    assert tested["test/map"] > 0.9 and {"test/ap_light", "test/ap_dark"} <= tested.keys()
    assert "test/ap_gray" not in tested  # it is in every image
    found = multi_label.load(run, "cpu")
    assert found.classes == ("light", "dark")
    paths = [pictures / "test" / f"{number}.png" for number in range(4)]
    shares = found.probabilities(paths)
    assert shares.shape == (4, 2) and ((shares >= 0) & (shares <= 1)).all()
    right = [["light"] * (number & 1) + ["dark"] * (number >> 1) for number in range(4)]
    assert sum(a == b for a, b in zip(found.predict(paths), right, strict=True)) >= 3


def test_recipes_are_of_the_data(tmp_path):
    folder = squares(tmp_path / "squares", (("train", 4), ("val", 2), ("test", 2)))
    assert multi_label.recipe(multi_label.Config()).backbone == "resnet20"
    assert multi_label.recipe(multi_label.Config(data=str(folder))).size == 224
    (folder / "recording.json").write_text("{}")
    games = multi_label.recipe(multi_label.Config(data=str(folder)))
    assert games.augment == "none" and games.pooling == "max" and games.stem == "cifar"
    other = multi_label.recipe(multi_label.Config(data=str(folder), backbone="small"))
    assert other.backbone == "small" and other.width is None and other.stem is None and other.augment == "none"
    other = multi_label.recipe(multi_label.Config(data=str(folder), backbone="resnet18"))
    assert other.backbone == "resnet18" and other.width is None and other.stem is None and other.norm is None


def test_what_cannot_be_learned_is_refused(tmp_path):
    lines = [(1, 1, [0, 0, 20, 20]), (2, 1, [0, 0, 20, 20])]
    for number in (1, 2, 3):
        annotated_files.picture(tmp_path / "one" / f"{number}.png")
    annotated_files.coco(tmp_path / "one", {1: "1.png", 2: "2.png", 3: "3.png"}, [*lines, (3, 1, [0, 0, 9, 9])])
    config = multi_label.Config(data=str(tmp_path / "one"), folder=tmp_path, batch=1, device="cpu", threads=1)
    with pytest.raises(ValueError, match="no class that some of its training images have and others lack"):
        train.train(config)
    with pytest.raises(ValueError, match="fewer than --batch"):
        train.train(dataclasses.replace(config, batch=9))


@pytest.mark.parametrize("part", ["validation", "test"])
def test_images_that_can_score_nothing_are_refused_before_training(tmp_path, part):
    counts = {"validation": 16, "test": 16} | {part: 1}  # one image has a class, or lacks it
    pictures = squares(tmp_path / "squares", (("train", 16), ("val", counts["validation"]), ("test", counts["test"])))
    with pytest.raises(ValueError, match=f"some of the {part} images and not in others"):
        trained(tmp_path / "runs", pictures)
    assert not (tmp_path / "runs" / "squares").exists()
