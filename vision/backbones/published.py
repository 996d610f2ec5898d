"""Pretrained ImageNet weights of torchvision: their files, names and preprocessing.

    backbone = backbones.build("resnet18:imagenet", (3, 224, 224))      # fetched once, then from torch.hub's cache
    backbone = backbones.build("resnet50:imagenet-v2", (4, 84, 84))     # the later recipe, adapted to four channels
    backbone = backbones.build("resnet18:files/resnet18-f37072fd.pth", (3, 224, 224))

Files, digits and sizes are those of github.com/pytorch/vision, torchvision/models/*.py.
"""

from __future__ import annotations

import re
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple

import torch
from safetensors.torch import load_file
from torch import Tensor

from runs import suggestions
from vision.backbones.preprocessing import Preprocessing

ROOT = "https://download.pytorch.org/models/"


class File(NamedTuple):
    """A published file of weights, and the preprocessing that it was trained with."""

    stem: str  # of the file's name, .pth; its last eight digits begin the file's SHA-256
    resize: int = 256  # pixels
    crop: int = 224

    @property
    def preprocessing(self) -> Preprocessing:
        """Resizing, cropping and normalization of the images that the weights were trained on."""
        return Preprocessing(self.resize, self.crop)


LATER = 232  # pixels to which images are resized for the weights of torchvision's later recipe
PUBLISHED: dict[str, tuple[File, ...]] = {  # by architecture: IMAGENET1K_V1, then IMAGENET1K_V2 where there is one
    "alexnet": (File("alexnet-owt-7be5be79"),),
    "vgg11": (File("vgg11-8a719046"),),
    "vgg11_bn": (File("vgg11_bn-6002323d"),),
    "vgg13": (File("vgg13-19584684"),),
    "vgg13_bn": (File("vgg13_bn-abd245e5"),),
    "vgg16": (File("vgg16-397923af"),),
    "vgg16_bn": (File("vgg16_bn-6c64b313"),),
    "vgg19": (File("vgg19-dcbb9e9d"),),
    "vgg19_bn": (File("vgg19_bn-c79401a0"),),
    "resnet18": (File("resnet18-f37072fd"),),
    "resnet34": (File("resnet34-b627a593"),),
    "resnet50": (File("resnet50-0676ba61"), File("resnet50-11ad3fa6", LATER)),
    "resnet101": (File("resnet101-63fe2227"), File("resnet101-cd907fc2", LATER)),
    "resnet152": (File("resnet152-394f9c45"), File("resnet152-f82ba261", LATER)),
    "resnext50_32x4d": (File("resnext50_32x4d-7cdf4587"), File("resnext50_32x4d-1a0047aa", LATER)),
    "resnext101_32x8d": (File("resnext101_32x8d-8ba56ff5"), File("resnext101_32x8d-110c445d", LATER)),
    "resnext101_64x4d": (File("resnext101_64x4d-173b62eb", LATER),),
    "wide_resnet50_2": (File("wide_resnet50_2-95faca4d"), File("wide_resnet50_2-9ba9bcbe", LATER)),
    "wide_resnet101_2": (File("wide_resnet101_2-32ee1156"), File("wide_resnet101_2-d733dc28", LATER)),
    "densenet121": (File("densenet121-a639ec97"),),
    "densenet161": (File("densenet161-8d451a50"),),
    "densenet169": (File("densenet169-b2777c0a"),),
    "densenet201": (File("densenet201-c1103571"),),
    "squeezenet1_0": (File("squeezenet1_0-b66bff10"),),
    "squeezenet1_1": (File("squeezenet1_1-b8a52dc0"),),
    "mobilenet_v2": (File("mobilenet_v2-b0353104"), File("mobilenet_v2-7ebf99e0", LATER)),
    "googlenet": (File("googlenet-1378be20"),),
    "inception_v3": (File("inception_v3_google-0cc3c7bd", 342, 299),),
}
TAGS = {"imagenet": 0, "imagenet-v1": 0, "imagenet-v2": 1, "imagenet1k_v1": 0, "imagenet1k_v2": 1}

DENSE = re.compile(
    r"^(.*denselayer\d+\.(?:norm|relu|conv))\.([12]\..*)$"
)  # denselayer1.norm.1 in files, norm1 in code
HOLDERS = ("state_dict", "model_state_dict", "model_state", "model", "net", "network", "params", "weights")
PREFIXES = ("module.", "_orig_mod.", "model.", "net.", "network.")  # of what a model was wrapped in
COUNTERS = ("n_averaged",)  # of torch.optim.swa_utils.AveragedModel
OURS = ("backbone.", "head.")  # a vision.classification.classifier.Classifier's two parts


class Checkpoint(NamedTuple):
    """A classifier's weights, backbone and head, with torchvision's keys."""

    name: str  # of the architecture
    state: dict[str, Tensor]
    preprocessing: Preprocessing | None  # of the images that the weights were trained on; None: no normalization


def read(name: str, source: str) -> Checkpoint:
    """The weights of an architecture, from torch.hub's cache, from the web, or from a file.

    source: imagenet (torchvision's IMAGENET1K_V1), imagenet-v2 (IMAGENET1K_V2), or a file's path, of torch.save or
        .safetensors. Such a file has torchvision's keys (see named), and its images were normalized as torchvision's.
    Raises ValueError where torchvision has no such architecture or weights, where the file cannot be fetched, is
    another than the published one, or holds no weights.
    """
    if name not in PUBLISHED:
        raise ValueError(f"there are no published weights for {name}: choose one of {', '.join(PUBLISHED)}")
    files = PUBLISHED[name]
    place = TAGS.get(source.lower())
    if place is None and not Path(source).is_file():
        hint = suggestions.one_of(source, TAGS, "choose one of")
        raise ValueError(f"{name}:{source} is not a file and no published weights: {hint}")
    if place is None:
        file = next((file for file in files if file.stem == Path(source).stem), files[0])
        return Checkpoint(name, named(_load(Path(source)), source), file.preprocessing)
    if place >= len(files):
        raise ValueError(f"torchvision publishes no second weights for {name}: use {name}:imagenet")
    return Checkpoint(name, named(_fetch(name, files[place]), files[place].stem), files[place].preprocessing)


def named(state: object, source: object = "this state") -> dict[str, Tensor]:
    """Weights (float32, any shape) by the keys of torchvision's code, however they were saved: beside an optimizer,
    or with the prefixes of DataParallel, torch.compile and the like; published files of DenseNets have older keys.

    Raises ValueError where there are no weights. source: what the message calls them.
    """
    while isinstance(state, Mapping) and (key := next((key for key in HOLDERS if holds(state, key)), None)):
        state = state[key]
    if isinstance(state, Mapping):
        state = {key: value for key, value in state.items() if key not in COUNTERS}
    if not isinstance(state, dict) or not state or not all(isinstance(value, Tensor) for value in state.values()):
        raise ValueError(f"{source} holds no weights by their names: save a model's state_dict() there")
    for key, value in state.items():
        if value.is_sparse or value.numel() * value.element_size() > value.untyped_storage().nbytes():
            raise ValueError(f"{source} does not hold the {value.numel():,} values of its {key!r}")
    while prefix := next((prefix for prefix in PREFIXES if all(key.startswith(prefix) for key in state)), None):
        state = {key.removeprefix(prefix): value for key, value in state.items()}
    if all(key.startswith(OURS) for key in state):
        state = {key.partition(".")[2]: value for key, value in state.items()}
    return {
        DENSE.sub(r"\1\2", key): value.float() if value.is_floating_point() else value for key, value in state.items()
    }


def holds(state: Mapping, key: str) -> bool:
    """Whether there is a mapping at a key."""
    return isinstance(state.get(key), Mapping)


def _fetch(name: str, file: File) -> object:
    url = f"{ROOT}{file.stem}.pth"
    cached = Path(torch.hub.get_dir()) / "checkpoints" / f"{file.stem}.pth"
    if cached.is_file():
        return _load(cached)
    try:
        return torch.hub.load_state_dict_from_url(url, map_location="cpu", check_hash=True, weights_only=True)
    except OSError as error:
        raise ValueError(
            f"{file.stem}.pth could not be fetched from {url} ({error}): fetch it elsewhere, put it into "
            f"{cached.parent} or name it, {name}:FILE"
        ) from error
    except RuntimeError as error:  # torch.hub's for a wrong hash
        raise ValueError(f"{url} sent something else than the published file: {error}") from error


def _load(path: Path) -> object:
    """What a file of torch.save or of safetensors holds. Raises ValueError where that is damaged, or not data."""
    try:
        if path.suffix == ".safetensors":
            return load_file(path)
        if zipfile.is_zipfile(path):
            _check_archive(path)
        return torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # each way of being damaged has its own
        if objects := _objects(path):
            raise ValueError(
                f"{path} holds more than weights ({', '.join(objects)}), which could run code and is not read: "
                "save the model's state_dict() alone, where the file comes from"
            ) from error
        raise ValueError(
            f"{path} is damaged, or no file of weights: {error}. Delete it and fetch it anew."
        ) from error


def _check_archive(path: Path) -> None:
    """Raises ValueError where a file would need more memory than it is long: torch.save compresses nothing."""
    with zipfile.ZipFile(path) as archive:
        space = sum(entry.file_size for entry in archive.infolist())
    if space > path.stat().st_size:
        raise ValueError(f"its {path.stat().st_size:,} bytes unpack to {space:,}")


def _objects(path: Path) -> list[str]:
    """The classes and functions that a file of torch.save asks for, besides those of tensors."""
    try:
        return torch.serialization.get_unsafe_globals_in_checkpoint(path)
    except Exception:  # it is no such file
        return []
