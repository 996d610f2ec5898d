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
from envs import World, atari, gymnasium_world
from runs.flag_types import Count, NonNegative, Positive, Share, Whole
from vision import backbones

S = TypeVar("S", bound="NetworkFlags")

OWN_FLAGS = ("stack", "flicker", "pixels", "seed", "device")  # what a world is told by a flag of its name
SAMPLE_WORLDS, SAMPLE_STEPS = (
    4,
    4_000,
)  # worlds side by side, and steps of all of them, of the play that look_around sees
ATARI = ("protocol", "frame_skip", "full_actions", "color")  # the same of Atari's


@dataclasses.dataclass(frozen=True)
class WorldFlags:
    """The world that an agent faces."""

    GROUP: ClassVar[str] = "world"

    env: str = "Breakout"  # the world: an Atari game, a Gymnasium id, or Catch
    protocol: Literal["classic", "sticky"] = "classic"  # Atari: Mnih 2015 (lives end episodes) or Machado 2018
    frame_skip: Count = 4  # Atari frames an action is held
    full_actions: bool = False  # Atari: all 18 actions, not just those the game uses
    color: bool = False  # Atari: three channels a frame
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
    subtract_mean: bool = (
        False  # the mean of what random play shows is taken from pictures; lifted eyes keep their own
    )
    norm: Literal["none", "layer"] = "none"  # before every ReLU; lifted eyes keep their own
    spectral: bool = False  # impala: residual convolutions of spectral norm 1; lifted eyes keep their own


@dataclasses.dataclass(frozen=True)
class NetworkFlags(WorldFlags, BackboneFlags, runs.Options):
    """The world, the eyes that see it and the arithmetic: the flags of every agent that learns with a network."""

    bf16: bool = True  # bf16 autocast where the device is fast at it
    compile: bool = False  # torch.compile act and learn
    capture: bool = False  # CUDA: learn becomes a graph of the device, launched whole

    def validate(self) -> None:
        super().validate()
        backbones.check(self.backbone)  # before its run's folder is looked at: a typo makes no other config


def recipe_key(asked: NetworkFlags, known: Collection[str]) -> str:
    """Which of the known recipes suits the world asked for: its own, by Gymnasium's id, else its family's."""
    family = envs.family(asked.env, **constructor_arguments(asked), **({"pixels": True} if asked.pixels else {}))
    identity = gymnasium_world.canonical(asked.env) if family == "control" else None
    return identity if identity in known else family


def implied(asked: NetworkFlags) -> dict[str, str]:
    """What the name of the world asked for says beyond the game: Gymnasium's ALE/Pong-v5 has sticky actions."""
    return (
        {"protocol": atari.meant(asked.env)}
        if envs.family(asked.env, **constructor_arguments(asked)) == "atari"
        else {}
    )


def build_backbone(
    config: NetworkFlags, world: World, shape: tuple[int, ...] | None = None, stem: str | None = "atari"
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
    world_options = {}
    if config.backbone in backbones.BACKBONES:
        known = inspect.signature(backbones.BACKBONES[config.backbone]).parameters
        usual = {"width": 1.0, "norm": "none", "spectral": False} | ({"stem": stem} if stem else {})
        asked = {key: getattr(config, key, value) for key, value in usual.items()}
        world_options = {key: value for key, value in asked.items() if key in known or value != usual[key]}
    shape = shape or world.observation_shape
    return backbones.build(
        config.backbone, shape, config.frozen, subtracts_mean=config.subtract_mean, **world_options
    ).fix_mode()


def estimate_mean_observation(config: NetworkFlags, network: nn.Module, run: runs.Run) -> None:
    """With --subtract-mean, show a network's eyes the mean picture of AROUND steps of random play in worlds of their own.

    Eyes are what of the network is `centered`. Not counted among the run's steps. Lifted eyes have seen theirs, and
    those of a run that goes on lie in its checkpoint. Here no frame flickers: a mean with black frames among them is
    no picture of the world, and taking it away leaves half of the background in every frame.
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


def load_backbone(config: S, folder: Path) -> S:
    """The config of a saved run: eyes that were lifted from elsewhere lie in its own folder now."""
    return config if config.backbone in backbones.BACKBONES else dataclasses.replace(config, backbone=str(folder))


def constructor_arguments(config: NetworkFlags) -> dict[str, object]:
    """--env-kwargs as the world's constructor takes them: numbers, true, false, none and Python's, else text.

    Raises ValueError for one that is no name=value, or has a flag of its own.
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


def world_options(config: NetworkFlags) -> dict[str, object]:
    """What envs.make is to know beyond the name.

    Raises ValueError for an Atari flag where the world is no Atari game, or is told so twice.
    """
    asked = {key: getattr(config, key) for key in ("stack", "flicker", "pixels") if getattr(config, key)}
    asked |= constructor_arguments(config)
    if config.pixels or envs.family(config.env, **constructor_arguments(config)) != "atari":
        if other := [key for key in ATARI if getattr(config, key) != getattr(NetworkFlags, key)]:
            raise ValueError(f"--{other[0].replace('_', '-')}: it is for Atari games, and {config.env} is none")
        return asked
    if twice := asked.keys() & set(ATARI):
        raise ValueError(f"--env-kwargs: write --{min(twice).replace('_', '-')}")
    return asked | {key: getattr(config, key) for key in ATARI}


def duration_note(world: World) -> str | None:
    """What to say at the start of a run that will be long, or whose world is not what it seems."""
    said = [world.caveat] if world.caveat else []
    if world.device.type == "cpu" and world.family == "atari":
        said.append("on a CPU this takes hours; Catch is learned in seconds, CartPole in minutes (--env)")
    return "\n".join(said) or None


@dataclasses.dataclass(frozen=True)
class PolicyGradientFlags(NetworkFlags):
    """The flags of every policy gradient."""

    steps: Count = 10_000_000  # agent steps; in Atari each is four frames (--frame-skip)
    worlds: Count = 16  # games side by side
    hidden: Whole = 512  # units between backbone and heads; 0 for none
    separate_critic: bool = False  # the value has a backbone of its own
    normalize_observations: bool = (
        False  # vectors: observations are normalized by the mean and deviation of those before
    )
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
    evaluate_every: Whole = 100_000  # steps between evaluations; 0: never
    evaluate_first: Whole = 10_000  # the step of the first, if that is sooner; 0: none of its own
    evaluate_games: Count = 10  # whole games each
    evaluate_steps: Count = 27_000  # of each game at most: longer ones count as they stand (27,000: Atari's limit)
    evaluate_greedy: bool = True  # evaluations take the likeliest action instead of drawing one
    film_seconds: NonNegative = 20.0  # filmed of a game after each best evaluation; 0 for no films


def has_continuous_actions(asked: NetworkFlags) -> bool:
    """Whether the actions of the control world asked for are numbers, not choices."""
    world = envs.make(asked.env, **constructor_arguments(asked))
    world.close()
    return world.actions is None
