"""Multi-label classification: trains a network that tells which classes are in an image."""

import runs

runs.launch(*runs.of_package("vision.classification.multi_label"))
