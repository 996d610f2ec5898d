"""Generative models: trains one; `sample RUN`, `reconstruct RUN`, `log_prob RUN` and others show what it makes."""

import sys

import runs
from vision.generation import predict, train

if sys.argv[1:2] and sys.argv[1] in predict.COMMANDS:
    runs.launch(predict.main, predict.Config, None, "vision.generation", predict.__doc__)
else:
    runs.launch(train.train, train.Config, train.recipe, "vision.generation", train.__doc__)
