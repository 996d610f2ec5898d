"""Checkpoints of backbones: a safetensors file with the weights and, in its metadata, the spec to build from."""

import hashlib
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save as serialize
from torch import Tensor, nn
from torch.nn import functional as F

from runs import files
from vision.backbones.backbone import Backbone

FILENAME = "backbone.safetensors"  # in a run's folder


def save(backbone: Backbone, path: str | Path) -> None:
    """Save a backbone's weights and spec to `path`, atomically (temporary file, then rename)."""
    backbone = getattr(backbone, "_orig_mod", backbone)  # torch.compile's wrapper prefixes every key
    path = Path(path)
    weights = {key: value.detach().cpu().contiguous() for key, value in backbone.state_dict().items()}
    spec = json.dumps(backbone.spec)
    files.write(path, serialize(weights, metadata={"spec": spec, "sha256": _digest(spec, weights)}))


def _digest(spec: str, weights: dict[str, Tensor]) -> str:
    """SHA-256 of a spec and of the names, types, shapes and bytes of weights."""
    found = hashlib.sha256(spec.encode())
    for key, weight in sorted(weights.items()):
        found.update(f"{key} {weight.dtype} {list(weight.shape)}\n".encode())
        if weight.numel():
            found.update(weight.reshape(-1).view(torch.uint8).numpy())
    return found.hexdigest()


def read(path: Path) -> tuple[dict[str, Any], dict[str, Tensor]]:
    """The spec and the weights, tensors of any shape by name, of a file that save() wrote.

    Raises FileNotFoundError, or ValueError when the file is damaged or has no spec.
    """
    if not path.is_file():
        raise FileNotFoundError(f"no backbone at {path}: a run writes {FILENAME} into its folder when it saves")
    try:
        with safe_open(path, framework="pt") as file:
            metadata = file.metadata() or {}
            weights = {key: file.get_tensor(key) for key in file.keys()}
    except (SafetensorError, OSError) as error:
        raise ValueError(f"{path} is damaged, or no file of weights: {error}") from error
    strange = metadata.keys() - {"spec", "sha256", "format"}  # a key that a flipped bit has changed
    if strange or metadata.get("sha256", digest := _digest(metadata.get("spec", ""), weights)) != digest:
        raise ValueError(f"{path} is damaged: it does not match its checksum")
    try:
        spec = json.loads(metadata.get("spec", "null"))
    except ValueError as error:
        raise ValueError(f"{path} has a spec that cannot be read: {error}") from error
    if not isinstance(spec, dict):
        raise ValueError(f"{path} has no spec in its metadata: write it with backbones.save")
    return spec, weights


def adapt_channels(weight: Tensor, channels: int) -> Tensor:
    """A convolution's weight (K, C, h, w) for another number of input channels, (K, channels, h, w).

    Fewer channels: each gets the mean of all old ones. More: the old ones repeat in turn. Both are multiplied by
    C / channels, which keeps the response to an image that is equal in all channels: exactly for fewer channels and
    for multiples of C. (One channel gets the sum.)
    """
    old = weight.shape[1]
    if channels < old:
        weight = weight.mean(1, keepdim=True).expand(-1, channels, -1, -1)
    else:
        weight = weight[:, torch.arange(channels) % old]
    return weight * (old / channels)


def adapt_mean_observation(picture: Tensor, shape: Sequence[int]) -> Tensor:
    """A mean observation (C, H, W) uint8 for inputs of another shape: resized, its channels as in adapt_channels, but
    with the same brightness."""
    x = adapt_channels(picture[None].float(), shape[0]) * (shape[0] / picture.shape[0])
    x = F.interpolate(x, tuple(shape[1:]), mode="bilinear", antialias=True)
    return x[0].round().clamp(0, 255).to(torch.uint8)


def adapt_statistic(statistic: Tensor, shape: Sequence[int]) -> Tensor:
    """A mean or inverse deviation (C, 1, 1) or (C, H, W) for inputs of another shape: resized, for fewer channels the
    mean of all, for more the old ones in turn."""
    channels, old = shape[0], len(statistic)
    statistic = (
        statistic.mean(0, keepdim=True).expand(channels, -1, -1)
        if channels < old
        else statistic[torch.arange(channels) % old]
    )
    if statistic.shape[1:] in ((1, 1), tuple(shape[1:])):
        return statistic
    return F.interpolate(statistic[None], tuple(shape[1:]), mode="bilinear", antialias=True)[0]


def load_weights(backbone: Backbone, weights: dict[str, Tensor]) -> None:
    """Load saved weights into a backbone of the same spec, the first convolution adapted to its input channels (but
    for inception_v2's depthwise one, which fits only the number that it had).

    Raises ValueError where keys or shapes do not fit.
    """
    name, conv = next(((k, m) for k, m in backbone.named_modules() if isinstance(m, nn.Conv2d)), ("", None))
    first = f"{name}.weight"
    if conv is not None and conv.groups == 1 and first in weights and weights[first].shape[1] != conv.in_channels:
        weights = {**weights, first: adapt_channels(weights[first], conv.in_channels)}
    one = (conv.in_channels, *backbone.shape[1:]) if conv is not None else backbone.shape  # of a stack, one frame
    for key, weight in weights.items():
        if key.endswith(".mean_observation") and tuple(weight.shape) != one:
            weights = {**weights, key: adapt_mean_observation(weight, one)}
        if key in ("normalize.mean", "normalize.inverse") and weight.dim() == 3:
            weights = {**weights, key: adapt_statistic(weight, backbone.shape)}
    try:
        backbone.load_state_dict(weights)
    except RuntimeError as error:
        raise ValueError(misfit(backbone.spec, error)) from None


def misfit(spec: dict[str, Any], why: object) -> str:
    """The message for weights of another network."""
    return f"these weights do not fit {spec['name']} ({spec}): {why}"
