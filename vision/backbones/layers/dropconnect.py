"""DropConnect: dropout of the weights of a dense layer instead of its inputs (Wan et al. 2013)."""

from torch import Tensor, nn
from torch.nn import functional as F


class DropConnect(nn.Linear):
    """Wan et al. 2013, "Regularization of neural networks using DropConnect", ICML, section 3: r = (M * W) v.

    drop: the probability that a weight or a bias counts as 0 in training; the others count 1 / (1 - drop) times.
    Other than in the paper, one mask serves a whole batch (its own for each image would take a copy of the weights
    an image), and evaluation takes the mean weights instead of drawing from the paper's Gaussian (algorithm 2).
    Keys are nn.Linear's. Raises ValueError where drop is no probability below 1.
    """

    def __init__(self, inputs: int, outputs: int, drop: float) -> None:
        super().__init__(inputs, outputs)
        if not 0 <= drop < 1:
            raise ValueError(f"dropconnect={drop} is no probability below 1")
        self.drop = drop

    def forward(self, x: Tensor) -> Tensor:
        if not self.training or self.drop == 0:
            return super().forward(x)
        return F.linear(x, F.dropout(self.weight, self.drop), F.dropout(self.bias, self.drop))

    def extra_repr(self) -> str:
        return f"{super().extra_repr()}, drop={self.drop}"


def connect(module: nn.Module, drop: float) -> nn.Module:
    """Makes each dense layer inside `module` a DropConnect with the same weights, in place, and returns it."""
    for path, layer in list(module.named_modules()):
        if type(layer) is not nn.Linear:
            continue
        parent, _, name = path.rpartition(".")
        dropping = DropConnect(layer.in_features, layer.out_features, drop)
        dropping.weight, dropping.bias = layer.weight, layer.bias
        setattr(module.get_submodule(parent), name, dropping)
    return module
