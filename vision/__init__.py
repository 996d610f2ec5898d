"""Computer vision: backbones, data, training, and a package for each task.

backbones/       networks under one contract; python -m vision.backbones is their table
data/            image data sets, data.load("cifar10"); samples with targets; transforms
training/        optimizers, schedules, losses, sampling, augmentation: shared by every task
classification/  python -m vision.classification
sequences/       python -m vision.sequences: recurrent networks
captioning/      python -m vision.captioning, and questions: python -m vision.captioning.vqa
computational_graphs/  backpropagation by hand, in numpy
"""

import importlib.machinery
import importlib.util
import sys
from pathlib import Path

if "runs" not in sys.modules:  # ours, before a folder or file of that name in the current directory
    _ours = importlib.machinery.PathFinder.find_spec("runs", [str(Path(__file__).resolve().parent.parent)])
    _found = importlib.util.find_spec("runs")
    if _ours and not (_found and _found.origin and Path(_found.origin).samefile(_ours.origin)):
        sys.modules["runs"] = _module = importlib.util.module_from_spec(_ours)
        _ours.loader.exec_module(_module)

from vision import backbones, data  # noqa: E402

__all__ = ["backbones", "data"]
