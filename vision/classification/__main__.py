"""Image classification: trains an image classifier."""

import runs

runs.launch(*runs.of_package("vision.classification"))
