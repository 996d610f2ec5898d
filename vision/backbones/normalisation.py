"""What keeps a network's numbers in bounds: norms between a layer and its ReLU, and of a layer's weights themselves.

Chosen in this one place by the `norm` argument of every backbone, and `spectral` of those that have it.
"""

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.nn.utils import parametrize

NORMS = ("none", "layer")
BEGINNING = 15  # power iterations before the first use, as in torch's own spectral_norm


def after(layer: nn.Conv2d | nn.Linear, norm: str) -> list[nn.Module]:
    """The modules that normalise what `layer` puts out: none, or one.

    none: nothing.
    layer: layer normalisation (Ba et al. 2016, arXiv 1607.06450), of each image by itself over channels and places
        (of a vector over its units), with a scale and a shift a channel, so that images of any size fit. Over maps
        that is group normalisation with one group (Wu & He 2018, arXiv 1803.08494), which is fast in channels_last.

    Raises ValueError for another word.
    """
    if norm not in NORMS:
        raise ValueError(f"unknown norm {norm!r}: choose one of {', '.join(NORMS)}")
    if norm == "none":
        return []
    if isinstance(layer, nn.Linear):
        return [nn.LayerNorm(layer.out_features)]
    return [nn.GroupNorm(1, layer.out_channels)]


def spectral(layer: nn.Conv2d) -> None:
    """From now on the layer works with weight / (its largest singular value), in place; see Spectral."""
    parametrize.register_parametrization(layer, "weight", Spectral(layer.weight))


class Spectral(nn.Module):
    """A convolution's weight (K, C, h, w) divided by its largest singular value as a matrix (K, h * w * C).

    Spectral normalisation, Miyato et al. 2018, arXiv 1802.05957, algorithm 1: a power iteration at each use follows
    the singular vectors, which count as constants in the gradient. Other than torch.nn.utils.parametrizations', it
    goes on only where a gradient will be taken, and so neither by acting nor by evaluating nor in a target network,
    and the value is calculated in float32 under autocast and in a network cast to bfloat16 too.
    """

    def __init__(self, weight: Tensor) -> None:
        super().__init__()
        matrix = _matrix(weight.detach()).float()
        left, right = (torch.ones(size, device=matrix.device) for size in matrix.shape)  # no draw of the generator
        for _ in range(BEGINNING):
            left, right = _iterate(matrix, right)
        self.register_buffer("left", left)  # (K,)
        self.register_buffer("right", right)  # (h * w * C,)

    def forward(self, weight: Tensor) -> Tensor:
        matrix = _matrix(weight).float()
        if self.training and torch.is_grad_enabled():
            with torch.no_grad():
                left, right = _iterate(matrix, self.right.float())
                self.left.copy_(left), self.right.copy_(right)
        # Copies: the buffers move on at the next use, and the gradient of this one needs them as they were.
        left, right = self.left.float().clone(), self.right.float().clone()
        return weight / ((matrix * right).sum(1) * left).sum().to(weight.dtype)


def _matrix(weight: Tensor) -> Tensor:
    return weight.permute(0, 2, 3, 1).flatten(1)  # as channels_last lies in memory


def _iterate(matrix: Tensor, right: Tensor) -> tuple[Tensor, Tensor]:
    """Both singular vectors, once nearer. Sums, because autocast would make a product of matrices bfloat16."""
    left = F.normalize((matrix * right).sum(1), dim=0)
    return left, F.normalize((matrix * left[:, None]).sum(0), dim=0)
