"""Image classification: trains an image classifier."""

import importlib

import runs

program = importlib.import_module("vision.classification.train")  # the package's `train` is its function
runs.launch(program.train, program.Config, program.recipe, "vision.classification", program.__doc__)
