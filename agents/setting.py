"""The world an agent faces and the eyes it sees with: the flags of every agent with a network, and what they mean."""

from __future__ import annotations

import ast
import dataclasses
import inspect
from collections.abc import Collection
from pathlib import Path
from typing import ClassVar, Literal, TypeVar

import torch
from torch import nn

import envs
import runs
from envs import World, atari, control
from runs.ranges import Count, Positive, Share, Whole
from vision import backbones

S = TypeVar("S", bound="Setting")

FLAGGED = ("stack", "flicker", "pixels", "seed", "device")  # what a world is told by a flag of its name
BESIDE, AROUND = 4, 4_000  # worlds side by side, and steps of all of them, of the play that look_around sees
ATARI = ("protocol", "frame_skip", "full_actions", "colour")  # the same of Atari's


@dataclasses.dataclass(frozen=True)
class WorldFlags:
    """The world that an agent faces."""

    GROUP: ClassVar[str] = "world"

    env: str = "Breakout"  # the world: an Atari game, a Gymnasium id, or Catch
    protocol: Literal["classic", "sticky"] = "classic"  # Atari: Mnih 2015 (lives end episodes) or Machado 2018
    frame_skip: Count = 4  # Atari frames an action is held
    full_actions: bool = False  # Atari: all 18 actions, not just those the game uses
    colour: bool = False  # Atari: three channels a frame
    stack: Whole = 0  # frames in an observation of pictures; 0: as the world has it, 4 in Atari
    flicker: Share = 0.0  # probability that a frame is black (Hausknecht & Stone 2015)
    pixels: bool = False  # control: learn from the rendered picture
    env_kwargs: tuple[str, ...] = ()  # name=value for the world's constructor, in place of the recipe's


@dataclasses.dataclass(frozen=True)
class BackboneFlags:
    """The backbone that it sees with."""

    GROUP: ClassVar[str] = "backbone"

    backbone: str = "nature"  # a name of python -m vision.backbones, NAME:imagenet, or a run whose eyes are lifted
    frozen: bool = False  # keep the backbone's weights as they are
    width: Positive = 1.0  # channels of the backbone, times its family's; lifted eyes keep their own
    centre: bool = False  # the mean of what random play shows is taken from pictures; lifted eyes keep their own
    norm: Literal["none", "layer"] = "none"  # before every ReLU; lifted eyes keep their own
    spectral: bool = False  # impala: residual convolutions of spectral norm 1; lifted eyes keep their own


@dataclasses.dataclass(frozen=True)
class Setting(WorldFlags, BackboneFlags, runs.Options):
    """The world, the eyes that see it and the arithmetic: the flags of every agent that learns with a network."""

    bf16: bool = True  # bf16 autocast where the device is fast at it
    compile: bool = False  # torch.compile act and learn
    capture: bool = False  # CUDA: learn becomes a graph of the device, launched whole

    def validate(self) -> None:
        super().validate()
        backbones.check(self.backbone)  # before its run's folder is looked at: a typo makes no other config


def kind(asked: Setting, known: Collection[str]) -> str:
    """Which of the known recipes suits the world asked for: its own, by Gymnasium's id, else its family's."""
    family = envs.family(asked.env, **constructor(asked), **({"pixels": True} if asked.pixels else {}))
    identity = control.canonical(asked.env) if family == "control" else None
    return identity if identity in known else family


def implied(asked: Setting) -> dict[str, str]:
    """What the name of the world asked for says beyond the game: Gymnasium's ALE/Pong-v5 has sticky actions."""
    return {"protocol": atari.meant(asked.env)} if envs.family(asked.env, **constructor(asked)) == "atari" else {}


def see(
    config: Setting, world: World, shape: tuple[int, ...] | None = None, stem: str | None = "atari"
) -> backbones.Backbone:
    """The backbone for a world, or the eyes that are lifted, as they are.

    shape: of what it sees, the world's observations unless given. stem: of a backbone that has several, or its own.

    It is in evaluation mode for good, while its weights learn too (Backbone.fix_mode). What acts, what is learned and
    what it is compared with are then one function of one observation: in training mode a batch norm's values depend
    on the other worlds of a step and on the other rows of a batch, a dropout's on chance, and neither a target nor
    PPO's ratio means anything. Batch norms use the statistics that their weights came with, as is usual in detection
    (He et al. 2016, arXiv 1512.03385, appendix A); backbones that begin untrained have no batch norm here, but for
    --norm. Noise that is to be explored by (agents/noisy.py) lies behind the backbone.

    Raises ValueError for an option that the backbone does not have.
    """
    options = {}
    if config.backbone in backbones.BACKBONES:
        known = inspect.signature(backbones.BACKBONES[config.backbone]).parameters
        usual = {"width": 1.0, "norm": "none", "spectral": False} | ({"stem": stem} if stem else {})
        asked = {key: getattr(config, key, value) for key, value in usual.items()}
        options = {key: value for key, value in asked.items() if key in known or value != usual[key]}
    shape = shape or world.observation_shape
    return backbones.build(config.backbone, shape, config.frozen, centred=config.centre, **options).fix_mode()


def look_around(config: Setting, network: nn.Module, run: runs.Run) -> None:
    """With --centre, show a network's eyes the mean picture of AROUND steps of random play in worlds of their own.

    Eyes are what of the network is `centred`. Not counted among the run's steps. Lifted eyes have seen theirs, and
    those of a run that goes on lie in its checkpoint. Here no frame flickers: a mean with black frames among them is
    no picture of the world, and taking it away leaves half of the background in every frame.
    """
    lifted = config.backbone not in backbones.BACKBONES
    eyes = [part for part in network.modules() if getattr(part, "centred", False)]
    eyes = [part for part in eyes if not (lifted and isinstance(part, backbones.Backbone))]
    if not (config.centre and eyes) or run.resumes:
        return
    world = envs.make(config.env, BESIDE, seed=config.seed, **options(dataclasses.replace(config, flicker=0.0)))
    generator = torch.Generator().manual_seed(config.seed)
    total = torch.zeros(world.observation_shape, dtype=torch.float64)
    for _ in range(AROUND // BESIDE):
        if world.actions is None:
            bounds = world.action_low, world.action_high
            low, high = (torch.as_tensor(bound).float().clamp(-1e3, 1e3) for bound in bounds)
            action = low + (high - low) * torch.rand(BESIDE, *world.action_shape, generator=generator)
        else:
            action = torch.randint(world.actions, (BESIDE,), generator=generator)
        world.step(action)
        total += world.observation.sum(0, dtype=torch.float64)
    world.close()
    for part in eyes:
        part.centre((total / (AROUND // BESIDE * BESIDE)).round())


def dense(features: int, hidden: int, norm: str = "none") -> nn.Module:
    """features -> hidden units (0 for none) behind a ReLU, which norm="layer" puts a layer norm before."""
    if not hidden:
        return nn.Identity()
    linear = nn.Linear(features, hidden)
    nn.init.kaiming_normal_(linear.weight, nonlinearity="relu")
    nn.init.zeros_(linear.bias)
    return nn.Sequential(linear, *([nn.LayerNorm(hidden)] if norm == "layer" else []), nn.ReLU())


def own_eyes(config: S, folder: Path) -> S:
    """The config of a saved run: eyes that were lifted from elsewhere lie in its own folder now."""
    return config if config.backbone in backbones.BACKBONES else dataclasses.replace(config, backbone=str(folder))


def constructor(config: Setting) -> dict[str, object]:
    """--env-kwargs as the world's constructor takes them: numbers, true, false, none and Python's, else text.

    Raises ValueError for one that is no name=value, or has a flag of its own.
    """
    given = {}
    for each in config.env_kwargs:
        name, equals, value = each.partition("=")
        if not (name.isidentifier() and equals):
            raise ValueError(f"--env-kwargs {each}: write name=value, e.g. continuous=True")
        if name in FLAGGED:
            raise ValueError(f"--env-kwargs {each}: write --{name}")
        if name in ("self", "name", "count", "evaluation", "one"):
            raise ValueError(f"--env-kwargs {each}: the agent decides that itself")
        try:
            given[name] = ast.literal_eval(value.title() if value.lower() in ("true", "false", "none") else value)
        except (ValueError, SyntaxError, TypeError):
            given[name] = value
    return given


def options(config: Setting) -> dict[str, object]:
    """What envs.make is to know beyond the name.

    Raises ValueError for an Atari flag where the world is no Atari game, or is told so twice.
    """
    asked = {key: getattr(config, key) for key in ("stack", "flicker", "pixels") if getattr(config, key)}
    asked |= constructor(config)
    if config.pixels or envs.family(config.env, **constructor(config)) != "atari":
        if other := [key for key in ATARI if getattr(config, key) != getattr(Setting, key)]:
            raise ValueError(f"--{other[0].replace('_', '-')}: it is for Atari games, and {config.env} is none")
        return asked
    if twice := asked.keys() & set(ATARI):
        raise ValueError(f"--env-kwargs: write --{min(twice).replace('_', '-')}")
    return asked | {key: getattr(config, key) for key in ATARI}


def patience(world: World) -> str | None:
    """What to say at the start of a run that will be long, or whose world is not what it seems."""
    said = [world.caveat] if world.caveat else []
    if world.device.type == "cpu" and world.family == "atari":
        said.append("on a CPU this takes hours; Catch is learned in seconds, CartPole in minutes (--env)")
    return "\n".join(said) or None
