"""The programs of vision/interpretation, on a classifier of drawn shapes after a few steps."""

import dataclasses
import importlib
import json

import pytest
import torch
from PIL import Image

from tests.test_multi_label import squares, trained
from vision import classification
from vision.data.samples import Target
from vision.interpretation import (
    activations,
    attribution_scores,
    embedding,
    explain,
    feature_visualization,
    layer_table,
    located,
    neighbors,
    report,
    subject,
)

FEW = (120, 40, 60)  # drawn images to learn from, to choose on, to test
train = importlib.import_module("vision.classification.train")


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """A run of image classification; its images are drawn anew when it is loaded."""
    folder = tmp_path_factory.mktemp("runs")
    config = classification.recipe(classification.Config(data="shapes"))
    config = dataclasses.replace(
        config,
        folder=folder,
        wandb="disabled",
        device="cpu",
        backbone="airbench",
        activation="relu",
        width=0.25,
        steps=128,
    )
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(importlib.import_module("vision.data.shapes"), "SIZES", FEW)
        train.train(dataclasses.replace(config, batch=32, evaluate_every=128))
        yield str(folder / "shapes" / "classification-1")


def size(path):
    return Image.open(path).size


def test_explanations_are_drawn(run, tmp_path):
    flags = dict(run=run, device="cpu", images=2, out=tmp_path / "maps.png")
    explain.main(explain.Config(**flags, of="star"))
    many = size(tmp_path / "maps.png")
    explain.main(explain.Config(**flags, methods=("grad_cam",), stage=0))
    assert size(tmp_path / "maps.png")[0] < many[0]
    Image.new("RGB", (50, 40), "red").save(tmp_path / "red.png")
    explain.main(explain.Config(**flags | {"files": (tmp_path / "red.png",)}, methods=("saliency",)))
    for wrong in ({"methods": ("gradcam",)}, {"of": "stars"}):
        with pytest.raises(ValueError, match="unknown"):
            explain.main(explain.Config(**flags, **wrong))


def test_methods_that_do_not_apply_are_left_out(run):
    about = subject.load(subject.SubjectFlags(run, device="cpu"))
    images, labels = about.examples(12)
    assert labels.tolist() == [*range(10), 0, 1]
    found = explain.applicable(about.model, images)
    assert {"saliency", "grad_cam", "occlusion"} <= set(found) <= set(explain.METHODS)
    model = classification.Classifier(importlib.import_module("vision.backbones").build("lenet5", (3, 32, 32)), 10)
    assert "cam" not in explain.applicable(model.eval(), images)


def test_scores_of_attributions(run, tmp_path, monkeypatch):
    out = tmp_path / "scores.json"
    config = attribution_scores.Config(run=run, device="cpu", images=60, sanity_images=4, sanity_draws=2, out=out)
    found = attribution_scores.main(config)
    share = found.pop("chance")["mean"]
    assert share["pointing"] == share["mass"] == share["rank"] and 0.05 < share["mass"] < 0.5
    assert all(0 <= found[method]["mean"][key] <= 1 for method in found for key in attribution_scores.SCORES)
    record = json.loads(out.read_text())
    line = next(trial for trial in record["trials"] if trial["method"] == "saliency")
    assert line["output layer"].keys() == {"mean", "low", "high", "passes", "empty"}
    assert line["passes"] in (True, False)
    assert "| output layer | all layers | empty | passes |" in out.with_suffix(".md").read_text()
    with pytest.raises(ValueError, match="unknown method 'gradcam'"):
        attribution_scores.main(dataclasses.replace(config, methods=("gradcam",)))
    monkeypatch.setattr(attribution_scores, "measure", lambda *_: pytest.fail("maps were made"))
    with pytest.raises(ValueError, match="at least two are needed"):
        attribution_scores.main(dataclasses.replace(config, sanity_draws=1))


@pytest.fixture(scope="module")
def multi_label_run(tmp_path_factory):
    folder = tmp_path_factory.mktemp("multi_label")
    return trained(folder / "runs", squares(folder / "squares"), learning_rate=5e-3, pooling="max")


def test_annotated_images_are_explained_class_by_class(multi_label_run, tmp_path):
    """Squares of 8 x 8 pixels in 24 x 24; images 0 to 15 of the test, whose bits say which squares are there."""
    flags = subject.SubjectFlags(str(multi_label_run), device="cpu", threads=1)
    about = located.load(flags, 100)
    assert about.names == ("light", "dark") and len(about.images) == 16 and about.classes.sum() == 8
    assert (about.masks.sum((1, 2)) == 64).all() and about.images.shape == (16, 3, 24, 24)
    for image, output, mask in zip(about.images, about.classes.tolist(), about.masks, strict=True):
        inside = image[:, mask].float()
        assert (inside == 0).float().mean() > 0.3 if output else (inside > 200).float().mean() > 0.3
    assert about.dependent.sum() >= 8  # it finds squares by nothing else
    assert about.frequency.shape == (2, 24, 24) and about.frequency.sum((1, 2)).tolist() == [30 * 64] * 2
    assert len(located.load(flags, 4).images) == 4  # images 0, 5, 10, 15: none, light, dark, both
    out = tmp_path / "scores.json"
    config = attribution_scores.Config(
        str(multi_label_run), device="cpu", threads=1, methods=("grad_cam",), sanity_images=4, tolerance=2, out=out
    )
    scores = attribution_scores.main(config)
    assert set(scores) == {"chance", "training boxes", "grad_cam"}
    assert set(scores["grad_cam"]) == {"mean", "light", "dark"}
    assert scores["grad_cam"]["mean"]["near"] >= scores["grad_cam"]["mean"]["pointing"]
    halves = [scores["grad_cam"][name]["mass"] for name in ("light", "dark")]
    assert scores["grad_cam"]["mean"]["mass"] == pytest.approx(sum(halves) / 2)
    assert scores["chance"]["mean"]["mass"] == pytest.approx(64 / 24**2)
    assert {"dependent"} < set(scores["grad_cam"]["mean"]) and "| dependent | near |" in out.with_suffix(
        ".md"
    ).read_text()
    assert "light (8), dark (8)" in out.with_suffix(".md").read_text()


def test_classes_found_by_their_objects_by_hand():
    """Class 0 is found where pixel 0 is bright, class 1 always; the object is pixel 0, the background dark."""
    images = torch.tensor([200, 200, 10], dtype=torch.uint8).view(3, 1, 1, 1).repeat(1, 3, 1, 2)

    def model(x):
        bright = x[:, 0, 0, 0].float() - 100
        return torch.stack([bright, torch.ones_like(bright)], 1)

    masks = torch.tensor([[[True, False]]]).repeat(3, 1, 1)
    background = torch.zeros(3, 1, 2, dtype=torch.uint8)
    found = located.found_by_objects(model, images, torch.tensor([0, 1, 0]), masks, background)
    assert found.tolist() == [True, False, False]  # by its object; by something else; not found at all
    assert attribution_scores.average([1.0, 2.0]) == 1.5 and attribution_scores.average([]) is None


def test_difficult_boxes_are_no_place_of_a_class():
    boxes = torch.tensor([[0.0, 0, 2, 2], [2, 2, 4, 4], [0, 2, 2, 4]])
    target = Target(boxes=boxes, labels=torch.tensor([1, 1, 0]), crowd=torch.tensor([False, True, False]))
    assert located.mask_of(target, 1, (4, 4)).nonzero().tolist() == [[0, 0], [0, 1], [1, 0], [1, 1]]
    assert not located.mask_of(target, 2, (4, 4)).any()


def test_other_pictures(run, tmp_path, capsys):
    flags = dict(run=run, device="cpu")
    activations.main(activations.Config(**flags, stage=0, channels=2, patches=3, images=1, folder=tmp_path / "stage"))
    assert all((tmp_path / "stage" / f"{name}.png").exists() for name in ("filters", "maps", "patches"))
    precision = neighbors.main(
        neighbors.Config(**flags, neighbors=2, queries=2, evaluate=20, out=tmp_path / "neighbors.png")
    )
    assert set(precision) == {"pixels", "features"} and all(0 <= each <= 100 for each in precision.values())
    accuracy = embedding.main(
        embedding.Config(**flags, method="pca", of="pixels", images=40, grid=6, out=tmp_path / "map.png")
    )
    assert 0 <= accuracy <= 100
    config = feature_visualization.Config(**flags, images=3, ascent_steps=2, out=tmp_path / "classes.png")
    feature_visualization.main(config)
    feature_visualization.main(dataclasses.replace(config, stage=0, channels=(1, 2), out=tmp_path / "neurons.png"))
    feature_visualization.main(dataclasses.replace(config, fool=True, out=tmp_path / "fooled.png"))
    names = ("neighbors", "map", "classes", "neurons", "fooled")
    assert all(min(size(tmp_path / f"{name}.png")) > 100 for name in names)
    for wrong in (dict(stage=9), dict(stage=0, channels=(99,))):
        with pytest.raises(ValueError, match="there is no --stage|no channel"):
            feature_visualization.main(dataclasses.replace(config, **wrong))
    layer_table.main(layer_table.Config(run))
    assert "multiply-adds" in capsys.readouterr().out.replace("\n", "")


@pytest.mark.slow
def test_the_page_has_every_picture_and_asks_no_network(run, tmp_path, browser):
    config = explain.Config(run=run, device="cpu", images=2, report=True, out=tmp_path / "page.png")
    written = report.write(config)
    page, said, asked = browser.new_page(), [], []
    page.on("console", lambda message: said.append(message.text))
    page.on("pageerror", lambda error: said.append(str(error)))
    page.on("request", lambda request: asked.append(request.url))
    page.goto(written.as_uri())
    widths = page.evaluate("[...document.images].map(image => image.naturalWidth)")
    assert len(widths) >= 8 and min(widths) > 100 and page.locator("table tr").count() > 5
    assert not said and all(url.startswith("data:") or url == written.as_uri() for url in asked)
