"""The devices that tests run on: CUDA where there is one (`pytest -m gpu`), and the CPU."""

import pytest
import torch

CUDA = pytest.param(
    "cuda",
    marks=[
        pytest.mark.gpu,
        pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device"),
    ],
)
DEVICES = ["cpu", CUDA]
CUDA_OR_SLOW = [CUDA, pytest.param("cpu", marks=pytest.mark.slow)]  # what is for a GPU, and takes long without one
