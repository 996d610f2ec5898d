"""Object detection: `python -m vision.detection`.

train.py                Config, recipes, training loop; predict.py: load(run).predict(images), pictures and JSON
detector.py             the contract of detectors, and which of a backbone's maps they read
faster_rcnn.py          Faster R-CNN with a feature pyramid; regions.py: proposals, box head, losses of regions
ssd.py, yolo.py         detectors in one pass
torchvision_weights.py  published detectors
data.py                 scenes and annotated folders, resized, augmented and batched
evaluation.py           a detector on samples; metrics/: average precision and kinds of errors
detections.py           what is found in an image; plots.py: pictures of it
"""

from vision.detection.detections import Detections
from vision.detection.predict import Trained, load

__all__ = ["Detections", "Trained", "load"]
