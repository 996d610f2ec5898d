"""Semantic segmentation: trains a network; `predict RUN IMAGE...` shows what a trained one sees."""

import runs

runs.launch(*runs.of_package("vision.segmentation", "predict"))
