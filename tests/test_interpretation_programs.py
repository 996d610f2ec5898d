"""The programs of vision/interpretation, on a classifier of drawn shapes after a few steps."""

import dataclasses
import importlib

import pytest
from PIL import Image

from vision import classification
from vision.interpretation import (
    activations,
    attribution_scores,
    embedding,
    explain,
    feature_visualization,
    layer_table,
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


def test_scores_of_attributions(run, tmp_path):
    config = attribution_scores.Config(
        run=run, device="cpu", images=60, sanity_images=2, out=tmp_path / "scores.json"
    )
    about = subject.load(config)
    found = attribution_scores.scores(config, about)
    share = found.pop("the shape's share")
    assert share["pointing"] == share["mass"] == share["rank"] and 0.05 < share["mass"] < 0.5
    assert all(0 <= line[key] <= 1 for line in found.values() for key in ("pointing", "mass", "rank", "zeros"))
    assert all(-1 <= line["all layers"] <= 1 for line in found.values())


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
