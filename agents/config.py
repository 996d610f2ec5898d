"""Shared flags of agents, defaults by family of worlds, and the world and backbone that the flags describe.

A program's Config combines these mixins, none of which extends another, with its own hyperparameters:

    class Config(WorldFlags, BackboneFlags, ComputeFlags, EvaluationFlags, runs.Options):
        learning_rate: NonNegative = 1e-4  # Adam
"""

from __future__ import annotations

import ast
import dataclasses
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any, ClassVar, Literal, TypeVar

import torch
from torch import nn

import envs
import runs
from envs import World, gymnasium_world
from runs import loss_scaling
from runs.flag_types import Count, NonNegative, Positive, Share, Whole
from vision import backbones

W = TypeVar("W", bound="WorldFlags")
B = TypeVar("B", bound="BackboneFlags")

OWN_FLAGS = ("stack", "flicker", "pixels", "seed", "device")  # options of worlds that have a flag of their name
ATARI_FLAGS = ("protocol", "frame_skip", "full_actions", "color", "bind")  # those of Atari games alone
SAMPLE_WORLDS, SAMPLE_STEPS = 4, 4_000  # of estimate_mean_observation: worlds side by side, and steps of all of them


@dataclasses.dataclass(frozen=True)
class WorldFlags:
    """The world that an agent plays, and the recipe for it."""

    GROUP: ClassVar[str] = "world"

    env: str = "Breakout"  # the world: an Atari game, a Gymnasium id, or Catch
    recipe: Literal["default", "paper"] = "default"  # hyperparameters for the world: this project's, or the paper's
    protocol: Literal["classic", "sticky"] = "classic"  # Atari: Mnih 2015 (lives end episodes) or Machado 2018
    frame_skip: Count = 4  # Atari frames an action is held
    full_actions: bool = False  # Atari: all 18 actions, not just those the game uses
    color: bool = False  # Atari: three channels a frame
    stack: Whole = 0  # frames in an observation of pictures; 0: the world's default, 4 in Atari
    bind: bool = False  # Atari: keep each emulator thread on a core of its own; for a machine that runs nothing else
    flicker: Share = 0.0  # probability that a frame is black (Hausknecht & Stone 2015)
    pixels: bool = False  # control: learn from the rendered picture
    env_kwargs: tuple[str, ...] = ()  # name=value for the world's constructor, in place of the recipe's


@dataclasses.dataclass(frozen=True)
class BackboneFlags:
    """The backbone that encodes observations."""

    GROUP: ClassVar[str] = "backbone"

    backbone: str = "nature"  # a name of python -m vision.backbones, NAME:imagenet, or the folder of a run
    frozen: bool = False  # keep the backbone's weights as they are
    width: Positive = 1.0  # channels of the backbone, times its family's; a pretrained one keeps its own
    subtract_mean: bool = False  # pictures less the mean of random play's; a pretrained backbone keeps its own
    norm: Literal["none", "layer"] = "none"  # before every ReLU; a pretrained backbone keeps its own
    spectral: bool = False  # impala: residual convolutions of spectral norm 1; a pretrained one keeps its own

    def validate(self) -> None:
        """Raise ValueError for numbers outside of a flag's range, or an unknown backbone."""
        super().validate()
        backbones.check(self.backbone)  # first, so that a typo is not reported as another config


@dataclasses.dataclass(frozen=True)
class ComputeFlags:
    """How a device computes."""

    GROUP: ClassVar[str] = "run"

    bf16: bool = True  # bf16 autocast where the device is fast at it
    fp16: bool = False  # fp16 autocast in place of bf16, on any device, with dynamic loss scaling
    compile: bool = False  # torch.compile act and learn
    capture: bool = False  # CUDA: act and learn become graphs of the device, launched whole

    def validate(self) -> None:
        """Raise ValueError for numbers outside of a flag's range, or fp16 in updates that are launched whole."""
        super().validate()
        loss_scaling.check(self, "compile", "capture")


@dataclasses.dataclass(frozen=True)
class EvaluationFlags:
    """When and how long an agent is evaluated and filmed."""

    GROUP: ClassVar[str] = "evaluation"

    evaluate_every: Whole = 100_000  # steps between evaluations, of which one is at the end; 0: never
    evaluate_first: Whole = 10_000  # step of an evaluation before all others; 0: none
    evaluate_games: Count = 10  # whole games each
    evaluate_steps: Count = 27_000  # of each game at most; longer ones are truncated (27,000: Atari's limit)
    film_seconds: NonNegative = 20.0  # filmed of a game after each best evaluation; 0 for no films


CONTROL = dict(
    backbone="mlp",
    clip_reward=False,
    bf16=False,
    threads=1,  # a small network waits longer for a second thread than it gains
    evaluate_first=0,
    film_seconds=0.0,  # Gymnasium's screen needs pygame
)
FAMILIES: dict[str, dict[str, Any]] = {  # defaults of a family of worlds, whatever the program
    "atari": {},
    "control": CONTROL,
    "catch": CONTROL | dict(backbone="small", evaluate_games=40, film_seconds=6.0),
    "pixels": dict(clip_reward=False),
}


def describe(config: WorldFlags) -> envs.Description:
    """The description of a config's world. Raises ValueError on an unknown world or option."""
    return envs.describe(config.env, **constructor_arguments(config), **({"pixels": True} if config.pixels else {}))


def from_recipe(
    asked: W, recipes: Mapping[str, dict[str, Any]], paper: Mapping[str, dict[str, Any]] | None = None
) -> W:
    """The config for the world of `asked`: the defaults of its family, overridden by the program's recipe.

    recipes: the program's hyperparameters by world where it has its own, else by family. paper: those that differ
    in the paper, by the same keys, for --recipe paper (or another name that the program has). Of `asked` only the
    flags of the world and the seed are kept: set others afterwards, with dataclasses.replace.

    Raises ValueError on an unknown world, or one for which there is no recipe.
    """
    key = recipe_key(asked, recipes)
    if key not in recipes:
        pixels = "; --pixels learns from its rendered picture" if "pixels" in recipes and key == "control" else ""
        raise ValueError(
            f"no recipe for {asked.env}, a world of the family {key}: there are {', '.join(recipes)}{pixels}"
        )
    opened = dataclasses.replace(asked, env_kwargs=asked.env_kwargs or recipes[key].get("env_kwargs", ()))
    family = describe(opened).family
    chosen = FAMILIES[family] | recipes[key] | implied(opened)
    if asked.recipe != "default":
        key = key if paper and key in paper else family  # a game may have its own numbers here and not in the paper
        if not paper or key not in paper:
            known = f"its numbers are for {', '.join(paper)}, and {asked.env} is {key}" if paper else "there are none"
            raise ValueError(f"--recipe {asked.recipe}: {known}. Leave it out, or choose another --env")
        chosen |= paper[key]
    return type(asked)(**dict(env=asked.env, recipe=asked.recipe, seed=asked.seed) | chosen)


def recipe_key(asked: WorldFlags, known: Collection[str]) -> str:
    """The key of the recipe for the world of `asked`: its game or Gymnasium id if that is known, else its family.

    "continuous" is the family of control worlds with continuous actions, for programs that have a recipe for it.
    """
    identity = gymnasium_world.canonical(asked.env)
    if identity in known and not asked.pixels:
        return identity
    world = describe(asked)
    if world.family == "atari" and world.name in known:
        return world.name
    continuous = world.family == "control" and not world.discrete and "continuous" in known
    return "continuous" if continuous else world.family


def implied(asked: WorldFlags) -> dict[str, str]:
    """Flags that follow from the name of the world: Gymnasium's ALE/Pong-v5 has sticky actions."""
    world = describe(asked)
    return {"protocol": world.protocol} if world.family == "atari" else {}


def build_backbone(
    config: BackboneFlags, world: World, shape: tuple[int, ...] | None = None, stem: str | None = "atari"
) -> backbones.Backbone:
    """The backbone for a world, or the pretrained one that the config names.

    shape: of its input, the world's observations unless given. stem: of a backbone that has several, or its own.

    It stays in evaluation mode while its weights learn (Backbone.fix_mode), so that acting, learning and targets are
    the same function of an observation: in training mode a batch norm's output depends on the other worlds of a step
    and the other rows of a batch, and a dropout's on chance, so that neither a target nor PPO's ratio means anything.
    Batch norms use the statistics of their pretrained weights, as is usual in detection (He et al. 2016, arXiv
    1512.03385, appendix A); untrained backbones have no batch norm here, but for --norm. Noisy layers
    (agents/rainbow/noisy.py) lie behind the backbone.

    Raises ValueError for an option that the backbone does not have.
    """
    options = {}
    if config.backbone in backbones.BACKBONES:
        known = backbones.default_options(config.backbone).spec()
        usual = {"width": 1.0, "norm": "none", "spectral": False} | ({"stem": stem} if stem else {})
        asked = {key: getattr(config, key, value) for key, value in usual.items()}
        options = {key: value for key, value in asked.items() if key in known or value != usual[key]}
    shape = shape or world.observation_shape
    network = backbones.build(config.backbone, shape, config.frozen, subtracts_mean=config.subtract_mean, **options)
    return network.fix_mode()


def estimate_mean_observation(config: Any, network: nn.Module, run: runs.Run) -> None:
    """With --subtract-mean, set the mean observation of a network's modules, from SAMPLE_STEPS of random play.

    It is set in the modules with `subtracts_mean`. The steps do not count as steps of the run. A pretrained backbone
    has its mean already, and that of a resumed run is in its checkpoint. Flicker is off: a mean that includes black
    frames would leave part of the background in every frame.

    config: with WorldFlags, BackboneFlags and runs.Options.
    """
    pretrained = config.backbone not in backbones.BACKBONES
    parts = [part for part in network.modules() if getattr(part, "subtracts_mean", False)]
    parts = [part for part in parts if not (pretrained and isinstance(part, backbones.Backbone))]
    if not (config.subtract_mean and parts) or run.resumes:
        return
    world = envs.make(
        config.env, SAMPLE_WORLDS, seed=config.seed, **world_options(dataclasses.replace(config, flicker=0.0))
    )
    generator = torch.Generator().manual_seed(config.seed)
    total = torch.zeros(world.observation_shape, dtype=torch.float64)
    for _ in range(SAMPLE_STEPS // SAMPLE_WORLDS):
        if world.actions is None:
            bounds = world.action_low, world.action_high
            low, high = (torch.as_tensor(bound).float().clamp(-1e3, 1e3) for bound in bounds)
            action = low + (high - low) * torch.rand(SAMPLE_WORLDS, *world.action_shape, generator=generator)
        else:
            action = torch.randint(world.actions, (SAMPLE_WORLDS,), generator=generator)
        world.step(action)
        total += world.observation.sum(0, dtype=torch.float64)
    world.close()
    for part in parts:
        part.set_mean_observation((total / (SAMPLE_STEPS // SAMPLE_WORLDS * SAMPLE_WORLDS)).round())


def load_backbone(config: B, folder: Path) -> B:
    """The config for loading a saved run: a backbone that was transferred from another run is in its own folder."""
    return config if config.backbone in backbones.BACKBONES else dataclasses.replace(config, backbone=str(folder))


def constructor_arguments(config: WorldFlags) -> dict[str, object]:
    """--env-kwargs as arguments of the world's constructor: numbers, true, false, none, Python literals, else text.

    Raises ValueError for one that is not name=value, or has a flag of its own.
    """
    given = {}
    for each in config.env_kwargs:
        name, equals, value = each.partition("=")
        if not (name.isidentifier() and equals):
            raise ValueError(f"--env-kwargs {each}: write name=value, e.g. continuous=True")
        if name in OWN_FLAGS:
            raise ValueError(f"--env-kwargs {each}: write --{name}")
        if name in ("self", "name", "count", "evaluation", "one"):
            raise ValueError(f"--env-kwargs {each}: the agent decides that itself")
        try:
            given[name] = ast.literal_eval(value.title() if value.lower() in ("true", "false", "none") else value)
        except (ValueError, SyntaxError, TypeError):
            given[name] = value
    return given


def world_options(config: WorldFlags) -> dict[str, object]:
    """The options of envs.make for the world of a config.

    Raises ValueError for an Atari flag where the world is not an Atari game, or that --env-kwargs gives too.
    """
    asked = {key: getattr(config, key) for key in ("stack", "flicker", "pixels") if getattr(config, key)}
    asked |= constructor_arguments(config)
    if describe(config).family != "atari":
        if other := [key for key in ATARI_FLAGS if getattr(config, key) != getattr(WorldFlags, key)]:
            raise ValueError(f"--{other[0].replace('_', '-')}: it is for Atari games, and {config.env} is none")
        return asked
    if twice := asked.keys() & set(ATARI_FLAGS):
        raise ValueError(f"--env-kwargs: write --{min(twice).replace('_', '-')}")
    return asked | {key: getattr(config, key) for key in ATARI_FLAGS}


@dataclasses.dataclass(frozen=True)
class PolicyGradientFlags:
    """The learning flags of every policy gradient."""

    steps: Count = 10_000_000  # agent steps; in Atari each is four frames (--frame-skip)
    worlds: Count = 16  # games side by side
    hidden: Whole = 512  # units between backbone and heads; 0 for none
    separate_critic: bool = False  # the critic has its own backbone
    normalize_observations: bool = False  # vectors: by the mean and deviation of those before
    squash: bool = False  # continuous actions: tanh of a Gaussian, instead of a Gaussian that is clipped
    learning_rate: NonNegative = 2.5e-4  # Adam
    anneal_lr: bool = True  # the learning rate falls linearly to 0 over the run
    adam_epsilon: NonNegative = 1e-5  # added to the root of squared gradients in Adam
    discount: Share = 0.99  # of the return, per step
    clip_reward: bool = True  # learn from the sign of the reward
    max_grad_norm: NonNegative = 0.5  # of the gradient, larger ones are scaled down; 0 for no limit
    normalize_advantages: bool = True  # advantages are divided by their root mean square
    entropy: float = 0.01  # weight of the bonus for entropy
    value_weight: float = 0.5  # of the value's squared error
    evaluate_greedy: bool = True  # evaluations take the most probable action instead of sampling
