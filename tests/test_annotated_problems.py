"""What is wrong with annotated images: named, counted and left out, and shown by `python -m vision.data check`."""

import json
import runpy
import sys

import numpy as np
import pytest
from PIL import Image

from tests.annotated_files import coco, kinds, picture, voc
from vision.data import annotated, image_files
from vision.data.annotated import check, problems


def test_what_is_wrong_is_named_and_left_out(tmp_path):
    images = {number: f"{number}.png" for number in range(10)}
    for number in range(9):
        picture(tmp_path / f"{number}.png")
    data = (tmp_path / "7.png").read_bytes()
    (tmp_path / "7.png").write_bytes(data[: len(data) // 2])
    (tmp_path / "8.png").write_text("no image")
    lines = [
        (0, 1, [5, 5, 10, 10]),
        (0, 1, [5, 5, 0, 10]),  # without area
        (0, 1, [70, 5, 10, 10]),  # outside
        (0, 1, [50, 5, 30, 10]),  # partly
        (0, 1, [-0.6, 5, 30, 10]),  # less than a pixel
        (99, 1, [5, 5, 10, 10]),
        (0, 5, [5, 5, 10, 10]),
        dict(id=50, image_id=0, category_id=1),
        dict(id=51, image_id=0, category_id=1, bbox=[1, 2, "x", 4]),
        dict(id=52, image_id=0, category_id=1, bbox=[1, 2, float("nan"), 4]),
        dict(id=53, image_id=0, category_id=1, bbox=[1, 2, 3, 4], segmentation=[[1, 2]]),
        dict(id=54, image_id=0, category_id=1, bbox=[1, 2, 3, 4], segmentation=dict(counts="5", size=[40, 60])),
        "nonsense",
    ]
    coco(tmp_path, images, lines)
    sets = annotated.load(tmp_path)
    assert kinds(sets) == {
        "missing image": 1,
        "unreadable image": 2,
        "damaged annotation": 6,
        "unknown image id": 1,
        "unknown class": 1,
        "box without area": 1,
        "box outside of its image": 1,
        "box partly outside of its image": 1,
        "image without objects": 6,
        "class without objects": 1,
    }
    boxes = [sample.target.boxes for part in sets[:3] for sample in part if len(sample.target.boxes)]
    assert boxes[0].tolist()[:3] == [[5, 5, 15, 15], [50, 5, 60, 15], [0, 5, pytest.approx(29.4), 15]]
    text = "\n".join(problems.summary(sets.problems))
    assert "1 x box without area (left out): annotations.json annotation 2 of 0.png (5, 5, 5, 15)" in text
    assert "9.png (named in annotations.json)" in text and "7.png" in text and "8.png" in text
    assert "unknown image id (left out): annotations.json annotation 6 (99)" in text


def test_images_cut_short_are_found_before_training(tmp_path, monkeypatch):
    """By their last bytes; where those are well, by decoding all, if asked."""
    picture(tmp_path / "a.jpg", size=(300, 200))
    data = (tmp_path / "a.jpg").read_bytes()
    for cut in (len(data) // 2, len(data) - 3):
        (tmp_path / "b.jpg").write_bytes(data[:cut])
        with pytest.raises(ValueError, match="b.jpg cannot be read"):
            image_files.inspect(tmp_path / "b.jpg")
    (tmp_path / "b.jpg").write_bytes(data + b"\0" * 99)
    assert image_files.inspect(tmp_path / "b.jpg").size == (200, 300)
    png = picture(tmp_path / "c.png")
    broken = bytearray(png.read_bytes())
    broken[len(broken) // 2] ^= 255
    png.write_bytes(broken)
    image_files.inspect(png)
    with pytest.raises(ValueError, match="c.png cannot be read"):
        image_files.inspect(png, whole=True)
    for name in "abd":
        picture(tmp_path / f"{name}.jpg")
    names = {0: "a.jpg", 1: "b.jpg", 2: "c.png", 3: "d.jpg"}
    coco(tmp_path, names, [(n, 1, [0, 0, 9, 9]) for n in range(4)], (1,))
    assert kinds(annotated.load(tmp_path)) == {"unreadable image": 1}
    monkeypatch.setattr(annotated.images, "DECODED", 2)
    assert kinds(annotated.load(tmp_path)) == {}, "too many images to decode them all"
    assert kinds(annotated.load(tmp_path, whole=True)) == {"unreadable image": 1}


WRONG_KEYPOINTS = (
    [1, 2, 2, 3],
    [1, 2, 2, float("nan"), 1, 2],
    [1, 2, 2, 3, 4, 2, 5, 6, 2],
    "none",
    [1, 2, 2, 99, 1, 2],
)


def test_no_entry_of_a_coco_file_ends_the_reading(tmp_path):
    """Entries that are null, of other types, not finite or twice there are problems; the rest is read."""
    for number in range(6):
        picture(tmp_path / f"{number}.png")
    box, huge = [5, 5, 10, 10], float("1e400")
    good = dict(image_id=0, category_id=1, bbox=box)
    rle, whole = dict(counts=[0, 100], size=[10, 10]), dict(counts=[0, 2400], size=[40, 60])
    lines = [
        None,
        dict(image_id=0, category_id=1, bbox=[0, 0, 60, 40], segmentation=whole, iscrowd=1),
        good | dict(id=1, area=99.0, keypoints=[1, 2, 2, 0, 0, 0]),
        good | dict(id=2, area=99.0, keypoints=[1, 2, 2, 0, 0, 0]),  # twice
        good | dict(id=3, image_id=[0]),
        good | dict(id=4, category_id="1", bbox=[1, 1, 5, 5]),  # a number as text
        good | dict(id=5, category_id=[1]),
        good | dict(id=6, image_id=1, bbox=[1, 1, huge, 5]),
        good | dict(id=7, image_id=1, bbox=[1, 1, 10**400, 5]),
        *(good | dict(image_id=2, segmentation=[[0, 0, far, 9, 9, 9]]) for far in (1e12, float("nan"))),
        good | dict(id=8, image_id=2, segmentation=rle),
        good | dict(id=9, image_id=2, segmentation=dict(counts=[2**62] * 4, size=[40, 60])),
        good | dict(id=10, image_id=2, area=float("nan")),
        good | dict(id=11, image_id=2, area="large"),
        good | dict(id=12, image_id=2, area=None, bbox=[1, 2, 3, 4]),
        *(good | dict(image_id=3, bbox=[2, 2, 9, 9 + row], keypoints=k) for row, k in enumerate(WRONG_KEYPOINTS)),
        *(good | dict(image_id=4, category_id=number) for number in (2, 3, 7, 8, 9)),
        dict(id=13, image_id=4, caption=None),
    ]
    path = coco(tmp_path, {number: f"{number}.png" for number in range(5)}, lines)
    content = json.loads(path.read_text())
    content["images"][1] |= dict(height=float("nan"))
    content["images"][2] |= dict(width="60")
    more = (None, "1.png", dict(id=9), dict(id=[9], file_name="0.png"), dict(id=10, file_name="a" * 999))
    content["images"] += [*more, dict(id=11, file_name=None)]
    content["categories"] = [
        *(None, "cat", dict(name="lost"), dict(id=None, name="lost"), dict(id=[2], name="lost")),
        dict(id=1, name="cat", keypoints=["nose", "tail"]),
        *(dict(id="2", name="dog"), dict(id=3, name="cat"), dict(id=2, name="bird"), dict(id=8)),
        dict(id="nine", name="cow"),
    ]
    path.write_text(json.dumps(content))
    sets = annotated.load(tmp_path)
    assert sets.classes == ("cat", "dog", "category 8", "cow")
    assert kinds(sets) == {
        "missing image": 1,
        "damaged annotation": 5 + 5 + 7,  # images, categories, annotations
        "unknown class": 2,
        "duplicate annotation": 1,
        "crowd region": 1,
        "polygon outside of its image": 2,
        "run lengths of another size than the image": 1,
        "damaged keypoints": 4,
        "keypoints outside of their image": 1,
        "area that makes no sense": 2,
        "image size that makes no sense": 2,
        "class without a name": 1,
        "class id of two classes": 1,
        "class name of two classes": 1,
        "class id that is text": 2,
        "class ids with gaps": 1,
        "image that no file lists": 1,
        "image without objects": 1,
        "class without objects": 1,
    }
    text = "\n".join(problems.summary(sets.problems, 99))
    for words in (
        "annotations.json annotations[0]",
        "annotation 3 (unhashable type: 'list')",
        "duplicate annotation (left out): annotations.json annotation 2 of 0.png",
        "annotation 8 of 2.png (10 x 10 pixels, its image 60 x 40)",
        "(1e+12, 9 of 60 x 40 pixels)",
        "of 3.png (99, 1 of 60 x 40 pixels)",
        "1.png (height nan, width 60)",
        "annotations.json id 2 (dog and bird)",
        "annotations.json cat (ids 1 and 3)",
        "5.png (in ",
    ):
        assert words in text, words
    samples = {found.path.stem: part[row] for part in sets[:3] for row, found in enumerate(part.annotations)}
    assert samples["0"].target.area.tolist() == [2400, 99, 25] and samples["4"].target.labels.tolist() == [1, 0, 2]
    assert samples["2"].target.masks[0].sum() == 100, "the box is the mask"
    assert (samples["3"].target.keypoints == 0).all() and samples["3"].target.keypoints.shape == (5, 2, 3)


def test_keypoints_whose_number_no_class_tells(tmp_path):
    """Most objects decide it."""
    for number in range(3):
        picture(tmp_path / f"{number}.png")
    points = [[1, 2, 2] * 2, [1, 2, 2] * 2, [1, 2, 2] * 3]
    lines = [dict(id=n, image_id=n, category_id=1, bbox=[0, 0, 9, 9], keypoints=k) for n, k in enumerate(points)]
    coco(tmp_path, {number: f"{number}.png" for number in range(3)}, lines, (1,))
    sets = annotated.load(tmp_path)
    assert kinds(sets) == {"damaged keypoints": 1} and sets.train.points == 2
    assert "annotation 2 of 2.png (3, and most have 2)" in problems.summary(sets.problems)[0]


def test_files_of_a_part_that_are_not_read_are_named(tmp_path):
    """Of two files with boxes one is read, instances'; captions are joined to it."""
    names = {number: f"{number}.png" for number in range(3)}
    for name in names.values():
        picture(tmp_path / name)
    lines = [(number, 1, [0, 0, 9, 9]) for number in names]
    coco(tmp_path, names, lines, (1,), "instances.json")
    coco(tmp_path, names, lines, (1,), "person_keypoints.json")
    coco(tmp_path, names, [dict(id=1, image_id=0, caption="a dog")], (), "captions.json")
    sets = annotated.load(tmp_path)
    assert problems.summary(sets.problems) == [
        "1 x annotation file beside another (not read): person_keypoints.json (instances.json is)"
    ]
    assert sum(bool(each.captions) for part in sets[:3] for each in part.annotations) == 1


def test_voc_without_lists_names_images_without_annotations(tmp_path):
    for name in "abcd":
        voc(tmp_path, name, [("dog", False, (1, 1, 10, 20))])
    picture(tmp_path / "JPEGImages" / "lost.png")
    path = tmp_path / "Annotations" / "c.xml"
    path.write_text(path.read_text().replace("<width>60", "<width>inf"))
    path = tmp_path / "Annotations" / "d.xml"
    path.write_text(path.read_text().replace("d.png", "d" * 999))  # no file can be called that: d.png is found
    sets = annotated.load(tmp_path)
    assert kinds(sets) == {"damaged annotation": 1, "image that no file lists": 1}
    assert "lost.png (in JPEGImages/)" in "".join(problems.summary(sets.problems))


def test_what_cannot_be_read_at_all(tmp_path):
    with pytest.raises(ValueError, match="there is no folder"):
        annotated.load(tmp_path / "nowhere")
    with pytest.raises(ValueError, match="no annotations in a known format"):
        annotated.load(tmp_path)
    with pytest.raises(ValueError, match="unknown format 'vok': did you mean 'voc'"):
        annotated.load(tmp_path, "vok")
    coco(tmp_path, {0: "lost.png"}, [(0, 1, [0, 0, 9, 9])])
    with pytest.raises(ValueError, match="has no image that can be read: 1 x missing image .*lost.png"):
        annotated.load(tmp_path)
    (tmp_path / "annotations.json").write_text('{"annotations": [')
    with pytest.raises(ValueError, match="annotations.json is not JSON"):
        annotated.load(tmp_path)


def test_check_says_it_with_a_picture(tmp_path, monkeypatch, capsys):
    voc(tmp_path, "a", [("dog", False, (1, 1, 10, 20)), ("dog", False, (3, 3, 3, 3))])
    for name in "bc":
        voc(tmp_path, name, [("dog", False, (1, 1, 10, 20))])
    monkeypatch.setattr(sys, "argv", ["vision.data", "check", str(tmp_path), "--out", str(tmp_path / "check.png")])
    with pytest.raises(SystemExit) as stopped:
        runpy.run_module("vision.data", run_name="__main__", alter_sys=True)
    assert stopped.value.code == 1
    assert "1 x box without area (left out): a.xml object 2 (3, 3, 3, 3)" in capsys.readouterr().out
    assert Image.open(tmp_path / "check.png").size[0] > 300
    for name in "def":  # masks of classes beside the boxes
        picture(tmp_path / "SegmentationClass" / f"{name}.png", mode="L")
        picture(tmp_path / "JPEGImages" / f"{name}.png")
    for name in "abc":
        path = tmp_path / "SegmentationClass" / f"{name}.png"
        path.parent.mkdir(exist_ok=True)
        Image.fromarray(np.full((40, 60), 5, np.uint8)).save(path)
    monkeypatch.setattr(sys, "argv", ["vision.data", "check", str(tmp_path), "--out", str(tmp_path / "check.png")])
    with pytest.raises(SystemExit):
        runpy.run_module("vision.data", run_name="__main__", alter_sys=True)
    said = capsys.readouterr().out
    assert "3 x mask with pixels of an unknown class (left out): d.png" in said and "train: 1 images, 1" in said
    assert "train: 1 images with masks of classes" in said and "3 x image that no file lists" in said


def test_the_pictures_of_check_show_problems_first_and_what_is_left_out(tmp_path, monkeypatch, capsys):
    for number in range(5):
        picture(tmp_path / f"{number}.png", mode="L")
    lines = [(n, 1, [5, 5, 20, 20]) for n in range(5)]
    lines += [(3, 1, [70, 5, 10, 10]), (3, 9, [30, 5, 10, 10]), dict(id=9, image_id=0, caption="a dog")]
    lines += [dict(id=10, image_id=4, category_id=1, bbox=[0, 0, 9, 9], keypoints=[1, 2, 2])]
    coco(tmp_path, {number: f"{number}.png" for number in range(5)}, lines, (1,))
    drawn, panel = [], check.panel
    monkeypatch.setattr(check, "panel", lambda axis, *rest: (drawn.append(axis), panel(axis, *rest)))
    with pytest.raises(SystemExit):
        check.main(check.Config(tmp_path, out=tmp_path / "out" / "check.png", images=2))
    titles = [axis.get_title() for axis in drawn]
    assert titles[0] == "3.png\nunknown class\nbox outside of its image" and len(titles) == 2
    left = [[p.get_bbox().bounds for p in axis.patches if p.get_linestyle() == "--"] for axis in drawn]
    assert left == [[(28.5, 3.5, 12, 12), (58.5, 3.5, 2, 12)], []], "at the border"
    said = capsys.readouterr().out
    assert "annotation 6 of 3.png (70, 5, 80, 15 of 60 x 40 pixels)" in said
    assert "1 captions" in said and "1 of them with keypoints" in said
