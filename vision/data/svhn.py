"""SVHN: house numbers of Street View, cropped to a digit (Netzer et al. 2011), two files in Matlab's format."""

from __future__ import annotations

import io
from pathlib import Path

import numpy as np
import torch

from vision.data import files
from vision.data.sets import Labeled, Sets, cut

SITE = "http://ufldl.stanford.edu/housenumbers/"
MD5 = {
    "train_32x32.mat": "e26dedcc434d2e4c54c9b2d4a06d8373",
    "test_32x32.mat": "eb5a983be6a315427106f1b164d9cef3",
}
VALIDATION = 5_000  # the last of the 73,257 training images
CLASSES = tuple("0123456789")


def svhn(folder: str | Path | None = None) -> Sets:
    """SVHN's cropped digits, (3, 32, 32): 68,257 images for training, 5,000 for validation, 26,032 for testing.

    The 531,131 easier ones that are published as "extra" are left out.

    folder: where the two .mat files lie, and where they are put if they are missing; None: see files.place.
    Raises ValueError when a file is missing and cannot be fetched, or is not the published one.
    """
    folder = Path(folder) if folder else files.place("svhn")
    train, test = (_matlab(files.read(folder, name, SITE + name, md5)) for name, md5 in MD5.items())
    return Sets(*cut(train, VALIDATION), test, CLASSES)


def _matlab(body: bytes) -> Labeled:
    """Images out of X (H, W, C, N), digits out of y (N, 1), where a 0 is called 10."""
    import scipy.io  # every program imports this file, and few read Matlab's

    found = scipy.io.loadmat(io.BytesIO(body), variable_names=("X", "y"))
    images = np.ascontiguousarray(found["X"].transpose(3, 2, 0, 1))
    return Labeled(torch.from_numpy(images), torch.from_numpy(found["y"].ravel().astype(np.int64) % 10))
