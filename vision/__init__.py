"""What is seen: backbones, data, tasks (make a model) and studies (examine any model).

backbones/     architectures under one contract; python -m vision.backbones is their table
classifier.py  a backbone and the head that names classes
weights.py     published weights in torchvision's names, both ways
data/          image sets: data.load("cifar10") and others, drawn shapes without a download
"""

from vision import backbones, data

__all__ = ["backbones", "data"]
