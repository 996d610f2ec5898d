"""DropConnect: dropout of the weights of a dense layer instead of its inputs (Wan et al. 2013)."""

from torch import Tensor, nn
from torch.nn import functional as F


class DropConnect(nn.Linear):
    """DropConnect layer, (B, inputs) -> (B, outputs): r = (M * W) v, with a random mask M of the weights.

    Wan et al. 2013, "Regularization of neural networks using DropConnect", ICML, section 3.

    drop: the probability that a weight or a bias counts as 0 in training; the others count 1 / (1 - drop) times.
    Deviations: one mask for a whole batch (a mask for each image would need a copy of the weights for each), and mean
    weights in evaluation instead of samples from the paper's Gaussian (algorithm 2).
    Keys are nn.Linear's. Raises ValueError where drop is not a probability below 1.
    """

    def __init__(self, inputs: int, outputs: int, drop: float) -> None:
        super().__init__(inputs, outputs)
        if not 0 <= drop < 1:
            raise ValueError(f"dropconnect={drop} is not a probability below 1")
        self.drop = drop

    def forward(self, x: Tensor) -> Tensor:
        if not self.training or self.drop == 0:
            return super().forward(x)
        return F.linear(x, F.dropout(self.weight, self.drop), F.dropout(self.bias, self.drop))

    def extra_repr(self) -> str:
        """The sizes and `drop`, for print."""
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
