"""Object detection.

detections.py   what a detector finds in an image
metrics/        average precision by the rules of COCO and VOC, kinds of errors
"""

from vision.detection.detections import Detections

__all__ = ["Detections"]
