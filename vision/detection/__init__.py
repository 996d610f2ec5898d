"""Object detection: `python -m vision.detection`.

train.py                Config, training loop; predict.py: load(run).predict(images), pictures, JSON; export.py: ONNX
detector.py             the contract of detectors, and which of a backbone's maps they read; models.py: all of them
localization.py         one object an image; sliding_window.py, overfeat.py: windows
rcnn.py, fast_rcnn.py   regions of selective_search.py; crops.py: warped regions
faster_rcnn.py          with a feature pyramid; regions.py: proposals, box head, losses of regions
mask_rcnn.py            with masks; keypoint_rcnn.py: with keypoints
ssd.py, yolo.py, fcos.py   detectors in one pass; clusters.py: shapes of training boxes as anchors
torchvision_weights.py  published detectors
data.py                 scenes and annotated folders, resized, augmented and batched
evaluation.py           a detector on samples; metrics/: average precision and kinds of errors
detections.py           what is found in an image; plots.py: pictures of it
"""

from vision.detection.detections import Detections
from vision.detection.predict import Trained, load

__all__ = ["Detections", "Trained", "load"]
