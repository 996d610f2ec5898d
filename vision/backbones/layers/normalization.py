"""Normalization layers by name: batch, layer, group and instance norm; and spectral normalization of weights."""

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.nn.utils import parametrize

NORMS = ("none", "batch", "layer", "group", "instance")
INITIAL_ITERATIONS = 15  # power iterations before the first use, as in torch's own spectral_norm


def norm_layer(channels: int, norm: str, eps: float = 1e-5) -> nn.Module:
    """A normalization layer for maps (B, channels, H, W), by its name.

    none: nothing.
    batch: each channel over images and places (Ioffe & Szegedy 2015, arXiv 1502.03167); running means in evaluation.
    layer: each image by itself over channels and places (Ba et al. 2016, arXiv 1607.06450), with a scale and a shift
        a channel, so that images of any size fit: group normalization with one group, fast in channels_last.
    group: each image over groups of about 16 channels (Wu & He 2018, arXiv 1803.08494).
    instance: each image over the places of each channel (Ulyanov et al. 2016, arXiv 1607.08022).

    Raises ValueError for an unknown name.
    """
    if norm not in NORMS:
        raise ValueError(f"unknown norm {norm!r}: choose one of {', '.join(NORMS)}")
    groups = next(n for n in range(max(1, channels // 16), 0, -1) if channels % n == 0)  # as many as divide them
    return {
        "none": lambda: nn.Identity(),
        "batch": lambda: nn.BatchNorm2d(channels, eps=eps),
        "layer": lambda: nn.GroupNorm(1, channels, eps=eps),
        "group": lambda: nn.GroupNorm(groups, channels, eps=eps),
        "instance": lambda: nn.InstanceNorm2d(channels, eps=eps, affine=True),
    }[norm]()


def norm_after(layer: nn.Conv2d | nn.Linear, norm: str) -> list[nn.Module]:
    """The normalization after a layer, as a list of no or one module: of maps, or of a linear layer's vectors.

    Raises ValueError for an unknown name, and for one that is not defined for vectors.
    """
    if norm == "none":
        return []
    if isinstance(layer, nn.Conv2d):
        return [norm_layer(layer.out_channels, norm)]
    if norm in ("group", "instance"):
        raise ValueError(f"norm {norm!r} is for maps, and this layer puts out vectors: choose none, batch or layer")
    norm_layer(1, norm)  # an unknown word
    return [nn.LayerNorm(layer.out_features) if norm == "layer" else nn.BatchNorm1d(layer.out_features)]


def spectral_norm(layer: nn.Conv2d) -> None:
    """Apply spectral normalization to a convolution, in place; see SpectralNorm."""
    parametrize.register_parametrization(layer, "weight", SpectralNorm(layer.weight))


class SpectralNorm(nn.Module):
    """A convolution's weight (K, C, h, w) divided by its largest singular value as a matrix (K, h * w * C).

    Spectral normalization, Miyato et al. 2018, arXiv 1802.05957, algorithm 1: a power iteration at each use tracks
    the singular vectors, which are constants in the gradient. Differences to torch.nn.utils.parametrizations: it runs
    only where a gradient will be taken, so neither in acting nor in evaluation nor in a target network; it runs after
    the use, so that acting and the first update compute the same function (PPO's ratio is 1 there); and the value is
    calculated in float32 under autocast and in a network cast to bfloat16, too.
    """

    def __init__(self, weight: Tensor) -> None:
        super().__init__()
        matrix = _matrix(weight.detach()).float()
        left, right = (
            torch.ones(size, device=matrix.device) for size in matrix.shape
        )  # not random: the generator stays as it is
        for _ in range(INITIAL_ITERATIONS):
            left, right = _iterate(matrix, right)
        self.register_buffer("left", left)  # (K,)
        self.register_buffer("right", right)  # (h * w * C,)

    def forward(self, weight: Tensor) -> Tensor:
        matrix = _matrix(weight).float()
        # Copies: the buffers change, and the gradient of this use needs their old values.
        left, right = self.left.float().clone(), self.right.float().clone()
        if self.training and torch.is_grad_enabled():
            with torch.no_grad():
                for buffer, nearer in zip((self.left, self.right), _iterate(matrix, right), strict=True):
                    buffer.copy_(nearer)
        return weight / ((matrix * right).sum(1) * left).sum().to(weight.dtype)


def _matrix(weight: Tensor) -> Tensor:
    return weight.permute(0, 2, 3, 1).flatten(1)  # as channels_last lies in memory


def _iterate(matrix: Tensor, right: Tensor) -> tuple[Tensor, Tensor]:
    """One power iteration. Sums instead of matrix products, which autocast would compute in bfloat16."""
    left = F.normalize((matrix * right).sum(1), dim=0)
    return left, F.normalize((matrix * left[:, None]).sum(0), dim=0)
