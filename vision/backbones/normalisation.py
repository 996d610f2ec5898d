"""What stands between a layer and its ReLU, chosen in this one place by the `norm` argument of every backbone."""

from torch import nn

NORMS = ("none", "layer")


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
