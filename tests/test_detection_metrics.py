"""Metrics of detection: numbers by hand, and pycocotools' and hotcoco's on random and adversarial images."""

import contextlib
import io
import json

import numpy as np
import pytest
import torch

from vision.data.samples import Target
from vision.detection import Detections
from vision.detection.metrics import CocoEvaluator, VocEvaluator, count_errors
from vision.detection.metrics.overlaps import COCO_SIGMAS

SIDE = 200  # pixels of an image
CLASSES = 4
NAMES = {
    "boxes": ("map", "map_50", "map_75", "map_small", "map_medium", "map_large")
    + ("mar_1", "mar_10", "mar_100", "mar_small", "mar_medium", "mar_large"),
    "keypoints": ("map", "map_50", "map_75", "map_medium", "map_large")
    + ("mar_20", "mar_20_50", "mar_20_75", "mar_medium", "mar_large"),
}
NAMES["masks"] = NAMES["boxes"]


def boxes_of(rows):
    return torch.tensor(rows, dtype=torch.float64).view(-1, 4)


def found(rows, scores, labels):
    return Detections(boxes_of(rows), torch.tensor(scores, dtype=torch.float64), torch.tensor(labels).long())


def objects(rows, labels, crowd=None):
    return Target(
        boxes=boxes_of(rows),
        labels=torch.tensor(labels).long(),
        crowd=None if crowd is None else torch.tensor(crowd).bool(),
    )


SQUARE, FAR, NEAR = [0, 0, 10, 10], [50, 50, 60, 60], [0, 0, 10, 6]


def test_coco_by_hand():
    """Two objects, one found first and one after a wrong detection: precision 1 up to recall 1/2, then 2/3."""
    evaluator = CocoEvaluator(1)
    evaluator.add(found([SQUARE, FAR, [20, 20, 30, 30]], [0.9, 0.7, 0.8], [0] * 3), objects([SQUARE, FAR], [0, 0]))
    results = evaluator.results()
    assert results["map"] == pytest.approx((51 * 1 + 50 * 2 / 3) / 101)
    assert results["mar_1"] == 0.5 and results["mar_100"] == 1 and results["map_large"] == -1
    assert evaluator.by_class() == [results["map"]] and evaluator.by_class(at_50=True) == [results["map_50"]]
    assert CocoEvaluator(2).results()["map"] == -1
    near = CocoEvaluator(1)
    near.add(found([NEAR], [0.5], [0]), objects([SQUARE], [0]))
    assert near.results()["map"] == pytest.approx(0.3), "an IoU of 0.6 is enough for three of ten thresholds"


def test_voc_by_hand():
    """As above: 11 recalls, 0 to 0.5 of precision 1 and 0.6 to 1 of 2/3; the area is 1/2 + 1/2 * 2/3."""
    for rule, expected in (("2007", (6 + 5 * 2 / 3) / 11), ("2010", 1 / 2 + 1 / 3)):
        evaluator = VocEvaluator(2, rule)
        rows = [SQUARE, FAR, [20, 20, 30, 30]]
        evaluator.add(found(rows, [0.9, 0.7, 0.8], [0] * 3), objects([SQUARE, FAR], [0, 0]))
        assert evaluator.results()["map"] == pytest.approx(expected)
        assert evaluator.by_class() == [pytest.approx(expected), -1]
    twice = VocEvaluator(1)
    twice.add(found([SQUARE, SQUARE], [0.9, 0.8], [0, 0]), objects([SQUARE, FAR], [0, 0]))
    assert twice.results()["map"] == pytest.approx(0.5), "the second of an object is wrong"
    difficult = VocEvaluator(1)
    difficult.add(
        found([SQUARE, SQUARE, FAR], [0.9, 0.8, 0.7], [0] * 3), objects([SQUARE, FAR], [0, 0], [True, False])
    )
    assert difficult.results()["map"] == 1
    empty = VocEvaluator(1)
    empty.add(found([SQUARE], [0.9], [0]), objects([], []))
    assert empty.results()["map"] == -1
    with pytest.raises(ValueError, match="unknown rule '2012'"):
        VocEvaluator(1, "2012")


def voc_by_a_loop(found, there, label, rule):
    """As the development kit has it, a detection after the other."""
    lines = [
        (-score, image, row)
        for image, (_, names, scores) in enumerate(found)
        for row, (name, score) in enumerate(zip(names, scores, strict=True))
        if name == label
    ]
    wanted, taken, right = sum(int(((n == label) & ~c).sum()) for _, n, c in there), set(), []
    for _, image, row in sorted(lines, key=lambda line: line[0]):
        (boxes, labels, crowd), box, best, place = there[image], found[image][0][row], -1.0, -1
        for other in range(len(boxes)):
            if labels[other] == label:
                low, high = np.maximum(box[:2], boxes[other, :2]), np.minimum(box[2:], boxes[other, 2:])
                shared = max(high[0] - low[0], 0) * max(high[1] - low[1], 0)
                area, own = np.prod(box[2:] - box[:2]), np.prod(boxes[other, 2:] - boxes[other, :2])
                if shared / (area + own - shared) > best:
                    best, place = shared / (area + own - shared), other
        if best >= 0.5 and crowd[place]:
            continue
        right.append(best >= 0.5 and (image, place) not in taken)
        taken |= {(image, place)} if best >= 0.5 else set()
    if not wanted:
        return -1
    hits = np.cumsum(right) if right else np.zeros(0)
    recall, precision = hits / wanted, hits / np.arange(1, len(hits) + 1)
    if rule == "2007":
        return np.mean([max(precision[recall >= i / 10 - 1e-12], default=0) for i in range(11)])
    return sum(max(precision[recall >= k / wanted - 1e-12], default=0) for k in range(1, wanted + 1)) / wanted


@pytest.mark.parametrize("rule", ["2007", "2010"])
@pytest.mark.parametrize("seed", [0, 1, 2])
def test_voc_is_a_loop(seed, rule):
    found, there = scenes(seed, images=20, levels=5 if seed else 0)
    evaluator = VocEvaluator(CLASSES, rule)
    for (guess, names, scores), (boxes, labels, crowd) in zip(found, there, strict=True):
        evaluator.add(
            Detections(*(torch.from_numpy(each) for each in (guess, scores, names))),
            Target(boxes=torch.from_numpy(boxes), labels=torch.from_numpy(labels), crowd=torch.from_numpy(crowd)),
        )
    expected = [voc_by_a_loop(found, there, label, rule) for label in range(CLASSES)]
    assert evaluator.by_class() == pytest.approx(expected, abs=1e-9)


def test_errors_by_hand():
    """One of each kind, an object that is missed, and one that a crowd excuses."""
    there = objects([SQUARE, FAR, [100, 100, 110, 110], [150, 150, 190, 190]], [0, 1, 0, 1], [0, 0, 0, 1])
    rows = [SQUARE, SQUARE, [0, 0, 10, 4], FAR, [50, 50, 60, 54], [80, 0, 90, 10], [160, 160, 170, 170]]
    evaluator = CocoEvaluator(2)
    evaluator.add(found(rows, [0.9, 0.8, 0.7, 0.6, 0.5, 0.4, 0.3], [0, 0, 0, 0, 0, 0, 1]), there)
    expected = dict(classification=1, localization=1, both=1, duplicate=1, background=1, missed=1)
    assert count_errors(evaluator) == expected


def test_what_does_not_fit_is_named():
    with pytest.raises(ValueError, match="unknown kind 'box'"):
        CocoEvaluator(1, "box")
    with pytest.raises(ValueError, match="keypoints are compared by sigmas"):
        CocoEvaluator(1, "keypoints")
    with pytest.raises(ValueError, match="masks are scored, and what was found has none"):
        CocoEvaluator(1, "masks").add(found([], [], []), objects([], []))
    with pytest.raises(ValueError, match="there are 1 boxes, and scores has shape"):
        Detections(torch.zeros(1, 4), torch.zeros(2), torch.zeros(1).long())


def scenes(seed, images=24, most=8, sides=(4, 190), jitter=8, levels=0):
    """Random images: objects (some crowds, some images without any) and detections about them and elsewhere.

    levels: as many different scores, so that many are equal; 0: all differ.
    """
    random = np.random.default_rng(seed)
    found, there = [], []
    for _ in range(images):
        count = random.integers(0, most + 1) * (random.random() > 0.15)
        size = np.exp(random.uniform(np.log(sides[0]), np.log(sides[1]), (count, 2))).round()
        corner = (random.random((count, 2)) * (SIDE - size)).round()
        boxes = np.concatenate([corner, corner + size], 1)
        labels = random.integers(0, CLASSES - 1, count)  # the last class has no objects
        there.append((boxes, labels, random.random(count) < 0.15))
        number = random.integers(0, 3, count)
        guess = np.repeat(boxes, number, 0) + random.integers(-jitter, jitter + 1, (number.sum(), 4)) / 2
        noise = random.random((random.integers(0, 6), 4)) * SIDE / 2
        noise[:, 2:] += noise[:, :2]
        guess = np.concatenate([guess, noise.round()]).clip(0, SIDE)
        guess[:, 2:] = np.maximum(guess[:, 2:], guess[:, :2] + 1)
        names = np.where(random.random(len(guess)) < 0.8, np.r_[np.repeat(labels, number), noise[:, 0] // 50], 3)
        scores = random.random(len(guess))
        scores = (scores * levels).round() / levels if levels else scores
        found.append((guess, names.astype(np.int64).clip(0, CLASSES - 1), scores))
    return found, there


ADVERSARIAL = {
    "random": dict(seed=0),
    "equal scores": dict(seed=1, levels=3),
    "crowded": dict(seed=2, most=60, sides=(4, 40), jitter=3, images=15),
    "equal boxes": dict(seed=3, jitter=0, levels=2, most=20, sides=(10, 12)),
    "areas at the edges": dict(seed=4, sides=(31, 33), jitter=2),
    "one image": dict(seed=5, images=1),
    "no objects": dict(seed=6, most=0),
    "tiny": dict(seed=7, sides=(1, 3), jitter=1),
}


def masks_of(boxes):
    """Ellipses in boxes, (K, SIDE, SIDE) bool."""
    middle = np.arange(SIDE) + 0.5
    x1, y1, x2, y2 = (boxes[:, side, None, None] for side in range(4))
    u = (middle[None, None] - (x1 + x2) / 2) / np.maximum(x2 - x1, 1)
    v = (middle[None, :, None] - (y1 + y2) / 2) / np.maximum(y2 - y1, 1)
    return u**2 + v**2 < 0.25


def keypoints_of(boxes, seed):
    """17 points about each box; some not labeled, some objects without any."""
    random = np.random.default_rng(seed)
    points = boxes[:, None, :2] + random.random((len(boxes), 17, 2)) * (boxes[:, None, 2:] - boxes[:, None, :2])
    seen = random.integers(0, 3, (len(boxes), 17)) * (random.random((len(boxes), 1)) < 0.8)
    return np.concatenate([points.round(1), seen[..., None]], 2)


def as_coco(found, there, kind):
    """The same in COCO's JSON, whose ids do not begin at 0, categories with a gap."""
    from pycocotools import mask as rle

    def encoded(mask):
        return rle.encode(np.asfortranarray(mask.astype(np.uint8)))

    annotations, results = [], []
    for image, (boxes, labels, crowd) in enumerate(there):
        masks = masks_of(boxes) if kind == "masks" else None
        points = keypoints_of(boxes, image) if kind == "keypoints" else None
        for row, (box, label) in enumerate(zip(boxes, labels, strict=True)):
            x, y, right, bottom = box.tolist()
            line = dict(id=len(annotations) + 1, image_id=image + 5, category_id=3 * int(label) + 2)
            line |= dict(bbox=[x, y, right - x, bottom - y], iscrowd=int(crowd[row]))
            line["area"] = float(masks[row].sum()) if kind == "masks" else (right - x) * (bottom - y) * 0.7
            if kind == "masks":
                line["segmentation"] = encoded(masks[row])
            if kind == "keypoints":
                line |= dict(
                    keypoints=points[row].flatten().tolist(), num_keypoints=int((points[row, :, 2] > 0).sum())
                )
            annotations.append(line)
    for image, (boxes, labels, scores) in enumerate(found):
        masks = masks_of(boxes) if kind == "masks" else None
        points = keypoints_of(boxes, image) if kind == "keypoints" else None
        for row, (box, label, score) in enumerate(zip(boxes, labels, scores, strict=True)):
            x, y, right, bottom = box.tolist()
            line = dict(image_id=image + 5, category_id=3 * int(label) + 2, score=float(score))
            if kind == "boxes":
                line["bbox"] = [x, y, right - x, bottom - y]
            if kind == "masks":
                line["segmentation"] = encoded(masks[row])
            if kind == "keypoints":
                line["keypoints"] = points[row].flatten().tolist()
            results.append(line)
    images = [dict(id=image + 5, width=SIDE, height=SIDE) for image in range(len(there))]
    categories = [dict(id=3 * label + 2, name=f"class {label}") for label in range(CLASSES)]
    return dict(images=images, annotations=annotations, categories=categories, info={}), results


def evaluated(found, there, kind):
    """Ours."""
    evaluator = CocoEvaluator(CLASSES, kind, COCO_SIGMAS if kind == "keypoints" else None)
    for image, ((guess, names, scores), (boxes, labels, crowd)) in enumerate(zip(found, there, strict=True)):
        own, theirs = {}, {"area": torch.from_numpy((boxes[:, 2] - boxes[:, 0]) * (boxes[:, 3] - boxes[:, 1]) * 0.7)}
        if kind == "masks":
            own, theirs = ({"masks": torch.from_numpy(masks_of(each))} for each in (guess, boxes))
        if kind == "keypoints":
            own["keypoints"], theirs["keypoints"] = (
                torch.from_numpy(keypoints_of(each, image)) for each in (guess, boxes)
            )
        evaluator.add(
            Detections(*(torch.from_numpy(each) for each in (guess, scores, names)), **own),
            Target(
                boxes=torch.from_numpy(boxes),
                labels=torch.from_numpy(labels),
                crowd=torch.from_numpy(crowd),
                **theirs,
            ),
        )
    return evaluator


def pycocotools_stats(truth, results, kind):
    coco = pytest.importorskip("pycocotools.coco")
    evaluation = pytest.importorskip("pycocotools.cocoeval")
    with contextlib.redirect_stdout(io.StringIO()):
        own = coco.COCO()
        own.dataset = truth
        own.createIndex()
        other = own.loadRes(results) if results else coco.COCO()
        evaluator = evaluation.COCOeval(own, other, {"boxes": "bbox", "masks": "segm"}.get(kind, kind))
        evaluator.evaluate()
        evaluator.accumulate()
        evaluator.summarize()
    return evaluator.stats


@pytest.mark.parametrize("kind", ["boxes", "masks", "keypoints"])
@pytest.mark.parametrize("case", ADVERSARIAL)
def test_coco_is_pycocotools(case, kind):
    pytest.importorskip("pycocotools")
    options = dict(ADVERSARIAL[case])
    if kind == "masks":
        options["images"] = min(5, options.get("images", 5))
    found, there = scenes(**options)
    stats = pycocotools_stats(*as_coco(found, there, kind), kind)
    results = evaluated(found, there, kind).results()
    for name, value in zip(NAMES[kind], stats, strict=True):
        if name in results:
            assert results[name] == pytest.approx(value, abs=1e-6), name
    assert len(results) == len(NAMES[kind]) - 2 * (kind == "keypoints")


@pytest.mark.parametrize("case", ADVERSARIAL)
def test_coco_and_errors_are_hotcocos(case, tmp_path):
    """A Rust evaluator that shares no code with pycocotools; its kinds of errors are TIDE's, but that crowds are
    objects like others, and an IoU of exactly 0.5 with an object that is taken is a wrong place."""
    hotcoco = pytest.importorskip("hotcoco")
    pytest.importorskip("pycocotools")
    found, there = scenes(**ADVERSARIAL[case])
    truth, results = as_coco(found, there, "boxes")
    if not truth["annotations"] or not results:
        pytest.skip("it reads no empty files")
    for name, content in (("truth", truth), ("results", results)):
        (tmp_path / f"{name}.json").write_text(json.dumps(content))
    with contextlib.redirect_stdout(io.StringIO()):
        own = hotcoco.COCO(str(tmp_path / "truth.json"))
        evaluator = hotcoco.COCOeval(own, own.load_res(str(tmp_path / "results.json")), "bbox")
        evaluator.run()
    ours = evaluated(found, there, "boxes")
    for name, value in zip(NAMES["boxes"], evaluator.stats, strict=True):
        assert ours.results()[name] == pytest.approx(value, abs=1e-6), name
    for _, _, crowd in there:
        crowd[:] = False
    truth, results = as_coco(found, there, "boxes")
    (tmp_path / "truth.json").write_text(json.dumps(truth))
    with contextlib.redirect_stdout(io.StringIO()):
        own = hotcoco.COCO(str(tmp_path / "truth.json"))
        evaluator = hotcoco.COCOeval(own, own.load_res(str(tmp_path / "results.json")), "bbox")
        evaluator.evaluate()
        theirs = evaluator.tide_errors(0.5, 0.1)["counts"]
    ours = evaluated(found, there, "boxes")
    names = dict(Cls="classification", Loc="localization", Both="both", Dupe="duplicate", Bkg="background")
    counted = count_errors(ours)
    if case == "tiny":
        theirs["Loc"], counted["localization"] = (
            theirs["Loc"] + theirs["Dupe"],
            counted["localization"] + counted["duplicate"],
        )
        del names["Dupe"]
    for key, name in (names | {"Miss": "missed"}).items():
        assert counted[name] == theirs[key], name
