"""Image quality against a reference: PSNR and SSIM, on luminance as papers of super-resolution have them.

    psnr(made, true)          # (B,) dB, of images (B, C, H, W) from 0 to 1
    ssim(made, true)          # (B,), 1 for equal images

Wang et al. 2004, "Image quality assessment: from error visibility to structural similarity".
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F

Y = (65.481, 128.553, 24.966)  # of red, green and blue from 0 to 1: BT.601's luma, which goes from 16 to 235
BLACK = 16.0
WINDOW, DEVIATION = 11, 1.5  # pixels: the Gaussian window of SSIM, section III.B
K1, K2 = 0.01, 0.03  # of its constants, as published


def luma(images: Tensor) -> Tensor:
    """Luma (B, 1, H, W) of images (B, 3, H, W) from 0 to 1, as the Y of YCbCr: from 16 / 255 to 235 / 255.

    Published figures of super-resolution are of this Y: a PSNR of it is 1.3 dB above that of luma from 0 to 1.
    """
    weights = torch.tensor(Y, device=images.device, dtype=images.dtype)
    return (torch.einsum("bchw,c->bhw", images, weights)[:, None] + BLACK) / 255


def shaved(images: Tensor, border: int) -> Tensor:
    """Images (B, C, H, W) without `border` pixels at each edge, where upsampling knows less."""
    return images[:, :, border : images.shape[2] - border, border : images.shape[3] - border]


def psnr(made: Tensor, true: Tensor) -> Tensor:
    """Peak signal-to-noise ratio (B,) in dB of images (B, C, H, W) from 0 to 1: -10 log10 of the mean squared error.

    100 dB where the images are equal, or nearer than that.
    """
    error = (made - true).square().mean((1, 2, 3))
    return -10 * error.clamp(min=1e-10).log10()


def ssim(made: Tensor, true: Tensor) -> Tensor:
    """Structural similarity (B,) of images (B, C, H, W) from 0 to 1: equation 13, averaged over windows that lie
    within the image, and over channels.

    Raises ValueError for images smaller than the window of 11 pixels.
    """
    if min(made.shape[2:]) < WINDOW:
        raise ValueError(f"SSIM compares windows of {WINDOW} pixels, and these images have {tuple(made.shape[2:])}")
    steps = torch.arange(WINDOW, device=made.device, dtype=made.dtype) - WINDOW // 2
    line = torch.exp(-0.5 * (steps / DEVIATION).square())
    line = line / line.sum()

    def blurred(images: Tensor) -> Tensor:
        flat = images.flatten(0, 1)[:, None]
        return F.conv2d(F.conv2d(flat, line.view(1, 1, -1, 1)), line.view(1, 1, 1, -1)).view(*images.shape[:2], -1)

    mean_made, mean_true = blurred(made), blurred(true)
    made_variance = blurred(made.square()) - mean_made.square()
    true_variance = blurred(true.square()) - mean_true.square()
    covariance = blurred(made * true) - mean_made * mean_true
    c1, c2 = K1**2, K2**2
    found = (2 * mean_made * mean_true + c1) * (2 * covariance + c2)
    found = found / (mean_made.square() + mean_true.square() + c1) / (made_variance + true_variance + c2)
    return found.mean((1, 2))
