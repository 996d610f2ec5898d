"""Text without terminal escape sequences, for names from files and folders; and compact JSON."""

from __future__ import annotations

import json
import re
import textwrap
from pathlib import Path
from typing import Any

# Control characters but tab and new line (escape sequences begin with them), what turns the direction of writing or
# begins a line, and the halves of characters that stand for bytes which are not UTF-8 in a file's name.
COMMANDS = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\u061c\u200e\u200f\u2028-\u202e\u2066-\u2069\ud800-\udfff]")


def printable(text: object) -> str:
    """str(text) with control characters, and those that cannot be encoded, as Python's escapes: "\\x1b"."""
    return COMMANDS.sub(lambda found: found[0].encode("unicode_escape").decode(), str(text))


def one_line(text: object) -> str:
    """printable(text) on one line, for names from files in a table."""
    return printable(text).replace("\n", "\\n").replace("\t", "\\t")


def portable(text: str, folder: str | None) -> str:
    """The text without absolute paths of the machine: home, working directory, a run's --folder."""
    runs = Path(folder or "")
    places = {f"{runs.parent}/": "", f"{Path.cwd()}/": "", f"{Path.home()}/": "~/"}
    for place, shown in places.items():
        if place.startswith("/") and len(place) > 2:
            text = text.replace(place, shown)
    return text


def compact_json(value: Any, width: int = 118, depth: int = 0) -> str:
    """JSON with lists and objects on one line where they fit in `width` columns, and lists of numbers wrapped."""
    line, indent = json.dumps(value), " " * (depth + 1)
    if len(line) + depth <= width or not isinstance(value, dict | list):
        return line
    if isinstance(value, list) and all(isinstance(each, int | float) for each in value):
        return textwrap.fill(line, width, subsequent_indent=indent)
    names = [f"{json.dumps(str(key))}: " for key in value] if isinstance(value, dict) else [""] * len(value)
    values = value.values() if isinstance(value, dict) else value
    parts = [
        name + compact_json(each, width - len(name), depth + 1) for name, each in zip(names, values, strict=True)
    ]
    begin, end = "{}" if isinstance(value, dict) else "[]"
    return begin + "\n" + ",\n".join(indent + part for part in parts) + "\n" + indent[1:] + end
