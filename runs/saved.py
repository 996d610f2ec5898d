"""Reads config and weights of a run's folder, verified, as data: no code from the folder is executed."""

from __future__ import annotations

import copy
import dataclasses
import types
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal, TypeVar, Union, get_args, get_origin, get_type_hints

from runs import checkpoint, files
from runs.files import Damaged, RunError
from runs.printing import printable

if TYPE_CHECKING:
    from torch import nn

    from runs.run import Run

C = TypeVar("C")
N = TypeVar("N", bound="nn.Module")


def about(folder: Path) -> dict[str, Any]:
    """The content of config.json of a run's folder.

    Raises RunError where there is no run, or the file is damaged.
    """
    try:
        return files.unsealed(folder / "config.json", {"program": str, "config": dict}, optional=True)
    except FileNotFoundError:
        raise RunError(f"{folder} is not a run's folder: it has no config.json") from None
    except OSError as error:
        raise RunError(f"{folder / 'config.json'} cannot be read: {error.strerror}") from error


def config(kind: type[C], folder: Path, found: dict[str, Any]) -> C:
    """The config that a run was trained with. found: the result of `about`; flags that it lacks get their defaults.

    Raises RunError where a value is not valid for its flag.
    """
    types = get_type_hints(kind, include_extras=True)
    values = {}
    for field in dataclasses.fields(kind):
        if field.name in found["config"]:
            value = found["config"][field.name]
            try:
                values[field.name] = _as(types[field.name], value)
            except TypeError:
                flag = field.name.replace("_", "-")
                raise Damaged(f"{folder / 'config.json'}: --{flag} takes no {printable(repr(value))[:60]}") from None
    made = kind(**values)
    try:
        made.validate()
    except ValueError as error:
        raise Damaged(f"{folder / 'config.json'}: {error}") from error
    return made


def trained(kind: type[C], folder: Path, program: str, needed: str = "") -> tuple[C, dict[str, Any]]:
    """The config of a program's run, and its tracked parts at the best evaluation, or the last ones before any.

    needed: a file that the run writes at its evaluations, if there has to be one.
    Raises RunError where there is no such run of this program, or it was not evaluated yet.
    """
    described = about(folder)
    if described["program"] != program:
        raise RunError(f"{folder} is a run of {described['program']}, not of {program}")
    found = config(kind, folder, described)
    if needed and not (folder / needed).is_file():
        raise RunError(f"{folder} was not evaluated yet: let it train until its first evaluation")
    return found, state(folder, "best")["parts"]


def state(folder: Path, which: str) -> dict[str, Any]:
    """The best or the last checkpoint of a run: {"which": "best", "step": ..., "parts": ...}.

    Where there is no best one (no evaluation yet) it is the last, with "which": "last". Raises RunError.
    """
    run = about(folder).get("id")
    if run is not None and not isinstance(run, str):
        raise Damaged(f"{folder / 'config.json'} should hold 'id' as a str")
    best = folder / "checkpoint" / "best.pt"
    if which == "best" and best.exists():
        found = weights(best, run) | {"which": "best"}
    else:
        latest = next((each for _, each in checkpoint.intact(folder / "checkpoint", run)), None)
        if latest is None:
            raise RunError(f"{folder} has no checkpoint yet: let it train until its first save")
        found = latest | {"which": "last"}
    if not isinstance(found.get("step"), int) or not isinstance(found.get("parts"), dict):
        raise Damaged(f"{folder / 'checkpoint'} should hold a step and the parts of a run")
    return found


def weights(path: Path, run: str | None = None) -> dict[str, Any]:
    """The content of a file of weights. run: identity of the run that must have written it. Files of older versions,
    without a checksum, are not verified."""
    try:
        return checkpoint.load_file(path, run)
    except Damaged as error:
        if "no checksum" not in str(error) or run is None:
            raise RunError(f"{error}. --checkpoint last takes the weights of the last save") from error
    return checkpoint.load_file(path)


def best_copy(run: Run, network: N, part: str) -> tuple[N, int]:
    """A copy of a network with the weights of the best evaluation so far, and the step of that evaluation.

    part: the name by which the run tracks them. Raises RunError as run.best_state does.
    """
    best = run.best_state()
    network = copy.deepcopy(network)
    network.load_state_dict(best["parts"][part])
    return network, best["step"]


def _as(hint: Any, value: Any) -> Any:
    """A JSON value as the type of a flag. Raises TypeError where it is of another type."""
    origin, inner = get_origin(hint), get_args(hint)
    if origin is Annotated:
        return _as(inner[0], value)
    if origin in (Union, types.UnionType):
        for each in inner:
            try:
                return _as(each, value)
            except TypeError:
                continue
        raise TypeError
    if origin is Literal:
        if not any(type(value) is type(each) and value == each for each in inner):
            raise TypeError
        return value
    if origin is tuple and isinstance(value, list | tuple):
        if inner[1:] == (...,):
            return tuple(_as(inner[0], each) for each in value)
        if len(inner) == len(value):
            return tuple(_as(each, one) for each, one in zip(inner, value, strict=True))
    if hint is Path and isinstance(value, str):
        return Path(value)
    if hint is float and type(value) in (int, float):
        return value
    if hint in (int, str, bool, type(None)) and type(value) is hint:
        return value
    if hint is Any:
        return value
    raise TypeError
