"""Weight initialization: He, Xavier, orthogonal and others by name, and whitening of a first convolution."""

import math

import torch
from torch import Tensor, nn
from torch.nn import functional as F

INITS = ("he", "he_uniform", "xavier", "xavier_uniform", "orthogonal", "normal", "small", "zeros", "torch")


def initialize(module: nn.Module, init: str = "he") -> None:
    """Sets the weights of every convolution and linear layer in `module`, in place.

    init: one of INITS, and with ",bias=0.01" after it that constant for all biases instead of zero.
    he: normal with standard deviation sqrt(2 / fan_in), zero biases (He et al. 2015, equation 10).
        The default: keeps the variance of activations through ReLU layers.
    xavier: normal with standard deviation sqrt(2 / (fan_in + fan_out)), zero biases (Glorot & Bengio 2010, equation
        12): keeps the variance of activations through tanh layers.
    he_uniform, xavier_uniform: uniform in +-sqrt(3) of those deviations; Glorot & Bengio's equation 16 is the second.
    normal: standard normal, zero biases: activations of tanh layers saturate, those of ReLU layers explode.
    orthogonal: orthogonal rows times sqrt(2), zero biases (Saxe et al. 2014), the habit of policy gradients.
    small: normal with standard deviation 0.01, zero biases: activations vanish in deep networks.
    zeros: symmetry is not broken, so that units stay equal: to show that it does not learn.
    torch: PyTorch's default (uniform, variance 1 / (3 fan_in)), which shrinks with depth.

    Raises ValueError for an unknown name.
    """
    init, bias = _parse(init)
    if init == "torch" and bias is None:
        return
    for layer in module.modules():
        if not isinstance(layer, nn.Conv2d | nn.Linear) or layer.weight.is_meta:  # which has no numbers
            continue
        if init == "he":
            nn.init.kaiming_normal_(layer.weight, nonlinearity="relu")
        elif init == "he_uniform":
            nn.init.kaiming_uniform_(layer.weight, nonlinearity="relu")
        elif init == "xavier":
            nn.init.xavier_normal_(layer.weight)
        elif init == "xavier_uniform":
            nn.init.xavier_uniform_(layer.weight)
        elif init == "normal":
            nn.init.normal_(layer.weight)
        elif init == "small":
            nn.init.normal_(layer.weight, std=0.01)
        elif init == "zeros":
            nn.init.zeros_(layer.weight)
        elif init == "orthogonal":
            nn.init.orthogonal_(layer.weight, gain=math.sqrt(2))
        if layer.bias is not None:
            nn.init.constant_(layer.bias, bias or 0.0)


def _parse(init: str) -> tuple[str, float | None]:
    """The name in "he" or "he,bias=0.01", and the constant of biases."""
    name, comma, option = init.partition(",")
    word, equals, value = option.partition("=")
    if name not in INITS or (comma and (word.strip() != "bias" or not equals)):
        raise ValueError(f"unknown init {init!r}: choose one of {', '.join(INITS)}, with biases as in he,bias=0.01")
    try:
        return name, float(value) if comma else None
    except ValueError:
        raise ValueError(f"{init!r}: bias={value} is no number") from None


@torch.no_grad()
def whiten(layer: nn.Conv2d, images: Tensor, eps: float = 5e-4) -> None:
    """Whitening: a first convolution that decorrelates the patches of images, its weight frozen (Page 2018, part 8).

    images: (N, C, H, W), uint8 counting as x / 255. Its filters become the patches' principal components, each
    divided by the root of its variance (plus eps), and their negatives; its biases, which still learn, subtract the
    mean.
    Raises ValueError for a layer without a bias, or whose filters are not twice as many as a patch has numbers.
    """
    numbers = layer.weight[0].numel()
    if layer.out_channels != 2 * numbers or layer.bias is None:
        raise ValueError(
            f"whitening needs a bias and twice as many filters as a patch has numbers, {2 * numbers}, and this first "
            f"convolution has {layer.out_channels}: choose a backbone made for it, as airbench with --stem cifar"
        )
    images = images.float() / 255 if images.dtype == torch.uint8 else images
    patches = F.unfold(images, layer.kernel_size).transpose(1, 2).flatten(0, 1)  # (patches, numbers)
    mean = patches.mean(0)
    variances, components = torch.linalg.eigh((patches - mean).T @ (patches - mean) / len(patches))
    filters = components.T / (variances[:, None] + eps).sqrt()
    filters = torch.cat([filters, -filters])
    layer.weight.copy_(filters.view_as(layer.weight))
    layer.bias.copy_(-filters @ mean)
    layer.weight.requires_grad_(False)
