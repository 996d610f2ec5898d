"""What detectors write and report: JSON of predictions, VOC's scores, detectors of one's own."""

import dataclasses
import json
import sys

import pytest
import torch
from PIL import Image

import runs
from tests import test_detection_metrics as metrics
from tests.test_detection import small
from vision import detection
from vision.data import scenes
from vision.data.annotated import polygons
from vision.data.samples import Target
from vision.detection import data, evaluation, predict, train
from vision.detection.metrics import CocoEvaluator, libraries


def write_png(image, path):
    """Write an image (3, H, W) uint8."""
    Image.fromarray(image.permute(1, 2, 0).numpy()).save(path)


def test_masks_and_keypoints_are_written_as_cocos_results():
    """Run lengths down the columns, beginning outside: 4 rows, of the second column the middle two pixels."""
    mask = torch.zeros(1, 4, 3, dtype=torch.bool)
    mask[0, 1:3, 1] = True
    box, points = torch.tensor([[1.0, 1, 2, 3]]), torch.tensor([[[1.25, 2.5, -0.75], [0.5, 3.0, 4.0]]])
    found = detection.Detections(box, torch.tensor([0.5]), torch.tensor([0]), mask, points)
    line = {"category": "ball", "score": 0.5, "bbox": [1, 1, 1, 2], "segmentation": {"size": [4, 3], "counts": "525"}}
    line |= {"keypoints": [1.25, 2.5, 1, 0.5, 3, 1], "keypoint_scores": [-0.75, 4]}
    assert predict.described(found, ["ball"]) == [line]
    segment = polygons.segment_of(json.loads(json.dumps(line["segmentation"])))
    assert polygons.mask_of(segment, (0, 0, 0, 0), (4, 3)).tolist() == mask[0].tolist()


@pytest.mark.parametrize("kind", ["mask_rcnn", "keypoint_rcnn"])
def test_predict_writes_masks_and_keypoints(tmp_path, monkeypatch, kind):
    monkeypatch.setattr(scenes, "SIZES", (4, 1, 1))
    data._scenes.cache_clear()
    config = small(kind, folder=tmp_path, batch=1, steps=1, evaluate_every=1, log_every=1, size=64, pictures=0)
    train.train(config)
    data._scenes.cache_clear()
    path, image = tmp_path / "a.png", scenes.Scenes(1, seed=9, side=80)[0].image
    write_png(image, path)
    run = tmp_path / "shapes" / "detection-1"
    predict.main(predict.Config(run, (path,), least=0.0, out=tmp_path / "out", device="cpu"))
    lines = json.loads((tmp_path / "out" / "detections.json").read_text())
    assert lines and all(("segmentation" in line) == (kind == "mask_rcnn") for line in lines)
    assert all(len(line.get("keypoints", ())) == 15 * (kind == "keypoint_rcnn") for line in lines)
    for line in lines if kind == "mask_rcnn" else ():
        left, top, wide, tall = line["bbox"]
        rows, columns = polygons.mask_of(polygons.segment_of(line["segmentation"]), (0, 0, 0, 0), (80, 80)).nonzero()
        assert ((columns + 0.5 - left).round(1) >= 0).all() and ((rows + 0.5 - top - tall).round(1) <= 0).all()


def voc_folder(folder, samples):
    """Samples in VOC's format, which counts pixels from 1; the first object of each image is a difficult one."""
    for row, sample in enumerate(samples):
        lines = []
        for number, (box, label) in enumerate(zip(sample.target.boxes, sample.target.labels, strict=True)):
            left, top, right, bottom = box.round().int().tolist()
            corners = dict(xmin=left + 1, ymin=top + 1, xmax=right, ymax=bottom)
            inside = "".join(f"<{name}>{value}</{name}>" for name, value in corners.items())
            about = f"<name>class {label}</name><difficult>{int(number == 0)}</difficult>"
            lines.append(f"<object>{about}<bndbox>{inside}</bndbox></object>")
        for place in ("Annotations", "JPEGImages"):
            (folder / place).mkdir(parents=True, exist_ok=True)
        (folder / "Annotations" / f"{row}.xml").write_text(f"<annotation>{''.join(lines)}</annotation>")
        write_png(sample.image, folder / "JPEGImages" / f"{row}.png")


def test_data_in_vocs_format_are_also_scored_by_vocs_rule(tmp_path, monkeypatch):
    """Found out by itself. Who finds every object but the difficult ones has 1; COCO's data have no such number."""
    voc_folder(tmp_path / "voc", scenes.Scenes(8, seed=7, side=64))
    sets = data.load(str(tmp_path / "voc"))
    assert sets.format == "voc" and any(sample.target.crowd.any() for sample in sets.train)

    def perfect(model, images, size, longest):
        targets = [sample.target for image in images for sample in samples if torch.equal(sample.image, image)]
        kept = [(target.boxes[~target.crowd], target.labels[~target.crowd]) for target in targets]
        return [detection.Detections(boxes, torch.ones(len(boxes)), labels) for boxes, labels in kept]

    samples, model = list(sets.train), train.build(small("ssd"), sets.objects)
    with monkeypatch.context() as patch:
        patch.setattr(evaluation, "find", perfect)
        scored, _ = evaluation.evaluate(small("ssd"), model, sets, samples, len(samples), None)
        assert train.results(scored)["voc_map"] == 1
        scored, _ = evaluation.evaluate(
            small("ssd"), model, sets._replace(format="coco"), samples, len(samples), None
        )
        assert "map" in train.results(scored) and "voc_map" not in train.results(scored)
    config = small(
        "ssd", data=str(tmp_path / "voc"), folder=tmp_path, batch=4, steps=4, evaluate_every=4, size=64, pictures=0
    )
    train.train(config)
    lines = (tmp_path / "voc" / "detection-1" / "metrics.jsonl").read_text()
    assert '"eval/voc_map"' in lines and '"test/voc_map"' in lines


OWN = """
import torch
from torch import nn

from vision.detection import Detections
from vision.detection.detector import Detector


class Corner(Detector):
    keeps_scenes = True
    recipes = {"shapes": dict(backbone="resnet20", width=0.25, batch=4, learning_rate=1e-2)}

    @classmethod
    def of(cls, config, backbone, objects, size):
        return cls(backbone, objects.classes)

    def __init__(self, backbone, classes):
        super().__init__(backbone)
        self.head = nn.Linear(backbone.channels[-1], classes)

    def scores(self, images):
        return self.head(self.features(images)[-1].mean((2, 3)))

    def losses(self, images, sizes, targets):
        first = torch.stack([target.labels[0] for target in targets])
        return {"loss/first": nn.functional.cross_entropy(self.scores(images), first)}

    def detect(self, images, sizes):
        best = self.scores(images).softmax(1).max(1)
        box = torch.tensor([[0.0, 0.0, 8.0, 8.0]])
        return [Detections(box, score[None], label[None]) for score, label in zip(*best)]
"""


def test_a_detector_in_a_file_of_ones_own(tmp_path, monkeypatch):
    """Trained, loaded, and shown an image; from another folder, the error says where to run it."""
    monkeypatch.setattr(scenes, "SIZES", (8, 2, 2))
    data._scenes.cache_clear()
    (tmp_path / "my_file.py").write_text(OWN)
    monkeypatch.delitem(sys.modules, "my_file", raising=False)
    with monkeypatch.context() as patch:
        patch.syspath_prepend(tmp_path)
        asked = train.recipe(train.Config(model="my_file:Corner"))
        assert asked.backbone == "resnet20" and asked.batch == 4
        config = dataclasses.replace(
            asked, folder=tmp_path, steps=8, evaluate_every=8, log_every=4, wandb="disabled", device="cpu"
        )
        train.train(config)
        data._scenes.cache_clear()
        run = tmp_path / "shapes" / "detection-1"
        trained = detection.load(run, "cpu")
        assert type(trained.model) is sys.modules["my_file"].Corner
        (found,) = trained.predict([scenes.Scenes(1, seed=9, side=80)[0].image])
        assert found.boxes.tolist() == [[0, 0, 8, 8]] and trained.names(found)[0] in scenes.Scenes.classes
        sys.modules.pop("my_file")
    with pytest.raises(
        runs.RunError, match="from the folder that holds my_file.py, or put that folder on PYTHONPATH"
    ):
        detection.load(run, "cpu")
    with pytest.raises(ValueError, match="there is no module 'no_package' here.* the folder that holds no_package,"):
        train.Config(model="no_package.my_file:Corner").validate()
    (tmp_path / "other_file.py").write_text("import no_such_library")
    monkeypatch.syspath_prepend(tmp_path)
    with pytest.raises(ValueError, match="cannot be imported: No module named 'no_such_library'"):
        train.Config(model="other_file:Corner").validate()


@pytest.mark.parametrize("kind", ["boxes", "masks"])
@pytest.mark.parametrize("library", ["hotcoco", "pycocotools"])
def test_a_library_scores_what_is_asked_for(library, kind):
    """Equal to our own figures, whose matches by kinds of errors it has; without detections too."""
    pytest.importorskip(library)
    own, theirs = CocoEvaluator(metrics.CLASSES, kind), libraries.LibraryEvaluator(metrics.CLASSES, kind, library)
    assert theirs.results() == own.results()
    for (guess, names, scores), (rows, labels, crowd) in zip(*metrics.scenes(0, images=5), strict=True):
        fields, masks = [], [{"masks": torch.from_numpy(metrics.masks_of(each))} for each in (guess, rows)]
        for each in (guess, scores, names, rows, labels, crowd):
            fields.append(torch.from_numpy(each))
        found = detection.Detections(*fields[:3], **masks[0])
        for evaluator in (own, theirs):
            evaluator.add(found, Target(boxes=fields[3], labels=fields[4], crowd=fields[5], **masks[1]))
    assert own.results()["map"] > 0.1 and theirs.results() == pytest.approx(own.results(), abs=1e-6)
    assert train.count_errors(theirs) == train.count_errors(own)


def test_the_library_of_a_run(tmp_path, monkeypatch):
    """Named where it is not installed, before anything is read; else asked for boxes and masks."""
    config = small("mask_rcnn", evaluator="hotcoco", folder=tmp_path, data="nowhere")
    with monkeypatch.context() as patch:
        patch.setattr(libraries.importlib.util, "find_spec", lambda name: None)
        with pytest.raises(ValueError, match="--evaluator hotcoco: it is not installed. pip install hotcoco"):
            train.train(config)
    few = scenes.Scenes(1, seed=7, side=64)
    sets = data.Images(few, few, few, few.classes, [], True)
    found = evaluation.evaluators(train.build(config, sets.objects), sets, "hotcoco")
    kinds = {name: (type(each), each.kind) for name, each in found.items()}
    assert kinds == {"": (libraries.LibraryEvaluator, "boxes"), "mask_": (libraries.LibraryEvaluator, "masks")}
