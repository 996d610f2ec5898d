"""Metrics of detection, on the CPU in NumPy: average precision and what kinds of errors there are.

    evaluator = CocoEvaluator(classes=80)                  # boxes; or "masks", "keypoints"
    evaluator.add(found, target)                           # a Detections and a Target, image by image
    evaluator.results()["map"]

coco.py      average precision and recall by COCO's rules; greedy.py: its matching, of all images at once
voc.py       average precision by the rules of Pascal VOC 2007, and of 2010 and later
libraries.py the same by pycocotools or hotcoco, where they are installed
errors.py    errors by kind: classification, localization, duplicate, background, missed
overlaps.py  IoU of boxes, IoU of masks, similarity of keypoints
"""

from vision.detection.metrics.coco import CocoEvaluator
from vision.detection.metrics.errors import count_errors
from vision.detection.metrics.voc import VocEvaluator

__all__ = ["CocoEvaluator", "VocEvaluator", "count_errors"]
