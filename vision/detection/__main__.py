"""Object detection: trains a detector; `predict RUN IMAGE...` shows what a trained one finds, `export RUN FILE`
writes it as ONNX.
"""

import importlib
import sys

import runs

name = sys.argv[1] if sys.argv[1:2] in (["predict"], ["export"]) else "train"
program = importlib.import_module(f"vision.detection.{name}")
if name == "train":
    runs.launch(program.train, program.Config, program.recipe, "vision.detection", program.__doc__)
else:
    del sys.argv[1]
    runs.launch(program.main, program.Config, None, f"vision.detection {name}", program.__doc__)
