"""Annotated images in COCO's, VOC's and YOLO's formats. What is wrong with them: test_annotated_problems.py."""

import os
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from tests.annotated_files import coco, kinds, picture, voc
from vision.data import annotated, image_files
from vision.data.annotated import polygons, yolo

ROOTS = [Path(os.environ.get("SACCADE_DATA", "/nowhere")), Path(__file__).parents[2] / "shared" / "data"]


def real(name):
    """A folder of real data, or skip."""
    found = next((root / name for root in ROOTS if (root / name).is_dir()), None)
    if found is None:
        pytest.skip(f"no {name}: name the folder above {name}/ in $SACCADE_DATA")
    return found


def test_coco(tmp_path):
    """Boxes from (x, y, width, height), ids with gaps, areas, crowds, and parts by the files' names."""
    for number in range(12):
        picture(tmp_path / "images" / f"{number}.png")
    names = {number: f"{number}.png" for number in range(12)}
    crowd = dict(id=9, image_id=3, category_id=7, bbox=[0, 0, 9, 9], iscrowd=1, area=50.5)
    coco(tmp_path, names, [(3, 1, [5, 6, 10, 20]), (3, 1, [5, 6, 10, 30]), crowd], (1, 7))
    sets = annotated.load(tmp_path)
    assert sets.classes == ("class 1", "class 7") and [len(part) for part in sets[:3]] == [10, 1, 1]
    (found,) = [sample for part in sets[:3] for sample in part if len(sample.target.boxes)]
    assert found.image.shape == (3, 40, 60) and found.target.boxes[0].tolist() == [5, 6, 15, 26]
    assert found.target.labels.tolist() == [0, 0, 1] and found.target.crowd.tolist() == [False, False, True]
    assert found.target.area.tolist() == [200, 300, 50.5], "two of three are not annotated: their boxes'"
    assert kinds(sets) == {"crowd region": 1, "class ids with gaps": 1, "image without objects": 11}
    again = annotated.load(tmp_path)
    assert [a.path for a in again.test.annotations] == [a.path for a in sets.test.annotations]


@pytest.mark.parametrize(
    ("files", "folders"),
    [
        (("annotations/instances_train2017.json", "annotations/instances_val2017.json"), ("train2017", "val2017")),
        (("train/_annotations.coco.json", "valid/_annotations.coco.json"), ("train", "valid")),
        (("train.json", "val.json"), ("images", "images")),
        (("annotations/train.json", "annotations/val.json"), ("images/train", "images/val")),
    ],
)
def test_coco_in_the_layouts_that_there_are(files, folders, tmp_path):
    for file, folder, numbers in zip(files, folders, (range(20), range(20, 24)), strict=True):
        for number in numbers:
            picture(tmp_path / folder / f"{number}.png")
        names = {number: f"{number}.png" for number in numbers}
        coco(tmp_path, names, [(number, 1, [0, 0, 9, 9]) for number in numbers], name=file)
    (tmp_path / "notes.json").write_text("[]")
    sets = annotated.load(tmp_path)
    assert [len(part) for part in sets[:3]] == [18, 2, 4]
    assert kinds(sets) == {"class without objects": 1}


@pytest.mark.parametrize("turned", [True, False])
def test_exif_turns_boxes_image_and_size_together(turned, tmp_path):
    """Annotated upright, 40 x 60, the image is turned; annotated as stored, 60 x 40, it is not."""
    exif = Image.Exif()
    exif[image_files.ORIENTATION] = 6
    for number in range(3):
        picture(tmp_path / f"{number}.jpg", exif=exif)
    path = coco(
        tmp_path, {number: f"{number}.jpg" for number in range(3)}, [(0, 1, [0, 0, 30, 50 if turned else 30])]
    )
    if turned:
        path.write_text(path.read_text().replace('"width": 60, "height": 40', '"width": 40, "height": 60'))
    sets = annotated.load(tmp_path)
    name = "image turned by EXIF" if turned else "image turned by EXIF, annotated as stored"
    assert kinds(sets)[name] == 3 and "box partly outside of its image" not in kinds(sets)
    assert all(sample.image.shape == ((3, 60, 40) if turned else (3, 40, 60)) for part in sets[:3] for sample in part)


def test_other_kinds_of_images(tmp_path):
    for number, mode in enumerate(("RGB", "P", "I;16", "L", "RGBA")):
        picture(tmp_path / f"{number}.png", mode=mode)
    picture(tmp_path / "5.png", size=(30, 30))
    coco(tmp_path, {number: f"{number}.png" for number in range(6)}, [(n, 1, [0, 0, 9, 9]) for n in range(6)], (1,))
    sets = annotated.load(tmp_path)
    expected = {"image of another size than annotated": 1, "16-bit image": 1, "palette image": 1}
    assert kinds(sets) == expected
    assert all(sample.image.dtype == torch.uint8 and len(sample.image) == 3 for part in sets[:3] for sample in part)


def test_voc(tmp_path):
    """Pixels counted from 1, the last one inside; difficult objects; parts by lists."""
    voc(tmp_path, "a", [("dog", False, (1, 1, 10, 20)), ("cat", True, (5, 5, 60, 40))])
    voc(tmp_path, "b", [("dog", False, (7, 7, 7, 7)), ("", False, (1, 1, 5, 5)), ("cat", False, (1, 1, 5))])
    voc(tmp_path, "c", [], image=False)
    voc(tmp_path, "d", [("cat", False, (1, 1, 5, 5))])
    voc(tmp_path, "other", [("bird", False, (1, 1, 5, 5))])
    (tmp_path / "Annotations" / "broken.xml").write_text("<annotation><object>")
    lists = tmp_path / "ImageSets" / "Main"
    lists.mkdir(parents=True)
    for part, names in dict(train="a\nc", val="b", test="d\nnowhere").items():
        (lists / f"{part}.txt").write_text(names + "\n")
    sets = annotated.load(tmp_path)
    assert sets.classes == ("cat", "dog") and [len(part) for part in sets[:3]] == [1, 1, 1]
    target = sets.train[0].target
    assert target.boxes.tolist() == [[0, 0, 10, 20], [4, 4, 60, 40]] and target.labels.tolist() == [1, 0]
    assert target.crowd.tolist() == [False, True]
    expected = {"missing image": 1, "damaged annotation": 4, "box without area": 1, "crowd region": 1}
    assert kinds(sets) == expected | {"image without objects": 1}


def test_masks_of_vocs_objects(tmp_path):
    """By the objects' numbers in the order of the .xml; the box of those without one, and without a file."""
    for name in "abcdef":
        voc(
            tmp_path,
            name,
            [("dog", False, (1, 1, 10, 20)), ("", False, (1, 1, 5, 5)), ("cat", False, (21, 1, 30, 10))],
        )
    numbers = np.zeros((40, 60), dtype=np.uint8)
    numbers[2:18, 3:9], numbers[1, 1], numbers[0:4, 20:24] = 1, 255, 3
    folder = tmp_path / "SegmentationObject"
    folder.mkdir()
    odd = np.where(numbers == 3, 9, numbers)
    for name, image in {"a": numbers, "b": odd, "c": numbers[:30], "d": np.dstack([numbers] * 3)}.items():
        Image.fromarray(image).save(folder / f"{name}.png")
    sets = annotated.load(tmp_path)
    found = {sample.path.stem: part.target(row) for part in sets[:3] for row, sample in enumerate(part.annotations)}
    assert np.array_equal(found["a"].masks[0], numbers == 1) and np.array_equal(found["a"].masks[1], numbers == 3)
    assert np.array_equal(found["b"].masks[0], numbers == 1)
    assert found["b"].masks[1].sum() == 10 * 10
    assert all(found[name].masks[0].sum() == 10 * 20 for name in "cdef")
    expected = {"mask of no object": 1, "object without a mask": 1, "unreadable mask of objects": 1}
    expected |= {"run lengths of another size than the image": 2, "damaged annotation": 6}
    assert kinds(sets) == expected


def test_yolo(tmp_path):
    for number in range(6):
        part = "train" if number < 4 else "val"
        picture(tmp_path / "images" / part / f"{number}.png")
        label = tmp_path / "labels" / part / f"{number}.txt"
        label.parent.mkdir(parents=True, exist_ok=True)
        label.write_text("1 0.5 0.5 0.2 0.4\n0 0 0 0.5 0 0.5 0.5\n" if number else "2 0.5 0.5 0.1 0.1\n1 x\n1 2\n\n")
    (tmp_path / "labels" / "train" / "lost.txt").write_text("0 0.5 0.5 0.1 0.1\n")
    (tmp_path / "data.yaml").write_text("path: .\nnames:\n  0: ball  # round\n  1: 'big box'\nnc: 2\n")
    sets = annotated.load(tmp_path)
    assert sets.classes == ("ball", "big box") and [len(part) for part in sets[:3]] == [3, 1, 2]
    target = sets.test[0].target
    torch.testing.assert_close(target.boxes, torch.tensor([[24.0, 12, 36, 28], [0, 0, 30, 20]]))
    assert target.masks.shape == (2, 40, 60) and 250 < target.masks[1].sum() < 350  # of a triangle of 300
    assert kinds(sets)["unknown class"] == 1 and kinds(sets)["damaged annotation"] == 2
    assert kinds(sets)["missing image"] == 1
    for text in ("names: ['ball', \"big box\"]\n", "nc: 2\nnames:\n- ball\n- big box\n"):
        (tmp_path / "data.yaml").write_text(text)
        assert yolo._names(tmp_path) == ("ball", "big box")


def test_masks_are_pycocotools():
    """Polygons of any shape, inside and outside of the image; run lengths as numbers and as text."""
    rle = pytest.importorskip("pycocotools.mask")
    random = np.random.default_rng(0)
    for trial in range(60):
        tall, wide = random.integers(5, 40, 2)
        corners = random.integers(3, 9)
        polygon = random.random((corners, 2)) * (wide, tall) * 1.4 - 3
        polygon = polygon.round() if trial % 3 == 0 else polygon
        (expected,) = rle.frPyObjects([polygon.flatten().tolist()], int(tall), int(wide))
        mask = polygons.polygon_mask(polygon, (int(tall), int(wide)))
        assert np.array_equal(mask, rle.decode(expected).astype(bool)), trial
        segment = polygons.segment_of(dict(counts=expected["counts"].decode(), size=[int(tall), int(wide)]))
        assert np.array_equal(polygons.mask_of(segment, (0, 0, 1, 1), (int(tall), int(wide))), mask)
        counts = dict(counts=segment.counts.tolist(), size=[int(tall), int(wide)])
        assert np.array_equal(polygons.mask_of(polygons.segment_of(counts), (), (int(tall), int(wide))), mask)


def test_keypoints_and_captions(tmp_path):
    for number in range(3):
        picture(tmp_path / f"{number}.png")
    points = dict(id=1, image_id=0, category_id=1, bbox=[0, 0, 9, 9], keypoints=[1, 2, 2, 0, 0, 0], num_keypoints=1)
    caption = dict(id=2, image_id=0, caption="a shape")
    coco(tmp_path, {n: f"{n}.png" for n in range(3)}, [points, caption, (1, 1, [0, 0, 5, 5])], (1,))
    samples = [sample for part in annotated.load(tmp_path)[:3] for sample in part]
    (first,) = [sample for sample in samples if sample.target.captions]
    assert first.target.captions == ("a shape",) and first.target.keypoints.tolist() == [[[1, 2, 2], [0, 0, 0]]]
    assert all(sample.target.keypoints.shape[1:] == (2, 3) for sample in samples)


def test_real_blood_cells():
    """BCCD: 364 images, 4,888 boxes, two of them without area."""
    sets = annotated.load(real("bccd"))
    assert [len(part) for part in sets[:3]] == [205, 87, 72] and sets.classes == ("Platelets", "RBC", "WBC")
    assert sum(len(each.objects) for part in sets[:3] for each in part.annotations) == 4888 - 2
    assert kinds(sets) == {"box without area": 2}
    assert {each.where.split()[0] for each in sets.problems} == {"BloodImage_00338.xml", "BloodImage_00343.xml"}


def test_real_photographs_in_yolos_format(tmp_path):
    """The first 128 of COCO's validation images with 898 boxes."""
    folder = real("coco_val128")
    os.symlink(folder / "images", tmp_path / "images")
    os.symlink(folder / "labels_yolo_boxes", tmp_path / "labels")
    os.symlink(folder / "classes_boxes.yaml", tmp_path / "classes.yaml")
    sets = annotated.load(tmp_path)
    assert sum(len(part) for part in sets[:3]) == 128 and len(sets.classes) == 80 and sets.classes[0] == "person"
    assert sum(len(each.objects) for part in sets[:3] for each in part.annotations) == 898
    assert sets.train[0].image.shape[0] == 3
