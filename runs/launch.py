"""From a command line to a running program."""

from __future__ import annotations

import sys
from collections.abc import Callable
from typing import Any, TypeVar

import tyro
from rich.console import Console

from runs.run import Run, RunError

C = TypeVar("C")


def launch(train: Callable[[Any], None], recipe: Callable[[str], C], description: str | None) -> None:
    """Parse the flags over the defaults that suit the world, and train.

    Args:
        train: takes the finished config.
        recipe: the config for a world's name, before any flag; raises ValueError on an unknown world.
        description: the program's docstring, shown by --help.
    """
    arguments = sys.argv[1:]
    try:
        default = recipe(_world(arguments))
        config = tyro.cli(type(default), default=default, args=arguments, description=description)
        train(config)
    except (RunError, ValueError, ImportError) as error:
        # Before the first step these say what the user can mend, in a sentence; later they are bugs, and keep
        # their traceback.
        if Run.stepping and not isinstance(error, RunError):
            raise
        Console(stderr=True).print(f"[bold red]error:[/] {error}", highlight=False, soft_wrap=True)
        raise SystemExit(2) from error


def _world(arguments: list[str]) -> str | None:
    """The value of --env, found before the parser knows its defaults."""
    for index, argument in enumerate(arguments):
        if argument.startswith("--env="):
            return argument.removeprefix("--env=")
        if argument == "--env" and index + 1 < len(arguments):
            return arguments[index + 1]
    return None
