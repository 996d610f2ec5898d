"""How a backbone's weights begin, chosen in this one place by the `init` argument of every backbone."""

import math

from torch import nn

INITS = ("he", "orthogonal", "torch")


def initialise(module: nn.Module, init: str = "he") -> None:
    """Sets the weights of every convolution and linear layer in `module`, in place.

    he: normal with standard deviation sqrt(2 / fan_in), zero biases (He et al. 2015, equation 10).
        The default: the signal of sparse pixels keeps its size through ReLU layers.
    orthogonal: orthogonal rows times sqrt(2), zero biases (Saxe et al. 2014), the habit of policy gradients.
    torch: left as PyTorch made them (uniform, variance 1 / (3 fan_in)), which shrinks with depth.

    Raises ValueError for another word.
    """
    if init not in INITS:
        raise ValueError(f"unknown init {init!r}: choose one of {', '.join(INITS)}")
    if init == "torch":
        return
    for layer in module.modules():
        if not isinstance(layer, nn.Conv2d | nn.Linear):
            continue
        if init == "he":
            nn.init.kaiming_normal_(layer.weight, nonlinearity="relu")
        elif not layer.weight.is_meta:  # QR needs numbers
            nn.init.orthogonal_(layer.weight, gain=math.sqrt(2))
        if layer.bias is not None:
            nn.init.zeros_(layer.bias)
