"""The devices that tests run on: CUDA where there is one (`pytest -m gpu`), and the CPU."""

import contextlib
from collections.abc import Iterator

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


@contextlib.contextmanager
def without_tf32() -> Iterator[None]:
    """Products and convolutions in float32 to its last digit, as on a CPU, inside of the block."""
    kept = torch.backends.cuda.matmul.allow_tf32, torch.backends.cudnn.allow_tf32
    torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = False
    try:
        yield
    finally:
        torch.backends.cuda.matmul.allow_tf32, torch.backends.cudnn.allow_tf32 = kept
