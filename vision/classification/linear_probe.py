"""Linear probe: a linear classifier on vectors of features, of a backbone's stages or of other descriptors.

    known = Vectors(train_features, train_labels)
    percent = accuracy(known, Vectors(features, labels, known.scale), classes=10)

Alain & Bengio 2016, "Understanding intermediate layers using linear classifier probes", arXiv 1610.01644.
"""

from __future__ import annotations

from torch import Tensor

from vision import backbones
from vision.classification import classical

RATES = {"softmax": dict(learning_rate=3e-2, decay=1e-3), "svm": dict(learning_rate=1e-2, decay=1e-3)}


class Vectors(classical.Inputs):
    """Features (N, D) and labels (N,) as vision.classification.classical fits them, standardized by the training
    set's scale, or by a given one."""

    def __init__(self, inputs: Tensor, labels: Tensor, scale: backbones.Standardization | None = None) -> None:
        self.inputs, self.labels, self.shape = inputs, labels.to(inputs.device), inputs.shape[1:]
        if scale is None:
            scale = backbones.Standardization(self.shape, "image", "each").to(inputs.device).fit(inputs)
        self.scale = scale


def accuracy(
    train: Vectors, validation: Vectors, classes: int, method: str = "softmax", epochs: int = 20, seed: int = 1
) -> float:
    """Accuracy in percent, on validation vectors, of a linear classifier trained on others, by softmax or svm."""
    config = classical.Config(
        method=method, features="hog", epochs=epochs, seed=seed, batch=min(200, len(train)), **RATES[method]
    )
    model, _ = classical.fit(config, train, validation, classes)
    return classical.accuracy(model, validation)
