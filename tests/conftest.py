"""Tests run side by side, a process a core (pytest-xdist): so each of them calculates on one thread."""

import os

if "PYTEST_XDIST_WORKER" in os.environ:  # before torch is imported, which starts as many threads as it is told
    os.environ.setdefault("OMP_NUM_THREADS", "1")
