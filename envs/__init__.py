"""Worlds: environments with a current `observation` and `step`, N side by side, as tensors.

    transition.py       Transition, the record of a step; what a simulator returns
    world.py            World, N games side by side; actions and observations are checked by checks.py
    description.py      Description: family, protocol and spaces of a world
    atari.py            every bundled Atari ROM, protocols classic and sticky
    console_memory.py   the consoles' RAM beside the frames
    atari_ram.py        one Atari game whose RAM can be read: pictures with labels
    gymnasium_world.py  any Gymnasium environment: vectors, its own images, or its rendered screen; spaces.py
                        has the spaces it supports, serial.py steps single environments
    probe.py            whether seed and actions determine a game, found by playing some
    catch.py            Catch, learned from pixels in seconds
    glimpse.py          images classified through a small moving window (Mnih et al. 2014)
    vector_env.py       base classes of our own simulators: seeds, restarts, one game or many
    gridworld.py        gridworlds given by a map in text, with their exact model

    world = envs.make("Breakout", count=16, seed=1, device="cuda", protocol="sticky")
    transition = world.step(action)     # or world.send(action), something else meanwhile, world.recv()

A new world is a Gymnasium environment. If it is registered, `make` can open it by its id, and "package:Id-v0"
registers it by importing the package; or hand in the environment, make(gymnasium.make(...), count=8). A new simulator
of many games at once is a gymnasium.vector.VectorEnv that knows AutoresetMode.DISABLED and reset_mask: see catch.py,
and register it as "saccade/Name-v0".
"""

import difflib
import inspect
from collections.abc import Callable

import gymnasium
import torch

from envs import atari, catch, glimpse, gridworld, gymnasium_world
from envs.description import Description
from envs.world import Transition, World, WorldError

__all__ = ["WORLDS", "Description", "Transition", "World", "WorldError", "describe", "make"]

OURS = {
    "Catch": catch.ID,
    "Glimpse": glimpse.ID,
    "Gridworld": gridworld.ID,
}  # importing their modules registers them

WORLDS: dict[str, list[str]] = {  # names that need no version
    "ours": list(OURS),
    "control": [name for name in gymnasium_world.short_names() if name not in OURS],
    "atari": list(atari.ROMS),
}


def make(
    name: str | gymnasium.Env | Callable[[], gymnasium.Env],
    count: int = 1,
    seed: int = 1,
    device: str | torch.device = "cpu",
    **options: object,
) -> World:
    """Open `count` games of the world called `name`, e.g. "Breakout", "CartPole", "Catch", "package:Id-v0".

    Names are case-insensitive. Options are those of AtariWorld or GymnasiumWorld; `evaluation=True` (whole games, as
    they are scored) is an option of every world. The protocol of an Atari game follows from its name: "Pong" is
    classic, "ALE/Pong-v5" sticky.

    Instead of a name: an environment that gymnasium.make returned, wrappers included, of which `count` copies are
    made (it is not played itself); or a function that makes an environment.

    Raises:
        ValueError: unknown name (the message has its near matches) or option, or an environment that cannot be made
            again.
        ImportError: an extra is missing (the message has the pip line).
    """
    if count < 1:
        raise ValueError(f"count is the number of games side by side, at least 1, got {count}")
    if not isinstance(name, str):
        called, one = _maker(name)
        return gymnasium_world.GymnasiumWorld(called, count, seed, device, one=one, **options)
    if not _elsewhere(name) and (game := atari.canonical(name)):  # Blackjack is a ROM, Blackjack-v1 is not
        _known_atari_options(game, options)
        meant = atari.meant(name)
        world = atari.AtariWorld(game, count, seed, device, **{"protocol": meant} | options)
        if meant == "sticky":
            asked = "(--protocol classic is Mnih's)" if world.protocol == meant else "but classic was asked for"
            world.caveat = f"{name} means sticky actions in Gymnasium: protocol {world.protocol} {asked}"
        return world
    if identity := gymnasium_world.canonical(name):
        return gymnasium_world.GymnasiumWorld(identity, count, seed, device, **options)
    hint = _hint(name, [known for names in WORLDS.values() for known in names])
    raise ValueError(f"unknown world {name!r}{hint or ': envs.WORLDS lists those that come along'}")


def describe(name: str, **options: object) -> Description:
    """The description of a world, with the options of `make`, by which a program chooses its recipe.

    An Atari game is not opened for it. A Gymnasium environment that is opened for it is kept for the next `make`, so
    that it is built once. The last description is cached.

    Raises:
        as make does.
    """
    game = None if _elsewhere(name) else atari.canonical(name)
    identity = None if game else gymnasium_world.canonical(name)
    spec = gymnasium.registry.get(identity)
    key = (name, repr(spec), repr(sorted(options.items())))
    if key not in _DESCRIBED:
        described = _describe_game(game, name, options) if game else _describe_world(name, identity, options)
        _DESCRIBED.clear()
        _DESCRIBED[key] = described
    return _DESCRIBED[key]


_DESCRIBED: dict[tuple[str, str, str], Description] = {}  # the last one


def _describe_game(game: str, name: str, options: dict[str, object]) -> Description:
    known = _known_atari_options(game, options)
    asked = {key: options.get(key, known[key].default) for key in ("stack", "size", "color")}
    shape = (asked["stack"] * (3 if asked["color"] else 1), asked["size"], asked["size"])
    return Description(game, None, "atari", atari.meant(name), shape, torch.uint8, True, (), None, None)


def _describe_world(name: str, identity: str | None, options: dict[str, object]) -> Description:
    world = make(name, **options)
    world.close(spare=True)
    return Description(
        name=world.name,
        id=identity,
        family="catch" if identity == catch.ID else world.family,
        protocol=world.protocol,
        observation_shape=world.observation_shape,
        observation_dtype=world.observation.dtype,
        discrete=world.actions is not None,
        action_shape=world.action_shape,
        action_low=world.action_low,
        action_high=world.action_high,
    )


def _known_atari_options(game: str, options: dict[str, object]) -> dict[str, inspect.Parameter]:
    """The options of an Atari game. Raises ValueError for an unknown one."""
    known = dict(list(inspect.signature(atari.AtariWorld).parameters.items())[4:])
    for option in options.keys() - set(known):
        raise ValueError(f"{game} has no option {option!r}{_hint(option, list(known))}: it has {', '.join(known)}")
    return known


def _maker(given: gymnasium.Env | Callable[[], gymnasium.Env]) -> tuple[str, Callable[[], gymnasium.Env]]:
    """The name of a world, and a function that makes one of its environments."""
    if not isinstance(given, gymnasium.Env):
        if callable(given):
            return getattr(given, "__name__", type(given).__name__), given
        raise ValueError(
            "a world is a name, what gymnasium.make returned, or a function that makes an environment, "
            f"got {type(given).__name__}"
        )
    spec, wanted = given.spec, type(given.unwrapped).__name__
    try:
        if spec is None:
            raise ValueError("it was not made by gymnasium.make")
        films = not given.render_mode and "rgb_array" in given.metadata.get("render_modes", [])
        kwargs = {"render_mode": "rgb_array"} if films else {}
        gymnasium.make(spec, disable_env_checker=True, **kwargs).close()
    except (ValueError, gymnasium.error.Error) as error:
        raise ValueError(
            f"{wanted} cannot be made again ({error}): hand in a function that makes one, "
            "envs.make(lambda: ..., count=8)"
        ) from error
    return spec.id, lambda: gymnasium.make(spec, disable_env_checker=True, **kwargs)


def _elsewhere(name: str) -> bool:
    """Whether a name is a Gymnasium id of an environment that is not ALE's."""
    identity = gymnasium_world.registered(name)
    return identity is not None and "ale_py" not in str(gymnasium.spec(identity).entry_point)


def _hint(name: str, known: list[str]) -> str:
    lower = {k.lower(): k for k in known}
    near = difflib.get_close_matches(name.lower().rsplit("-v", 1)[0], lower, n=3)
    return f": did you mean {' or '.join(repr(lower[k]) for k in near)}?" if near else ""
