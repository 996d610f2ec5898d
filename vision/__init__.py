"""What is seen: backbones, data, tasks (make a model) and studies (examine any model).

backbones/     architectures under one contract; python -m vision.backbones is their table
classifier.py  a backbone and the head that names classes
weights.py     published weights in torchvision's names, both ways
classical.py   python -m vision.classical: neighbours, linear classifiers, two layers, on pixels or features
features.py    histograms of gradients and of hues
neighbours.py  nearest neighbours by L1 or L2, and what they vote for
templates.py   the pictures of those
data/          image sets: data.load("cifar10") and others, drawn shapes without a download
"""

from vision import backbones, data

__all__ = ["backbones", "data"]
