"""What is seen: backbones, data, tasks (make a model) and studies (examine any model).

backbones/     architectures under one contract; python -m vision.backbones is their table
classifier.py  a backbone and the head that names classes
weights.py     torchvision's names, both ways; backbones/published.py has the weights that it publishes
data.py        MNIST
"""

from vision import backbones, data

__all__ = ["backbones", "data"]
