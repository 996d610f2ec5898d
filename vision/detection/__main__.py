"""Object detection: trains a detector; `predict RUN IMAGE...` shows what a trained one finds."""

import importlib
import sys

import runs

name = "predict" if sys.argv[1:2] == ["predict"] else "train"
program = importlib.import_module(f"vision.detection.{name}")
if name == "predict":
    del sys.argv[1]
    runs.launch(program.main, program.Config, None, "vision.detection predict", program.__doc__)
else:
    runs.launch(program.train, program.Config, program.recipe, "vision.detection", program.__doc__)
