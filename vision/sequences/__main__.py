"""Recurrent networks on sequences: trains one; `sample RUN` lets a trained one write."""

import runs

runs.launch(*runs.of_package("vision.sequences", "sample"))
