"""Semantic segmentation: trains a network; `predict RUN IMAGE...` shows what a trained one sees."""

import importlib
import sys

import runs

name = "predict" if sys.argv[1:2] == ["predict"] else "train"
program = importlib.import_module(f"vision.segmentation.{name}")
if name == "predict":
    del sys.argv[1]
    runs.launch(program.main, program.Config, None, "vision.segmentation predict", program.__doc__)
else:
    runs.launch(program.train, program.Config, program.recipe, "vision.segmentation", program.__doc__)
