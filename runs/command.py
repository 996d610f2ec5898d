"""From a command line to a running program."""

from __future__ import annotations

import importlib
import os
import sys
from collections.abc import Callable
from typing import Any, TypeVar

import torch
from rich.console import Console
from rich.markup import escape

from runs import flag_types, flags, parallel
from runs.files import RunError
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
        parallel.leave()
        sys.stdout.flush(), sys.stderr.flush()
        sys.stdout, sys.stderr = streams


def of_package(package: str, *commands: str) -> tuple[Any, ...]:
    """What `launch` takes, of a package's train.py or of the command that the command line names first.

    package: as "vision.detection". commands: modules of the package with a Config and a main, as "predict", whose
    name is then taken off the command line.
    """
    if sys.argv[1:2] and sys.argv[1] in commands:
        name = sys.argv.pop(1)
        module = importlib.import_module(f"{package}.{name}")
        return module.main, module.Config, None, f"{package} {name}", module.__doc__
    module = importlib.import_module(f"{package}.train")
    return module.train, module.Config, module.recipe, package, module.__doc__


def _launch(
    train: Callable[[C], object],
    config: type[C],
    recipe: Callable[[C], C] | None,
    program: str,
    description: str | None,
    arguments: list[str],
) -> None:
    try:
        train(parsed(config, recipe, program, description, arguments))
    except KeyboardInterrupt:
        raise SystemExit(130) from None
    except Exception as error:
        # Several processes go on from the last checkpoint that all of them have: the others are somewhere else.
        if Run.current and parallel.ranks() == 1 and not isinstance(error, RunError):
            Run.current.save_after_error()
        # Before the first step these are mistakes of the user, shown as one sentence; later they are bugs, and keep
        # their traceback, as do the errors of a world, a device or a library.
        mended = () if Run.stepping else (ValueError, ImportError, OSError)
        words = out_of_memory(error)
        in_a_sentence = isinstance(error, (RunError, MemoryError, *mended)) or getattr(error, "sentence", False)
        if not words and not in_a_sentence:
            raise
        words = escape(printable(words or str(error) or repr(error)))
        Console(stderr=True).print(f"[bold red]error:[/] {words}", highlight=False, soft_wrap=True)
        raise SystemExit(error.status if isinstance(error, RunError) else 2) from error


def parsed(
    config: type[C], recipe: Callable[[C], C] | None, program: str, description: str | None, arguments: list[str]
) -> C:
    """The config of a command line: its flags over the defaults that suit the world, as `launch` takes them.

    Raises ValueError for an unknown world or a number out of its flag's range. --help and errors of flags are printed
    and end the program.
    """
    default = None
    if recipe:
        given = [each for each in arguments if each not in ("-h", "--help")]
        default = recipe(flags.parse(config, program, args=given))
    finished = flags.parse(config, program, description, default, arguments)
    flag_types.check(finished)
    return finished


def out_of_memory(error: BaseException) -> str:
    """The message for an error that says that memory ran out; "" for any other error."""
    words = (str(error).splitlines() or [""])[0]
    full = isinstance(error, MemoryError | torch.OutOfMemoryError) or "can't allocate memory" in words
    if not full or (isinstance(error, MemoryError) and "--" in words):  # that message names the flag to lower
        return ""
    return (
        f"out of memory ({words or type(error).__name__}): close other programs, or lower --batch, --worlds or "
        "--capacity under another --name. The same command goes on from the last checkpoint, if there is one."
    )
