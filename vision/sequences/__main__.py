"""Recurrent networks on sequences: trains one; `sample RUN` lets a trained one write."""

import importlib
import sys

import runs

name = "sample" if sys.argv[1:2] == ["sample"] else "train"
program = importlib.import_module(f"vision.sequences.{name}")
if name == "sample":
    del sys.argv[1]
    runs.launch(program.main, program.Config, None, "vision.sequences sample", program.__doc__)
else:
    runs.launch(program.train, program.Config, program.recipe, "vision.sequences", program.__doc__)
