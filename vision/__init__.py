"""What is seen: backbones, data, tasks (make a model) and studies (examine any model).

backbones/     architectures under one contract; python -m vision.backbones is their table
classifier.py  a backbone and the head that names classes
weights.py     torchvision's names, both ways; backbones/published.py has the weights that it publishes
data/          image sets: data.load("cifar10") and others, drawn shapes without a download

classical.py   python -m vision.classical: neighbours, linear classifiers, two layers, on pixels or features
    features.py histograms of gradients and of hues; neighbours.py; templates.py, the pictures
"""

from vision import backbones, data

__all__ = ["backbones", "data"]
