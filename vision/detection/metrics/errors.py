"""Errors of a detector by kind: classification, localization, both, duplicate, background, and missed objects.

Bolya et al. 2020, "TIDE: a general toolbox for identifying object detection errors", arXiv 2008.08115, section 2.2.
"""

from __future__ import annotations

import numpy as np

from vision.detection.metrics.coco import CocoEvaluator

KINDS = ("classification", "localization", "both", "duplicate", "background", "missed")


def count_errors(evaluator: CocoEvaluator, right: float = 0.5, background: float = 0.1) -> dict[str, int]:
    """How many errors of each kind an evaluator's images have; each wrong detection is of one kind.

    localization: overlaps an object of its class, by `background` or more, but less than `right`.
    classification: overlaps one of another class by `right` or more. duplicate: one of its class that a better
    detection has. background: overlaps every object by less than `background`. both: what is left: wrong class and
    place. missed: objects that no detection has, and none has with a wrong place or class. Ignored objects are aside.
    """
    found, objects = evaluator.matches(right)
    counts = dict.fromkeys(KINDS, 0)
    wrong = found["kept"] & (found["match"] < 0)
    own, theirs = _by_image(found["image"], evaluator.images), _by_image(objects["image"], evaluator.images)
    for image, overlap in enumerate(evaluator.overlaps):
        rows, columns = own[image], theirs[image]
        columns = columns[~objects["ignored"][columns]]
        taken = set(found["match"][rows][found["kept"][rows]].tolist())
        covered: set[int] = set()
        for row in rows[wrong[rows]]:
            same = columns[objects["label"][columns] == found["label"][row]]
            other = columns[objects["label"][columns] != found["label"][row]]
            near, near_other = (
                max(((overlap[found["row"][row], objects["row"][each]], each) for each in some), default=(0.0, -1))
                for some in (same, other)
            )
            if background <= near[0] < right:
                counts["localization"] += 1
                covered.add(near[1])
            elif near_other[0] >= right:
                counts["classification"] += 1
                covered.add(near_other[1])
            elif near[0] >= right:
                counts["duplicate"] += 1
            elif max(near[0], near_other[0]) < background:
                counts["background"] += 1
            else:
                counts["both"] += 1
        counts["missed"] += sum(objects["row"][each] not in taken and each not in covered for each in columns)
    return counts


def _by_image(images: np.ndarray, count: int) -> list[np.ndarray]:
    """The rows of each image."""
    order = np.argsort(images, kind="stable")
    return np.split(order, np.cumsum(np.bincount(images, minlength=count))[:-1])
