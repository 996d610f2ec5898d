"""What detectors write and report: JSON of predictions, VOC's scores, detectors of one's own."""

import json

import pytest
import torch
from PIL import Image

from tests.test_detection import small
from vision import detection
from vision.data import scenes
from vision.data.annotated import polygons
from vision.detection import data, predict, train


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
