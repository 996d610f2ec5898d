"""Image captioning: trains a captioner; `predict RUN IMAGE...` writes what a trained one says about images."""

import runs

runs.launch(*runs.of_package("vision.captioning", "predict"))
