"""python -m vision.classification: trains an image classifier."""

import runs
from vision.classification import train

runs.launch(train.train, train.Config, train.recipe, "vision.classification", train.__doc__)
