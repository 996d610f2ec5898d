"""Average precision and recall by COCO's rules, of boxes, masks or keypoints.

Equal to pycocotools' COCOeval to 1e-6, crowds, ties and areas included, and faster (tests/benchmarks/map_speed.py).
Lin et al. 2014, arXiv 1405.0312; cocodataset.org, "Detection evaluation".
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal

import numpy as np

from vision.data.samples import Target
from vision.detection.detections import Detections
from vision.detection.metrics import greedy, overlaps

Kind = Literal["boxes", "masks", "keypoints"]
THRESHOLDS = np.linspace(0.5, 0.95, 10)  # of overlap
RECALLS = np.linspace(0.0, 1.0, 101)  # at which precision is read
AREAS = {"": (0.0, 1e10), "small": (0.0, 32.0**2), "medium": (32.0**2, 96.0**2), "large": (96.0**2, 1e10)}
LIMITS = (1, 10, 100)  # detections of an image and a class
KEYPOINT_LIMITS = (20,)


class CocoEvaluator:
    """Collects images, and scores their detections by COCO's rules.

    classes: how many there are. kind: what overlaps are of. sigmas: of each keypoint, see overlaps.COCO_SIGMAS.
    Detections of an image and a class beyond the limit's best (100; of keypoints 20) do not count.
    Raises ValueError for an unknown kind, or keypoints without sigmas.
    """

    def __init__(self, classes: int, kind: Kind = "boxes", sigmas: Sequence[float] | None = None) -> None:
        if kind not in ("boxes", "masks", "keypoints"):
            raise ValueError(f"unknown kind {kind!r}: there are 'boxes', 'masks' and 'keypoints'")
        if kind == "keypoints" and sigmas is None:
            raise ValueError("keypoints are compared by sigmas: COCO's are in vision.detection.metrics.overlaps")
        self.classes, self.kind = classes, kind
        self.sigmas = None if sigmas is None else np.asarray(sigmas, dtype=np.float64)
        self.limits = KEYPOINT_LIMITS if kind == "keypoints" else LIMITS
        self.areas = {name: area for name, area in AREAS.items() if not (kind == "keypoints" and name == "small")}
        self.images = 0
        self.overlaps: list[np.ndarray] = []  # (D, G) of each image, of all classes
        self._found: dict[str, list[np.ndarray]] = {name: [] for name in ("label", "score", "area")}
        self._objects: dict[str, list[np.ndarray]] = {name: [] for name in ("label", "area", "crowd", "ignored")}

    def add(self, found: Detections, target: Target) -> None:
        """Add an image: what was found and what there is. Needs target.boxes and labels, and masks or keypoints.

        Areas of objects are target.area where it is annotated, as COCO's are, else those of their masks or boxes.
        Raises ValueError where the kind's field is missing.
        """
        boxes, scores, labels = (_array(each) for each in (found.boxes, found.scores, found.labels))
        objects, classes = _array(target.boxes), _array(target.labels)
        boxes, objects = boxes.astype(np.float64), objects.astype(np.float64)
        crowd = np.zeros(len(objects), dtype=bool) if target.crowd is None else _array(target.crowd)
        ignored = crowd
        if self.kind != "boxes":
            own, theirs = getattr(found, self.kind), getattr(target, self.kind)
            if own is None or theirs is None:
                raise ValueError(
                    f"{self.kind} are scored, and {'the target' if own is not None else 'what was found'} has none"
                )
            own, theirs = _array(own), _array(theirs)
        if self.kind == "boxes":
            area, own_area = _box_areas(objects), _box_areas(boxes)
        elif self.kind == "masks":
            own, theirs = overlaps.pack(own), overlaps.pack(theirs)
            area, own_area = overlaps.mask_areas(theirs), overlaps.mask_areas(own)
        else:
            area = _box_areas(objects)
            own, theirs = own.astype(np.float64), theirs.astype(np.float64)
            own_area = np.ptp(own[..., 0], axis=1) * np.ptp(own[..., 1], axis=1) if len(own) else np.zeros(0)
            ignored = crowd | ~(theirs[..., 2] > 0).any(1)
        area = area if target.area is None else _array(target.area).astype(np.float64)
        if self.kind == "boxes":
            overlap = overlaps.box_overlaps(boxes, objects, crowd)
        elif self.kind == "masks":
            overlap = overlaps.mask_overlaps(own, theirs, crowd)
        else:
            overlap = overlaps.keypoint_overlaps(own, theirs, objects, area, self.sigmas)
        self.overlaps.append(overlap)
        for name, value in zip(self._found, (labels, scores, own_area), strict=True):
            self._found[name].append(value)
        for name, value in zip(self._objects, (classes, area, crowd, ignored), strict=True):
            self._objects[name].append(value)
        self.images += 1

    def results(self) -> dict[str, float]:
        """Average precisions and recalls from 0 to 1, or -1 where there are no objects: "map" (of IoU 0.50 to 0.95),
        "map_50", "map_75", "map_small", "map_medium", "map_large", "mar_1", "mar_10", "mar_100", "mar_small", ...
        """
        precision, recall = self._curves()
        found = {"map": _mean(precision[..., 0]), "map_50": _mean(precision[:, :1, :, 0])}
        found["map_75"] = _mean(precision[:, 5:6, :, 0])
        names = list(self.areas)
        found |= {f"map_{name}": _mean(precision[..., place]) for place, name in enumerate(names) if name}
        found |= {f"mar_{limit}": _mean(recall[:, :, 0, place]) for place, limit in enumerate(self.limits)}
        found |= {f"mar_{name}": _mean(recall[:, :, place, -1]) for place, name in enumerate(names) if name}
        return found

    def by_class(self, at_50: bool = False) -> list[float]:
        """The average precision of each class (IoU 0.50 to 0.95, or 0.50 alone), -1 where it has no objects."""
        precision, _ = self._curves()
        thresholds = slice(1 if at_50 else None)
        return [_mean(precision[label, thresholds, :, 0]) for label in range(self.classes)]

    def matches(self, threshold: float) -> tuple[dict[str, np.ndarray], dict[str, np.ndarray]]:
        """Every detection and every object at one threshold, areas aside, for count_errors.

        Detections: "image", "label", "score", "row" (in its image), "match" (row of the object taken, or -1), "kept"
        (within the limit). Objects: "image", "label", "row", "ignored". Each is an array (N,).
        """
        found, objects = self._flat()
        taken = self._match(found, objects, np.array([threshold]), np.zeros((1, len(objects["label"])), dtype=bool))
        return found | {"match": taken[:, 0, 0]}, objects

    # ---- arrays of all images ---------------------------------------------------------------------------

    def _flat(self) -> tuple[dict[str, np.ndarray], dict[str, np.ndarray]]:
        """Detections and objects of all images as columns, with their places in their groups."""
        flat = []
        for columns in (self._found, self._objects):
            counts = np.array([len(each) for each in columns["label"]], dtype=np.int64)
            table = {name: np.concatenate(each) if each else np.zeros(0) for name, each in columns.items()}
            table["label"] = table["label"].astype(np.int64)
            table["image"] = np.repeat(np.arange(self.images), counts)
            table["row"] = np.arange(counts.sum()) - np.repeat(np.cumsum(counts) - counts, counts)
            table["group"] = table["image"] * self.classes + table["label"]
            flat.append(table)
        found, objects = flat
        order = np.argsort(-found["score"].astype(np.float64), kind="stable")
        order = order[np.argsort(found["group"][order], kind="stable")]
        found = {name: value[order] for name, value in found.items()}
        found["rank"] = _places(found["group"])
        found["kept"] = found["rank"] < self.limits[-1]
        order = np.argsort(objects["group"], kind="stable")
        objects = {name: value[order] for name, value in objects.items()}
        objects["place"] = _places(objects["group"])
        objects["crowd"], objects["ignored"] = objects["crowd"].astype(bool), objects["ignored"].astype(bool)
        return found, objects

    def _match(
        self,
        found: dict[str, np.ndarray],
        objects: dict[str, np.ndarray],
        thresholds: np.ndarray,
        outside: np.ndarray,
    ) -> np.ndarray:
        """The row of the object that each detection takes, (detections, A, T), or -1. outside: (A, objects)."""
        result = np.full((len(found["group"]), len(outside), len(thresholds)), -1, dtype=np.int64)
        groups, begins, counts = np.unique(objects["group"], return_index=True, return_counts=True)
        own, firsts, numbers = np.unique(found["group"], return_index=True, return_counts=True)
        common, there, here = np.intersect1d(groups, own, assume_unique=True, return_indices=True)
        begins, counts, firsts = begins[there], counts[there], firsts[here]
        numbers = np.minimum(numbers[here], self.limits[-1])
        sizes = (_padded(numbers), _padded(counts))
        for d, g in sorted(set(zip(*(size.tolist() for size in sizes), strict=True))):
            chosen = ((sizes[0] == d) & (sizes[1] == g)).nonzero()[0]
            has, there = np.arange(d) < numbers[chosen, None], np.arange(g) < counts[chosen, None]
            rows = np.where(has, firsts[chosen, None] + np.arange(d), 0)
            columns = np.where(there, begins[chosen, None] + np.arange(g), 0)
            overlap = np.full((len(chosen), d, g), -1.0)
            for place, image in enumerate(common[chosen] // self.classes):
                n, k = numbers[chosen[place]], counts[chosen[place]]
                inner = np.ix_(found["row"][rows[place, :n]], objects["row"][columns[place, :k]])
                overlap[place, :n, :k] = self.overlaps[image][inner]
            ignored = (outside[:, columns] | objects["ignored"][columns]).transpose(1, 0, 2)
            taken = greedy.match(overlap, there, ignored, objects["crowd"][columns] & there, thresholds)
            index = np.take_along_axis(
                np.broadcast_to(objects["row"][columns][:, None, None, None], (*taken.shape, g)),
                np.maximum(taken, 0).astype(np.int64)[..., None],
                axis=4,
            )[..., 0]
            result[rows[has]] = np.where(taken >= 0, index, -1)[has]
        return result

    def _curves(self) -> tuple[np.ndarray, np.ndarray]:
        """Precision (K, T, R, A) at each recall, and the largest recall (K, T, A, limits); -1 without objects."""
        found, objects = self._flat()
        intervals = np.array(list(self.areas.values()))
        outside = (objects["area"] < intervals[:, :1]) | (objects["area"] > intervals[:, 1:])
        beyond = (found["area"] < intervals[:, :1]) | (found["area"] > intervals[:, 1:])
        match = self._match(found, objects, THRESHOLDS, outside)
        ignored = outside | objects["ignored"]  # (A, objects)
        base = np.cumsum(np.bincount(objects["image"] + 1, minlength=self.images + 1))
        table = np.empty(len(objects["row"]), dtype=np.int64)  # an object's place, by its image and its row there
        table[base[objects["image"]] + objects["row"]] = np.arange(len(table))
        taken = match >= 0
        flat = table[(base[found["image"]][:, None, None] + match)[taken]] if taken.any() else table[:0]
        aside = np.broadcast_to(beyond.T[:, :, None], taken.shape).copy()
        aside[taken] = ignored[taken.nonzero()[1], flat]
        shape = (self.classes, len(THRESHOLDS), len(RECALLS), len(intervals))
        precision, recall = -np.ones(shape), -np.ones((*shape[:2], len(intervals), len(self.limits)))
        wanted = np.stack([np.bincount(objects["label"][~row], minlength=self.classes) for row in ignored], 1)
        for label in range(self.classes):
            rows = (found["label"] == label) & found["kept"]
            rows = rows.nonzero()[0]
            rows = rows[np.argsort(-found["score"][rows].astype(np.float64), kind="stable")]
            right = (taken[rows] & ~aside[rows]).transpose(1, 2, 0)  # (A, T, N)
            wrong = (~taken[rows] & ~aside[rows]).transpose(1, 2, 0)
            for place, limit in enumerate(self.limits):
                most = right[..., found["rank"][rows] < limit].sum(2)  # (A, T)
                for area in wanted[label].nonzero()[0]:
                    recall[label, :, area, place] = most[area] / wanted[label, area]
            for area in wanted[label].nonzero()[0]:
                precision[label, :, :, area] = _precision(right[area], wrong[area], wanted[label, area])
        return precision, recall


def _precision(right: np.ndarray, wrong: np.ndarray, wanted: int) -> np.ndarray:
    """Precision (T, R), the largest at each recall or a larger one, of right and wrong (T, N), best score first."""
    hits, misses = (np.cumsum(each, axis=1, dtype=np.float64) for each in (right, wrong))
    recall, precision = hits / wanted, hits / (misses + hits + np.spacing(1))
    precision = np.maximum.accumulate(precision[:, ::-1], axis=1)[:, ::-1]
    found = np.zeros((len(right), len(RECALLS)))
    for row, line in enumerate(recall):
        places = np.searchsorted(line, RECALLS, side="left")
        inside = places < len(line)
        found[row, inside] = precision[row, places[inside]]
    return found


def _mean(values: np.ndarray) -> float:
    """The mean of what is not -1, or -1."""
    values = values[values > -1]
    return float(values.mean()) if len(values) else -1.0


def _places(groups: np.ndarray) -> np.ndarray:
    """The place (N,) of each entry within its run of equal numbers."""
    begins = np.flatnonzero(np.diff(groups, prepend=-1))
    return np.arange(len(groups)) - np.repeat(begins, np.diff(begins, append=len(groups)))


def _padded(sizes: np.ndarray) -> np.ndarray:
    """Each size rounded up to a power of two."""
    return 1 << np.ceil(np.log2(np.maximum(sizes, 1))).astype(np.int64)


def _box_areas(boxes: np.ndarray) -> np.ndarray:
    return (boxes[:, 2] - boxes[:, 0]) * (boxes[:, 3] - boxes[:, 1])


def _array(values: Any) -> np.ndarray:
    return values.detach().cpu().numpy()
