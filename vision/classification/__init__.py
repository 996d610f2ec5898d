"""Image classification: `python -m vision.classification`.

train.py                Config, recipes, training loop, load
objective.py            loss, auxiliary heads and penalties
classifier.py           a backbone with a classification head
checks.py               sanity checks before training: initial loss, overfitting one batch, gradients
search.py               coarse-to-fine random search of hyperparameters
ensembles.py            averaged probabilities of several runs or snapshots
torchvision_weights.py  state dicts with torchvision's keys, both ways
classical.py            nearest neighbors, linear classifiers and two-layer nets on pixels or features
nearest_neighbors.py    distances and votes; features.py: HOG and hue histograms; plots.py: their pictures
activation_study.py     activation histograms by initialization
"""

from vision.classification.classifier import Classifier
from vision.classification.train import Config, Trained, load, recipe  # train stays the module's name

__all__ = ["Classifier", "Config", "Trained", "load", "recipe"]
