"""Lists all programs without importing them, and runs one by its name.

A program is a module that runs as `python -m <package>.<name>`: it ends in `if __name__ == "__main__"`, or is a
package's __main__.py. It is described by the first sentence of its docstring.
"""

from __future__ import annotations

import ast
import functools
import importlib.util
import os
import re
import runpy
import sys
import textwrap
from pathlib import Path

from runs import suggestions
from runs.printing import printable

WIDTH = 80  # columns
ROOMS = ("agents", "vision", "envs", "replay", "runs")


def places(package: str) -> list[Path]:
    """The folders of a package, which is found but not imported."""
    found = importlib.util.find_spec(package)
    return [Path(place) for place in (found.submodule_search_locations or ())] if found else []


@functools.cache
def programs(package: str) -> dict[str, str]:
    """The programs of a package and of those in it, "dqn" or "backbones", and the first sentence of each."""
    found = {}
    for place in places(package):
        for path in place.rglob("*.py"):
            text = path.read_text(encoding="utf-8")
            inside = path.relative_to(place).with_suffix("").parts
            if inside[-1] == "__main__" and len(inside) > 1:
                found[".".join(inside[:-1])] = sentence(text)
            elif inside[-1] != "__main__" and re.search(r"^if __name__ == .__main__.:", text, re.MULTILINE):
                found[".".join(inside)] = sentence(text)
    return dict(sorted(found.items()))


def modules(package: str) -> dict[str, str]:
    """The modules of a package, and the first sentence of each."""
    paths = [path for place in places(package) for path in place.glob("*.py") if not path.stem.startswith("__")]
    return {path.stem: sentence(path.read_text(encoding="utf-8")) for path in sorted(paths)}


def sentence(text: str) -> str:
    """The first sentence of a module's docstring, without its period."""
    words = " ".join((ast.get_docstring(ast.parse(text)) or "").partition("\n\n")[0].split())
    return re.split(r"(?<=[.?])\s(?=[A-Z])", words)[0].rstrip(".")


def listed(packages: tuple[str, ...], command: str) -> str:
    """The usage line, and one line for each program of some packages, or each module of packages without programs."""
    lines = [f"usage: {command} PROGRAM [flags]      ({command} PROGRAM --help lists its flags)"]
    for package in packages:
        found = programs(package)
        if not found and len(packages) > 1:
            continue
        if not found:
            lines = [f"{package} has no programs; what is in it, to be imported:"]
        lines += ["", f"{package}:"] if len(packages) > 1 else []
        known = found or modules(package)
        width = max(20, *map(len, known))
        for name, words in known.items():
            lines.append(f"  {name:{width}} {textwrap.shorten(words, WIDTH - width - 3, placeholder=' ...')}")
    return "\n".join(lines)


def named(name: str, packages: tuple[str, ...]) -> str:
    """The module that a program's name stands for: "dqn" or "agents.dqn".

    Raises ValueError for an unknown name, with its near matches, and for one that several packages have.
    """
    known = {package: programs(package) for package in packages}
    full = [f"{package}.{program}" for package, found in known.items() for program in found]
    if name in full:
        return name
    found = [other for other in full if other.partition(".")[2] == name]
    found = found or [other for other in full if other.endswith(f".{name}")]
    if len(found) > 1:
        raise ValueError(f"{name!r} may be {' or '.join(found)}")
    if not found:
        short = [
            end
            for programs in known.values()
            for program in programs
            for end in (program, program.rpartition(".")[2])
        ]
        near = suggestions.near_matches(name, full if "." in name else short)
        hint = f"did you mean {' or '.join(map(repr, near))}?" if near else f"there are {', '.join(short)}"
        raise ValueError(f"unknown program {name!r}: {hint}")
    return found[0]


def main(packages: tuple[str, ...], command: str) -> None:
    """List the programs, or run the one that the command line names, with the flags that follow it."""
    given = sys.argv[1:]
    if not given or given[0] in ("-h", "--help"):
        try:
            print(listed(packages, command), flush=True)
        except BrokenPipeError:  # `| head` has seen enough; Python would say so again when it ends
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return
    try:
        module = named(given[0], packages)
    except ValueError as error:
        print(printable(f"error: {error}"), file=sys.stderr)
        raise SystemExit(2) from None
    sys.argv = [module, *given[1:]]
    runpy.run_module(module, run_name="__main__", alter_sys=True)


def saccade() -> None:
    """The console command: any program of any room, as in `saccade dqn --env Breakout`."""
    if os.getcwd() not in sys.path:
        sys.path.append(os.getcwd())  # for the user's own worlds; last, so that they shadow no module
    main(ROOMS, "saccade")
