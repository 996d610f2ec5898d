"""Image transformation: trains a network; `predict RUN FILE...` shows what it makes of images and films."""

import importlib
import sys

import runs

name = "predict" if sys.argv[1:2] == ["predict"] else "train"
program = importlib.import_module(f"vision.image_to_image.{name}")
if name == "predict":
    del sys.argv[1]
    runs.launch(program.main, program.Config, None, "vision.image_to_image predict", program.__doc__)
else:
    runs.launch(program.train, program.Config, program.recipe, "vision.image_to_image", program.__doc__)
