"""What is seen: backbones, data, tasks (make a model) and studies (examine any model).

backbones/     architectures under one contract; python -m vision.backbones is their table
classifier.py  a backbone and the head that names classes
weights.py     torchvision's names, both ways; backbones/published.py has the weights that it publishes
data/          image sets: data.load("cifar10") and others, drawn shapes without a download

classification.py  python -m vision.classification: trains a classifier
batches.py         which images it is shown: order, folds, shots
losses.py          cross-entropy, hinges, penalties
optimisers.py      optimisers by name, what learns and how fast
schedules.py       learning rates by name, early stopping
checks.py          the sanity checks, --check
search.py          python -m vision.search: coarse-to-fine random search, cross-validation
ensembles.py       python -m vision.ensembles: runs and snapshots averaged
activations.py     python -m vision.activations: what initialisers do, as a picture

classical.py   python -m vision.classical: neighbours, linear classifiers, two layers, on pixels or features
neighbours.py  distances, and what the nearest vote for
features.py    histograms of gradients and of hues
templates.py   the pictures of those
"""

from vision import backbones, data

__all__ = ["backbones", "data"]
