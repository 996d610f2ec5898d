"""From a command line to a running program."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable
from typing import TypeVar

from rich.console import Console
from rich.markup import escape

from runs import flags, ranges
from runs.folder import RunError
from runs.printing import printable
from runs.progress import Lasting
from runs.run import Run

C = TypeVar("C")


def launch(
    train: Callable[[C], object],
    config: type[C],
    recipe: Callable[[C], C] | None,
    program: str,
    description: str | None,
) -> None:
    """Parse the flags over the defaults that suit the world, and train.

    Args:
        train: takes the finished config.
        config: the dataclass of flags.
        recipe: gets a config with its defaults and the flags given, and returns the defaults that suit the
            world named in it; raises ValueError on an unknown world. The flags given then override them. None:
            the defaults are the config's own.
        program: as it is called, e.g. "agents.dqn".
        description: the program's docstring, shown by --help.
    """
    arguments = sys.argv[1:]
    streams = sys.stdout, sys.stderr
    sys.stdout, sys.stderr = (Lasting(stream or open(os.devnull, "w")) for stream in streams)  # None: closed
    Run.held = held = []
    try:
        _launch(train, config, recipe, program, description, arguments)
    finally:
        Run.held = None
        for iteration in held:
            iteration.close()
        sys.stdout.flush(), sys.stderr.flush()
        sys.stdout, sys.stderr = streams


def _launch(
    train: Callable[[C], object],
    config: type[C],
    recipe: Callable[[C], C] | None,
    program: str,
    description: str | None,
    arguments: list[str],
) -> None:
    try:
        default = None
        if recipe:
            given = [each for each in arguments if each not in ("-h", "--help")]
            default = recipe(flags.parse(config, program, args=given))
        finished = flags.parse(config, program, description, default, arguments)
        ranges.check(finished)
        train(finished)
    except (RunError, MemoryError, ValueError, ImportError, FileNotFoundError) as error:
        if Run.current and not isinstance(error, RunError):
            Run.current.rescue()
        # Before the first step these say what the user can mend, in a sentence; later they are bugs, and keep
        # their traceback.
        if Run.stepping and not isinstance(error, RunError | MemoryError):
            raise
        _say(error)
        raise SystemExit(2) from error
    except KeyboardInterrupt:
        raise SystemExit(130) from None
    except Exception as error:  # of a world, a device, a library: with its own traceback
        if Run.current:
            Run.current.rescue()
        if not getattr(error, "sentence", False):
            raise
        _say(error)
        raise SystemExit(2) from error


def _say(error: Exception) -> None:
    words = escape(printable(error))
    Console(stderr=True).print(f"[bold red]error:[/] {words}", highlight=False, soft_wrap=True)
