"""Image transformation: trains a network; `predict RUN FILE...` shows what it makes of images and films."""

import runs

runs.launch(*runs.of_package("vision.image_to_image", "predict"))
