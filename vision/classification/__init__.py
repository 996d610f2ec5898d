"""Image classification: `python -m vision.classification`.

train.py                Config, recipes, training loop, load
objective.py            loss, auxiliary heads and penalties
classifier.py           a backbone with a classification head
flags.py                flags of the images, of mean, variance, PCA and whitening, and of the backbone
layer_statistics.py     activations, gradients and update ratios by layer while training
checks.py               sanity checks before training: initial loss, overfitting one batch, gradients
search.py               coarse-to-fine random search of hyperparameters
ensembles.py            averaged probabilities of several runs or snapshots
torchvision_weights.py  state dicts with torchvision's keys, both ways
classical.py            nearest neighbors, linear classifiers and two-layer nets on pixels or features
multi_label/            which classes are in an image: `python -m vision.classification.multi_label`
linear/                 linear models: losses, exact solvers, perceptron; `python -m vision.classification.linear`
nearest_neighbors.py    distances and votes; features.py: HOG and hue histograms; plots.py: their pictures
activation_study.py     activation histograms by initialization
rate_range.py           learning-rate range test; grid_and_random.py: grid against random search
ablation_study.py       what every regularizer, initializer and augmentation is worth
architecture_search.py  random search and regularized evolution over cells
stage_probe.py          a linear classifier on every stage; transfer_study.py: how much of a backbone to train
retrieval.py            the nearest images by features; export.py: classifiers as ONNX or torch.export files
bag_of_words.py         SIFT (sift.py), k-means and histograms of words (visual_words.py), SVM
short_fit.py            short trainings in memory, and the files of studies
stage_features.py       maps as vectors; linear_probe.py: a linear classifier on vectors
"""

from vision.classification.classifier import Classifier
from vision.classification.train import Config, Trained, load, recipe  # train stays the module's name

__all__ = ["Classifier", "Config", "Trained", "load", "recipe"]
