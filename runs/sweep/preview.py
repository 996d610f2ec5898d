"""The config that a command line would train with, found without training.

A process of its own imports the program and parses its flags over the recipe of the world, as the program does: wrong
flags are found before the first run of a sweep, and the sweep itself needs neither the program nor its libraries.
"""

from __future__ import annotations

import contextlib
import dataclasses
import io
import json
import os
import runpy
import subprocess
import sys
import types
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any, Literal, Union, get_args, get_origin, get_type_hints

ROOT = Path(__file__).resolve().parents[2]  # of the rooms, which a process finds wherever it is started


@dataclasses.dataclass(frozen=True)
class Preview:
    """What a command line would train: its config, or the error that it would end with.

    binding: flags that a resumed run may not change although others' may. kinds: of its flags, "int", "float",
    "bool", "str" or "other". described: with `whole`, of its run: world, score, unit.
    """

    config: dict[str, Any]
    binding: tuple[str, ...]
    kinds: dict[str, str]
    error: str = ""
    described: dict[str, Any] = dataclasses.field(default_factory=dict)


def environment() -> dict[str, str]:
    """The environment of a process that imports the rooms."""
    path = os.pathsep.join(filter(None, (str(ROOT), os.environ.get("PYTHONPATH"))))
    return os.environ | {"PYTHONPATH": path}


def preview(program: str, commands: Sequence[Sequence[str]], whole: bool = False) -> list[Preview]:
    """The previews of a program's command lines, by a process of its own.

    program: a module, "agents.dqn". commands: flags. whole: also start each up to the making of its run, for what it
    is scored by.

    Raises ValueError where the program cannot be imported, or is no training program.
    """
    asked = json.dumps({"program": program, "commands": [list(each) for each in commands], "whole": whole})
    done = subprocess.run(
        [sys.executable, "-c", "from runs.sweep import preview; preview.answer()"],
        input=asked, capture_output=True, text=True, env=environment(),
    )  # fmt: skip
    try:
        found = json.loads(done.stdout)
    except ValueError:
        said = (done.stderr.strip().splitlines() or [f"it ended with {done.returncode}"])[-1]
        raise ValueError(f"{program} cannot be started: {said}") from None
    if isinstance(found, str):
        raise ValueError(found)
    return [Preview(**each | {"binding": tuple(each["binding"])}) for each in found]


def answer() -> None:
    """Answer `preview`: a request as JSON on standard input, previews as JSON on standard output."""
    asked = json.load(sys.stdin)
    output = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)  # whatever is printed from here on is no answer
    json.dump(found(asked["program"], asked["commands"], asked["whole"]), output)
    output.close()


def found(program: str, commands: Sequence[Sequence[str]], whole: bool) -> list[dict[str, Any]] | str:
    """The previews as JSON values, or why there are none."""
    import runs

    answers: list[list[dict[str, Any]] | str] = []

    def launch(train: Any, kind: type, recipe: Any, name: str, description: str | None) -> None:
        if issubclass(kind, runs.Options):  # now: its types are found while its module is the one that runs
            answers.append([_one(train, kind, recipe, name, command, whole) for command in commands])

    runs.launch = launch  # programs call it by this name
    sys.argv = [program]
    runpy.run_module(program, run_name="__main__", alter_sys=True)
    none = f"{program} keeps no run, so that there is nothing to sweep: choose a program that trains"
    return answers[0] if answers else none


def _one(train: Any, kind: type, recipe: Any, program: str, command: Sequence[str], whole: bool) -> dict[str, Any]:
    from runs.command import parsed
    from runs.folder import plain

    about: dict[str, Any] = {"config": {}, "binding": [], "kinds": kinds(kind)}
    said = io.StringIO()
    try:
        with contextlib.redirect_stderr(said), contextlib.redirect_stdout(said):
            config = parsed(kind, recipe, program, None, list(command))
            config.validate()
        about |= {"config": plain(config), "binding": list(config.binding)}
        if whole:
            about["described"] = _described(train, config)
    except SystemExit:
        words = " ".join(said.getvalue().replace("│", " ").split())
        about["error"] = words or f"{program} does not take {' '.join(command)}"
    except Exception as error:  # as the program itself would end with
        about["error"] = str(error) or repr(error)
    return about


class _Described(Exception):
    pass


def _described(train: Any, config: Any) -> dict[str, Any]:
    """World, score and unit of a run: the program is started, and ended as it makes its run."""
    import runs
    from runs.score import RETURN

    class Run(runs.Run):
        def __init__(self, config: Any, program: str, world: str, *rest: Any, **options: Any) -> None:
            score = options.get("score", RETURN)
            raise _Described({"world": world, "score": score.state(), "unit": options.get("unit", "steps")})

    runs.Run = Run
    try:
        train(config)
    except _Described as found:
        return found.args[0]
    raise ValueError("the program made no run")


def kinds(config: type) -> dict[str, str]:
    """The kinds of a config's flags: name -> "int", "float", "bool", "str" (choices and paths too) or "other"."""
    types_of = get_type_hints(config)
    return {field.name: _kind(types_of[field.name]) for field in dataclasses.fields(config)}


def _kind(hint: Any) -> str:
    origin, inner = get_origin(hint), get_args(hint)
    if origin is Annotated:
        return _kind(inner[0])
    if origin in (Union, types.UnionType):
        return next((_kind(each) for each in inner if each is not type(None)), "other")
    if origin is Literal:
        return "str"
    return {int: "int", float: "float", bool: "bool", str: "str", Path: "str"}.get(hint, "other")
