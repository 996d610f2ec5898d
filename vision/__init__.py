"""What is seen: backbones, data, tasks (make a model) and studies (examine any model).

backbones/     architectures under one contract; python -m vision.backbones is their table
classifier.py  a backbone and the head that names classes
weights.py     torchvision's names, both ways; backbones/published.py has the weights that it publishes
data/          image sets: data.load("cifar10") and others, drawn shapes without a download

classification.py  python -m vision.classification: trains a classifier
batches.py         which images it is shown: order, folds, shots
losses.py          cross-entropy, hinges, penalties
optimizers.py      optimizers by name, what learns and how fast
schedules.py       learning rates by name, early stopping
checks.py          the sanity checks, --check
search.py          python -m vision.classification.search: coarse-to-fine random search, cross-validation
ensembles.py       python -m vision.classification.ensembles: runs and snapshots averaged
activations.py     python -m vision.classification.activation_study: what initializers do, as a picture

classical.py   python -m vision.classification.classical: neighbors, linear classifiers, two layers, on pixels or features
neighbors.py  distances, and what the nearest vote for
features.py    histograms of gradients and of hues
templates.py   the pictures of those
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
