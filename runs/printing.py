"""Text for a terminal: names that come from files and folders cannot command it."""

from __future__ import annotations

import re

# Control characters but tab and new line (escape sequences begin with them), what turns the direction of writing or
# begins a line, and the halves of characters that stand for bytes which are no UTF-8 in a file's name.
COMMANDS = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\u061c\u200e\u200f\u2028-\u202e\u2066-\u2069\ud800-\udfff]")


def printable(text: object) -> str:
    """str(text) with whatever a terminal would obey, or could not write, as Python's escapes: "\\x1b"."""
    return COMMANDS.sub(lambda found: found[0].encode("unicode_escape").decode(), str(text))
