"""Object detection: trains a detector; `predict RUN IMAGE...` shows what a trained one finds, `export RUN FILE`
writes it as ONNX.
"""

import runs

runs.launch(*runs.of_package("vision.detection", "predict", "export"))
