"""Multi-label classification: which classes are in an image: `python -m vision.classification.multi_label`.

train.py    Config, recipes, training loop, load
data.py     drawn scenes and annotated folders, and the classes that are in each image
metrics.py  average precision by class, as Pascal VOC's classification challenge has it
"""

from vision.classification.multi_label.train import PROGRAM, Config, Trained, load, recipe

__all__ = ["PROGRAM", "Config", "Trained", "load", "recipe"]
