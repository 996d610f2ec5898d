"""The detectors by their names, and those of one's own: a file with a class, named `module:Class`."""

from __future__ import annotations

import importlib

from runs import suggestions
from vision.detection.detector import Detector
from vision.detection.fast_rcnn import FastRCNN
from vision.detection.faster_rcnn import FasterRCNN
from vision.detection.fcos import FCOS
from vision.detection.keypoint_rcnn import KeypointRCNN
from vision.detection.localization import Localization
from vision.detection.mask_rcnn import MaskRCNN
from vision.detection.overfeat import OverFeatDetector
from vision.detection.rcnn import RCNN
from vision.detection.sliding_window import SlidingWindow
from vision.detection.ssd import SSD
from vision.detection.yolo import YOLO

MODELS: dict[str, type[Detector]] = {
    "localization": Localization,
    "sliding_window": SlidingWindow,
    "overfeat": OverFeatDetector,
    "rcnn": RCNN,
    "fast_rcnn": FastRCNN,
    "faster_rcnn": FasterRCNN,
    "mask_rcnn": MaskRCNN,
    "keypoint_rcnn": KeypointRCNN,
    "yolo": YOLO,
    "ssd": SSD,
    "fcos": FCOS,
}


def find(name: str) -> type[Detector]:
    """The class of a detector: a name of MODELS, or `module:Class` of one that is not listed.

    Raises ValueError, with near matches or the way out, for any other name.
    """
    if ":" not in name:
        if name not in MODELS:
            raise ValueError(f"unknown --model {name!r}: {suggestions.one_of(name, MODELS)}")
        return MODELS[name]
    module, _, attribute = name.partition(":")
    top = module.partition(".")[0]
    try:
        found = getattr(importlib.import_module(module), attribute)
    except ModuleNotFoundError as error:
        if error.name not in (top, module):  # what the file itself imports
            raise ValueError(f"--model {name} cannot be imported: {error}") from error
        there = f"{module.replace('.', '/')}.py" if error.name == module else top
        raise ValueError(
            f"--model {name}: there is no module {error.name!r} here. Run the command from the folder that holds "
            f"{there}, or put that folder on PYTHONPATH"
        ) from error
    except (ImportError, AttributeError) as error:
        raise ValueError(f"--model {name} is no class of a module that can be imported: {error}") from error
    if not (isinstance(found, type) and issubclass(found, Detector)):
        raise ValueError(f"--model {name} is no subclass of vision.detection.detector.Detector")
    return found
