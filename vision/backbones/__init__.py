"""Backbones: networks that turn an input into feature maps, fine to coarse, for any head to read.

    backbone = backbones.build("nature", (4, 84, 84))              # a name, and the shape of one input
    backbone = backbones.build("results/Breakout/dqn-1", (4, 84, 84), frozen=True)   # pretrained: of a run
    backbone = backbones.build("resnet18:imagenet", (3, 224, 224))   # published weights, or a file of them
    backbone = backbones.build("wandb:team/saccade/backbone:v3", (4, 84, 84))   # pretrained: an artifact of W&B
    maps = backbone(images)                                        # list of (B, backbone.channels[i], H_i, W_i)

    nature  Mnih et al. 2015, deep Q-learning      impala  Espeholt et al. 2018, residual
    small   pictures of 10 x 10 to 40 x 40           hadamax Kooi et al. 2025, products of convolutions
    mlp     vectors                                  frame_encoder Ha & Schmidhuber 2018, latents of single frames
    lenet300_100, lenet5, lenet5_1998, lenet5_1998_rbf
    alexnet, alexnet_2012, alexnet_ungrouped
    zfnet, zfnet_wide, overfeat_fast, overfeat_accurate   nin
    vgg11, vgg13, vgg16, vgg19, and each with _bn

    resnet18 34 50 101 152, resnext50_32x4d, resnext101_32x8d _64x4d, wide_resnet50_2 101_2  residual networks
    resnet20 32 44 56 110, wrn_16_4 16_8 28_10 34_10 40_4  the same for small images
    preact_resnet18 50 101 152 200, and 110 164 1001 for small images  pre-activation residual networks
    highway_conv19 32, highway10 20 50 100 (dense)  Srivastava et al. 2015, gates instead of shortcuts
    fractalnet20  Larsson et al. 2016
    airbench  Jordan 2024, for CIFAR-10 in the fewest operations
    cell_network  Dong & Yang 2020, of a cell that an architecture search has found

    densenet121 ...     Huang et al. 2016, every layer reads all before it
    squeezenet1_0 ...   Iandola et al. 2016, few parameters
    mobilenet_v1, _v2   Howard et al. 2017, Sandler et al. 2018, few multiply-adds
    googlenet, googlenet_2014, googlenet_naive   Szegedy et al. 2014, kernels of several sizes side by side
    inception_v2, _v3   Ioffe & Szegedy 2015, Szegedy et al. 2015
    inception_v4, inception_resnet_v1 _v2   Szegedy et al. 2016

A family is a file and a line of BACKBONES. backbone.py has the contract, options.py what all can be built with,
layers/ initialization, norms, activations and other layers, checkpoints.py saving and loading, published.py
torchvision's weights, preprocessing.py the normalization of the images that weights were trained on,
standardization.py that by statistics of one's own training images: mean, deviation, PCA, whitening; pipeline.py a
backbone's layers on several devices.
"""

import dataclasses
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch

from runs import artifacts, suggestions
from vision.backbones import published
from vision.backbones.airbench import Airbench
from vision.backbones.alexnet import ALEXNETS, AlexNet
from vision.backbones.backbone import Backbone
from vision.backbones.cells import CellNetwork
from vision.backbones.checkpoints import FILENAME, load_weights, misfit, read, save
from vision.backbones.cifar_resnet import CIFAR_RESNETS, CifarResNet
from vision.backbones.densenet import DENSENETS, DenseNet
from vision.backbones.fractalnet import FRACTALNETS, FractalNet
from vision.backbones.frame_encoder import FrameEncoder
from vision.backbones.googlenet import GOOGLENETS, GoogLeNet
from vision.backbones.hadamax import Hadamax
from vision.backbones.highway import DENSE_HIGHWAYS, HIGHWAYS, DenseHighway, Highway
from vision.backbones.impala import Impala
from vision.backbones.inception import InceptionV2, InceptionV3
from vision.backbones.inception_v4 import InceptionResNetV1, InceptionResNetV2, InceptionV4
from vision.backbones.lenet import LENETS, LeNet5
from vision.backbones.mlp import MLP, MLPS
from vision.backbones.mobilenet import MobileNetV1, MobileNetV2
from vision.backbones.nature import Nature
from vision.backbones.nin import NiN
from vision.backbones.options import BackboneOptions
from vision.backbones.overfeat import OVERFEATS, OverFeat
from vision.backbones.preact import PREACTS, PreactResNet
from vision.backbones.preprocessing import Preprocessing
from vision.backbones.published import Checkpoint
from vision.backbones.resnet import RESNETS, ResNet
from vision.backbones.small import Small
from vision.backbones.squeezenet import SQUEEZENETS, SqueezeNet
from vision.backbones.standardization import Standardization
from vision.backbones.vgg import VGG, VGGS
from vision.backbones.wide_resnet import WIDE_RESNETS, WideResNet
from vision.backbones.zfnet import ZFNETS, ZFNet

__all__ = [
    "BACKBONES",
    "Backbone",
    "BackboneOptions",
    "Checkpoint",
    "FrameEncoder",
    "Preprocessing",
    "Standardization",
    "build",
    "check",
    "checkpoint",
    "default_options",
    "load_pretrained",
    "load",
    "save",
]

BACKBONES: dict[str, type[Backbone]] = {
    "nature": Nature,
    "impala": Impala,
    "hadamax": Hadamax,
    "small": Small,
    "frame_encoder": FrameEncoder,
    **dict.fromkeys(MLPS, MLP),
    **dict.fromkeys(LENETS, LeNet5),
    **dict.fromkeys(ALEXNETS, AlexNet),
    **dict.fromkeys(ZFNETS, ZFNet),
    **dict.fromkeys(OVERFEATS, OverFeat),
    "nin": NiN,
    **dict.fromkeys(VGGS, VGG),
    **dict.fromkeys(RESNETS, ResNet),
    **dict.fromkeys(PREACTS, PreactResNet),
    **dict.fromkeys(CIFAR_RESNETS, CifarResNet),
    **dict.fromkeys(WIDE_RESNETS, WideResNet),
    **dict.fromkeys(HIGHWAYS, Highway),
    **dict.fromkeys(DENSE_HIGHWAYS, DenseHighway),
    **dict.fromkeys(FRACTALNETS, FractalNet),
    **dict.fromkeys(DENSENETS, DenseNet),
    **dict.fromkeys(SQUEEZENETS, SqueezeNet),
    "mobilenet_v1": MobileNetV1,
    "mobilenet_v2": MobileNetV2,
    **dict.fromkeys(GOOGLENETS, GoogLeNet),
    "inception_v2": InceptionV2,
    "inception_v3": InceptionV3,
    "inception_v4": InceptionV4,
    "inception_resnet_v1": InceptionResNetV1,
    "inception_resnet_v2": InceptionResNetV2,
    "airbench": Airbench,
    "cell_network": CellNetwork,
}


TRAINED_WITH = ("stem", "width", "norm", "activation", "transform_input")  # options that published weights fix


def build(
    name: str | Path,
    shape: Sequence[int],
    frozen: bool = False,
    preprocessing: dict[str, Any] | None = None,
    subtracts_mean: bool = False,
    standardization: dict[str, Any] | None = None,
    **options: Any,
) -> Backbone:
    """A backbone for inputs of `shape`: (C, H, W) for images, (D,) for vectors.

    name: a key of BACKBONES; or NAME:imagenet, NAME:imagenet-v2 or NAME:FILE for published weights (see
        published.read and load_pretrained); or a run's folder, a .safetensors file, or wandb:entity/project/NAME:v3,
        an artifact of W&B: its pretrained backbone (load)
    frozen: no gradients, and evaluation mode permanently
    preprocessing: Preprocessing.spec() of the images that weights were trained on; None: inputs are not normalized
    subtracts_mean: subtract a mean observation from every input, zero until Backbone.set_mean_observation; a
        pretrained backbone has its own, or none
    standardization: Standardization.spec() of what its inputs go through, with statistics that are measured or loaded
        afterwards
    options: of BackboneOptions and the family's extension of it. For a pretrained backbone they must be those of the
        file, but for `init`.
    Raises ValueError for an unknown name, an option that the family lacks, an image too small, or options that
    contradict a pretrained backbone.
    """
    if str(name) in BACKBONES:
        defaults = default_options(str(name))
        if lacking := [option for option in options if option not in (*defaults.spec(), "pool")]:
            takes = ", ".join(sorted((*defaults.spec(), "pool")))
            raise ValueError(f"backbone {str(name)!r} has no option {lacking[0]!r}: it takes {takes}")
        backbone = BACKBONES[str(name)](str(name), shape, dataclasses.replace(defaults, **options))
        if preprocessing is not None:
            backbone.preprocess(Preprocessing.of(preprocessing))
        if standardization is not None:
            backbone.standardize(Standardization(backbone.shape, **standardization))
        if subtracts_mean:
            backbone.set_mean_observation(torch.zeros(backbone.shape, dtype=torch.uint8))
        return backbone.freeze() if frozen else backbone
    if artifacts.is_artifact(name):
        return build(artifacts.fetch(name, ".safetensors"), shape, frozen, **options)
    if (found := checkpoint(name)) is not None:
        if subtracts_mean:
            raise ValueError(
                f"{name} normalizes images as its weights were trained on them: no mean is subtracted beside that"
            )
        return load_pretrained(found, shape, frozen, **options)
    if Path(name).is_dir() or Path(name).suffix == ".safetensors":
        backbone = load(name, shape, frozen)
        for option, wanted in options.items():
            wanted = list(wanted) if isinstance(wanted, tuple) else wanted
            if option != "init" and backbone.spec.get(option) != wanted:
                has = backbone.spec.get(option)
                raise ValueError(f"the backbone in {name} has {option}={has!r}, not {wanted!r}: leave the option out")
        return backbone
    raise unknown(name)


def default_options(name: str) -> BackboneOptions:
    """The default options of a backbone, those of its paper; `default_options(name).spec()` has them as a dict."""
    return BACKBONES[name].defaults(name)


def unknown(name: str | Path) -> ValueError:
    """The error for a name that is not a backbone's."""
    hint = suggestions.one_of(str(name).partition(":")[0], BACKBONES, "choose one of")
    return ValueError(f"unknown backbone {str(name)!r}: {hint} (or the folder of a run, or an artifact of W&B)")


def check(name: str | Path) -> None:
    """Raise ValueError for a name that build() does not accept, without reading weights."""
    if artifacts.is_artifact(name):
        artifacts.check(name)
    elif (
        str(name).partition(":")[0] not in BACKBONES
        and not Path(name).is_dir()
        and Path(name).suffix != ".safetensors"
    ):
        raise unknown(name)


def checkpoint(name: str | Path) -> Checkpoint | None:
    """The published weights that NAME:SOURCE names (see published.read), or None where it names none."""
    architecture, colon, source = str(name).partition(":")
    return published.read(architecture, source) if colon and architecture in BACKBONES else None


def load_pretrained(found: Checkpoint, shape: Sequence[int], frozen: bool = False, **options: Any) -> Backbone:
    """A backbone with published weights, without their head. Images may have any size; for another number of channels
    than three, the first convolution is adapted (checkpoints.adapt_channels), and the preprocessing with it.

    options: those that do not depend on the weights (dropout, stochastic_depth).
    Raises ValueError for an option that the weights were not trained with, and where keys or shapes do not fit.
    """
    images, own = found.preprocessing, {}
    if found.name in ("googlenet", "inception_v3"):  # ported from TensorFlow: trained on pixels in [-1, 1]
        own["transform_input"] = images is None
        images = None if images is None else images.centered()
    with torch.device("meta"):
        trained = build(found.name, (3, *shape[1:]), **own)
        asked = build(found.name, (3, *shape[1:]), **own | options)
        head = trained.head(1).state_dict()
    for option in TRAINED_WITH:
        has, wanted = trained.spec.get(option), asked.spec.get(option)
        if wanted != has:
            raise ValueError(
                f"published weights of {found.name} are for {option}={has!r}, not {wanted!r}: leave it out"
            )
    keys = trained.state_dict().keys()
    if strange := [key for key in found.state if key not in keys and key not in head]:
        raise ValueError(f"{found.name} has no {strange[0]!r} (and {len(strange) - 1} more keys of this file)")
    backbone = build(found.name, shape, **own | options)
    load_weights(backbone, {key: value for key, value in found.state.items() if key in keys})
    if images is not None:
        backbone.preprocess(images)
    return backbone.freeze() if frozen else backbone


def load(path: str | Path, shape: Sequence[int] | None = None, frozen: bool = False) -> Backbone:
    """Load a pretrained backbone, spec and weights, that save() wrote to `path`, a file or a run's folder.

    shape: of the new inputs (default: the saved one). Another image size needs no change; another number of
    channels changes the first convolution (checkpoints.adapt_channels).
    Raises FileNotFoundError, or ValueError when the weights cannot fit.
    """
    path = artifacts.fetch(path, ".safetensors") if artifacts.is_artifact(path) else Path(path)
    path = path / FILENAME if path.is_dir() else path
    spec, weights = read(path)
    _check(path, spec, weights)
    backbone = build(**spec | ({} if shape is None else {"shape": tuple(shape)}))
    load_weights(backbone, weights)
    return backbone.freeze() if frozen else backbone


def _check(path: Path, spec: dict[str, Any], weights: dict[str, torch.Tensor]) -> None:
    """Raises ValueError for a spec of an unknown backbone, or where names and shapes of its weights differ from the
    file's. They are compared on the meta device, which takes no memory."""
    name = spec.get("name")
    if name not in BACKBONES:
        hint = suggestions.one_of(str(name), BACKBONES, "there are")
        raise ValueError(f"{path} has a spec of an unknown backbone, {name!r}: {hint}")
    try:
        with torch.device("meta"):
            asked = {key: weight.shape for key, weight in build(**spec).state_dict().items()}
    except Exception as error:  # of any type: the spec is not ours
        raise ValueError(f"{path} has a spec that {name} cannot be built from, {spec}: {error}") from error
    given = {key: weight.shape for key, weight in weights.items()}
    for key in sorted(asked.keys() | given.keys()):
        one, other = (list(shapes[key]) if key in shapes else "missing" for shapes in (asked, given))
        if one != other:
            raise ValueError(f"{misfit(spec, f'its {key!r} is {one}, in the file {other}')} ({path})")
