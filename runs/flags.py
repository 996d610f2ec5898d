"""Flags on a command line: whole numbers as people write them, and a --help in groups.

A whole number is 1000000, 1_000_000, 1e6, 1M or 1000k. A dataclass of flags, or a base class of it, names the heading
of --help for its own flags in `GROUP: ClassVar[str]`. Flags of classes without one are listed under "learning",
except for those of evaluations and films, which are recognized by their names.
"""

from __future__ import annotations

import contextlib
import dataclasses
import io
import re
import sys
from collections.abc import Sequence
from decimal import Decimal, InvalidOperation
from typing import Any, TypeVar

import tyro
from tyro.constructors import ConstructorRegistry, PrimitiveConstructorSpec, PrimitiveTypeInfo

C = TypeVar("C")

ORDER = ("world", "data", "backbone", "learning", "evaluation", "run")  # of the headings; others come between
LARGEST = 2**62  # of a whole number: seeds of worlds are counted on from it, in 64 bits
UNITS = {"k": 3, "m": 6, "g": 9}  # powers of ten


def whole(text: str) -> int:
    """The whole number that a text stands for: 10000, 10_000, 1e4, 10k, 0.01M.

    Raises ValueError, in a sentence, for a text that is none, or none that 64 bits hold.
    """
    plain = text.strip().replace("_", "")
    power = UNITS.get(plain[-1:].lower(), 0)
    try:
        value = Decimal(plain[:-1] if power else plain)
    except InvalidOperation:
        raise ValueError(f"{text!r} is not a whole number: write 1000000, 1_000_000, 1e6 or 1M") from None
    if not value.is_finite():
        raise ValueError(f"{text!r} is not a whole number")
    if value and value.adjusted() + power > 18 or abs(value.scaleb(power)) > LARGEST:
        raise ValueError(f"{text!r} is too large: whole numbers go up to {LARGEST:,}")
    value = value.scaleb(power)
    if value != value.to_integral_value():
        raise ValueError(f"{text!r} is not a whole number")
    return int(value)


def registry() -> ConstructorRegistry:
    """tyro's rule for whole numbers."""
    rules = ConstructorRegistry()

    @rules.primitive_rule
    def whole_number(info: PrimitiveTypeInfo) -> PrimitiveConstructorSpec | None:
        if info.type is not int:
            return None
        return PrimitiveConstructorSpec(
            nargs=1,
            metavar="INT",
            instance_from_str=lambda words: whole(words[0]),
            is_instance=lambda value: isinstance(value, int) and not isinstance(value, bool),
            str_from_instance=lambda value: [str(value)],
        )

    return rules


def parse(
    config: type[C],
    program: str,
    description: str | None = None,
    default: C | None = None,
    args: Sequence[str] | None = None,
) -> C:
    """A config from the command line (or args). --help and errors are printed and end the program.

    program: as it is called, e.g. "agents.dqn". default: the config that flags override; None: its own defaults.
    """
    options: dict[str, Any] = dict(prog=f"python -m {program}", description=description, args=args)
    options |= {} if default is None else {"default": default}
    said = io.TextIOWrapper(io.BytesIO(), sys.stdout.encoding)  # tyro draws its boxes as the encoding allows
    try:
        with contextlib.redirect_stdout(said):
            return tyro.cli(config, registry=registry(), **options)
    finally:
        said.seek(0)
        print(grouped(said.read(), config), end="")


def group(config: type, name: str) -> str:
    """The heading of --help under which a flag of a config stands."""
    for each in reversed(config.__mro__):
        if "GROUP" in vars(each) and name in vars(each).get("__annotations__", {}):
            return each.GROUP
    if name.startswith(("evaluate_", "film", "test_", "views")):
        return "evaluation"
    return "learning"


def grouped(page: str, config: type) -> str:
    """tyro's --help with its box of options divided by group; any other text unchanged."""
    lines = page.splitlines()
    tops = [number for number, line in enumerate(lines) if re.match(r"╭─ options |  ?options *$", line)]
    kinds = getattr(config, "__mro__", ())  # a choice of commands is not a class
    if not tops or not any("GROUP" in vars(each) for each in kinds):
        return page
    names = {field.name for field in dataclasses.fields(config)}
    top, drawn = tops[0], lines[tops[0]].startswith("╭")
    first = top + (1 if drawn else 2)  # without boxes a line of its own lies under the heading
    last = next(
        number for number in range(first, len(lines)) if lines[number][:1] == "╰" or not lines[number].strip()
    )
    boxes: dict[str, list[str]] = {name: [] for name in ORDER}
    heading = "run"
    for line in lines[first:last]:
        words = line.strip("│ ").split()
        if words and words[0].startswith("-") and line[:3].strip("│ ") == "-":  # a flag, and not its description
            name = words[0].rstrip(",").lstrip("-").replace("-", "_")
            heading = group(config, name) if name in names else "run"
        boxes.setdefault(heading, []).append(line)
    divided = []
    for name, box in boxes.items():
        if box and drawn:
            divided += [f"╭─ {name} {'─' * (len(lines[top]) - len(name) - 5)}╮", *box, lines[last]]
        elif box:
            divided += [f" {name}", lines[top + 1], *box, lines[last]]
    return "\n".join([*lines[:top], *divided, *lines[last + 1 :]]) + "\n"
