"""Image captioning: trains a captioner; `predict RUN IMAGE...` writes what a trained one says about images."""

import importlib
import sys

import runs

name = "predict" if sys.argv[1:2] == ["predict"] else "train"
program = importlib.import_module(f"vision.captioning.{name}")
if name == "predict":
    del sys.argv[1]
    runs.launch(program.main, program.Config, None, "vision.captioning predict", program.__doc__)
else:
    runs.launch(program.train, program.Config, program.recipe, "vision.captioning", program.__doc__)
